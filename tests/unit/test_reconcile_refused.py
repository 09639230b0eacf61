"""A destination that does not let us in, with nothing to be sent there: tried rarely, and when asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from unit.reconcile_bench import DESTINATION, Bench

from agent.engines.memory import MemoryEngine
from agent.model.observed import EngineState
from agent.reconcile.service import AgentService


class Refusing(MemoryEngine):
    """While `refuses`, who knocks is told so; nobody hears of a change without knocking."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses = False
        self.told = False
        self.knocks = 0

    def knock(self, destination_id: str) -> None:
        self.knocks += 1
        self.told = self.refuses
        self._changed("destination", destination_id)

    def observe(self, agent: str) -> EngineState:
        state = super().observe(agent)
        error = "it receives from authorized senders only" if self.told else ""
        found = (replace(d, refused=self.told, last_error=error) for d in state.destinations)
        return replace(state, destinations=tuple(found))


@pytest.fixture
def b(tmp_path: Path) -> Bench:
    made = Bench(tmp_path, Refusing())
    made.converge()
    made.engine.refuses = made.engine.told = True  # type: ignore[attr-defined]
    return made


def reason(b: Bench) -> str:
    return str(b.status(DESTINATION).conditions[0].reason)


def test_it_is_ready_again_when_what_was_wrong_is_mended(b: Bench) -> None:
    b.pass_time(61.0)
    assert reason(b) == "AuthenticationFailed"
    b.engine.refuses = False  # type: ignore[attr-defined]
    for _ in range(10):
        b.pass_time(5.0)
    assert b.status(DESTINATION).ready


def test_it_is_tried_less_and_less_often(b: Bench) -> None:
    for _ in range(720):
        b.pass_time(5.0)
    knocks = b.engine.knocks  # type: ignore[attr-defined]
    assert 10 <= knocks <= 20, "an hour: doubling from 5 s to 5 min"
    b.pass_time(300.0)
    assert b.engine.knocks > knocks, "and it never ends"  # type: ignore[attr-defined]


def test_a_person_who_asks_is_answered_at_once(b: Bench) -> None:
    for _ in range(720):
        b.pass_time(5.0)
    b.engine.refuses = False  # type: ignore[attr-defined]
    AgentService(b.agent).reconcile(str(DESTINATION), "somebody")
    b.settle()
    assert b.status(DESTINATION).ready


def test_an_engine_that_cannot_knock_is_left_alone(tmp_path: Path) -> None:
    b = Bench(tmp_path)
    b.converge()
    b.pass_time(600.0)
    assert b.status(DESTINATION).ready
