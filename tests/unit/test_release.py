"""`release: deleteSource`: what is deleted at the source, when, and what that never leads to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from unit.reconcile_bench import Bench

from agent.engines.memory import MemoryEngine
from agent.model.condition import ConditionType
from agent.model.observed import Capabilities, FileOutcome, FileResult
from agent.model.paths import is_below
from agent.model.spec import (
    DesiredState,
    DestinationSpec,
    Drift,
    DriftPolicy,
    EngineKind,
    OnRemove,
    Overwrite,
    PathMapping,
    Ready,
    Release,
    ServerSpec,
    Symlinks,
    Trigger,
)
from agent.planning.release import places
from agent.specs.policy import Policy
from agent.specs.policy_rules import PathRule, parse_address

HOUR = 3600.0
OLD = 900_000.0


class Released(Bench):
    """Two destinations, and a policy that allows what is asked for. What arrives there has its digest."""

    def __init__(self, directory: Path) -> None:
        self.other = DestinationSpec("e", "mirror", 2, server="s")
        self.contents: dict[str, str] = {}  # digests, by path
        super().__init__(directory)
        self.change(destinations=("d", "e"), release=Release.DELETE_SOURCE)

    def open(self) -> None:
        super().open()
        self.permit(self.directory)

    def permit(self, *release: Path) -> None:
        addresses = [parse_address({"host": host}) for host in ("sender", "receiver", "mirror")]
        rules = tuple(PathRule(str(path)) for path in release)
        sources = (PathRule(str(self.directory)),)
        self.agent.context.policy = Policy("p", sources=sources, addresses=tuple(addresses), release=rules)
        self.take()

    def desired(self) -> DesiredState:
        return DesiredState(
            "r",
            servers={"s": ServerSpec("s", EngineKind.JETSTREAM, "sender", 1)},
            destinations={"d": self.destination, "e": self.other},
            mappings={"m": self.mapping} if self.mapping else {},
        )

    def put(self, name: str, text: str = "x", at: float = OLD) -> Path:
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (at, at))
        self.contents["/" + name] = xxhash.xxh3_64(text.encode()).hexdigest()
        return path

    def tree(self, destination: str = "d") -> dict[str, FileResult]:
        spec = self.destination if destination == "d" else self.other
        return self.engine._trees.setdefault((spec.address, spec.port), {})

    def settle(self) -> None:
        for name in ("d", "e"):
            for path, found in self.tree(name).items():
                if not found.digest and path in self.contents:
                    self.tree(name)[path] = replace(found, digest=self.contents[path])
        super().settle()

    def left(self) -> set[str]:
        return {str(p.relative_to(self.source)) for p in self.source.rglob("*") if not p.is_dir()}

    def told(self, kind: ConditionType) -> str:
        return " ".join(c.message for c in self.status().conditions if c.type is kind)

    def actions(self) -> list[str]:
        lines = self.agent.context.state.audit.files(mapping="m", destination="d")
        return [f"{line.file.action} {line.file.path}" for line in lines]


@pytest.fixture
def b(tmp_path: Path) -> Iterator[Released]:
    bench = Released(tmp_path)
    yield bench
    bench.agent.context.state.close()


def test_what_every_destination_has_is_deleted_at_the_source(b: Released) -> None:
    """Directories stay; the destinations keep all of it; nothing is said to be missing."""
    b.put("a"), b.put("dir/b", "bb"), b.put("dir/c", "ccc")
    b.converge()
    assert b.left() == set()
    assert (b.source / "dir").is_dir()
    assert set(b.tree("d")) == set(b.tree("e")) == {"/a", "/dir/b", "/dir/c"}
    for _ in range(3):
        b.look()
        b.touch("a", "dir/b", "dir")
        b.pass_time(700.0)
    assert b.status().ready
    assert set(b.tree("d")) == {"/a", "/dir/b", "/dir/c"}
    assert b.status().detail["release"]["released"] == 3
    assert [a for a in b.actions() if a.startswith("release")] == [
        "release /a",
        "release /dir/b",
        "release /dir/c",
    ]
    (told,) = [e for e in b.agent.context.state.events.last() if e.reason == "Released"]
    assert told.message == "deleted 3 files (6 B) at the source: verified at d, e"


def test_nothing_is_deleted_until_every_destination_has_it(b: Released) -> None:
    """One of them takes nothing."""
    b.put("a")
    start = b.engine.start_inventory

    def refuse(destination_id: str, directory: str, after: str = "", **more: object) -> str:
        from agent.model.outcome import RetryableError

        if destination_id == mirror(b):
            raise RetryableError("mirror is down")
        return start(destination_id, directory, after, **more)  # type: ignore[arg-type]

    b.engine.start_inventory = refuse  # type: ignore[method-assign,assignment]
    for _ in range(20):
        b.pass_time(1.0)
    assert b.left() == {"a"}
    assert "mirror is down" in b.told(ConditionType.LIMITED)
    del b.engine.start_inventory
    b.pass_time(HOUR)
    b.converge()
    assert b.left() == set()


def mirror(b: Released) -> str:
    state = b.engine.observe(b.agent.context.state.agent_id)
    return next(d.id for d in state.destinations if d.address == "mirror")


@pytest.mark.parametrize("policy", [DriftPolicy.WARN, DriftPolicy.CORRECT])
def test_what_a_destination_does_not_have_as_it_was_delivered_stays(b: Released, policy: DriftPolicy) -> None:
    """It is told as drift; corrected, it is released."""
    b.change(release=Release.KEEP, drift=Drift(policy))
    b.put("good"), b.put("bad", "yy")
    b.converge()
    b.tree("e")["/bad"] = replace(b.tree("e")["/bad"], digest="0123456789abcdef")
    b.change(release=Release.DELETE_SOURCE)
    if policy is DriftPolicy.WARN:
        b.converge()
        assert b.left() == {"bad"}
        assert "1 file damaged at e: /bad" in b.told(ConditionType.DRIFTED)
        assert "/bad (e does not have it as it was delivered)" in b.told(ConditionType.LIMITED)
        b.tree("e")["/bad"] = replace(b.tree("e")["/bad"], digest=b.contents["/bad"])
        b.pass_time(2 * HOUR)
    b.converge()
    assert b.left() == set()
    assert b.told(ConditionType.DRIFTED) == ""
    assert b.tree("e")["/bad"].digest == b.contents["/bad"]


def test_a_file_that_changes_after_its_delivery_is_not_released(b: Released) -> None:
    """Neither when it changes before the destinations are asked, nor while they are; its new version is."""
    first = b.put("a")
    start = b.engine.start_inventory

    def change(*arguments: object, **more: object) -> str:
        del b.engine.start_inventory
        first.write_text("changed")
        os.utime(first, (OLD + 5, OLD + 5))
        return start(*arguments, **more)  # type: ignore[arg-type]

    b.engine.start_inventory = change  # type: ignore[method-assign,assignment]
    for _ in range(40):
        b.pass_time(0.5)
        if first.exists() and first.read_text() == "changed":
            break
    assert first.read_text() == "changed"
    b.contents["/a"] = xxhash.xxh3_64(b"changed").hexdigest()
    b.pass_time(HOUR)
    b.converge()
    assert b.left() == set()
    assert b.tree("d")["/a"].size == b.tree("e")["/a"].size == len("changed")


def test_a_file_that_is_open_for_writing_stays(b: Released) -> None:
    """Its writer may not be done, whatever its size and times say."""
    path = b.put("a")
    with open(path, "r+b"):
        for _ in range(10):
            b.pass_time(1.0)
        assert b.left() == {"a"}
        assert "/a (somebody has it open for writing)" in b.told(ConditionType.LIMITED)
    assert "fail /a" in b.actions()
    b.pass_time(HOUR)
    b.converge()
    assert b.left() == set()
    assert b.told(ConditionType.LIMITED) == ""


def test_links_are_neither_followed_nor_deleted(b: Released, tmp_path: Path) -> None:
    """Their contents are delivered; what they lead to is not ours to delete."""
    away = tmp_path / "away"
    away.mkdir()
    (away / "f").write_text("f")
    b.put("real")
    (b.source / "link").symlink_to(away / "f")
    (b.source / "linked").symlink_to(away)
    b.contents |= dict.fromkeys(("/link", "/linked/f"), xxhash.xxh3_64(b"f").hexdigest())
    b.change(symlinks=Symlinks.COPY_CONTENTS)
    b.converge()
    assert sorted(os.listdir(b.source)) == ["link", "linked"]
    assert (away / "f").exists()
    assert set(b.tree("d")) == {"/real", "/link", "/linked/f"}
    assert "a symbolic link leads there" in b.told(ConditionType.LIMITED)


def test_a_source_that_is_one_file_is_released(b: Released) -> None:
    """By the directory that holds it."""
    path = b.put("only")
    b.contents["/to"] = b.contents["/only"]
    b.change(paths=(PathMapping("/to", str(path)),))
    b.converge()
    assert b.left() == set()
    assert set(b.tree("e")) == {"/to"}


def test_what_was_released_is_never_deleted_because_of_that(b: Released) -> None:
    """Not when `prune` comes later, nor when its entry or the mapping goes with `onRemove: delete`."""
    b.put("gone"), b.put("dir/gone")
    b.converge()
    b.put("stays")
    b.change(release=Release.KEEP, prune=True, on_remove=OnRemove.DELETE)
    b.converge()
    for _ in range(3):
        b.look()
        b.touch("gone", "dir/gone", "dir")
        b.pass_time(30.0)
    assert b.status().ready
    (b.source / "stays").unlink()
    b.put("another")
    b.look()
    b.pass_time(30.0)
    assert set(b.tree("d")) == {"/gone", "/dir/gone", "/another"}, "prune works on everything else"
    other = b.directory / "other"
    other.mkdir()
    (other / "new").write_text("n")
    b.change(paths=(PathMapping("/new", str(other)),))
    for _ in range(10):
        b.pass_time(1.0)
    assert set(b.tree("d")) == {"/gone", "/dir/gone", "/new/new"}
    b.mapping = None  # type: ignore[assignment]
    b.take()
    for _ in range(10):
        b.pass_time(1.0)
    assert set(b.tree("d")) == {"/gone", "/dir/gone"}


def test_an_unmounted_source_of_what_is_not_released_is_still_suspect(b: Released) -> None:
    """Only what we emptied ourselves is not."""
    b.put("gone")
    b.converge()
    b.change(release=Release.KEEP)
    path = b.put("stays")
    b.converge()
    path.unlink()
    b.look()
    assert "SourceSuspect" in b.reasons()


def test_a_file_that_comes_again_is_a_new_version(b: Released) -> None:
    """Delivered and released as any other; with `keep` and `prune` it is deleted as any other."""
    b.put("a")
    b.converge()
    b.put("a", "second", OLD + 1)
    b.pass_time(HOUR)
    b.converge()
    assert b.left() == set()
    assert b.tree("d")["/a"].size == b.tree("e")["/a"].size == 6
    b.put("other")
    b.change(release=Release.KEEP, prune=True)
    path = b.put("a", "third one", OLD + 2)
    b.look()
    b.converge()
    path.unlink()
    b.look()
    b.pass_time(30.0)
    assert "/a" not in b.tree("d")


def test_a_file_with_the_inode_of_a_released_one_is_no_renamed_one(b: Released) -> None:
    """Nothing is renamed at the destination."""
    b.put("a", "same")
    b.converge()
    b.change(release=Release.KEEP, prune=True)
    for number in range(20):  # one of them gets the inode
        b.put(f"b{number}", "same")
    b.look()
    b.converge()
    assert set(b.tree("d")) == {"/a", *(f"/b{n}" for n in range(20))}
    assert not [action for action in b.actions() if action.startswith("rename")]


def test_a_crash_between_mark_and_deletion_is_repeated(b: Released, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is there in spite of its mark; the next agent takes that back, or deletes it."""

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    b.put("a")
    monkeypatch.setattr("agent.reconcile.releasing.remove", die)
    with pytest.raises(Killed):
        for _ in range(20):
            b.pass_time(0.5)
    assert b.left() == {"a"}
    assert b.agent.context.state.released.count("m", "d") == 1
    monkeypatch.undo()
    b.crash()
    b.open()
    b.change(release=Release.KEEP)
    b.pass_time(1.0)
    assert b.agent.context.state.released.count("m", "d") == 0, "it is an ordinary file again"
    b.change(release=Release.DELETE_SOURCE)
    b.pass_time(1.0)
    b.converge()
    assert b.left() == set()


