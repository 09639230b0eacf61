"""What the planner decides about a mapping at one destination."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from unit.planning_model import AGENT, ARCHIVE, DAILIES, FOREIGN, World, file_stat

from agent.model.change import (
    Change,
    ChangeKind,
    ChangeSet,
    Deletion,
    FileKind,
    FileStat,
    Suspect,
    SuspectReason,
)
from agent.model.observed import ObservedTransfer, Tag, TransferState
from agent.model.plan import (
    MAX_ENTRIES,
    CancelTransfer,
    DeletePaths,
    ForgetPaths,
    Plan,
    RenamePaths,
    ResumeTransfer,
    SetTransferPriority,
    SetTransferRate,
    StartTransfer,
    SuspendTransfer,
    TrashPaths,
)
from agent.model.spec import (
    DEFAULT_LANES,
    DEFAULT_PRIORITY,
    Deletions,
    MappingSpec,
    OnRemove,
    Overwrite,
    PathMapping,
    Publish,
    TransferDefaults,
)
from agent.planning.batches import MAX_PATH_BYTES, batches
from agent.planning.mapping import plan_mapping, plan_mapping_removal
from agent.planning.pruning import mapping_roots

laws = settings(deadline=None, max_examples=60, report_multiple_bugs=False)

NAMES = ["/paris/in/a", "/paris/in/b", "/paris/in/d/a", "/paris/in/d/e/a", "/paris/in/f/a", "/paris/in/f/b"]
RELAXED = replace(DAILIES, deletions=Deletions(max_count=10**9, max_percent=1.0))


def consistent(paths: dict[str, FileStat]) -> dict[str, FileStat]:
    """Drop what lies below a file or below a directory that is said to be empty: no tree looks like that."""
    return {p: s for p, s in paths.items() if not any(p.startswith(other + "/") for other in paths)}


trees = st.dictionaries(
    st.sampled_from([*NAMES, "/paris/in/d", "/paris/in/d/e", "/paris/in/f"]),
    st.builds(file_stat, st.integers(1, 3), st.sampled_from(FileKind)),
).map(consistent)

mappings = st.builds(
    replace,
    st.just(RELAXED),
    lane=st.sampled_from([None, "High", "Low"]),
    priority=st.sampled_from([None, 5]),
    send_rate_max=st.sampled_from([None, 1_000.0, 30_000.0]),
)


def change(path: str, size: int = 1, kind: FileKind = FileKind.FILE) -> Change:
    return Change(ChangeKind.CREATED, path, "/src" + path, file_stat(size, kind))


def gone(*paths: str, kind: FileKind = FileKind.FILE) -> tuple[Deletion, ...]:
    return tuple(Deletion(path, kind) for path in paths)


def transfer(name: str, state: TransferState = TransferState.SENDING, **rest) -> ObservedTransfer:
    values = {"lane": "Normal", "tag": Tag(AGENT, "Mapping/dailies")} | rest
    return ObservedTransfer(name, "7", f"m{name}", state=state, **values)


NOTHING = ChangeSet()


def plan(desired=DAILIES, changes=NOTHING, transfers=(), suspended=False, count=1_000, **rest) -> Plan:
    approved = rest.pop("approved", frozenset())
    destination = rest.pop("destination", ARCHIVE)
    return plan_mapping(
        desired, destination, DEFAULT_LANES, changes, transfers, count, approved, suspended, **rest
    )


@laws
@given(steps=st.lists(st.tuples(trees, mappings, st.booleans()), min_size=1, max_size=4))
def test_applying_plans_converges_to_the_source(steps: list) -> None:
    """Plan after apply is empty, whatever is in flight; when all has ended, the destination holds the source
    and nothing else that we brought; what was there before us is untouched."""
    world = World()
    foreign = {"/paris/in/theirs": file_stat(9), "/paris/in/d2/theirs": file_stat(9)}
    world.delivered |= foreign
    other = replace(transfer("foreign"), tag=FOREIGN)
    world.transfers["foreign"] = other
    for source, desired, finish in steps:
        world.source = source
        for _ in range(6):
            world.apply(world.plan_mapping(desired, lanes=DEFAULT_LANES))
            assert world.plan_mapping(desired, lanes=DEFAULT_LANES).empty
            if not finish:
                break
            world.finish()
        if finish:
            assert world.plan_mapping(desired, lanes=DEFAULT_LANES).empty
            assert world.ledger == source
            assert world.delivered == source | foreign
    assert world.transfers["foreign"] is other
    assert not world.touched & (set(foreign) | {"foreign"})


GRACE = 3600.0


@laws
@given(steps=st.lists(st.tuples(trees, st.booleans(), st.booleans()), min_size=1, max_size=5))
def test_renames_grace_and_trash_end_where_sending_and_deleting_do(steps: list) -> None:
    """Whatever is renamed, waits or goes to the trash: a plan after apply is empty, and when the grace is
    over the destination holds the source and nothing else of ours, each path with its own content. Nothing
    is deleted before its grace is over, and with a trash nothing at all."""
    world = World()
    foreign = {"/paris/in/theirs": file_stat(9)}
    world.delivered |= foreign
    for source, grace, trash in steps:
        world.source = source
        limits = Deletions(10**9, 1.0, grace=GRACE if grace else 0.0, trash=trash)
        desired = replace(RELAXED, deletions=limits)
        waiting = {path for path in world.ledger if grace and path not in source}
        for turn in range(8):
            found = world.plan_mapping(desired, lanes=DEFAULT_LANES)
            if turn < 2 and not any(isinstance(a, ForgetPaths) for a in found.actions):
                deleted = {p for a in found.actions if isinstance(a, DeletePaths) for p in a.files}
                deleted |= {p for a in found.actions if isinstance(a, TrashPaths) for p, _ in a.moves}
                replaced = {p for p in deleted if p in source}
                early = {p for p in deleted & waiting - replaced if world.since[p] + GRACE > world.now}
                assert not early
            world.apply(found)
            assert world.plan_mapping(desired, lanes=DEFAULT_LANES).empty
            world.finish()
            world.now += GRACE / 2
        assert world.plan_mapping(desired, lanes=DEFAULT_LANES).empty
        assert world.ledger == source
        assert world.delivered == source | foreign
    assert not world.touched & set(foreign)


@laws
@given(before=trees, after=trees)
def test_without_prune_nothing_is_ever_renamed(before: dict, after: dict) -> None:
    """The old name would be gone at the destination."""
    world = World(ledger=dict(before), delivered=dict(before), source=after)
    found = world.plan_mapping(replace(RELAXED, prune=False)).actions
    assert not [a for a in found if isinstance(a, RenamePaths | TrashPaths)]


@laws
@given(before=trees, after=trees)
def test_without_prune_nothing_is_ever_deleted(before: dict, after: dict) -> None:
    """`prune: false` means no deletion, and what is gone at the source stays ours in the ledger."""
    world = World(ledger=dict(before), delivered=dict(before), source=after)
    actions = world.plan_mapping(replace(RELAXED, prune=False)).actions
    assert not [a for a in actions if isinstance(a, DeletePaths)]
    kept = {p for a in actions if isinstance(a, ForgetPaths) for p in a.paths}
    assert all(before[path].kind is FileKind.EMPTY_DIRECTORY for path in kept)


@laws
@given(before=trees, after=trees, order=st.randoms(use_true_random=False))
def test_order_is_irrelevant(before: dict, after: dict, order) -> None:
    """Paths, transfers and entries in another order give the same actions."""

    def shuffled(items: dict) -> dict:
        pairs = list(items.items())
        order.shuffle(pairs)
        return dict(pairs)

    def content(found: Plan) -> tuple:
        starts = [a for a in found.actions if isinstance(a, StartTransfer)]
        deletes = [a for a in found.actions if isinstance(a, DeletePaths)]
        rest = [
            repr(a) for a in found.actions if not isinstance(a, StartTransfer | DeletePaths | ForgetPaths)
        ]
        return (
            sorted(change.path for a in starts for change in a.changes),
            sorted(path for a in deletes for path in (*a.files, *a.directories)),
            sorted(rest),
            sorted(found.waiting),
        )

    running = {name: transfer(name, TransferState.SUSPENDED, priority=int(name)) for name in "123"}
    one = World(ledger=before, delivered=dict(before), source=after, transfers=running)
    two = World(
        ledger=shuffled(before),
        delivered=dict(before),
        source=shuffled(after),
        transfers=shuffled(running),
    )
    assert content(one.plan_mapping(RELAXED)) == content(two.plan_mapping(RELAXED))


@laws
@given(before=trees, after=trees, states=st.lists(st.sampled_from(TransferState), max_size=5))
def test_suspended_plans_only_suspend(before: dict, after: dict, states: list[TransferState]) -> None:
    """Suspended, nothing is started, deleted or changed: what runs is suspended, and that is all."""
    transfers = {str(n): transfer(str(n), state, lane="Low") for n, state in enumerate(states)}
    world = World(ledger=before, source=after, transfers=transfers)
    for found in (
        world.plan_mapping(suspended=True),
        world.plan_mapping(replace(DAILIES, suspend=True)),
        world.plan_mapping(destination=replace(ARCHIVE, suspend=True)),
    ):
        assert {type(action) for action in found.actions} <= {SuspendTransfer}
        assert len(found.actions) == sum(state.active for state in states)
        assert not found.held


def test_effective_settings_come_from_the_mapping_then_the_destination() -> None:
    """A mapping's own lane, priority and overwrite win; else the destination's; else the defaults."""
    changes = ChangeSet((change("/paris/in/a"),))
    (start,) = plan(changes=changes).actions
    assert isinstance(start, StartTransfer)
    assert (start.lane, start.priority, start.overwrite) == ("Normal", DEFAULT_PRIORITY, Overwrite.ALWAYS)
    defaults = TransferDefaults(priority=0, lane="Low", overwrite=Overwrite.NEWER)
    (start,) = plan(changes=changes, destination=replace(ARCHIVE, transfer_defaults=defaults)).actions
    assert isinstance(start, StartTransfer)
    assert (start.lane, start.priority, start.overwrite) == ("Low", 0, Overwrite.NEWER)
    desired = replace(DAILIES, lane="High", priority=1, overwrite=Overwrite.NEVER, send_rate_max=5.0)
    (start,) = plan(desired, changes, retry=True).actions
    assert isinstance(start, StartTransfer)
    assert (start.lane, start.priority, start.overwrite) == ("High", 1, Overwrite.NEVER)
    assert (start.send_rate_max, start.retry) == (5.0, True)


def test_running_transfers_follow_the_spec() -> None:
    """A changed lane, priority or rate acts on what runs already; what is suspended is resumed after that."""
    desired = replace(DAILIES, lane="High", priority=1, send_rate_max=500.0)
    assert plan(desired, transfers=(transfer("1"),)).actions == (
        SetTransferPriority("dailies", "archive", "1", "High", 1),
        SetTransferRate("dailies", "archive", "1", 500.0),
    )
    right = transfer("2", TransferState.SUSPENDED, lane="High", priority=1, send_rate_max=500.0)
    assert plan(desired, transfers=(right,)).actions == (ResumeTransfer("dailies", "archive", "2"),)
    unknown = transfer("3", lane="", send_rate_max=500.0)
    assert plan(desired, transfers=(unknown,)).empty


def test_a_mapping_rate_is_shared_by_its_transfers() -> None:
    """The limit is the mapping's: transfers that run at the same time get equal parts of it."""
    desired = replace(DAILIES, send_rate_max=900.0)
    running = (transfer("1", send_rate_max=900.0), transfer("2", send_rate_max=900.0))
    actions = plan(desired, ChangeSet((change("/paris/in/a"),)), running).actions
    rates = [a.send_rate_max for a in actions if isinstance(a, SetTransferRate | StartTransfer)]
    assert rates == [300.0, 300.0, 300.0]


