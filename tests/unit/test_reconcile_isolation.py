"""One object in trouble neither slows nor stops the others, however long it lasts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from unit.reconcile_bench import Bench

from agent.engines.memory import MemoryEngine
from agent.model.observed import EngineState, ObservedTransfer
from agent.model.outcome import Outcome
from agent.model.spec import (
    DesiredState,
    DestinationSpec,
    EngineKind,
    Key,
    Kind,
    MappingSpec,
    PathMapping,
    ServerSpec,
)
from agent.reconcile.agent import Agent, Options
from agent.reconcile.mapping import Mappings
from agent.reconcile.queue import Hints
from agent.reconcile.report import Report

MINUTE = 60


class Asked(MemoryEngine):
    """Counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.questions = 0

    def observe(self, agent: str) -> EngineState:
        self.questions += 1
        return super().observe(agent)

    def transfer(self, transfer_id: str) -> ObservedTransfer:
        self.questions += 1
        return super().transfer(transfer_id)


class Two(Bench):
    """Two servers with a destination and `mappings` mappings each: `good0` …, `bad0` …"""

    def __init__(self, directory: Path, mappings: int) -> None:
        self.engines = {"good": Asked(), "bad": Asked()}
        self.wanted = DesiredState(
            "r",
            servers={name: ServerSpec(name, EngineKind.JETSTREAM, name, 1) for name in self.engines},
            destinations={
                name: DestinationSpec(name, f"host-{name}", 1, server=name) for name in self.engines
            },
            mappings={},
        )
        for name in self.engines:
            for number in range(mappings):
                source = directory / f"{name}{number}"
                source.mkdir()
                (source / "a").write_text("a")
                path = PathMapping(f"/{name}{number}", str(source))
                self.wanted.mappings[f"{name}{number}"] = MappingSpec(f"{name}{number}", (name,), (path,))
        super().__init__(directory, self.engines["good"])

    def open(self) -> None:
        options = Options((), str(self.directory / "state"), watch=False)
        self.agent = Agent(options, self.clock, lambda spec, *_: self.engines[spec.name])
        self.take()

    def desired(self) -> DesiredState:
        return self.wanted

    def pass_time(self, seconds: float) -> None:
        self.engines["bad"].advance(seconds)
        super().pass_time(seconds)

    def add(self, name: str, content: bytes = b"x") -> None:
        """One more file for each."""
        for mapping in self.wanted.mappings.values():
            source = mapping.paths[0].source
            (Path(source) / name).write_bytes(content)
            hints = Hints(paths=frozenset({(source, name)}))
            self.agent.context.queue.add(Key(Kind.MAPPING, mapping.name), hints=hints)

    def ready(self, name: str) -> bool:
        names = [mapping for mapping in self.wanted.mappings if mapping.startswith(name)]
        return all(self.status(Key(Kind.MAPPING, mapping)).ready for mapping in names)

    def files(self, name: str) -> int:
        """How many the destination has."""
        (destination,) = self.engines[name].observe(self.agent.context.state.agent_id).destinations
        return len(self.engines[name].delivered(destination.id))

    def rest(self, name: str) -> None:
        for _ in range(60):
            self.pass_time(0.5)
            if self.ready(name):
                return
        raise AssertionError(f"{name} does not converge")


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    bench = Two(tmp_path, 4)
    bench.rest("")
    yield bench
    bench.crash()


def test_a_mapping_whose_reconcile_crashes_each_time_crashes_seldom(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others take in every change meanwhile; it is tried again at ever longer intervals, and goes on when
    the defect is gone."""
    turns: Counter[str] = Counter()
    whole = Mappings.reconcile

    def crash(self: Mappings, name: str, hints: Hints, report: Report) -> Outcome:
        turns[name] += 1
        if name == "good0":
            raise ZeroDivisionError("a defect")
        return whole(self, name, hints, report)

    monkeypatch.setattr(Mappings, "reconcile", crash)
    two.add("later")
    with capture_logs():
        for _ in range(10 * MINUTE):
            two.pass_time(1.0)
    assert two.ready("bad") and two.files("bad") == 8
    assert all(two.status(Key(Kind.MAPPING, f"good{number}")).ready for number in (1, 2, 3))
    assert "ZeroDivisionError" in str(two.status(Key(Kind.MAPPING, "good0")).why_not_ready())
    assert 5 < turns["good0"] < 40
    assert max(turns[f"good{number}"] for number in (1, 2, 3)) < 20
    monkeypatch.setattr(Mappings, "reconcile", whole)
    two.pass_time(MINUTE)
    two.agent.context.queue.add(Key(Kind.MAPPING, "good0"))
    two.rest("good")
    assert two.files("good") == 8


@pytest.mark.parametrize("mappings", [2, 20])
def test_a_server_that_does_not_answer_is_asked_no_oftener_for_many_mappings(
    tmp_path: Path, mappings: int
) -> None:
    """Each question may take as long as a time-out: one asks it, and the others wait for the answer."""
    two = Two(tmp_path, mappings)
    two.rest("")
    two.engines["bad"].reachable = False
    two.engines["bad"].questions = 0
    two.add("later")
    for _ in range(5 * MINUTE):
        two.pass_time(1.0)
    assert two.ready("good") and two.files("good") == 2 * mappings
    assert not two.ready("bad")
    assert two.engines["bad"].questions < 5
    two.engines["bad"].reachable = True
    for _ in range(2 * MINUTE):
        two.pass_time(1.0)
    assert two.ready("bad") and two.files("bad") == 2 * mappings
    two.crash()


def test_an_event_of_one_server_is_not_taken_for_one_of_another(tmp_path: Path) -> None:
    """Their transfers have the same ids: whichever ends, its own mapping hears of it."""
    two = Two(tmp_path, 1)
    two.rest("")
    for name, destination in two.wanted.destinations.items():
        two.wanted.destinations[name] = replace(destination, send_rate_max=8.0)
    two.take()
    two.settle()
    two.add("large", bytes(5000))
    two.settle()
    agent = two.agent.context.state.agent_id
    ids = {name: [t.id for t in engine.observe(agent).transfers] for name, engine in two.engines.items()}
    assert ids["good"] == ids["bad"] and len(ids["good"]) == 1
    for name, engine in two.engines.items():
        key = Key(Kind.MAPPING, f"{name}0")
        assert not two.agent.context.queue.busy(key)
        engine.advance(60.0)
        assert two.agent.context.queue.busy(key), f"{name}'s event was not heard"
        two.settle()
    two.crash()


def test_an_event_of_a_destination_brings_that_one_and_not_its_neighbours(tmp_path: Path) -> None:
    """Each look at a destination is told of all of its server; what nobody knows yet may be any of them."""
    two = Two(tmp_path, 1)
    two.wanted.destinations["neighbour"] = DestinationSpec("neighbour", "host-good", 2, server="good")
    two.take()
    two.rest("")
    keys = {name: Key(Kind.DESTINATION, name) for name in ("good", "neighbour", "bad")}
    queue, tags = two.agent.context.queue, two.engines["good"].observe(two.agent.context.state.agent_id)
    ids = {d.tag.spec.partition("/")[2]: d.id for d in tags.destinations if d.tag is not None}
    two.engines["good"]._changed("destination", ids["neighbour"])
    assert {name for name, key in keys.items() if queue.busy(key)} == {"neighbour"}
    two.settle()
    two.engines["good"]._changed("destination", "nobody's")
    assert {name for name, key in keys.items() if queue.busy(key)} == {"good", "neighbour"}
    two.crash()