def test_the_policy_says_where(b: Released, tmp_path: Path) -> None:
    """Without its rule the mapping is refused; a directory that is moved out of it is left alone."""
    b.permit(tmp_path / "elsewhere")
    b.put("a")
    b.pass_time(5.0)
    assert "RefusedByPolicy" in b.reasons()
    assert b.left() == {"a"}
    b.agent.context.policy = None
    b.take()
    b.pass_time(5.0)
    assert "RefusedByPolicy" in b.reasons()
    b.permit(tmp_path)
    b.pass_time(60.0)
    b.converge()
    assert b.left() == set()


def test_what_the_overwrite_mode_kept_there_is_no_reason_to_delete_ours(b: Released) -> None:
    """Somebody else's file has its name."""
    b.tree("e")["/a"] = FileResult("/a", FileOutcome.DELIVERED, 99, 0, 0, "0123456789abcdef")
    b.change(overwrite=Overwrite.NEVER)
    b.put("a"), b.put("b")
    b.converge()
    assert b.left() == {"a"}
    assert "/a (e keeps its own instead)" in b.told(ConditionType.LIMITED)


def test_what_a_destination_had_before_is_not_released(b: Released) -> None:
    """It may be the source itself, by another way. Sent, it is another file."""
    path = b.put("a")
    mtime = path.stat().st_mtime_ns
    b.tree("e")["/a"] = FileResult("/a", FileOutcome.DELIVERED, 1, mtime, 0, b.contents["/a"])
    b.agent.context.state.ledger.drop("m", "e")
    b.converge()
    assert b.left() == {"a"}
    assert "/a (e had it before; touch it to have it sent" in b.told(ConditionType.LIMITED)
    os.utime(path, (OLD + 1, OLD + 1))
    b.pass_time(HOUR)
    b.converge()
    assert b.left() == set()


