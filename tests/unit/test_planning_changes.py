"""What counts as a change of a file, and what must wait."""

from __future__ import annotations

import pytest

from agent.model.change import Change, ChangeKind, Deletion, FileKind, FileStat
from agent.planning.changes import compare, difference

KNOWN = FileStat(FileKind.FILE, 10, 1_000, 2_000, 7, False)
EMPTY = FileStat(FileKind.EMPTY_DIRECTORY, 0, 1, 2, 3, False)


def source(**stats: FileStat) -> dict[str, tuple[str, FileStat]]:
    return {f"/{name}": (f"/src/{name}", stat) for name, stat in stats.items()}


def test_new_unchanged_and_gone() -> None:
    """What the ledger lacks is created, what it has equally is left alone, what only it has is deleted."""
    changes, deletions, waiting = compare(source(new=KNOWN, same=KNOWN), {"/same": KNOWN, "/gone": EMPTY}, {})
    assert changes == [Change(ChangeKind.CREATED, "/new", "/src/new", KNOWN, "not in ledger")]
    assert deletions == [Deletion("/gone", FileKind.EMPTY_DIRECTORY)]
    assert waiting == []


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("size", 11, "size differs"),
        ("mtime_ns", 1_001, "modified"),
        ("mtime_ns", 999, "modified"),
        ("ctime_ns", 2_001, "changed since it was read"),
        ("inode", 8, "replaced by another file"),
        ("executable", True, "executable bit differs"),
    ],
)
def test_any_difference_is_sent_again_with_its_reason(field: str, value: int, reason: str) -> None:
    """Size, either time, inode and executable bit each make another version, and the plan says which."""
    (change,), _, _ = compare(source(a=KNOWN._replace(**{field: value})), {"/a": KNOWN}, {})
    assert (change.kind, change.reason) == (ChangeKind.MODIFIED, reason)


def test_a_ledger_entry_without_ctime_compares_size_and_mtime_only() -> None:
    """What was recorded without a ctime is not sent again for what could not be recorded."""
    bare = KNOWN._replace(ctime_ns=0, inode=0)
    assert difference(KNOWN._replace(executable=True, inode=99), bare) == ""
    assert difference(KNOWN._replace(mtime_ns=5), bare) == "modified"
    assert difference(KNOWN._replace(inode=99), KNOWN._replace(inode=0)) == ""


def test_empty_directories_have_no_versions() -> None:
    """A directory's times and inode do not matter, only that it is an empty directory."""
    other = FileStat(FileKind.EMPTY_DIRECTORY, 4096, 9, 9, 9, True)
    assert compare(source(d=other), {"/d": EMPTY}, {}) == ([], [], [])


def test_another_kind_is_a_change_and_a_deletion() -> None:
    """A file in place of an empty directory needs the directory gone first, and the other way round."""
    for now, before in ((KNOWN, EMPTY), (EMPTY, KNOWN)):
        (change,), deletions, waiting = compare(source(a=now), {"/a": before}, {})
        assert change.reason == f"was a {before.kind}, is a {now.kind}"
        assert deletions == [Deletion("/a", before.kind)]
        assert waiting == []


def test_what_is_in_flight_is_not_sent_again() -> None:
    """The same version on its way needs nothing, whatever the ledger says."""
    for ledger in ({}, {"/a": KNOWN._replace(size=1)}):
        assert compare(source(a=KNOWN), ledger, {"/a": KNOWN}) == ([], [], [])


def test_a_newer_version_waits_for_the_one_in_flight() -> None:
    """Two transfers never carry the same path at the same time."""
    assert compare(source(a=KNOWN), {}, {"/a": KNOWN._replace(size=1)}) == ([], [], ["/a"])


def test_a_deletion_waits_for_what_is_in_flight() -> None:
    """No late transfer may bring back a file that was deleted."""
    for ledger in ({}, {"/a": KNOWN}):
        assert compare({}, ledger, {"/a": KNOWN}) == ([], [], ["/a"])


def test_a_path_that_is_being_deleted_waits() -> None:
    """What comes back while its deletion is under way is sent when that has ended."""
    assert compare(source(a=KNOWN), {"/a": KNOWN}, {"/a": None}) == ([], [], ["/a"])
    assert compare({}, {"/a": KNOWN}, {"/a": None}) == ([], [], ["/a"])
