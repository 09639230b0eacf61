"""The line between sender and receiver is cut, stalls, flips bits, or leads nowhere: trees end identical,
what arrived is not sent again, and other destinations notice nothing."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from data_world import World, contents, wait_for, world
from hops import Hop
from rounds import FACTOR, limit, rounds

from agent.server.data import wire
from agent.server.data.wire import Kind

pytestmark = [pytest.mark.fault, limit(600)]
MIB = 1 << 20


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


@pytest.fixture
def hop(w: World) -> Iterator[Hop]:
    made = Hop(w.port)
    aim(w, made.port)
    yield made
    made.close()


def aim(w: World, port: int, ident: str = "1", rate: float | None = None) -> None:
    assert w.sender is not None
    w.destination(rate=rate)
    w._destination |= {"id": ident, "port": port}
    w.sender.send(w._destination)


def fill(w: World, chance: random.Random) -> int:
    total = 0
    for number in range(200):
        place = w.source / f"d{number % 5}"
        place.mkdir(exist_ok=True)
        total += (place / f"f{number}").write_bytes(chance.randbytes(chance.randrange(1, 30_000)))
    for number in range(2):
        total += (w.source / f"large{number}").write_bytes(chance.randbytes(5 * MIB))
    return total


def torn(w: World) -> set[bytes]:
    wanted = contents(w.source)
    there = contents(w.root / "in") if (w.root / "in").exists() else {}
    return {path for path, what in there.items() if wanted.get(path) != what}


def assert_arrived(w: World) -> None:
    assert contents(w.source) == contents(w.root / "in")
    assert not (w.root / ".lanesync").exists()


def test_cuts_at_random_instants_lose_nothing_and_send_little_again(w: World, hop: Hop) -> None:
    """Resets and orderly ends, also of connections that have just been made. What the receiver has is not
    sent again: per cut no more than what can be on its way."""
    aim(w, hop.port, rate=200_000)
    for number, chance in enumerate(rounds(2), 1):
        ident, count, before = str(number), 10, hop.carried
        size = fill(w, chance)
        w.start(ident, checkpointSeconds=0, destinationPath="/in")
        for at in sorted(chance.randrange(size) for _ in range(count)):
            reached(hop, before + at, w, ident)
            hop.cut(reset=chance.random() < 0.7)
            assert torn(w) == set() or number > 1  # later rounds replace what an earlier one brought
        assert w.finish(ident)["status"] == "complete", w.finished
        assert_arrived(w)
        assert hop.carried - before < size + count * 4 * MIB


def reached(hop: Hop, carried: int, w: World, ident: str) -> None:
    wait_for(lambda: hop.carried >= carried or ident in w.finished, "bytes on the line")


def test_connections_that_end_in_their_first_instants_are_made_anew(w: World, hop: Hop) -> None:
    """After any number of bytes of a connection, in the middle of the greeting, too."""
    fill(w, random.Random(1))
    limits = iter([1, 30, 60, 100, 150, 200, 250, 300, 400, 600, 1000, 3000] + [1 << 60] * 1000)
    limit = [next(limits)]
    since = [0]

    def alter(data: bytes) -> bytes:
        if hop.carried - since[0] >= limit[0]:
            since[0], limit[0] = hop.carried, next(limits)
            hop.cut()
        return data

    hop.alter = alter
    w.start("1")
    assert w.finish("1")["status"] == "complete", w.finished
    assert_arrived(w)


def test_a_line_that_stalls_goes_on_where_it_was(w: World, hop: Hop) -> None:
    """Longer than a stream may be silent, too: then a new session takes over from the old one, whose last
    frames come late and change nothing."""
    aim(w, hop.port, rate=200_000)
    size = fill(w, random.Random(2))
    w.start("1", checkpointSeconds=0.2)
    for share in (0.2, 0.4, 0.6):
        reached(hop, int(size * share), w, "1")
        hop.stall()
        threading.Event().wait(0.3)  # how long it stalls
        hop.flow()
    assert w.finish("1")["status"] == "complete", w.finished
    assert_arrived(w)
    assert hop.carried < size * 1.2 and hop.connections <= 4


@pytest.mark.skipif(FACTOR < 2, reason="takes a minute; `make soak` has it")
def test_a_line_that_stalls_for_longer_than_a_stream_may_be_silent(w: World, hop: Hop) -> None:
    """The sender gives the session up and makes new ones. When the line is back, what the old one had on its
    way comes late and changes nothing."""
    aim(w, hop.port, rate=200_000)
    size = fill(w, random.Random(2))
    w.start("1", checkpointSeconds=0.2)
    reached(hop, size // 3, w, "1")
    hop.stall()
    threading.Event().wait(wire.SEND_SECONDS + 5)  # how long it stalls
    assert "1" not in w.finished
    hop.flow()
    assert w.finish("1")["status"] == "complete", w.finished
    assert_arrived(w)
    assert hop.carried < size * 1.5


def test_half_open_connections_are_taken_over(w: World, hop: Hop) -> None:
    """One side has lost the connection, the other one knows nothing of it."""
    aim(w, hop.port, rate=200_000)
    size = fill(w, random.Random(3))
    w.start("1", checkpointSeconds=0.2)
    reached(hop, size // 3, w, "1")
    hop.cut_one_side()
    wait_for(lambda: any(one.get("interrupted") for one in w.received), "the receiver has lost it")
    assert "1" not in w.finished
    w.destination(rate=200_000)  # another way: the old session is given up without an answer
    assert w.finish("1")["status"] == "complete", w.finished
    assert_arrived(w)


def test_a_session_that_the_receiver_still_believes_in_is_taken_over(w: World, hop: Hop) -> None:
    """The sender has lost the connection, and comes another way."""
    aim(w, hop.port, rate=200_000)
    size = fill(w, random.Random(3))
    w.start("1", checkpointSeconds=0.2)
    reached(hop, size // 3, w, "1")
    hop.stall()
    w.destination(rate=200_000)
    assert w.finish("1")["status"] == "complete", w.finished
    hop.flow()
    assert_arrived(w)


class Spoiler:
    """Flips a bit of what passes a hop when so many bytes have passed."""

    def __init__(self, hop: Hop, chance: random.Random, instants: list[int]) -> None:
        self._hop, self._chance, self._base = hop, chance, hop.carried
        self._instants = sorted(instants)
        self.flipped = 0

    def __call__(self, data: bytes) -> bytes:
        if not self._instants or self._hop.carried - self._base < self._instants[0]:
            return data
        self._instants.pop(0)
        self.flipped += 1
        spoilt = bytearray(data)
        spoilt[self._chance.randrange(len(spoilt))] ^= 1 << self._chance.randrange(8)
        return bytes(spoilt)


def test_flipped_bits_are_noticed_sent_again_and_counted(w: World, hop: Hop) -> None:
    """Anywhere in what passes: content, headers, names."""
    for number, chance in enumerate(rounds(2), 1):
        size = fill(w, chance)
        spoiler = hop.alter = Spoiler(hop, chance, [chance.randrange(1000, size) for _ in range(6)])
        ident = str(number)
        w.start(ident, checkpointSeconds=0.2)
        assert w.finish(ident)["status"] == "complete", w.finished
        assert contents(w.source) == contents(w.root / "in")
        assert spoiler.flipped and w.finished[ident]["blocksResent"] > 0


class FrameSpoiler:
    """Flips a bit in some frames, anywhere but in content, of each kind in one at most. It follows the
    frames of each connection; greetings pass, so that sessions come about."""

    def __init__(self, chance: random.Random, count: int, share: float) -> None:
        self._chance, self._count, self._share = chance, count, share
        self._lock = threading.Lock()
        self.hits: list[str] = []  # kinds of frames

    def flow(self, forth: bool) -> Callable[[bytes], bytes]:
        held = bytearray()
        left = len(wire.PREAMBLE) if forth else 0  # bytes to pass on as they are
        head = wire.HEADER.size

        def alter(data: bytes) -> bytes:
            nonlocal left, head
            held.extend(data)
            passed = bytearray()
            while held:
                if left:
                    count = min(left, len(held))
                    passed += held[:count]
                    del held[:count]
                    left -= count
                    continue
                if len(held) < head:
                    break
                kind, length = held[0], wire.HEADER.unpack_from(held)[5]
                content = kind in wire.CONTENT
                whole = head if content else head + length
                if len(held) < whole:
                    break
                frame = held[:whole]
                del held[:whole]
                left = length if content else 0
                passed += self._spoil(kind, head, frame)
                head = wire.HEADER.size + wire.SEAL_SIZE  # after HELLO
            return bytes(passed)

        return alter

    def _spoil(self, kind: int, head: int, frame: bytearray) -> bytearray:
        with self._lock:
            spared = kind == Kind.HELLO or Kind(kind).name in self.hits or len(self.hits) >= self._count
            if spared or self._chance.random() >= self._share:
                return frame
            at = self._chance.randrange(head if self._chance.random() < 0.7 else len(frame))
            frame[at] ^= 1 << self._chance.randrange(8)
            self.hits.append(Kind(kind).name)
            return frame


def test_bits_that_flip_outside_of_content_end_the_session_and_the_next_one_goes_on(
    w: World, hop: Hop
) -> None:
    """Offsets, sizes, numbers, names, greetings and answers, in both directions: nothing is taken for what
    it was not."""
    for number, chance in enumerate(rounds(1), 1):
        fill(w, chance)
        with (w.source / "sparse").open("wb") as file:
            for at in range(0, 8 * MIB, MIB):
                file.seek(at)
                file.write(chance.randbytes(4096))
        spoiler = FrameSpoiler(chance, 5, 0.3)
        hop.altering = spoiler.flow
        hop.cut()  # the next connection is the first that is spoilt
        connections, ident = hop.connections, str(number)
        w.start(ident, checkpointSeconds=0.2)
        assert w.finish(ident)["status"] == "complete", (w.finished, spoiler.hits)
        assert contents(w.source) == contents(w.root / "in"), spoiler.hits
        assert spoiler.hits and hop.connections >= connections + len(spoiler.hits), "each ended a session"


def test_destinations_that_never_answer_hold_up_no_other(w: World) -> None:
    """Twenty lead nowhere, with transfers that wait in each; one answers."""
    silent = [Hop(w.port) for _ in range(20)]
    try:
        fill(w, random.Random(4))
        for number, hop in enumerate(silent, 2):
            hop.greet = False
            aim(w, hop.port, str(number))
            w.start(str(100 + number), destinationId=str(number), destinationPath="/never")
        wait_for(lambda: all(hop.connections for hop in silent), "all are tried")
        aim(w, w.port)
        w.start("1")
        assert w.finish("1", 20)["status"] == "complete"
        assert_arrived(w)
        assert set(w.finished) == {"1"} and not (w.root / "never").exists()
    finally:
        for hop in silent:
            hop.close()
