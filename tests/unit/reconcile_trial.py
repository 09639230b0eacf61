"""An agent on trial: servers that fail and forget, agents that die between two calls, files of others, and
the laws that hold all the while."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from unit.reconcile_bench import Bench

from agent.engines.memory import MemoryEngine
from agent.engines.memory_transfer import Directory
from agent.model.change import ChangeSet
from agent.model.condition import Reason
from agent.model.observed import Capabilities, FileOutcome, FileResult
from agent.model.outcome import LaneSyncError, UnreachableError
from agent.model.spec import (
    TRASH,
    Deletions,
    DesiredState,
    DestinationSpec,
    Drift,
    DriftPolicy,
    Key,
    Kind,
    MappingSpec,
    PathMapping,
    Trigger,
)
from agent.reconcile.preview import preview
from agent.reconcile.queue import WHOLE, Hints
from agent.reconcile.resting import resting
from agent.reconcile.service import AgentService
from agent.reconcile.survey import survey
from agent.source.filters import Filter

PLACES = {"d": ("receiver", 1), "e": ("second", 1)}
VERBS = (
    "connect observe create_destination tag_destination delete_destination set_lanes set_send_rate"
    " set_defaults start_transfer transfer results suspend resume cancel set_priority"
    " set_transfer_rate forget start_deletion deletion start_renaming renaming start_inventory inventory"
).split()

FIRST = "/first"

Version = tuple[int, int]
"""Size and modification time: tells every content of a trial from every other."""


class Killed(BaseException):
    """The agent's process ends here."""


