"""A whole agent without processes, threads or real time: an in-memory engine, a virtual clock, real files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from agent.engines.memory import MemoryEngine
from agent.model.observed import FileResult
from agent.model.spec import (
    DesiredState,
    DestinationSpec,
    Drift,
    DriftPolicy,
    EngineKind,
    Key,
    Kind,
    MappingSpec,
    PathMapping,
    ServerSpec,
)
from agent.reconcile.agent import Agent, Options
from agent.reconcile.queue import WHOLE, Hints
from agent.reconcile.status import ObjectStatus

MAPPING, DESTINATION = Key(Kind.MAPPING, "m"), Key(Kind.DESTINATION, "d")


class VirtualClock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


class Bench:
    """One server, one destination, one mapping."""

    def __init__(self, directory: Path, engine: MemoryEngine | None = None) -> None:
        self.directory = directory
        self.source = directory / "source"
        self.source.mkdir(exist_ok=True)
        self.engine = engine or MemoryEngine()
        self.clock = VirtualClock()
        # Looks at the destination come at random times: tests of them ask for them.
        drift = Drift(DriftPolicy.IGNORE)
        self.mapping = MappingSpec("m", ("d",), (PathMapping("/", str(self.source)),), drift=drift)
        self.destination = DestinationSpec("d", "receiver", 1, server="s")
        self.open()

    def open(self) -> None:
        """Start an agent on the state that is there, as after a crash."""
        self.agent = Agent(
            Options((), str(self.directory / "state"), watch=False), self.clock, lambda *_: self.engine
        )
        self.take()

    def crash(self) -> None:
        """Only the process ends: nothing is written any more, the engine goes on."""
        self.agent.context.state.close()
        self.agent._lock_file.release()

    def desired(self) -> DesiredState:
        return DesiredState(
            "r",
            servers={"s": ServerSpec("s", EngineKind.JETSTREAM, "sender", 1)},
            destinations={"d": self.destination} if self.destination else {},
            mappings={"m": self.mapping} if self.mapping else {},
        )

    def take(self) -> None:
        self.agent._take(self.agent.last_applied(), self.desired())

    def change(self, **fields: object) -> None:
        self.mapping = replace(self.mapping, **fields)  # type: ignore[arg-type]
        self.agent._take(self.agent.context.desired, self.desired())

    # -- time

    def settle(self) -> None:
        """Run every key that is due now, until none is."""
        queue = self.agent.context.queue._schedule
        for _ in range(200):
            found = queue.pop(self.clock.now)
            if found is None:
                return
            self.agent.loop.run(*found)
            self.agent.loop.finished(found[0])
        raise AssertionError("the queue does not come to rest")

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        self.engine.advance(seconds)
        self.settle()

    def converge(self) -> None:
        for _ in range(20):
            self.settle()
            if self.status().ready:
                return
            self.pass_time(0.5)
        raise AssertionError(f"does not converge: {self.status()}")

    def touch(self, *paths: str) -> None:
        hints = Hints(paths=frozenset((str(self.source), path) for path in paths))
        self.agent.context.queue.add(MAPPING, hints=hints)
        self.settle()

    def look(self) -> None:
        self.agent.context.queue.add(MAPPING, hints=WHOLE)
        self.settle()

    # -- what is seen

    def status(self, key: Key = MAPPING) -> ObjectStatus:
        found = self.agent.context.board.get(key)
        assert found is not None
        return found

    def reasons(self) -> set[str]:
        return {str(c.reason) for c in self.status().conditions}

    @property
    def at_destination(self) -> dict[str, FileResult]:
        state = self.engine.observe(self.agent.context.state.agent_id)
        return self.engine.delivered(state.destinations[0].id)

    def rate(self) -> float | None:
        """kbit/s of the destination, as the engine has it."""
        (found,) = self.engine.observe(self.agent.context.state.agent_id).destinations
        return found.send_rate_max

    def transfers(self) -> list[str]:
        return [t.id for t in self.engine.observe(self.agent.context.state.agent_id).transfers]
