"""What was renamed at the source is renamed at the destination: nothing of it is sent again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import permutations
from pathlib import Path

import pytest
from unit.reconcile_bench import MAPPING, Bench

from agent.engines.memory import MemoryEngine
from agent.engines.memory_far import Answer, Deleting, Renaming, Tree
from agent.engines.port import ReceiverCredentials
from agent.model.change import Change, ChangeKind, FileKind, FileStat
from agent.model.known import Known
from agent.model.observed import Capabilities, FileOutcome, FileResult
from agent.model.outcome import NotFoundError, PermanentError
from agent.model.spec import Deletions, Overwrite, PathMapping
from agent.planning import pruning as pruning_module
from agent.planning.batches import batches
from agent.planning.renames import pair
from agent.reconcile.queue import Hints


@pytest.fixture
def b(tmp_path: Path) -> Iterator[Bench]:
    bench = pruning(tmp_path)
    yield bench
    bench.agent.context.state.close()


def pruning(tmp_path: Path, engine: MemoryEngine | None = None) -> Bench:
    bench = Bench(tmp_path, engine)
    bench.change(prune=True, deletions=Deletions(max_count=10**6, max_percent=1.0))
    return bench


def put(b: Bench, name: str, text: str = "x") -> Path:
    path = b.source / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def sent(b: Bench) -> list[str]:
    """Paths that transfers were started for, in all attempts so far."""
    files = b.agent.context.state.audit.files(limit=100_000)
    return [file.path for file in (line.file for line in files) if file.action in ("create", "update")]


def renames(b: Bench) -> list[tuple[str, str]]:
    asked = [request for _, request in b.engine.asked.values() if isinstance(request, Renaming)]
    return [pair for request in asked for pair in request.renames]


def settled(b: Bench) -> None:
    """In sync, and a whole look finds nothing to do."""
    for _ in range(4):
        b.pass_time(0.5)
    b.converge()
    b.look()
    b.converge()
    assert set(b.at_destination) == paths_of(b.source)
    ledger = b.agent.context.state.ledger
    assert {path for path, _ in ledger.under("m", "d", "/")} == paths_of(b.source)


def paths_of(root: Path) -> set[str]:
    found = set()
    for directory, names, files in os.walk(root):
        at = "/" + os.path.relpath(directory, root).removeprefix(".").lstrip("/")
        found |= {os.path.join(at, name) for name in files}
        if not names and not files and directory != str(root):
            found.add(at)
    return found


def test_a_renamed_directory_is_renamed_and_not_sent(b: Bench) -> None:
    """A whole look finds a moved tree; its files go to their new paths, the directories it left go."""
    for number in range(50):
        put(b, f"old/d{number % 5}/f{number}", "content" * number)
    put(b, "stays/a")
    b.converge()
    before = len(sent(b))
    (b.source / "old").rename(b.source / "new")
    b.look()
    settled(b)
    assert len(sent(b)) == before
    assert len(renames(b)) == 50


@pytest.mark.parametrize("order", [("old", "new"), ("new", "old"), ("old", "old", "new")])
def test_the_two_events_of_a_rename_may_be_looked_at_apart(b: Bench, order: tuple[str, ...]) -> None:
    """Whichever half is seen first, the other one is looked for before anything is deleted or sent."""
    for number in range(10):
        put(b, f"old/f{number}")
    b.converge()
    before = len(sent(b))
    (b.source / "old").rename(b.source / "new")
    for half in order:
        b.touch(half)
    settled(b)
    assert len(sent(b)) == before
    assert len(renames(b)) == 10


def test_a_file_that_is_only_gone_is_deleted_a_moment_later(b: Bench) -> None:
    """What is found gone by a hint might be half of a rename for a moment, and is deleted then."""
    put(b, "a"), put(b, "b")
    b.converge()
    (b.source / "a").unlink()
    b.touch("a")
    assert not b.status().ready
    settled(b)
    assert set(b.at_destination) == {"/b"}


def test_a_rename_is_found_after_a_restart(b: Bench) -> None:
    """What was renamed while no agent ran is no other."""
    put(b, "old/a", "content")
    b.converge()
    b.crash()
    (b.source / "old").rename(b.source / "new")
    b.open()
    b.mapping = replace(b.mapping, prune=True)
    settled(b)
    assert renames(b) == [("/old/a", "/new/a")]
    past = [p for p in b.agent.context.state.attempts.history("m") if p.operation == "rename"]
    assert [(p.files, p.bytes, p.outcome) for p in past] == [(1, 0, "done")]


def test_without_prune_the_new_name_is_sent_and_the_old_one_stays(b: Bench) -> None:
    """A rename would take the old name away."""
    b.change(prune=False)
    put(b, "a")
    b.converge()
    (b.source / "a").rename(b.source / "b")
    b.look()
    b.converge()
    assert set(b.at_destination) == {"/a", "/b"}
    assert renames(b) == []


def test_a_renamed_file_that_was_changed_as_well_is_sent(b: Bench) -> None:
    """Renamed and modified is another file; the old one is deleted."""
    put(b, "a", "one")
    b.converge()
    (b.source / "a").rename(b.source / "b")
    put(b, "b", "something else")
    b.look()
    settled(b)
    assert renames(b) == []
    assert b.at_destination["/b"].size == len("something else")


def test_files_that_swap_their_names_are_sent(b: Bench) -> None:
    """Both paths are still there, with other contents: no rename, and never the wrong content."""
    put(b, "a", "first"), put(b, "b", "the second")
    b.converge()
    (b.source / "a").rename(b.source / "t")
    (b.source / "b").rename(b.source / "a")
    (b.source / "t").rename(b.source / "b")
    b.look()
    settled(b)
    assert (b.at_destination["/a"].size, b.at_destination["/b"].size) == (10, 5)


def test_a_rename_onto_an_existing_file_replaces_it(b: Bench) -> None:
    """The destination never replaces by renaming: the content is sent, the old path deleted."""
    put(b, "a", "new content"), put(b, "b", "old")
    b.converge()
    (b.source / "a").rename(b.source / "b")
    b.look()
    settled(b)
    assert b.at_destination["/b"].size == len("new content")


def test_one_of_several_names_of_a_file_is_renamed(b: Bench) -> None:
    """Hard links: the name that is still there keeps its file; a further name is sent."""
    put(b, "a", "linked")
    os.link(b.source / "a", b.source / "b")
    b.converge()
    (b.source / "a").rename(b.source / "c")
    os.link(b.source / "b", b.source / "d")
    b.look()
    settled(b)
    assert renames(b) == [("/a", "/c")]


@pytest.mark.parametrize("names", list(permutations(["/x/1", "/x/2", "/y/old"])))
def test_which_of_several_names_is_the_renamed_one_depends_on_no_order(names: tuple[str, ...]) -> None:
    """The one with the same last part, else the first of the alphabet."""
    stat = FileStat(FileKind.FILE, 5, 1_001, 2_000, 7, False)
    created = [Change(ChangeKind.CREATED, name, f"/source{name}", stat) for name in names]
    (found,) = pair(created, [Known("/old", stat)], lambda path: True)
    assert found.change.path == "/y/old"
    (found,) = pair(created, [Known("/other", stat)], lambda path: True)
    assert found.change.path == "/x/1"


def test_only_the_case_of_a_name_may_change(b: Bench) -> None:
    """Names are bytes: another case is another name."""
    put(b, "Reel.mov", "content")
    b.converge()
    (b.source / "Reel.mov").rename(b.source / "REEL.mov")
    b.look()
    settled(b)
    assert renames(b) == [("/Reel.mov", "/REEL.mov")]


def test_a_file_may_move_below_what_was_a_file(b: Bench) -> None:
    """a -> a/b cannot be done in one step: the old one is deleted, then the new one sent."""
    put(b, "a", "content"), put(b, "other", "y")
    b.converge()
    (b.source / "a").rename(b.source / "t")
    (b.source / "a").mkdir()
    (b.source / "t").rename(b.source / "a" / "b")
    b.look()
    settled(b)


def test_a_tree_moves_between_entries_of_a_mapping(tmp_path: Path) -> None:
    """`paths` of one mapping are one place: also when an entry is emptied by the move."""
    b = Bench(tmp_path)
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir(), two.mkdir()
    (two / "z").write_text("z")
    for number in range(5):
        (one / f"f{number}").write_text(f"content {number}")
    b.change(
        paths=(PathMapping("/one", str(one)), PathMapping("/two", str(two))),
        prune=True,
        deletions=Deletions(max_count=0),
    )
    b.converge()
    for number in range(5):
        (one / f"f{number}").rename(two / f"f{number}")
    hints = Hints(paths=frozenset((str(two), f"f{number}") for number in range(5)))
    b.agent.context.queue.add(MAPPING, hints=hints)
    b.settle()
    b.pass_time(1.0), b.look(), b.converge()
    assert set(b.at_destination) == {"/two/z", *(f"/two/f{number}" for number in range(5))}
    assert len(renames(b)) == 5


def test_another_file_with_the_same_inode_size_and_coarse_time_is_sent(b: Bench) -> None:
    """Inodes are used again, and frames of a shot have one size and, to the second, one time: then only the
    content, or the age of the file, tells a rename."""
    put(b, "a", "frame 1")
    os.utime(b.source / "a", ns=(10**18, 10**18))
    b.converge()
    (b.source / "a").rename(b.source / "b")
    with open(b.source / "b", "r+") as file:
        file.write("frame 2")
    os.utime(b.source / "b", ns=(10**18, 10**18))
    b.look()
    settled(b)
    assert renames(b) == []
    assert "/b" in sent(b)


def test_a_known_content_is_compared(b: Bench) -> None:
    """With a digest in the ledger a small file is read: a changed one is sent, the same one renamed."""
    from agent.source.content import content_digest

    for name in ("same", "other"):
        path = put(b, name, "content")
        os.utime(path, ns=(10**18, 10**18))
    b.converge()
    ledger = b.agent.context.state.ledger
    for name in ("same", "other"):
        digest = content_digest(str(b.source / name), 7)
        ledger.record("m", "d", [(f"/{name}", ledger.entry("m", "d", f"/{name}"), digest, 1)], 0.0)
    with open(b.source / "other", "r+") as file:
        file.write("CONTENT")
    for name in ("same", "other"):
        (b.source / name).rename(b.source / f"{name}2")
        os.utime(b.source / f"{name}2", ns=(10**18, 10**18))
    b.look()
    settled(b)
    assert renames(b) == [("/same", "/same2")]


def test_a_renamed_file_keeps_the_digest_of_its_content(b: Bench) -> None:
    """The row moves with all that is known of the content."""
    put(b, "a")
    b.converge()
    ledger = b.agent.context.state.ledger
    ledger.record("m", "d", [("/a", ledger.entry("m", "d", "/a"), "", 1)], 0.0)
    (b.source / "a").rename(b.source / "b")
    b.look()
    settled(b)
    assert ledger.entry("m", "d", "/a") is None
    assert ledger.entry("m", "d", "/b") is not None


@pytest.mark.parametrize("overwrite", [Overwrite.NEVER, Overwrite.NEWER])
def test_what_may_be_somebody_elses_is_not_renamed(b: Bench, overwrite: Overwrite) -> None:
    """With `never` and `newer` the file at the old path need not be ours."""
    b.change(overwrite=overwrite)
    put(b, "a")
    b.converge()
    (b.source / "a").rename(b.source / "b")
    b.look()
    b.pass_time(1.0), b.converge()
    assert renames(b) == []
    assert "/b" in b.at_destination


class CannotRename(MemoryEngine):
    def connect(self) -> Capabilities:
        return replace(super().connect(), rename=False)


def test_an_engine_that_cannot_rename_sends_and_deletes(tmp_path: Path) -> None:
    """As it was before there were renames."""
    b = pruning(tmp_path, CannotRename())
    put(b, "a")
    b.converge()
    (b.source / "a").rename(b.source / "b")
    b.look()
    settled(b)
    assert renames(b) == []


class Refuses(MemoryEngine):
    def start_renaming(
        self,
        destination_id: str,
        renames: tuple[tuple[str, str], ...],
        credentials: ReceiverCredentials | None = None,
    ) -> str:
        raise PermanentError("this account may not rename")


def test_a_destination_that_refuses_to_rename_gets_the_files_sent(tmp_path: Path) -> None:
    """The refusal is remembered: no rename is tried again for them, and deletions go through the limits."""
    b = pruning(tmp_path, Refuses())
    put(b, "a")
    b.converge()
    b.change(deletions=Deletions(max_count=0))
    (b.source / "a").rename(b.source / "b")
    b.look()
    for _ in range(4):
        b.pass_time(0.5)
    assert set(b.at_destination) == {"/a", "/b"}
    assert "DeletionsHeld" in b.reasons()


class Odd(MemoryEngine):
    """Renamings end as the test says."""

    outcome = FileOutcome.FAILED

    def start_renaming(
        self,
        destination_id: str,
        renames: tuple[tuple[str, str], ...],
        credentials: ReceiverCredentials | None = None,
    ) -> str:
        return self._ask(destination_id, _Odd(renames, self.outcome))


class _Odd(Renaming):
    def __init__(self, renames: tuple[tuple[str, str], ...], outcome: FileOutcome) -> None:
        super().__init__(renames)
        object.__setattr__(self, "outcome", outcome)

    def carry_out(self, tree: Tree) -> Answer:
        if self.outcome is FileOutcome.VANISHED:
            for old, _ in self.renames:
                tree.pop(old, None)
        return Answer(True, tuple(FileResult(new, self.outcome, error="so") for _, new in self.renames))

    __slots__ = ("outcome",)


@pytest.mark.parametrize("outcome", [FileOutcome.FAILED, FileOutcome.SKIPPED, FileOutcome.VANISHED])
def test_what_was_not_renamed_is_sent_and_deleted_instead(tmp_path: Path, outcome: FileOutcome) -> None:
    """A rename that does not succeed is asked for once."""
    engine = Odd()
    engine.outcome = outcome
    b = pruning(tmp_path, engine)
    put(b, "old/a"), put(b, "old/b")
    b.converge()
    (b.source / "old").rename(b.source / "new")
    b.look()
    settled(b)
    assert len(renames(b)) == 2
    assert {"/new/a", "/new/b"} <= set(sent(b))


class Forgets(MemoryEngine):
    """Carries a renaming out and knows nothing of it afterwards, once."""

    forget_next = True

    def renaming(self, renaming_id: str) -> Answer:  # type: ignore[override]
        answer = super().renaming(renaming_id)
        if answer.done and self.forget_next:
            self.forget_next = False
            raise NotFoundError("restarted")
        return answer  # type: ignore[return-value]


def test_a_server_that_forgot_a_renaming_is_asked_again(tmp_path: Path) -> None:
    """What had been renamed by then has vanished under its old path, and is sent: nothing is lost."""
    b = pruning(tmp_path, Forgets())
    put(b, "a")
    b.converge()
    (b.source / "a").rename(b.source / "b")
    b.look()
    settled(b)
    assert renames(b) == [("/a", "/b"), ("/a", "/b")]


def test_nothing_is_sent_or_deleted_on_paths_that_are_being_renamed(b: Bench) -> None:
    """A change on a path in flight waits until the rename has ended."""
    put(b, "a", "one")
    b.converge()
    (b.source / "a").rename(b.source / "b")
    b.look()
    assert renames(b) == [("/a", "/b")]
    before = sent(b)
    put(b, "b", "longer than before"), put(b, "a", "back again")
    b.look()
    assert (b.transfers(), sent(b)) == ([], before)
    settled(b)
    assert (b.at_destination["/a"].size, b.at_destination["/b"].size) == (10, 18)


def test_a_large_tree_is_renamed_in_batches(b: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one message takes; emptied directories go with the batch that leaves them last."""
    monkeypatch.setattr(pruning_module, "batches", partial(batches, max_entries=200))
    for directory in range(5):
        for number in range(50):
            put(b, f"old/d{directory}/f{number}", str(number))
    b.converge()
    before = len(sent(b))
    (b.source / "old").rename(b.source / "new")
    b.touch("old")
    b.touch("new")
    settled(b)
    assert len(sent(b)) == before
    asked = [r for _, r in b.engine.asked.values() if isinstance(r, Renaming)]
    assert [len(r.renames) for r in asked] == [200, 50]
    directories = [d for _, r in b.engine.asked.values() if isinstance(r, Deleting) for d in r.directories]
    assert {"/old", *(f"/old/d{number}" for number in range(5))} <= set(directories)


def test_a_directory_that_files_are_moved_out_of_is_removed_after_them(b: Bench) -> None:
    """Some of its files are deleted at the same time, and the receiver may come to that first: the directory
    would not be empty yet, and be kept as somebody else's."""
    for name in "abc":
        put(b, f"d/{name}", name * 3)
    b.converge()
    (b.source / "d").rename(b.source / "e")
    (b.source / "e" / "c").unlink()
    b.crash()
    b.open()
    b.settle()  # a whole look sees both halves of it at once
    asked = [request for _, request in b.engine.asked.values()]
    assert sorted(renames(b)) == [("/d/a", "/e/a"), ("/d/b", "/e/b")]
    at_once = [request for request in asked if isinstance(request, Deleting)]
    assert [(request.files, request.directories) for request in at_once] == [(("/d/c",), ())]
    settled(b)
    asked = [request for _, request in b.engine.asked.values()]
    assert "/d" in {
        path for request in asked if isinstance(request, Deleting) for path in request.directories
    }
