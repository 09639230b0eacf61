"""`lanesync apply` beside a running agent believes its answer when every object has acted on the request."""

from __future__ import annotations

from typing import Any

import pytest

from agent.cli.apply import _follow
from agent.cli.client import Client
from agent.cli.problems import DONE


class SlowAgent(Client):
    """In sync by its own word from the beginning, and slow to look."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(path)
        assert body["paths"] == ["/specs"]
        return {"request": "r-1", "enqueued": ["Mapping/m"]}

    def get(self, path: str, **_query: Any) -> dict[str, Any]:
        self.asked.append(path)
        if path == "/api/v1/status":
            return {"state": "inSync", "inSync": True, "objects": [], "message": "everything is in sync"}
        handled = self.asked.count(path) >= 3
        return {"request": "r-1", "handled": handled, "pending": [] if handled else ["Mapping/m"]}


def test_the_answer_is_asked_for_when_everything_was_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    """What is said before that may be about what was there before."""
    agent = SlowAgent()
    assert _follow(agent, ("/specs",), None, "json") == DONE
    waited = ["/api/v1/requests/r-1"] * 3
    assert agent.asked == ["/api/v1/apply", *waited, "/api/v1/status"]
    assert '"inSync": true' in capsys.readouterr().out