class TrialEngine(MemoryEngine):
    """The engine in memory, which fails as it is told: `fault(after, kind)` for one call to come, where
    `kind` is "kill" (the agent dies) or "lost" (no answer comes), before or `done` after its effect."""

    def __init__(self) -> None:
        super().__init__()
        self.theirs: dict[tuple[str, int], dict[str, FileResult]] = {place: {} for place in PLACES.values()}
        self._fault: tuple[int, str, bool] | None = None
        self.calls = 0
        for verb in VERBS:
            setattr(self, verb, self._faulty(getattr(self, verb)))

    def connect(self) -> Capabilities:
        """Sets, too; here their files appear one by one."""
        return replace(super().connect(), sets=True)

    def fault(self, after: int, kind: str, *, done: bool) -> None:
        self._fault = (self.calls + after, kind, done)

    def heal(self) -> None:
        self._fault = None
        self.reachable = True
        self.absent.clear()
        self.failing.clear()

    def foreign(self, name: str, path: str) -> None:
        """Somebody puts a file of their own at a destination."""
        there = FileResult(path, FileOutcome.DELIVERED, 77, 77)
        self.theirs[PLACES[name]][path] = self.tree(name)[path] = there

    def tree(self, name: str) -> dict[str, FileResult]:
        return self._trees.setdefault(PLACES[name], {})

    def _faulty(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def carry_out(*arguments: Any, **named: Any) -> Any:
            self.calls += 1
            at, kind, done = self._fault or (0, "", False)
            due = self._fault is not None and self.calls >= at
            answer = call(*arguments, **named) if done or not due else None
            self.check()
            if due:
                self._fault = None
                raise Killed if kind == "kill" else UnreachableError("no answer came")
            return answer

        return carry_out

    def check(self) -> None:
        """No path is on its way twice to one place, and what others put there is as they left it."""
        under_way: dict[tuple[str, str], str] = {}
        for transfer in self._transfers.values():
            if transfer.seen.state.finished:
                continue
            for entry in transfer.todo:
                at = (transfer.seen.destination_id, entry.path)
                assert at not in under_way, f"{at} is on its way in {under_way[at]} and {transfer.seen.id}"
                under_way[at] = transfer.seen.id
        for place, theirs in self.theirs.items():
            tree = self._trees.get(place, {})
            assert {path: tree.get(path) for path in theirs} == theirs, "files of others were touched"


class Trial(Bench):
    """One mapping at up to two destinations. `mapping` None: it left the specs. Another one, `first`, that
    it may depend on, delivers to a place of its own below the same root."""

    engine: TrialEngine
    mapping: MappingSpec | None  # type: ignore[assignment]

    def __init__(self, directory: Path, engine: TrialEngine | None = None) -> None:
        self.second = DestinationSpec("e", "second", 1, server="s")
        self.first = MappingSpec(
            "first", ("d",), (PathMapping(FIRST, str(directory / "first")),), drift=Drift(DriftPolicy.IGNORE)
        )
        (directory / "first").mkdir()
        (directory / "first" / "x").write_text("0")
        self.removed_second = False
        self.edits = 0
        self.unnoticed = False  # the source was edited, and nobody told the agent
        self.tampered: dict[str, set[str]] = {name: set() for name in PLACES}
        self.loose: set[str] = set()  # destinations where files of earlier specs may have been left
        super().__init__(directory, engine or TrialEngine())
        self.mapping = replace(
            self.mapping,
            prune=True,
            deletions=Deletions(max_count=3, max_percent=1.0),  # type: ignore[type-var]
        )
        self.take()

    # -- specs

    def desired(self) -> DesiredState:
        found = super().desired()
        mappings = (self.first, *([] if self.mapping is None else [self.mapping]))
        found = replace(found, mappings={mapping.name: mapping for mapping in mappings})
        if not self.removed_second:
            found = replace(found, destinations={**found.destinations, "e": self.second})
        return found

    def respec(self, mapping: MappingSpec | None) -> None:
        """Bookkeeping of what an edit of the spec leaves behind, then the edit."""
        before, self.mapping = self.mapping, mapping
        after = {} if mapping is None else mapping.destinations
        if before is not None:
            moved = mapping is None or mapping.destination_path != before.destination_path
            for name in before.destinations:
                if name not in after or (moved and not before.prune):
                    self.loose.add(name)
        self.guarded(lambda: self.agent._take(self.agent.context.desired, self.desired()))
        self.settle()

    # -- life

    def guarded(self, act: Callable[[], Any]) -> None:
        """Do it; where the agent dies of it, the next one starts."""
        try:
            act()
        except Killed:
            self.restart()

    def restart(self) -> None:
        self.crash()
        self.engine.close()  # the dead hear nothing
        self.guarded(self.open)
        self.unnoticed = False  # it looks at everything

    def settle(self) -> None:
        self.guarded(super().settle)

    def tell(self, *paths: str) -> None:
        """The watch saw these, or nothing when there are none."""
        if not paths or self.mapping is None:
            self.unnoticed = True
            return
        hints = Hints(paths=frozenset((str(self.source), path) for path in paths))
        self.agent.context.queue.add(self.key, hints=hints)
        self.settle()

    @property
    def key(self) -> Key:
        assert self.mapping is not None
        return Key(Kind.MAPPING, self.mapping.name)

    def write(self, path: Path) -> None:
        """A version that no other file ever had."""
        self.edits += 1
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(self.edits % 5 * 1000))
        os.utime(path, ns=(0, 900_000 * 10**9 + self.edits))

    # -- what ought to be

    def wanted(self) -> dict[str, Version]:
        """Destination path -> version, of all files that the mapping delivers."""
        assert self.mapping is not None
        (only,) = self.mapping.paths
        counts = Filter(only.include, only.exclude)
        found = {}
        for path in self.source.rglob("*"):
            name = str(path.relative_to(self.source))
            if path.is_file() and self._counts(counts, name):
                info = path.stat()
                at = self.mapping.destination_path.rstrip("/") + "/" + name
                found[at] = (info.st_size, info.st_mtime_ns)
        return found

    def _counts(self, counts: Filter, name: str) -> bool:
        above = [name[:at] for at, letter in enumerate(name) if letter == "/"]
        return counts.includes(name, False) and not any(counts.prunes(directory) for directory in above)

    def present(self, name: str) -> dict[str, Version]:
        tree = self.engine.tree(name)
        theirs = self.engine.theirs[PLACES[name]]
        return {
            path: (there.size, there.mtime_ns)
            for path, there in tree.items()
            if path not in theirs
            and not path.startswith(("/" + TRASH, FIRST))
            and not isinstance(there, Directory)
        }

    def missing(self, name: str, but: set[str]) -> dict[str, Version]:
        there = self.present(name)
        return {p: v for p, v in self.wanted().items() if there.get(p) != v and p not in but}

    # -- laws

    def check(self) -> None:
        """At any moment."""
        self.engine.check()
        self._check_rest()
        board, queue = self.agent.context.board, self.agent.context.queue._schedule
        for key in self.desired().all_keys():
            status = board.get(key)
            if status is None:
                assert key in queue._waiting, f"{key} is forgotten"
                continue
            shown = status.why_not_ready()
            if status.ready:
                continue
            assert shown is not None and shown.message, f"{key} does not say why: {status.conditions}"
            told = shown.reason is Reason.DEPENDENCY_NOT_READY  # by the one it waits for
            assert told or key in queue._waiting, f"{key} waits for nothing: {status.conditions}"
        if self.mapping is None or self.unnoticed:
            return
        status = board.get(self.key)
        if status is not None and status.ready:
            for name in self.mapping.destinations:
                missing = self.missing(name, self.tampered[name])
                assert missing == {}, f"in sync, but at {name} is missing: {missing}"

    def _check_rest(self) -> None:
        """Of what a plan takes to be at rest a survey finds nothing to do."""
        context, desired = self.agent.context, self.desired()
        for name in resting(context, desired):
            spec = desired.mappings[name]
            for found in survey(context, spec, list(spec.destinations), WHOLE, keep=False).values():
                assert found.changes == ChangeSet(), f"{name} is not at rest: {found.changes}"

    def converge_for_good(self) -> None:
        """When faults stop, a person approves what is held, and time passes."""
        self.engine.heal()
        self.destination = replace(self.destination, suspend=False, send_rate_max=None, windows=())
        ends = {"suspend": False, "trigger": Trigger()}  # what nobody seals would wait for ever
        self.respec(replace(self.mapping, **ends) if self.mapping is not None else None)  # type: ignore[arg-type]
        for seconds in [0.5] * 8 + [5.0] * 4 + [80.0] * 5 + [700.0] * 5:
            self.settle()
            self._approve()
            self.pass_time(seconds)
        self.unnoticed = False
        self.check()
        for key in self.desired().all_keys():
            assert self.status(key).ready, f"{key} does not converge: {self.status(key).conditions}"
        plan = preview(self.agent.context, self.desired())
        assert plan.empty, f"there is still something to do: {plan.actions}"
        left = [t.id for t in self.engine.observe(self.agent.context.state.agent_id).transfers]
        assert left == [], "finished transfers are left"
        content = (self.directory / "first" / "x").read_text()
        there = self.engine.tree("d").get(FIRST + "/x")
        assert there is not None and there.size == len(content), "what another mapping delivers is touched"
        self._compare()

    def _compare(self) -> None:
        if self.mapping is None:
            return
        for name in self.mapping.destinations:
            assert self.missing(name, set()) == {}
            if self.mapping.prune and name not in self.loose:
                surplus = self.present(name).keys() - self.wanted().keys() - self.tampered[name]
                assert surplus == set(), f"at {name} is what the source no longer has"
            self.tampered[name].clear()

    def _approve(self) -> None:
        held = {Reason.DELETIONS_HELD, Reason.SOURCE_SUSPECT}
        status = self.agent.context.board.get(self.key) if self.mapping is not None else None
        if status is not None and any(found.reason in held for found in status.conditions):
            try:
                AgentService(self.agent).approve(str(self.key), "somebody")
            except LaneSyncError:
                return  # nothing is held
            self.settle()
