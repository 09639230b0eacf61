"""The laws of reconciling, over specs, edits of the source, faults of servers, and agents that die anywhere.

`LANESYNC_TEST_SOAK=2000` tries that many histories instead of a few.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from unit.reconcile_trial import Trial
from unit.reconcile_troubles import Troubles

from agent.model.observed import FileOutcome, FileResult
from agent.model.spec import (
    Deletions,
    Drift,
    DriftPolicy,
    Key,
    Kind,
    OnRemove,
    Overrun,
    Publish,
    Ready,
    Trigger,
    Window,
)
from agent.reconcile.queue import Hints

FAST = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""States are written often; where they lie is not what is tried."""

SOAK = int(os.environ.get("LANESYNC_TEST_SOAK", "0"))

FILES = st.sampled_from(["a", "b", "k", "x.tmp", "d/a", "d/b", "d/k/c", "d/e/a", "k/a", "k/d/a"])
TREES = st.sampled_from(["d", "d/e", "k", "d/k", "k/d"])
PLACE = st.sampled_from(["d", "e"])

SPECS = st.fixed_dictionaries(
    {},
    optional={
        "destinations": st.sampled_from([("d",), ("e",), ("d", "e")]),
        "destination_path": st.sampled_from(["/", "/p"]),
        "lane": st.sampled_from([None, "High", "Low"]),
        "priority": st.sampled_from([None, 3]),
        "prune": st.booleans(),
        "suspend": st.booleans(),
        "on_remove": st.sampled_from(list(OnRemove)),
        "publish": st.sampled_from(list(Publish)),
        "depends_on": st.sampled_from([(), ("first",)]),
        "trigger": st.sampled_from([Trigger(), Trigger(ready=Ready.SENTINEL, sentinel=".done")]),
        "drift": st.sampled_from([Drift(DriftPolicy.IGNORE), Drift(DriftPolicy.CORRECT, 60.0)]),
        "deletions": st.builds(
            Deletions,
            max_count=st.sampled_from([2, 1000]),
            max_percent=st.just(1.0),
            grace=st.sampled_from([0.0, 60.0]),
            trash=st.booleans(),
        ),
    },
)
DAY = tuple(range(7))
MINUTE = 13 * 60 + 47
"""When the time of a trial begins, in UTC."""
WINDOWS = st.sampled_from(
    [
        (),
        (Window(DAY, MINUTE, MINUTE + 10, pause=True),),
        (Window(DAY, MINUTE + 1, MINUTE + 2, pause=True, overrun=Overrun.FINISH),),
        (Window(DAY, MINUTE, MINUTE + 5, send_rate_max=8.0),),
    ]
)
EXCLUDES = st.sampled_from([(), ("*.tmp",), ("d/",), ("a",)])


