"""How many streams a receiver lets one session have."""

from __future__ import annotations

from typing import Any

import pytest

from agent.server.data.sessions import FEW_STREAMS, Session
from agent.server.data.wire import WireError


class Connection:
    level, peer_key = 2, "key"

    def shutdown(self) -> None:
        pass


def session() -> tuple[Session, Any]:
    authority: Any = None
    return Session("ident", 2, "key", authority), Connection


def test_while_many_are_served_none_has_more_than_a_few() -> None:
    made, connection = session()
    for _ in range(FEW_STREAMS):
        made.take(connection(), few=True)
    with pytest.raises(WireError, match="no more than"):
        made.take(connection(), few=True)
    made.take(connection(), few=False)
    assert len(made.streams) == FEW_STREAMS + 1


def test_a_session_that_ends_takes_no_stream() -> None:
    made, connection = session()
    made.end()
    with pytest.raises(WireError, match="begin a new one"):
        made.take(connection(), few=False)
