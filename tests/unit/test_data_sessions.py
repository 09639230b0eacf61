"""How much one session of a sender may take up."""

from __future__ import annotations

import pytest

from agent.server.data import sessions
from agent.server.data.granting import Authority, RefusedError
from agent.server.data.sessions import Session
from agent.server.data.wire import WireError


def session(monkeypatch: pytest.MonkeyPatch, most: int) -> Session:
    monkeypatch.setattr(sessions, "MAX_HANDLES", most)
    return Session("one", 0, None, Authority(lambda _message: None))


def test_a_transfer_too_many_is_refused_alone_and_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """The session, with all others in it, goes on; one that is open may be opened again."""
    full = session(monkeypatch, 2)
    for handle in (1, 2):
        full.check_room(handle)
        full.handles[handle] = None  # type: ignore[assignment]
    with pytest.raises(RefusedError, match=r"2 transfers of this sender open.*create the transfer again"):
        full.check_room(3)
    full.check_room(2)
    del full.handles[1]
    full.check_room(3)


def test_a_session_that_is_over_takes_no_transfer(monkeypatch: pytest.MonkeyPatch) -> None:
    over = session(monkeypatch, 2)
    over.closed = True
    with pytest.raises(WireError, match="over"):
        over.check_room(1)
