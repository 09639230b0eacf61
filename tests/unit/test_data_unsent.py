"""How much a stream leaves unsent in the kernel follows what its line can do."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from agent.server.data import widening
from agent.server.data.unsent import LOOK_SECONDS, Unsent
from agent.server.data.widening import Sample
from agent.server.data.wire import Stream

BEGIN = 4096


@pytest.fixture
def stream() -> Iterator[Stream]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
        with near, far:
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, BEGIN)
            yield Stream(near)


def _left(stream: Stream) -> int:
    return int.from_bytes(stream.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 4), "little")


def _line(monkeypatch: pytest.MonkeyPatch, rate: float) -> None:
    monkeypatch.setattr(widening, "sample", lambda _: Sample(1, 0, 1.0, 0.1, 0.1, rate))


def test_it_follows_the_rate_up_and_down(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    unsent = Unsent(stream, always=False)
    for number, rate in enumerate((1e6, 1e8, 1e7)):
        _line(monkeypatch, rate)
        unsent.look(2, number * LOOK_SECONDS)
        assert _left(stream) == widening.unsent(2, rate)


def test_the_kernel_is_not_asked_after_every_piece(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    unsent = Unsent(stream, always=False)
    _line(monkeypatch, 1e6)
    unsent.look(2, 0.0)
    _line(monkeypatch, 1e8)
    unsent.look(2, LOOK_SECONDS / 2)
    assert _left(stream) == widening.unsent(2, 1e6)


def test_what_is_enough_stays(stream: Stream) -> None:
    Unsent(stream, always=True).look(2, 1e9)
    assert _left(stream) == BEGIN


def test_where_the_kernel_counts_nothing_it_stays(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(widening, "sample", lambda _: None)
    Unsent(stream, always=False).look(2, 0.0)
    assert _left(stream) == BEGIN