@laws
@given(mappings, st.sampled_from(Publish), st.booleans(), st.booleans(), st.integers(0, 10**6))
def test_where_nothing_differs_and_nothing_runs_nothing_is_planned(
    desired: MappingSpec, publish: Publish, prune: bool, suspended: bool, count: int
) -> None:
    """However it is sent: such deliveries need not be asked about any more."""
    spec = replace(desired, publish=publish, prune=prune)
    assert plan(spec, NOTHING, (), suspended, count) == Plan()


def test_finished_and_foreign_transfers_are_left_alone() -> None:
    """Only live transfers with our tag are steered; an unknown state is not touched."""
    others = [transfer(s, s, lane="Low") for s in TransferState if not s.active]
    others = [t for t in others if t.state is not TransferState.SUSPENDED]
    others += [
        transfer("x", lane="Low", tag=None),
        transfer("y", lane="Low", tag=Tag(AGENT, "Mapping/other")),
    ]
    assert plan(transfers=tuple(others)).empty


def test_large_change_sets_are_cut_into_manifests() -> None:
    """No transfer has more than the most entries, every path is in exactly one, in order."""
    changes = tuple(change(f"/paris/in/{n:06d}") for n in range(2 * MAX_ENTRIES + 1))
    starts = plan(changes=ChangeSet(changes)).actions
    assert [len(a.changes) for a in starts if isinstance(a, StartTransfer)] == [MAX_ENTRIES, MAX_ENTRIES, 1]
    assert [c for a in starts if isinstance(a, StartTransfer) for c in a.changes] == list(changes)


