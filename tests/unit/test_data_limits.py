"""Limits that threads share: what links send, what streams read."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from agent.jetstream import constants
from agent.lanes.shares import Wait
from agent.server.data import pacing
from agent.server.data.governor import START_SECONDS, Governor, Portion
from agent.server.data.pacing import Pace
from agent.server.data.throttle import UNLIMITED, Reader, Throttle
from agent.server.data.wire import Stream

CHUNK = 1 << 20


def taken(portion: Portion, begin: float, seconds: float) -> int:
    """Bytes that one link takes when it sends at any speed and sleeps as it is told."""
    now, total = begin, 0
    while now < begin + seconds:
        step = portion.take(CHUNK, now)
        if isinstance(step, Wait):
            now = step.until
        else:
            total += step
            portion.used(step, step, now)
    return total


def placed(governor: Governor, pace: Pace) -> Portion:
    portion = Portion(governor)
    portion.place(pace, 0.0)
    return portion


def test_a_connection_s_limit_is_for_all_its_links() -> None:
    """What one of them does not use, another has."""
    governor = Governor()
    pace = Pace("1", rate_max=8_000)
    first, second = placed(governor, pace), placed(governor, pace)
    assert taken(first, 0.0, 4.0) == pytest.approx(4e6, rel=0.05)
    assert taken(second, 4.0, 4.0) == pytest.approx(4e6, rel=0.05)
    assert governor.rates(8.0) == {"1": pytest.approx(8_000, rel=0.1)}


def test_a_connection_is_forgotten_with_its_last_link() -> None:
    """And begins anew without debts."""
    governor = Governor()
    pace = Pace("1", rate_max=8)
    first, second = placed(governor, pace), placed(governor, pace)
    first.remove()
    assert governor.rates(0.0) == {"1": 0.0}
    second.remove()
    assert governor.rates(0.0) == {}
    assert taken(placed(governor, Pace("1")), 0.0, 0.0) == 0
    third = placed(governor, Pace("1"))
    assert third.take(CHUNK, 0.0) == CHUNK


@pytest.mark.parametrize(
    ("pace", "rate"),
    [
        (Pace("1", rate_max=8_000, rate=4_000, rate_control=False), 4_000),
        (Pace("1", rate_max=8_000, rate_control=False), 8_000),
        (Pace("1", rate=4_000, rate_control=False), 4_000),
        (Pace("1", rate_max=8_000, rate=4_000), 8_000),
    ],
)
def test_without_rate_control_the_rate_is_fixed(pace: Pace, rate: float) -> None:
    """`sendRate`, or the highest; with rate control it only begins there."""
    governor = Governor()
    portion = placed(governor, pace)
    governor.tick(10.0)
    assert taken(portion, 10.0, 4.0) == pytest.approx(rate * 125 * 4, rel=0.06)


def test_with_rate_control_a_session_begins_at_the_rate_that_was_set() -> None:
    """For a second; then it is as fast as the network lets it be."""
    governor = Governor()
    portion = placed(governor, Pace("1", rate=8_000))
    governor.tick(100.0)
    assert portion.take(CHUNK, 100.0) == CHUNK
    portion.begun(200.0)
    governor.tick(200.5)
    assert taken(portion, 200.0, START_SECONDS) == pytest.approx(1e6, rel=0.1)
    governor.tick(200.0 + START_SECONDS)
    assert portion.take(CHUNK, 201.0) == CHUNK


def test_a_connection_s_lowest_rate_is_kept_when_the_server_s_limit_is_shared() -> None:
    """The others have the rest."""
    governor = Governor()
    governor.limit(8_000, 0.0)
    assured = placed(governor, Pace("1", rate_min=6_000))
    others = [placed(governor, Pace(str(number))) for number in range(2, 6)]
    clocks = dict.fromkeys([assured, *others], 0.0)
    got = dict.fromkeys(clocks, 0)
    while (now := min(clocks.values())) < 4:
        portion = min(clocks, key=lambda each: clocks[each])
        step = portion.take(CHUNK, now)
        if isinstance(step, Wait):
            clocks[portion] = step.until
        else:
            portion.used(step, step, now)
            got[portion] += step
            clocks[portion] = now + 1e-6
    assert got[assured] == pytest.approx(3e6, rel=0.1)
    assert sum(got.values()) == pytest.approx(4e6, rel=0.05)


def test_what_was_not_used_is_given_back() -> None:
    """A grant that found less to send costs what was sent."""
    governor = Governor()
    portion = placed(governor, Pace("1", rate_max=8_000))
    for _ in range(1000):
        step = portion.take(CHUNK, 0.0)
        assert isinstance(step, int)
        portion.used(step, 0, 0.0)
    assert governor.sending(0.0)[0] == 0


# --- sockets -------------------------------------------------------------------------------------------


@pytest.fixture
def streams() -> Iterator[list[Stream]]:
    """Two connections within this machine, of one session."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pairs = [(socket.create_connection(listener.getsockname()), listener.accept()[0]) for _ in range(2)]
    yield [Stream(ours, number) for number, (ours, _) in enumerate(pairs)]
    for pair in pairs:
        for sock in pair:
            sock.close()


