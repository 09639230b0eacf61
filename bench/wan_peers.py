"""Who moves files over a long line: LaneSync and its peers, and a program that only sends."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import link, peers, processes
from bench.link import FAR, NEAR, Line, Shape
from bench.ours import Pair, distant_pair

RSYNC_PORT, HTTP_PORT = 9002, 9003
STREAMS = 16  # the most that aria2 opens to one server
LANESYNC, IPERF, IPERF_8, RSYNC = "LaneSync", "iperf3", "iperf3, 8 streams", "rsync daemon"
ARIA2 = f"aria2 from HTTP, {STREAMS} streams"
COPIES = 40  # for the line to be at work for some 30 s
LANESYNC_WARM = f"{LANESYNC}, right after another"
LANESYNC_LONG = f"{LANESYNC}, {COPIES} of them together"
IPERF_SAME = "iperf3, as many bytes"
SHORT_SECONDS = 1.0  # for a program to listen where nobody can ask from here


@dataclass(frozen=True)
class World:
    """The two hosts, what is to be moved, and where it arrives."""

    line: Line
    work: Path
    source: Path
    seconds: float
    cubic: bool

    @property
    def log(self) -> Path:
        return self.work / "programs.log"

    @property
    def size(self) -> int:
        return _size(self.source)

    @property
    def weak(self) -> list[str]:
        """Who may not administer the network may only choose what is allowed."""
        return ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"] if self.cubic else []

    def near(self, command: Sequence[str]) -> list[str]:
        return self.line.inside(self.line.near, [*self.weak, *command])

    def far(self, command: Sequence[str]) -> list[str]:
        return self.line.inside(self.line.far, [*self.weak, *command])

    def timed(self, command: Sequence[str], folder: Path) -> float:
        """Mbit/s of a command that brings the source into `folder`, for at most the time there is."""
        begun = time.monotonic()
        with processes.running(command, self.log) as process:
            while process.poll() is None and time.monotonic() < begun + self.seconds:
                time.sleep(0.01)
            taken, code = time.monotonic() - begun, process.poll()
            moved = _occupied(folder)
        if code:
            raise RuntimeError(f"{' '.join(command[:9])} … ended with {code}:\n{processes.tail(self.log)}")
        if code == 0 and _size(folder) != self.size:
            raise RuntimeError(f"{folder} does not hold what was sent")
        return (self.size if code == 0 else moved) * 8e-6 / taken


def _occupied(folder: Path) -> int:
    """Bytes that take up room below a folder: what has arrived, whole or not."""
    found = 0
    for entry in folder.rglob("*"):
        try:
            found += entry.stat().st_blocks * 512 if entry.is_file() else 0
        except FileNotFoundError:
            continue  # it has got its name meanwhile
    return found


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())


Contender = Callable[[World, ExitStack], Callable[[], float]]
"""Sets up in the world; what it returns does the work once and says how fast, in Mbit/s."""


def lanesync(copies: int = 1, warm: bool = False) -> Contender:
    """Encrypted and with an account, as between any two hosts; the session stands. `copies`: each to a folder
    of its own, all ordered at once. `warm`: the line has just carried one."""

    def contender(world: World, stack: ExitStack) -> Callable[[], float]:
        stack.enter_context(link.entered(world.line.near))
        received = world.work / "received"
        pair = stack.enter_context(distant_pair(world.work / "ours", received, world.line, world.weak))
        if warm:
            _delivered(pair, world, ["before"])

        def run() -> float:
            begun, before = time.monotonic(), _occupied(received)
            names = [f"it{number}" for number in range(copies)]
            done = _delivered(pair, world, names)
            taken = time.monotonic() - begun
            if not done:
                return (_occupied(received) - before) * 8e-6 / taken
            if any(_size(received / name) != world.size for name in names):
                raise RuntimeError(f"{received} does not hold what was sent")
            return copies * world.size * 8e-6 / taken

        return run

    return contender


def _delivered(pair: Pair, world: World, names: Sequence[str]) -> bool:
    """Order the source to each of the folders; whether all are there within the time."""
    send, end = pair.api.send, time.monotonic() + world.seconds
    orders = []
    for name in names:
        manifest = send.createManifest(mappings={f"/{name}": str(world.source)})["manifestId"]
        send.waitForManifest(manifest)
        order = send.createTransfer(pair.destination, manifest, minCipher=pair.cipher, **pair.account)
        orders.append(order["transferId"])
    for order in orders:
        while (found := send.getTransfer(order))["status"] not in ENDED:
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        if found["status"] != "complete":
            raise RuntimeError(f"the transfer ended as {found['status']}: {found.get('errorMessage')}")
    return True


ENDED = ("complete", "error", "failed", "canceled")


def rsync(world: World, stack: ExitStack) -> Callable[[], float]:
    folder, config = world.work / "rsync" / "it", world.work / "rsyncd.conf"
    folder.mkdir(parents=True)
    config.write_text(
        f"use chroot = no\nreverse lookup = no\nuid = 0\ngid = 0\n[bench]\npath = {folder}\nread only = no\n"
    )
    command = ["rsync", "--daemon", "--no-detach", f"--config={config}"]
    command += [f"--port={RSYNC_PORT}", f"--address={FAR}"]
    stack.enter_context(processes.running(world.far(command), world.log))
    time.sleep(SHORT_SECONDS)
    source = str(world.source) if world.source.is_file() else f"{world.source}/"
    where = f"rsync://{FAR}:{RSYNC_PORT}/bench/"
    return lambda: world.timed(world.near(["rsync", "-a", source, where]), folder)


def aria2(world: World, stack: ExitStack) -> Callable[[], float]:
    """It fetches, from a server that has HTTP ranges."""
    folder = world.work / "aria2"
    folder.mkdir()
    address = f"{NEAR}:{HTTP_PORT}"
    serve = ["rclone", "serve", "http", str(world.source.parent), "--addr", address, "--log-level", "ERROR"]
    stack.enter_context(processes.running(world.near(serve), world.log))
    time.sleep(SHORT_SECONDS)
    command = ["aria2c", "--quiet", "--no-conf", "--file-allocation=none", "--min-split-size=1M"]
    command += [f"--max-connection-per-server={STREAMS}", f"--split={STREAMS}", f"--dir={folder}"]
    command.append(f"http://{address}/{world.source.name}")
    return lambda: world.timed(world.far(command), folder)


def iperf(streams: int, *, same: bool = False) -> Contender:
    """What the line gives to a program that only sends: no file, no checksum. `same`: the size of the source,
    else for as long as there is time."""

    def contender(world: World, stack: ExitStack) -> Callable[[], float]:
        stack.enter_context(processes.running(world.far(["iperf3", "-s"]), world.log))
        time.sleep(SHORT_SECONDS)
        command = ["iperf3", "-c", FAR, "-P", str(streams), "-J"]
        command += ["-n", str(world.size)] if same else ["-t", f"{max(1.0, world.seconds - 2):.0f}"]

        def run() -> float:
            done = subprocess.run(world.near(command), capture_output=True, text=True, check=True)
            return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]) / 1e6

        return run

    return contender


CONTENDERS: dict[str, Contender] = {
    LANESYNC: lanesync(),
    IPERF: iperf(1),
    IPERF_8: iperf(8),
    RSYNC: rsync,
    ARIA2: aria2,
}
SMALL_FILES: dict[str, Contender] = {
    LANESYNC: lanesync(),
    LANESYNC_WARM: lanesync(warm=True),
    LANESYNC_LONG: lanesync(COPIES),
    RSYNC: rsync,
    IPERF_SAME: iperf(1, same=True),
}
_PROGRAMS = dict.fromkeys((IPERF, IPERF_8, IPERF_SAME), ("iperf3",)) | {
    RSYNC: ("rsync",),
    ARIA2: ("aria2c", "rclone"),
}


def missing() -> str:
    """What keeps such a line from being measured here; empty when nothing does."""
    there = Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text(encoding="ascii").split()
    absent = [name for name in ("bbr", "cubic") if name not in there]
    return link.missing() or (f"the kernel has no {' and no '.join(absent)}" if absent else "")


def usable(name: str) -> bool:
    return all(peers.present(program) for program in _PROGRAMS.get(name, ()))


@contextmanager
def hosts(shape: Shape, work: Path, source: Path, seconds: float, *, cubic: bool) -> Iterator[World]:
    """Two hosts that use one congestion control unless a program chooses another, which with `cubic` it
    cannot, see `only_cubic`."""
    with link.line(shape) as line:
        for name in (line.near, line.far):
            control = "cubic" if cubic else "bbr"
            _sysctl("net.ipv4.tcp_congestion_control", control, line.inside(name, ()))
        yield World(line, work, source, seconds, cubic)


@contextmanager
def only_cubic() -> Iterator[None]:
    """What an unprivileged program may choose is one setting of the whole machine; it is put back."""
    name = "net.ipv4.tcp_allowed_congestion_control"
    before = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=True).stdout.strip()
    _sysctl(name, "reno cubic")
    try:
        yield
    finally:
        _sysctl(name, before)


def _sysctl(name: str, value: str, inside: Sequence[str] = ()) -> None:
    subprocess.run([*inside, "sysctl", "-qw", f"{name}={value}"], check=True)