def test_long_paths_make_smaller_manifests() -> None:
    """A message stays bounded also when every path has the longest name there is, in bytes that escape."""
    paths = [f"{n}" + "\udcff" * 4_000 for n in range(1_000)]
    pieces = list(batches(paths, lambda path: (path,)))
    assert [path for piece in pieces for path in piece] == paths
    assert max(len(ascii(piece)) for piece in pieces) <= MAX_PATH_BYTES * 1.1
    assert list(batches([], lambda path: (path,))) == []


def test_prune_deletes_files_and_emptied_directories() -> None:
    """What is gone goes, with the directories it leaves empty, deepest first; the entry's own stays."""
    deletions = gone("/paris/in/d/e/a", "/paris/in/f/b") + gone("/paris/in/g", kind=FileKind.EMPTY_DIRECTORY)
    found = plan(changes=ChangeSet(deletions=deletions), still_present=frozenset({"/paris/in/f"}))
    assert found.actions == (
        DeletePaths(
            "dailies",
            "archive",
            ("/paris/in/d/e/a", "/paris/in/f/b"),
            ("/paris/in/d/e", "/paris/in/d", "/paris/in/g"),
        ),
    )


def test_directories_that_something_is_sent_into_stay() -> None:
    """A directory is not removed beside a delivery into it, nor one that is sent as empty now."""
    changes = ChangeSet(
        (change("/paris/in/d/new"), change("/paris/in/f", kind=FileKind.EMPTY_DIRECTORY)),
        gone("/paris/in/d/old", "/paris/in/f/old", "/paris/in/w/old"),
        waiting=("/paris/in/w/new",),
    )
    (delete,) = [a for a in plan(changes=changes).actions if isinstance(a, DeletePaths)]
    assert delete.directories == ()


