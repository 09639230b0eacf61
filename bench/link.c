/* A long, thin, lossy line between two network namespaces, for where the kernel has no netem.
 *
 *   link NETNS_A TUN_A NETNS_B TUN_B DELAY_US BITS_PER_SECOND LOSS_PPM QUEUE_BYTES SEED
 *
 * Each direction serialises packets at the rate, drops what does not fit its queue, then drops at random,
 * and hands the rest over after the delay. The devices exist already; closing standard input ends it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define SLOTS (1u << 17) /* packets on their way, a power of two */
#define BYTES 2048
#define BATCH 64 /* packets read in one go before what is due goes out */

struct packet { uint64_t due; uint32_t size; unsigned char data[BYTES]; };
struct way {
    int from, to;
    struct packet *ring;
    uint32_t head, tail;       /* out at head, in at tail */
    uint64_t free_at;          /* when the last packet will have been serialised */
    uint64_t passed, lost, overflowed;
};

static uint64_t delay_ns, queue_ns;
static double ns_per_byte;
static uint32_t loss_ppm;
static uint64_t random_state;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static uint32_t random_ppm(void) { /* xorshift64* */
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (uint32_t)((random_state * 2685821657736338717ull) >> 40) % 1000000u;
}

static void fail(const char *what) {
    fprintf(stderr, "link: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int open_tun(const char *netns, const char *name) {
    char path[256];
    snprintf(path, sizeof path, "/var/run/netns/%s", netns);
    int space = open(path, O_RDONLY | O_CLOEXEC);
    if (space < 0 || setns(space, CLONE_NEWNET) < 0) fail(path);
    close(space);
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) fail("/dev/net/tun");
    struct ifreq request;
    memset(&request, 0, sizeof request);
    request.ifr_flags = IFF_TUN | IFF_NO_PI;
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    if (ioctl(fd, TUNSETIFF, &request) < 0) fail(name);
    return fd;
}

/* Take in what waits at one end; whether there may be more. */
static int take(struct way *way, uint64_t now) {
    for (int count = 0; count < BATCH; count++) {
        if (way->tail - way->head == SLOTS) return 0;
        struct packet *packet = &way->ring[way->tail & (SLOTS - 1)];
        ssize_t size = read(way->from, packet->data, BYTES);
        if (size <= 0) return 0;
        uint64_t start = way->free_at > now ? way->free_at : now;
        if (start - now > queue_ns) { way->overflowed++; continue; }
        way->free_at = start + (uint64_t)((double)size * ns_per_byte);
        if (loss_ppm && random_ppm() < loss_ppm) { way->lost++; continue; }
        packet->size = (uint32_t)size;
        packet->due = way->free_at + delay_ns;
        way->tail++;
    }
    return 1;
}

static void hand_over(struct way *way, uint64_t now) {
    while (way->head != way->tail) {
        struct packet *packet = &way->ring[way->head & (SLOTS - 1)];
        if (packet->due > now) return;
        if (write(way->to, packet->data, packet->size) < 0 && errno == EAGAIN) return;
        way->passed++;
        way->head++;
    }
}

int main(int argc, char **argv) {
    if (argc != 10) { fprintf(stderr, "link: nine arguments are needed\n"); return 2; }
    delay_ns = strtoull(argv[5], NULL, 10) * 1000ull;
    double bits = strtod(argv[6], NULL);
    ns_per_byte = 8e9 / bits;
    loss_ppm = (uint32_t)strtoul(argv[7], NULL, 10);
    queue_ns = (uint64_t)(strtod(argv[8], NULL) * ns_per_byte);
    random_state = strtoull(argv[9], NULL, 10) * 2654435761ull + 88172645463325252ull;
    int ends[2] = {open_tun(argv[1], argv[2]), open_tun(argv[3], argv[4])};
    struct way ways[2] = {{.from = ends[0], .to = ends[1]}, {.from = ends[1], .to = ends[0]}};
    for (int i = 0; i < 2; i++)
        if (!(ways[i].ring = calloc(SLOTS, sizeof(struct packet)))) fail("memory");
    puts("ready");
    fflush(stdout);
    for (;;) {
        uint64_t now = now_ns(), next = UINT64_MAX;
        int more = 0;
        for (int i = 0; i < 2; i++) {
            more |= take(&ways[i], now);
            hand_over(&ways[i], now);
            if (ways[i].head != ways[i].tail) {
                uint64_t due = ways[i].ring[ways[i].head & (SLOTS - 1)].due;
                if (due < next) next = due;
            }
        }
        if (more) continue;
        struct pollfd watched[3] = {
            {.fd = ends[0], .events = POLLIN}, {.fd = ends[1], .events = POLLIN}, {.fd = 0, .events = POLLIN}};
        uint64_t wait = next == UINT64_MAX ? 1000000000ull : next > now ? next - now : 0;
        struct timespec timeout = {(time_t)(wait / 1000000000ull), (long)(wait % 1000000000ull)};
        if (ppoll(watched, 3, &timeout, NULL) < 0 && errno != EINTR) fail("poll");
        char byte;
        if (watched[2].revents && read(0, &byte, 1) <= 0) break;
    }
    for (int i = 0; i < 2; i++)
        fprintf(stderr, "link: %s: passed %llu lost %llu overflowed %llu\n", i ? "b to a" : "a to b",
                (unsigned long long)ways[i].passed, (unsigned long long)ways[i].lost,
                (unsigned long long)ways[i].overflowed);
    return 0;
}