class Laws(Troubles):
    @initialize()
    def begin(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="laws-", dir=FAST))
        self.t = Trial(self.directory)
        self.judged = 0

    def teardown(self) -> None:
        if not hasattr(self, "t"):
            return
        try:
            self.t.converge_for_good()
        finally:
            self.t.crash()
            shutil.rmtree(self.directory)

    # -- the source

    @rule(name=FILES, seen=st.booleans())
    def write(self, name: str, seen: bool) -> None:
        path = self.t.source / name
        for above in [*path.parents][::-1]:
            if above.is_file():
                above.unlink()
        if path.is_dir():
            shutil.rmtree(path)
        self.t.write(path)
        self.t.tell(*[name.partition("/")[0]] if seen else ())

    @rule(name=FILES, seen=st.booleans())
    def remove(self, name: str, seen: bool) -> None:
        path = self.t.source / name
        if path.is_file():
            path.unlink()
            self.t.tell(*[name] if seen else ())

    @rule(name=TREES, seen=st.booleans())
    def remove_tree(self, name: str, seen: bool) -> None:
        shutil.rmtree(self.t.source / name, ignore_errors=True)
        self.t.tell(*[name] if seen else ())

    @rule(old=FILES | TREES, new=FILES | TREES, seen=st.booleans())
    def rename(self, old: str, new: str, seen: bool) -> None:
        source, target = self.t.source / old, self.t.source / new
        if source.exists() and not target.exists() and not (new + "/").startswith(old + "/"):
            if any(above.is_file() for above in target.parents):
                return
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)
            self.t.tell(*[old, new.partition("/")[0]] if seen else ())

    @rule(name=TREES)
    def make_directory(self, name: str) -> None:
        if not any(p.is_file() for p in [self.t.source / name, *(self.t.source / name).parents]):
            (self.t.source / name).mkdir(parents=True, exist_ok=True)
            self.t.tell(name.partition("/")[0])

    # -- specs

    @rule(fields=SPECS)
    def edit_the_spec(self, fields: dict[str, object]) -> None:
        if self.t.mapping is not None:
            self.t.respec(replace(self.t.mapping, **fields))  # type: ignore[arg-type]

    @rule(exclude=EXCLUDES)
    def leave_out(self, exclude: tuple[str, ...]) -> None:
        if self.t.mapping is not None:
            (only,) = self.t.mapping.paths
            self.t.respec(replace(self.t.mapping, paths=(replace(only, exclude=exclude),)))

    @rule()
    def take_the_mapping_out_or_in(self) -> None:
        if self.t.mapping is None:
            self.t.respec(self.kept)
        else:
            self.kept = self.t.mapping
            self.t.respec(None)

    @rule(rate=st.sampled_from([None, 1.0, 40.0]), suspend=st.booleans(), windows=WINDOWS)
    def edit_the_destination(self, rate: float | None, suspend: bool, windows: tuple[Window, ...]) -> None:
        suspend = suspend and rate is None
        changed = replace(self.t.destination, send_rate_max=rate, suspend=suspend, windows=windows)
        self.t.destination = changed
        self.t.respec(self.t.mapping)

    @rule(name=st.sampled_from([".done", "d/.done", "k/.done"]), seen=st.booleans())
    def seal(self, name: str, seen: bool) -> None:
        """Whatever else it is for, it is a file like others where no sentinel is asked for."""
        if (self.t.source / name).parent.is_dir():
            self.write(name, seen)

    @rule(seen=st.booleans())
    def the_first_has_something_new(self, seen: bool) -> None:
        path = self.t.directory / "first" / "x"
        path.write_text(path.read_text() + "0")
        if seen:
            hints = Hints(paths=frozenset({(str(path.parent), "x")}))
            self.t.agent.context.queue.add(Key(Kind.MAPPING, "first"), hints=hints)
            self.t.settle()

    # -- trouble

    @rule(name=FILES)
    def a_file_cannot_be_sent_for_now(self, name: str) -> None:
        self.t.engine.failing ^= {"/" + name, "/p/" + name}

    # -- somebody at the destination

    @rule(place=PLACE, directory=st.sampled_from(["", "/d", "/d/e", "/p/d", "/k"]))
    def somebody_puts_a_file(self, place: str, directory: str) -> None:
        self.t.engine.foreign(place, f"{directory}/foreign{self.t.edits}")

    @rule(place=PLACE, name=FILES, gone=st.booleans())
    def somebody_changes_a_file(self, place: str, name: str, gone: bool) -> None:
        tree = self.t.engine.tree(place)
        mapping = self.t.mapping
        if mapping is None or mapping.drift.policy is not DriftPolicy.CORRECT:
            return
        for path in ("/" + name, "/p/" + name):
            if path in tree:
                self.t.tampered[place].add(path)
                if gone:
                    del tree[path]
                else:
                    tree[path] = FileResult(path, FileOutcome.DELIVERED, 5, 5)

    # -- time

    @rule(seconds=st.sampled_from([0.1, 1.0, 10.0, 61.0, 700.0]))
    def time_passes(self, seconds: float) -> None:
        self.t.pass_time(seconds)

    @rule()
    def somebody_approves(self) -> None:
        self.t.guarded(self.t._approve)

    @precondition(lambda self: self.t.edits >= self.judged + 3)
    @rule()
    def all_is_well_in_the_end(self) -> None:
        self.t.converge_for_good()
        self.judged = self.t.edits

    @invariant()
    def laws(self) -> None:
        if hasattr(self, "t"):
            self.t.check()


TestLaws = Laws.TestCase
TestLaws.settings = settings(
    max_examples=SOAK or 12,
    stateful_step_count=20,
    derandomize=not SOAK,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