def test_an_empty_directory_that_fills_is_forgotten_not_deleted() -> None:
    """The ledger entry of an empty directory ends when something is in it."""
    empty = gone("/paris/in/d", kind=FileKind.EMPTY_DIRECTORY)
    for desired in (DAILIES, replace(DAILIES, prune=False)):
        for found in (
            plan(desired, ChangeSet((change("/paris/in/d/a"),), empty)),
            plan(desired, ChangeSet((), empty), still_present=frozenset({"/paris/in/d"})),
        ):
            assert ForgetPaths("dailies", "archive", ("/paris/in/d",)) in found.actions
            assert not [a for a in found.actions if isinstance(a, DeletePaths)]


def test_an_empty_directory_is_neither_forgotten_nor_deleted_while_something_below_it_is_under_way() -> None:
    """What is under way may arrive, or be gone: forgotten now, the directory would stay for ever."""
    empty = gone("/paris/in/d", kind=FileKind.EMPTY_DIRECTORY)
    found = plan(changes=ChangeSet((), empty, waiting=("/paris/in/d/a",)))
    assert not [a for a in found.actions if isinstance(a, DeletePaths | ForgetPaths)]
    assert "/paris/in/d" in found.waiting
    later = plan(changes=ChangeSet((), empty))
    assert DeletePaths("dailies", "archive", (), ("/paris/in/d",)) in later.actions


def test_what_replaces_another_kind_waits_for_the_deletion() -> None:
    """A file where a directory was (or the other way round) is sent when the old one is gone."""
    changes = ChangeSet(
        (change("/paris/in/a/x"), change("/paris/in/d"), change("/paris/in/n")),
        gone("/paris/in/a", "/paris/in/d/x"),
    )
    found = plan(changes=changes)
    (start,) = [a for a in found.actions if isinstance(a, StartTransfer)]
    assert [c.path for c in start.changes] == ["/paris/in/n"]
    assert found.waiting == ("/paris/in/a/x", "/paris/in/d")
    (delete,) = [a for a in found.actions if isinstance(a, DeletePaths)]
    assert delete.directories == ("/paris/in/d",)


def test_deletions_of_waiting_paths_are_left_out() -> None:
    """A path with something in flight is not deleted yet."""
    changes = ChangeSet(deletions=gone("/paris/in/a", "/paris/in/b"), waiting=("/paris/in/a",))
    (delete,) = plan(changes=changes).actions
    assert isinstance(delete, DeletePaths)
    assert delete.files == ("/paris/in/b",)


