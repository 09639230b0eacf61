"""What an engine cannot do, has to say, and can hold: told in conditions, while the rest goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from unit.reconcile_bench import Bench

from agent.engines.memory import MemoryEngine
from agent.model.condition import ConditionType, Reason
from agent.model.observed import Capabilities, EngineState, Notice
from agent.model.spec import Key, Kind, Window


class Limited(MemoryEngine):
    """Without rates; it can hold destinations, and has something to say."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[tuple[str, bool]] = []

    def connect(self) -> Capabilities:
        soon = Notice(Reason.CREDENTIAL_EXPIRES_SOON, "renew it")
        return replace(super().connect(), rates=False, hold=True, notices=(soon,))

    def observe(self, agent: str) -> EngineState:
        state = super().observe(agent)
        banned = Notice(Reason.STORAGE_BANNED, "banned by an operator")
        return replace(state, destinations=tuple(replace(d, notices=(banned,)) for d in state.destinations))

    def hold(self, destination_id: str, held: bool) -> str:
        self.held.append((destination_id, held))
        return "held by a ban" if held else ""


@pytest.fixture
def engine() -> Limited:
    return Limited()


@pytest.fixture
def b(tmp_path: Path, engine: Limited) -> Iterator[Bench]:
    bench = Bench(tmp_path, engine)
    yield bench
    bench.agent.context.state.close()


def told(b: Bench, kind: Kind, name: str, condition: ConditionType) -> dict[Reason, str]:
    status = b.agent.context.board.get(Key(kind, name))
    assert status is not None
    return {c.reason: c.message for c in status.conditions if c.type is condition}


def test_what_the_engine_cannot_do_is_told_and_the_rest_is_delivered(b: Bench) -> None:
    b.destination = replace(b.destination, send_rate_max=1000.0)
    b.mapping = replace(b.mapping, send_rate_max=500.0)
    b.take()
    (b.source / "a").write_text("a")
    b.converge()
    assert set(b.at_destination) == {"/a"}
    for kind, name in ((Kind.DESTINATION, "d"), (Kind.MAPPING, "m")):
        assert "`sendRateMax`" in told(b, kind, name, ConditionType.LIMITED)[Reason.UNSUPPORTED]


def test_what_the_engine_says_is_in_the_status(b: Bench) -> None:
    b.converge()
    b.pass_time(61.0)
    server = b.destination.server
    assert told(b, Kind.SERVER, server, ConditionType.LIMITED) == {Reason.CREDENTIAL_EXPIRES_SOON: "renew it"}
    assert told(b, Kind.DESTINATION, "d", ConditionType.LIMITED) == {
        Reason.STORAGE_BANNED: "banned by an operator"
    }


def test_a_suspended_destination_is_held_and_let_go_again(b: Bench, engine: Limited) -> None:
    b.converge()
    b.destination = replace(b.destination, suspend=True)
    b.take()
    b.settle()
    assert engine.held[-1][1] is True
    suspended = told(b, Kind.DESTINATION, "d", ConditionType.SUSPENDED)
    assert "held by a ban" in suspended[Reason.SUSPENDED_IN_SPEC]
    b.destination = replace(b.destination, suspend=False)
    b.take()
    b.settle()
    assert engine.held[-1][1] is False


def test_a_window_that_pauses_holds_nothing_at_the_server(b: Bench, engine: Limited) -> None:
    """It comes and goes every day, and a ban hits others, too."""
    b.destination = replace(b.destination, windows=(Window(tuple(range(7)), 0, 24 * 60, pause=True),))
    b.take()
    b.settle()
    b.pass_time(61.0)
    assert engine.held
    assert not any(held for _, held in engine.held)
