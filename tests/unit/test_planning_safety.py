"""The rules that hold deletions back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model.change import Deletion, FileKind, Suspect, SuspectReason
from agent.model.spec import Deletions
from agent.planning.safety import (
    ancestors,
    deletions_digest,
    judge_root,
    over_limit,
    removable_directories,
    suppressed,
)

paths = st.lists(st.sampled_from("abcd"), min_size=1, max_size=5).map(lambda parts: "/" + "/".join(parts))


def gone(*found: str) -> tuple[Deletion, ...]:
    return tuple(Deletion(path, FileKind.FILE) for path in found)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({}, None),
        ({"exists": False}, SuspectReason.MISSING),
        ({"exists": False, "ledger_count": 0}, SuspectReason.MISSING),
        ({"readable": False}, SuspectReason.UNREADABLE),
        ({"device": 2}, SuspectReason.OTHER_DEVICE),
        ({"device": 2, "known_device": None}, None),
        ({"entries_seen": 0}, SuspectReason.EMPTIED),
        ({"entries_seen": 0, "ledger_count": 0}, None),
        ({"entries_seen": 1, "ledger_count": 10**6}, None),
    ],
)
def test_roots_that_are_not_believed(facts: dict, reason: SuspectReason | None) -> None:
    """A root that is missing, unreadable, on another device or emptied has no say in what is gone."""
    sound = {"exists": True, "readable": True, "device": 1, "known_device": 1}
    assert judge_root(**(sound | {"entries_seen": 5, "ledger_count": 5} | facts)) is reason


def test_suspects_reach_below_themselves_only() -> None:
    """A suspect subtree protects itself and what is below, not neighbours whose names begin alike."""
    suspects = [Suspect("/a/b", "/src", SuspectReason.UNREADABLE)]
    assert suppressed("/a/b", suspects)
    assert suppressed("/a/b/c", suspects)
    assert not suppressed("/a/bc", suspects)
    assert not suppressed("/a", suspects)
    assert suppressed("/x", [Suspect("/", "/src", SuspectReason.EMPTIED)])


@pytest.mark.parametrize(
    ("count", "ledger", "limits", "words"),
    [
        (1_000, 10**6, Deletions(), ""),
        (1_001, 10**6, Deletions(), "exceed deletions.maxCount 1000"),
        (20, 20, Deletions(), ""),
        (21, 210, Deletions(), ""),
        (21, 209, Deletions(), "deletions.maxPercent is 10%"),
        (21, 21, Deletions(max_percent=1.0), ""),
        (1, 10, Deletions(max_count=0), "exceed deletions.maxCount 0"),
    ],
)
def test_deletion_limits(count: int, ledger: int, limits: Deletions, words: str) -> None:
    """The count always holds; the percentage from 21 deletions on."""
    reason = over_limit(count, ledger, limits)
    assert bool(reason) == bool(words)
    assert words in reason


@given(found=st.lists(paths, unique=True), order=st.randoms(use_true_random=False))
def test_the_digest_names_a_set(found: list[str], order) -> None:
    """The same deletions in another order are the same set; one more or another kind is another set."""
    deletions = list(gone(*found))
    digest = deletions_digest(deletions)
    order.shuffle(deletions)
    assert deletions_digest(deletions) == digest
    assert deletions_digest([*deletions, Deletion("/e", FileKind.FILE)]) != digest
    if deletions:
        other = [Deletion(deletions[0].path, FileKind.EMPTY_DIRECTORY), *deletions[1:]]
        assert deletions_digest(other) != digest
    assert deletions_digest(gone("/not-utf-8-\udcff"))


@given(found=st.lists(paths), roots=st.lists(paths | st.just("/"), max_size=3), present=st.frozensets(paths))
def test_removable_directories_are_strictly_inside(
    found: list[str], roots: list[str], present: frozenset[str]
) -> None:
    """Only ancestors of a deletion, strictly below a root, gone at the source, each once, deepest first."""
    removable = removable_directories(gone(*found), tuple(roots), present)
    assert len(set(removable)) == len(removable)
    for directory in removable:
        assert any(path.startswith(directory + "/") for path in found)
        assert any(directory != root and directory.startswith(root.rstrip("/") + "/") for root in roots)
        assert directory not in roots or any(len(root) < len(directory) for root in roots)
        assert directory not in present
    depths = [directory.count("/") for directory in removable]
    assert depths == sorted(depths, reverse=True)


def test_a_single_file_entry_has_no_directories_to_remove() -> None:
    """An entry that maps one file keeps the directory it is in."""
    assert removable_directories(gone("/a/b/file"), ("/a/b/file",)) == ()
    assert list(ancestors("/a/b/c")) == ["/a/b", "/a"]