def test_suspects_suppress_deletions_below_them_only() -> None:
    """An unreadable subtree keeps its files at the destination; the rest is pruned; everything is sent."""
    suspect = Suspect("/paris/in/d", "/src/d", SuspectReason.UNREADABLE)
    changes = ChangeSet(
        (change("/paris/in/d/new"),), gone("/paris/in/d/a", "/paris/in/d2", "/paris/in/b"), (suspect,)
    )
    found = plan(changes=changes)
    (delete,) = [a for a in found.actions if isinstance(a, DeletePaths)]
    assert delete.files == ("/paris/in/d2", "/paris/in/b")
    assert [a for a in found.actions if isinstance(a, StartTransfer)]
    assert found.suspects == (suspect,)


def test_too_many_deletions_are_held_until_exactly_they_are_approved() -> None:
    """Above a limit no deletion happens, the rest proceeds; an approval is for this set and no other."""
    desired = replace(DAILIES, deletions=Deletions(max_count=2))
    three = ChangeSet((change("/paris/in/new"),), gone("/paris/in/1", "/paris/in/2", "/paris/in/3"))
    found = plan(desired, three)
    assert [type(a) for a in found.actions] == [StartTransfer]
    (held,) = found.held
    assert held.reason == "3 deletions exceed deletions.maxCount 2"
    approved = frozenset({held.digest})
    again = plan(desired, replace(three, deletions=three.deletions[::-1]), approved=approved)
    assert [type(a) for a in again.actions] == [StartTransfer, DeletePaths]
    four = replace(three, deletions=gone("/paris/in/4", *(d.path for d in three.deletions)))
    assert plan(desired, four, approved=approved).held


def test_a_large_removal_noticed_in_pieces_is_held_too() -> None:
    """Deletions of a short while ago count, so that a limit cannot be passed under piece by piece."""
    desired = replace(DAILIES, deletions=Deletions(max_count=10))
    five = ChangeSet(deletions=gone(*(f"/paris/in/{n}" for n in range(5))))
    assert not plan(desired, five, recent_deletions=5).held
    (held,) = plan(desired, five, recent_deletions=6).held
    assert "with 6 a short while ago" in held.reason


def test_long_deletions_are_cut_and_directories_come_last() -> None:
    """No request names more than the most entries, and no directory goes before a file."""
    deletions = gone(*(f"/paris/in/d{n}/a" for n in range(MAX_ENTRIES)))
    desired = replace(DAILIES, deletions=Deletions(10**9, 1.0))
    actions = [a for a in plan(desired, ChangeSet(deletions=deletions)).actions if isinstance(a, DeletePaths)]
    assert [(len(a.files), len(a.directories)) for a in actions] == [(MAX_ENTRIES, 0), (0, MAX_ENTRIES)]


def test_removed_mapping_follows_on_remove() -> None:
    """Orphan leaves transfers and files; cancel ends our transfers; delete also deletes what we delivered."""
    transfers = (
        transfer("1"),
        transfer("2", TransferState.SUSPENDED),
        transfer("3", TransferState.COMPLETE),
        transfer("4", tag=Tag(AGENT, "Mapping/other")),
    )
    owned = gone("/paris/in/d/a")
    assert plan_mapping_removal("dailies", OnRemove.ORPHAN, "archive", transfers, owned) == Plan()
    cancel = plan_mapping_removal("dailies", OnRemove.CANCEL, "archive", transfers, owned).actions
    assert [a.transfer_id for a in cancel if isinstance(a, CancelTransfer)] == ["1", "2"]
    delete = plan_mapping_removal(
        "dailies", OnRemove.DELETE, "archive", transfers, owned, roots=("/paris",)
    ).actions
    assert delete[:2] == cancel
    assert delete[2:] == (
        DeletePaths("dailies", "archive", ("/paris/in/d/a",), ("/paris/in/d", "/paris/in")),
    )


def test_roots_are_joined_paths() -> None:
    """Roots are full destination paths, also when the mapping delivers to the top."""
    assert mapping_roots(DAILIES) == ("/paris/in", "/paris", "/")
    top = replace(DAILIES, destination_path="/", paths=(PathMapping("/", "/src"), PathMapping("/a", "/b")))
    assert mapping_roots(top) == ("/", "/a", "/", "/")