def test_a_sentinel_goes_after_everything_else(b: Released) -> None:
    """What has to be sent again would wait for it."""
    b.change(
        release=Release.KEEP,
        trigger=Trigger(ready=Ready.SENTINEL, sentinel=".done"),
        drift=Drift(DriftPolicy.CORRECT),
    )
    b.put("card/a"), b.put("card/b")
    b.put("card/.done", "")
    b.converge()
    b.tree("d")["/card/a"] = replace(b.tree("d")["/card/a"], digest="0123456789abcdef")
    b.change(release=Release.DELETE_SOURCE)
    b.converge()
    b.pass_time(HOUR)
    b.converge()
    assert b.left() == set()
    assert b.tree("d")["/card/a"].digest == b.contents["/card/a"]
    assert [a for a in b.actions() if a.startswith("release")][-1] == "release /card/.done"


def test_an_engine_that_tells_no_checksums_releases_nothing(tmp_path: Path) -> None:
    """And says so."""

    class Blind(MemoryEngine):
        def connect(self) -> Capabilities:
            return replace(super().connect(), inventory=False)

    b = Released(tmp_path)
    b.crash()
    b.engine = Blind()
    b.open()
    b.put("a")
    b.converge()
    assert b.left() == {"a"}
    assert "`release: deleteSource` cannot be carried out" in b.told(ConditionType.LIMITED)
    b.agent.context.state.close()


