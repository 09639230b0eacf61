"""How many streams a session uses: a long line that loses packets, and a sender that has more to send."""

from __future__ import annotations

import socket

from hypothesis import given
from hypothesis import strategies as st

from agent.server.data import widening
from agent.server.data.widening import MOST, Sample, crowded, piece, sample, unsent, wanted

BEFORE = Sample(segments=1000, lost=10, busy=5.0, round_trip=0.1, shortest=0.1)


def after(segments: int = 200, lost: int = 2, busy: float = 1.9, round_trip: float = 0.1) -> Sample:
    return Sample(1000 + segments, 10 + lost, 5.0 + busy, round_trip, min(0.1, round_trip))


def change(count: int, now: Sample, least: int = 2) -> int:
    return wanted([BEFORE] * count, [now] * count, 2.0, least)


def test_loss_on_a_long_line_asks_for_more_streams() -> None:
    assert change(2, after()) == 16
    assert change(16, after()) == MOST
    assert change(MOST, after()) == MOST


def test_nothing_else_does() -> None:
    """No loss, a near peer, a sender that has little to send, one that sent nothing, a line that is full."""
    assert change(2, after(lost=0)) == 2
    assert change(2, after(segments=100_000, lost=2)) == 2
    assert change(2, after(round_trip=0.0004)) == 2
    assert change(2, after(busy=0.8)) == 2
    assert change(2, BEFORE) == 2
    assert change(2, after(round_trip=0.2)) == 2


def test_there_are_fewer_again_when_they_do_not_help_any_more() -> None:
    """Nothing is lost, the line's queues are full, there is little to send; never fewer than at first."""
    assert change(128, after(lost=0)) == 64
    assert change(128, after(round_trip=0.2)) == 64
    assert change(128, after(busy=0.1)) == 64
    assert change(128, BEFORE) == 64
    assert change(3, after(lost=0), least=2) == 2
    assert change(4, after(lost=0), least=4) == 4


def test_a_little_loss_and_pauses_leave_it_at_what_there_is() -> None:
    assert change(16, after(segments=8000)) == 16
    assert change(16, after(busy=0.8)) == 16


def test_streams_that_are_new_count_without_a_look_before() -> None:
    assert wanted([BEFORE] * 14, [after()] * 16, 2.0, 2) == MOST
    assert wanted([BEFORE] * 14, [after(segments=8000)] * 16, 2.0, 2) == 16


def test_a_line_is_full_when_packets_wait_before_it() -> None:
    assert crowded([after(round_trip=0.2)] * 3)
    assert not crowded([after(), after(), after(round_trip=0.9)])


@given(st.integers(1, MOST))
def test_more_streams_hold_no_more_of_what_is_less_urgent(streams: int) -> None:
    """What is begun and what is unsent in the kernel stays bounded for all streams together."""
    assert widening.SMALLEST_PIECE <= piece(streams) <= widening.CHUNK_SIZE
    assert streams * piece(streams) <= max(2 * widening.CHUNK_SIZE, streams * widening.SMALLEST_PIECE)
    assert unsent(streams) >= widening.SMALLEST_UNSENT


def test_the_kernel_counts_what_is_needed() -> None:
    """Segments and time of a real connection, at their places in the kernel's answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
        with near, far:
            near.sendall(b"x" * 100_000)
            received = 0
            while received < 100_000:
                received += len(far.recv(65536))
            found = sample(near)
    assert found is not None
    assert 1 <= found.segments <= 200
    assert found.lost == 0
    assert 0.0 <= found.busy < 60.0
    assert 0.0 < found.shortest <= found.round_trip < 1.0
