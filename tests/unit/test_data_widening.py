"""When a session gets more streams: a long line that loses packets, and a sender that has more to send."""

from __future__ import annotations

import socket

from hypothesis import given
from hypothesis import strategies as st

from agent.server.data import widening
from agent.server.data.widening import MOST, Sample, piece, sample, unsent, wanted

BEFORE = Sample(segments=1000, retransmitted=10, busy=5.0, round_trip=0.1)


def after(segments: int = 200, lost: int = 2, busy: float = 1.9, round_trip: float = 0.1) -> Sample:
    return Sample(1000 + segments, 10 + lost, 5.0 + busy, round_trip)


def test_loss_on_a_long_line_asks_for_more_streams() -> None:
    assert wanted([BEFORE] * 2, [after()] * 2, 2.0) == 8
    assert wanted([BEFORE] * 8, [after()] * 8, 2.0) == 32
    assert wanted([BEFORE] * 32, [after()] * 32, 2.0) == MOST
    assert wanted([BEFORE] * MOST, [after()] * MOST, 2.0) == MOST


def test_nothing_else_does() -> None:
    """No loss, a near peer, a sender that has little to send, one that sent nothing."""
    assert wanted([BEFORE] * 2, [after(lost=0)] * 2, 2.0) == 2
    assert wanted([BEFORE] * 2, [after(segments=100_000, lost=2)] * 2, 2.0) == 2
    assert wanted([BEFORE] * 2, [after(round_trip=0.0004)] * 2, 2.0) == 2
    assert wanted([BEFORE] * 2, [after(busy=0.3)] * 2, 2.0) == 2
    assert wanted([BEFORE] * 2, [BEFORE] * 2, 2.0) == 2


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
    assert found.retransmitted == 0
    assert 0.0 <= found.busy < 60.0
    assert 0.0 < found.round_trip < 1.0