def test_what_was_released_and_is_lost_is_said_loudly(b: Released) -> None:
    """No policy can send it again."""
    b.put("only"), b.put("lost")
    b.change(drift=Drift(DriftPolicy.CORRECT))
    b.converge()
    del b.tree("d")["/lost"]
    b.pass_time(1.2 * HOUR)
    b.converge()
    text = b.told(ConditionType.DRIFTED)
    assert "1 file missing at d: /lost (the source was released)" in text
    assert "nothing can send it again" in text


def test_explain_tells_what_was_released(b: Released) -> None:
    """And what will be."""
    from agent.reconcile.explain import explain

    path = b.put("a")
    b.converge()
    (delivery, _) = explain(b.agent, str(path))["mappings"][0]["deliveries"]
    assert delivery["state"] == "released"
    assert "every destination had it" in delivery["next"]


NAMES = st.text("ab-", min_size=1, max_size=2)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))


@given(st.sets(PATHS, min_size=1), st.integers(0, 40))
def test_all_that_is_asked_for_is_listed_once(paths: set[str], delivered: int) -> None:
    """Whatever else lies there; places come in order, and none is below another."""
    paths = {path for path in paths if not any(p != path and is_below(p, path) for p in paths)}
    asked = places(paths, lambda _: delivered)
    for path in paths:
        assert sum(is_below(path, place) for place in asked) == 1
    assert list(asked) == sorted(asked)


def test_a_full_directory_is_not_read_for_a_few_files() -> None:
    """Checksums cost the reading of everything that is listed."""
    few = [f"/hot/f{n}" for n in range(3)]
    assert places(few, lambda _: 1_000_000) == tuple(few)
    assert places(few, lambda _: 3) == ("/hot",)