def _paced(stream: Stream) -> int:
    found = stream.sock.getsockopt(socket.SOL_SOCKET, pacing.SO_MAX_PACING_RATE, 8)
    assert isinstance(found, bytes)
    return int(struct.unpack("@Q", found)[0])


def test_a_fixed_rate_is_split_between_the_sockets_of_a_session(streams: list[Stream]) -> None:
    """The kernel makes it smooth; with rate control it does not interfere."""
    pacing.apply(streams, Pace(rate=8_000, rate_control=False))
    assert sum(_paced(stream) for stream in streams) == pytest.approx(1e6 * pacing.HEADROOM, rel=0.01)
    pacing.apply(streams, Pace(rate=8_000))
    assert [_paced(stream) for stream in streams] == [pacing.UNPACED] * 2


def test_each_socket_has_the_congestion_control_that_was_chosen(
    streams: list[Stream], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is not there leaves the other in force, and says what to do."""
    default = pacing.in_force(streams[0].sock)
    assert pacing.apply(streams, Pace(rate_method=constants.RATE_CONTROL_DEFAULT)) == (default, "")
    monkeypatch.setitem(pacing.ALGORITHMS, constants.RATE_CONTROL_CUBIC, "reno")
    assert pacing.apply(streams, Pace(rate_method=constants.RATE_CONTROL_CUBIC)) == ("reno", "")
    assert pacing.in_force(streams[1].sock) == "reno"
    assert pacing.apply(streams, Pace()) == (default, "")
    monkeypatch.setitem(pacing.ALGORITHMS, constants.RATE_CONTROL_BBR, "none_such")
    algorithm, problem = pacing.apply(streams, Pace(rate_method=constants.RATE_CONTROL_BBR))
    assert algorithm == default
    assert "modprobe tcp_none_such" in problem


# --- reading ---------------------------------------------------------------------------------------------


def reading(reader: Reader, until: Callable[[], bool]) -> tuple[threading.Thread, list[int]]:
    """A stream that always has data."""
    read: list[int] = [0]

    def run() -> None:
        while not until():
            piece = min(reader.piece, CHUNK)
            reader.read(piece)
            read[0] += piece

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, read


def test_streams_share_a_limit_of_what_is_read() -> None:
    """They never have more together than rate and time allow, and get the same."""
    throttle = Throttle()
    rate = 80_000
    throttle.limit(rate)
    started = time.monotonic()
    readers = [throttle.reader() for _ in range(3)]
    runs = [reading(each, lambda: time.monotonic() - started > 1.5) for each in readers]
    for thread, _ in runs:
        thread.join()
    seconds = time.monotonic() - started
    got = [read[0] for _, read in runs]
    burst = rate * 125 * 0.05 + 3 * throttle.piece
    assert sum(got) <= rate * 125 * seconds + burst
    assert sum(got) >= rate * 125 * 1.5 * 0.5
    assert max(got) - min(got) <= 0.2 * sum(got)


def test_a_stream_that_pays_is_let_go_when_it_ends_or_the_limit_is_lifted() -> None:
    """Nobody waits for the end of a slow limit."""
    throttle = Throttle()
    throttle.limit(8)
    ended, lifted = throttle.reader(), throttle.reader()
    stop = threading.Event()
    runs = [reading(each, stop.is_set) for each in (ended, lifted)]
    ended.close()
    runs[0][1].append(0)
    throttle.limit(None)
    assert throttle.piece == UNLIMITED
    stop.set()
    for thread, _ in runs:
        thread.join(60)
        assert not thread.is_alive()


def test_what_is_read_is_counted_with_and_without_a_limit() -> None:
    """Also what a stream read that is over."""
    throttle = Throttle()
    now = time.monotonic()
    assert throttle.receiving(now) == (0.0, False)
    first, second = throttle.reader(), throttle.reader()
    first.read(1_000_000)
    first.close()
    second.read(250_000)
    throttle.receiving(now)
    assert throttle.receiving(now + 0.5)[0] == pytest.approx(10_000)
    throttle.limit(8)
    thread, _ = reading(second, lambda: second.closed)
    deadline = time.monotonic() + 60
    while not throttle.receiving(time.monotonic())[1]:
        assert time.monotonic() < deadline, "a reader that has to wait is not noticed"
    second.close()
    thread.join(60)
    assert not thread.is_alive()
