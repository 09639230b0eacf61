"""What `publish: set` means for a plan: one set at a time, whole, and deletions after it."""

from __future__ import annotations

from agent.model.change import Change, ChangeKind, ChangeSet, Deletion, FileKind, FileStat
from agent.model.observed import Capabilities, ObservedTransfer, Tag, TransferState
from agent.model.plan import MAX_ENTRIES, DeletePaths, Plan, StartTransfer
from agent.model.spec import (
    DEFAULT_LANES,
    DestinationSpec,
    Durability,
    MappingSpec,
    PathMapping,
    Publish,
    Symlinks,
    TransferDefaults,
)
from agent.planning.mapping import plan_mapping
from agent.planning.unsupported import unsupported_of_destination, unsupported_of_mapping

SPEC = MappingSpec(
    "dailies", ("archive",), (PathMapping("/", "/src"),), prune=True, publish=Publish.SET, marker="DONE"
)
ARCHIVE = DestinationSpec("archive", "host")


def change(path: str, kind: FileKind = FileKind.FILE) -> Change:
    return Change(ChangeKind.CREATED, path, f"/src{path}", FileStat(kind, 1, 1, 1, 1, False))


def plan(changes: ChangeSet, *running: ObservedTransfer) -> Plan:
    return plan_mapping(SPEC, ARCHIVE, DEFAULT_LANES, changes, running, 10_000, frozenset(), False)


def starts(found: Plan) -> list[StartTransfer]:
    return [action for action in found.actions if isinstance(action, StartTransfer)]


def deleted(found: Plan) -> set[str]:
    return {path for action in found.actions if isinstance(action, DeletePaths) for path in action.files}


def test_however_large_a_set_is_one_transfer() -> None:
    found = plan(ChangeSet(tuple(change(f"/{n}") for n in range(MAX_ENTRIES + 5))))
    (start,) = starts(found)
    assert start.as_set and len(start.changes) == MAX_ENTRIES + 5


def test_deletions_wait_for_the_set_and_are_not_forgotten() -> None:
    found = plan(ChangeSet((change("/a"),), (Deletion("/gone", FileKind.FILE),)))
    assert len(starts(found)) == 1 and not deleted(found) and "/gone" in found.waiting
    assert deleted(plan(ChangeSet((), (Deletion("/gone", FileKind.FILE),)))) == {"/gone"}


def test_a_set_waits_for_the_one_on_its_way() -> None:
    tag = Tag("agent", "Mapping/dailies")
    running = ObservedTransfer("7", "1", "2", tag, TransferState.SENDING, lane="Normal")
    found = plan(ChangeSet((change("/a"),), (Deletion("/gone", FileKind.FILE),)), running)
    assert not starts(found) and not deleted(found) and set(found.waiting) == {"/a", "/gone"}
    found = plan(ChangeSet((change("/a"),), waiting=("/b",)))
    assert not starts(found) and set(found.waiting) == {"/a", "/b"}


def test_what_makes_room_for_a_set_is_deleted_before_it_and_nothing_else() -> None:
    """A file has taken the place of a directory: the set waits for what was in there, as a whole."""
    gone = (Deletion("/place/old", FileKind.FILE), Deletion("/other", FileKind.FILE))
    found = plan(ChangeSet((change("/place"), change("/a")), gone))
    assert deleted(found) == {"/place/old"} and not starts(found)
    assert {"/place", "/a", "/other"} <= set(found.waiting)


def test_what_an_engine_cannot_do_is_named() -> None:
    spec = MappingSpec("m", ("a",), (), publish=Publish.SET, symlinks=Symlinks.PRESERVE)
    told = unsupported_of_mapping(spec, Capabilities())
    assert [text.split("`")[1] for text in told] == ["publish: set", "symlinks: preserve"]
    strict = DestinationSpec("a", "h", transfer_defaults=TransferDefaults(durability=Durability.STRICT))
    (text,) = unsupported_of_destination(strict, Capabilities())
    assert "`transferDefaults.durability: strict`" in text
    able = Capabilities(sets=True, links=True, strict=True)
    assert unsupported_of_mapping(spec, able) == () and unsupported_of_destination(strict, able) == ()
