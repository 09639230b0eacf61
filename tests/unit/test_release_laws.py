"""The laws of `release: deleteSource`, over edits of the source at any moment, also while an answer is on its
way, over specs, policies, servers that fail and forget, receivers that lose files, and agents that die.

Nothing is released before every destination has told, of the very content that goes, that it has it; nothing
that was changed since; nothing where the policy does not allow it. What was released stays where it went.
`LANESYNC_TEST_SOAK=2000` tries that many histories instead of a few.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import xxhash
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule
from unit.reconcile_trial import PLACES, Trial, TrialEngine
from unit.reconcile_troubles import Troubles

from agent.engines.memory_transfer import Directory, MemoryTransfer
from agent.engines.port import InventoryState
from agent.model.observed import FileOutcome, ObservedDestination
from agent.model.spec import Drift, DriftPolicy, Ready, Release, Trigger
from agent.reconcile.queue import Hints
from agent.specs.policy import Policy
from agent.specs.policy_rules import PathRule, parse_address

FAST = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
SOAK = int(os.environ.get("LANESYNC_TEST_SOAK", "0"))

NAMES = ["a", "b", "d/a", "d/b", "d/e/a"]
FILES, PLACE = st.sampled_from(NAMES), st.sampled_from(sorted(PLACES))
DRIFT = st.sampled_from([Drift(DriftPolicy.IGNORE), Drift(DriftPolicy.CORRECT, 60.0)])
EDITS = st.sampled_from(["write", "alike", "alike", "remove", "rename"])
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "destinations": st.sampled_from([("d",), ("e",), ("d", "e")]),
        "destination_path": st.sampled_from(["/", "/p"]),
        "suspend": st.booleans(),
        "drift": DRIFT,
        "trigger": st.sampled_from([Trigger(), Trigger(ready=Ready.SENTINEL, sentinel="b")]),
        "release": st.sampled_from([Release.DELETE_SOURCE] * 3 + [Release.KEEP]),
    },
)


def digest(content: bytes) -> str:
    return xxhash.xxh3_64_hexdigest(content)


class Telling(TrialEngine):
    """What arrives has the digest of its content. `told`: (place, path, digest) of every answer to a question
    for checksums. `meanwhile` happens while such an answer is on its way."""

    def __init__(self) -> None:
        self.told: set[tuple[tuple[str, int], str, str]] = set()
        self.meanwhile: Callable[[], None] | None = None
        super().__init__()

    def inventory(self, inventory_id: str) -> InventoryState:
        answer = super().inventory(inventory_id)
        destination = self._destinations[self._far.asked[inventory_id][0]]
        place = (destination.address, destination.port)
        self.told |= {(place, file.path, file.digest) for file in answer.files if file.digest}
        if self.meanwhile is not None and any(file.digest for file in answer.files):
            act, self.meanwhile = self.meanwhile, None
            act()
        return answer

    def _send(
        self, destination: ObservedDestination, transfer: MemoryTransfer, budget: float, seconds: float
    ) -> float:
        sources, before = {e.path: e.source for e in transfer.todo}, len(transfer.results)
        used = super()._send(destination, transfer, budget, seconds)
        tree = self._trees[destination.address, destination.port]
        for at in range(before, len(transfer.results)):
            result = transfer.results[at]
            if result.outcome is FileOutcome.DELIVERED and not isinstance(result, Directory):
                whole = replace(result, digest=digest(Path(sources[result.path]).read_bytes()))
                transfer.results[at] = tree[result.path] = whole
        return used


class Releasing(Trial):
    """`allowed`: the policy permits to delete at the source."""

    engine: Telling

    def __init__(self, directory: Path) -> None:
        self.allowed = True
        super().__init__(directory, Telling())
        assert self.mapping is not None
        both = {"prune": False, "release": Release.DELETE_SOURCE, "destinations": ("d", "e")}
        self.mapping = replace(self.mapping, drift=Drift(DriftPolicy.CORRECT, 60.0), **both)  # type: ignore[arg-type]
        self.take()

    def open(self) -> None:
        super().open()
        self.permit()
        self.take()

    def permit(self) -> None:
        addresses = [parse_address({"host": host}) for host in ("sender", "receiver", "second")]
        release = (PathRule(str(self.source)),) if self.allowed else ()
        sources = (PathRule(str(self.directory)),)
        policy = Policy("p", sources=sources, addresses=tuple(addresses), release=release)
        self.agent.context.policy = policy


class Laws(Troubles):
    @initialize()
    def begin(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="release-", dir=FAST))
        self.t = Releasing(self.directory)
        self.there: dict[str, bytes] = {}  # the source, as its owner left it
        self.kept: dict[tuple[str, str], str] = {}  # (destination, path) of what was released: its digest
        self.edits = 0

    def teardown(self) -> None:
        if not hasattr(self, "t"):
            return
        try:
            self._in_the_end()
        finally:
            self.t.crash()
            shutil.rmtree(self.directory)

    # -- the laws

    def account(self) -> None:
        """Of what is gone from the source, and not by its owner."""
        for name, content in list(self.there.items()):
            path = self.t.source / name
            if path.exists():
                assert path.read_bytes() == content
                continue
            mapping = self.t.mapping
            assert mapping is not None and mapping.release is Release.DELETE_SOURCE, f"{name} was not to go"
            assert self.t.allowed, f"{name} went against the policy"
            at = mapping.destination_path.rstrip("/") + "/" + name
            for place in mapping.destinations:
                assert (PLACES[place], at, digest(content)) in self.t.engine.told, (
                    f"{name} was deleted, and {place} never told that it has this content"
                )
                self.kept[place, at] = digest(content)
            del self.there[name]

    @invariant()
    def laws(self) -> None:
        if hasattr(self, "t"):
            self.account()
            self.t.check()

    def _in_the_end(self) -> None:
        self.t.engine.meanwhile, self.t.engine.slow_listings = None, False
        self.t.allowed = True
        self.t.permit()
        if self.t.mapping is not None:
            mended = {"release": Release.DELETE_SOURCE, "drift": Drift(DriftPolicy.CORRECT, 60.0)}
            self.t.respec(replace(self.t.mapping, **mended))  # type: ignore[arg-type]
        self.t.converge_for_good()
        self.account()
        status = self.t.status(self.t.key)
        if self.there:
            stays = status.detail["release"]["stays"]
            assert stays, f"nobody says why {set(self.there)} is still there: {status.conditions}"
        for (place, at), content in self.kept.items():
            found = self.t.engine.tree(place).get(at)
            assert found is not None and found.digest == content, f"{at} was released, and is lost at {place}"

    # -- the source

    def _forget(self, name: str) -> None:
        """It is its owner's to say what is to be of that name."""
        for path in ("/" + name, "/p/" + name):
            for place in PLACES:
                self.kept.pop((place, path), None)

    def _write(self, name: str, alike: bool) -> None:
        """`alike`: of the size and time that it had."""
        self.account()
        path = self.t.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self.edits += 1
        before = path.stat() if path.exists() else None
        self.there[name] = f"{self.edits:06}".encode() * (1 if alike else 1 + self.edits % 3)
        path.write_bytes(self.there[name])
        at = before.st_mtime_ns if alike and before else 900_000 * 10**9 + self.edits
        os.utime(path, ns=(at, at))
        self._forget(name)

    def _remove(self, name: str) -> None:
        self.account()
        if self.there.pop(name, None) is not None:
            (self.t.source / name).unlink()

    def _rename(self, old: str, new: str) -> None:
        self.account()
        if old in self.there and new not in self.there:
            (self.t.source / new).parent.mkdir(parents=True, exist_ok=True)
            (self.t.source / old).rename(self.t.source / new)
            self.there[new] = self.there.pop(old)
            self._forget(new)

    @rule(name=FILES, alike=st.booleans(), seen=st.booleans())
    def write(self, name: str, alike: bool, seen: bool) -> None:
        self._write(name, alike)
        self.t.tell(*[name.partition("/")[0]] if seen else ())

    @rule(name=FILES, seen=st.booleans())
    def remove(self, name: str, seen: bool) -> None:
        self._remove(name)
        self.t.tell(*[name] if seen else ())

    @rule(old=FILES, new=FILES, seen=st.booleans())
    def rename(self, old: str, new: str, seen: bool) -> None:
        self._rename(old, new)
        self.t.tell(*[old, new.partition("/")[0]] if seen else ())

    @rule(number=st.integers(0, 4), other=FILES, what=EDITS)
    def the_source_is_edited_while_an_answer_is_on_its_way(self, number: int, other: str, what: str) -> None:
        """Of a destination that tells checksums: what is decided next must not rest on what was before."""

        def edit() -> None:
            name = sorted(self.there)[number % len(self.there)] if self.there else other
            self.t.unnoticed = True
            if what == "remove":
                self._remove(name)
            elif what == "rename":
                self._rename(name, other)
            else:
                self._write(name, what == "alike")

        self.t.engine.meanwhile = edit

    @rule()
    def everything_is_looked_at(self) -> None:
        self.t.agent.context.queue.add(self.t.key, hints=Hints(whole=True))
        self.t.settle()

    # -- specs and policy

    @rule(fields=SPECS)
    def edit_the_spec(self, fields: dict[str, object]) -> None:
        assert self.t.mapping is not None
        self.t.respec(replace(self.t.mapping, **fields))  # type: ignore[arg-type]

    @rule(allowed=st.booleans())
    def the_policy_is_another(self, allowed: bool) -> None:
        self.account()
        self.t.allowed = allowed
        self.t.permit()
        self.t.agent.context.queue.add(self.t.key)
        self.t.settle()

    @rule(
        name=FILES,
        what=st.sampled_from(["damage", "lose", "edit", "edit meanwhile"]),
        place=PLACE,
        drift=DRIFT,
    )
    def it_may_go_only_after_something_happened(self, name: str, what: str, place: str, drift: Drift) -> None:
        """Between its delivery and its release."""
        self.edit_the_spec({"release": Release.KEEP, "drift": drift})
        self.write(name, False, True)
        for _ in range(3):
            self.t.pass_time(1.0)
        if what == "edit":
            self._write(name, True)
        elif what == "edit meanwhile":
            self.the_source_is_edited_while_an_answer_is_on_its_way(
                sorted(self.there).index(name), name, "alike"
            )
        else:
            number = sorted(self.there).index(name)
            self.a_destination_loses_or_damages_a_file(place, number, what == "lose")
        self.edit_the_spec({"release": Release.DELETE_SOURCE})
        self.t.pass_time(1.0)

    # -- trouble

    @rule(slow=st.booleans())
    def answers_take_long(self, slow: bool) -> None:
        self.t.engine.slow_listings = slow

    @rule(place=PLACE, number=st.integers(0, 4), gone=st.booleans())
    def a_destination_loses_or_damages_a_file(self, place: str, number: int, gone: bool) -> None:
        """One that the source still has, and of which nobody has just told."""
        memory = self.t.agent.mappings.releases._memories.get("m")
        if not self.there or (memory is not None and memory.round is not None):
            return
        name = sorted(self.there)[number % len(self.there)]
        tree = self.t.engine.tree(place)
        for path in ("/" + name, "/p/" + name):
            if path not in tree:
                continue
            self.t.engine.told = {t for t in self.t.engine.told if t[:2] != (PLACES[place], path)}
            self.t.tampered[place].add(path)
            self.kept.pop((place, path), None)
            if gone:
                del tree[path]
            else:
                tree[path] = replace(tree[path], digest=digest(b"rot"))

    # -- time

    @rule(seconds=st.sampled_from([0.1, 1.0, 1.0, 1.0, 10.0, 61.0, 700.0]))
    def time_passes(self, seconds: float) -> None:
        self.t.pass_time(seconds)


TestLaws = Laws.TestCase
TestLaws.settings = settings(
    max_examples=SOAK or 25,
    stateful_step_count=25,
    derandomize=not SOAK,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
