"""Many objects: an edit looks at what it names and at what hangs on that, and at nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.engines.memory import MemoryEngine
from agent.engines.port import TransferRequest
from agent.model.observed import ObservedTransfer
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
from agent.reconcile.agent import Agent
from tests.unit.reconcile_bench import Bench


class Many(Bench):
    """Three destinations with four mappings each; mapping 3 of each waits for mapping 2."""

    def __init__(self, directory: Path) -> None:
        self.state = DesiredState(
            "r1",
            servers={"s": ServerSpec("s", EngineKind.JETSTREAM, "sender", 1)},
            destinations={f"d{n}": DestinationSpec(f"d{n}", f"host{n}", 1, server="s") for n in range(3)},
            mappings={},
        )
        for number in range(12):
            place, order = divmod(number, 4)
            source = directory / f"source{number}"
            source.mkdir()
            (source / "a").write_text("a")
            self.state.mappings[f"m{number}"] = MappingSpec(
                f"m{number}",
                (f"d{place}",),
                (PathMapping(f"/{number}", str(source)),),
                depends_on=(f"m{number - 1}",) if order == 3 else (),
            )
        super().__init__(directory)

    def desired(self) -> DesiredState:
        return self.state

    def edit(self, **changes: dict[str, object]) -> list[Key]:
        """Put a new revision in force; the keys that are reconciled for it."""
        before = self.state
        self.state = replace(before, revision=before.revision + "+", **changes)  # type: ignore[arg-type]
        self.agent._take(before, self.state)
        looked: list[Key] = []
        queue = self.agent.context.queue._schedule
        while (found := queue.pop(self.clock.now)) is not None:
            looked.append(found[0])
            self.agent.loop.run(*found)
            self.agent.loop.finished(found[0])
        return looked

    def rest(self) -> None:
        for _ in range(20):
            self.pass_time(0.5)
            if all(self.status(Key(Kind.MAPPING, name)).ready for name in self.state.mappings):
                return
        raise AssertionError("does not converge")


@pytest.fixture
def many(tmp_path: Path) -> Iterator[Many]:
    bench = Many(tmp_path)
    bench.rest()
    yield bench
    bench.crash()


def _mapping(number: int) -> Key:
    return Key(Kind.MAPPING, f"m{number}")


def test_an_edit_of_a_mapping_looks_at_it_and_at_what_waits_for_it(many: Many) -> None:
    """Not at the eleven others, nor at any destination; and the whole revision counts as applied."""
    mappings = dict(many.state.mappings)
    mappings["m1"] = replace(mappings["m1"], priority=7)
    assert set(many.edit(mappings=mappings)) == {_mapping(1)}
    mappings = dict(mappings)
    mappings["m6"] = replace(mappings["m6"], priority=7)
    assert set(many.edit(mappings=mappings)) == {_mapping(6), _mapping(7)}
    assert {status.revision for status in many.agent.statuses()} == {"r1++"}
    assert many.agent.status()["revision"]["applied"] == "r1++"


def test_an_edit_of_a_destination_looks_at_its_mappings(many: Many) -> None:
    """Its rate, lanes and suspension are theirs."""
    destinations = dict(many.state.destinations)
    destinations["d1"] = replace(destinations["d1"], suspend=True)
    looked = set(many.edit(destinations=destinations))
    assert looked == {Key(Kind.DESTINATION, "d1"), *map(_mapping, range(4, 8))}
    assert many.status(_mapping(4)).suspended and not many.status(_mapping(0)).suspended


def test_an_edit_of_a_server_looks_at_all_that_it_serves(many: Many) -> None:
    """Nothing refers to it but through destinations."""
    servers = {"s": replace(many.state.servers["s"], port=2)}
    assert {*map(_mapping, range(12))} <= set(many.edit(servers=servers))


def test_what_is_not_in_sync_is_looked_at_under_each_new_revision(many: Many) -> None:
    """A person may have mended what it waits for; its trying begins anew."""
    (Path(many.state.mappings["m9"].paths[0].source) / "a").unlink()
    Path(many.state.mappings["m9"].paths[0].source).rmdir()
    many.pass_time(many.state.mappings["m9"].trigger.interval)
    assert not many.status(_mapping(9)).ready
    mappings = dict(many.state.mappings)
    mappings["m1"] = replace(mappings["m1"], priority=7)
    assert set(many.edit(mappings=mappings)) == {_mapping(1), _mapping(9)}


def test_the_same_specs_again_look_at_nothing(many: Many) -> None:
    """A commit that touches no object of ours."""
    assert many.edit() == []
    assert {status.revision for status in many.agent.statuses()} == {"r1+"}


def test_another_policy_looks_at_everything(many: Many) -> None:
    """What it allows is asked of every object."""
    agent: Agent = many.agent
    agent._judged_by = object()  # type: ignore[assignment]
    assert set(many.edit()) == set(many.state.all_keys())


class TooQuick(MemoryEngine):
    """Delivers, and tells of it, before it says which id the transfer has; and never tells again."""

    def start_transfer(self, request: TransferRequest) -> ObservedTransfer:
        started = super().start_transfer(request)
        self.advance(1.0)
        return started


def test_what_ends_before_its_id_is_known_is_not_waited_for(tmp_path: Path) -> None:
    """The one event about it finds nobody of that id; it must not be lost for it."""
    bench = Bench(tmp_path, TooQuick())
    (bench.source / "a").write_text("a")
    bench.settle()
    assert bench.status().ready
    assert set(bench.at_destination) == {"/a"}
    bench.crash()
