"""A second process that is ahead of a walk: what it saw is the same tree, and nothing hangs on it."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from agent.model.spec import Symlinks
from agent.source.ahead import Ahead, Known
from agent.source.filters import Filter, KeepOut
from agent.source.scan import Listing, scan_tree

Walked = dict[str, Listing]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Names of any bytes, links, an empty directory, and what is left out, over a dozen subtrees."""
    root = tmp_path / "root"
    for number in range(12):
        folder = root / f"d{number:02}"
        (folder / "deep" / "deeper").mkdir(parents=True)
        (folder / "a").write_bytes(b"a"), (folder / "deep" / "deeper" / "b").write_bytes(b"b")
        (folder / "empty").mkdir()
        (folder / "left.out").write_bytes(b"")
        Path(os.fsdecode(os.fsencode(folder / "deep") + b"/n\xff\n\"'")).write_bytes(b"")
    (root / "d05" / "deep" / "again").symlink_to(root / "d05")
    (root / "d07" / "deep" / "other").symlink_to(root / "d03" / "deep")
    (root / "d08" / "own").mkdir()
    (root / "d08" / "own" / "state").write_bytes(b"")
    return root


def filter_of(root: Path) -> Filter:
    own = os.stat(root / "d08" / "own")
    return Filter(exclude=("*.out",), keep_out=KeepOut(str(root), frozenset({(own.st_dev, own.st_ino)})))


def walk(root: Path, ahead: Ahead | None = None, symlinks: Symlinks = Symlinks.COPY_CONTENTS) -> Walked:
    found = list(scan_tree(str(root), filter_of(root), symlinks, "", ahead))
    assert len({listing.directory for listing in found}) == len(found)
    return {listing.directory: listing for listing in found}


def helped(root: Path, known: Known, symlinks: Symlinks = Symlinks.COPY_CONTENTS) -> Walked:
    with closing(Ahead(str(root), filter_of(root), symlinks, known)) as ahead:
        return walk(root, ahead, symlinks)


def known_from(before: Walked) -> Known:
    return lambda directory, digest: directory in before and before[directory].digest == digest


def not_read(found: Walked) -> set[str]:
    return {directory for directory, listing in found.items() if listing.unread is not None}


@pytest.mark.parametrize("symlinks", Symlinks)
def test_what_did_not_change_is_counted_and_not_read(tree: Path, symlinks: Symlinks) -> None:
    """Same directories in the same order, same digests and numbers, same problems."""
    before = walk(tree, symlinks=symlinks)
    found = helped(tree, known_from(before), symlinks)
    assert list(found) == list(before)
    assert {"d01", "d03", "d03/deep/deeper"} <= not_read(found)
    assert not any(directory.startswith("d02") for directory in not_read(found)), "a share of our own"
    for directory, listing in found.items():
        alone = before[directory]
        assert (listing.digest, listing.subdirectories) == (alone.digest, alone.subdirectories)
        assert listing.problems == alone.problems
        assert len(listing.entries) + (listing.unread or 0) == len(alone.entries)


def test_a_directory_that_changed_is_read(tree: Path) -> None:
    before = walk(tree)
    (tree / "d03" / "a").write_bytes(b"other")
    (tree / "d05" / "deep" / "deeper" / "b").unlink()
    found = helped(tree, known_from(before))
    assert found == {d: found[d] if d in not_read(found) else now for d, now in walk(tree).items()}
    assert {"d03", "d05/deep"}.isdisjoint(not_read(found))
    assert "d03/deep" in not_read(found)


def test_a_tree_that_changes_behind_the_helper_is_walked_as_it_is(tree: Path) -> None:
    """What it has seen already is gone, and there is something new."""
    before = walk(tree)
    passed: list[str] = []

    def change(directory: str, digest: bytes) -> bool:
        if not passed:
            (tree / "d03" / "a").unlink(), (tree / "d03" / "empty").rmdir()
            os.rename(tree / "d03" / "deep", tree / "d03" / "moved")
        passed.append(directory)
        return directory in before and before[directory].digest == digest and directory != "d03"

    found = helped(tree, change)
    assert {"d03/moved", "d03/moved/deeper"} <= set(found) - not_read(found)
    assert "d03/deep" not in found
    assert "d05/deep/deeper" in found
    assert "d09" in not_read(found), "the next share is believed again"


@pytest.mark.parametrize("after", [0, 1, 7])
def test_without_its_helper_the_walk_does_all(tree: Path, after: int) -> None:
    before = walk(tree)
    ahead = Ahead(str(tree), filter_of(tree), Symlinks.COPY_CONTENTS, known_from(before))
    found: Walked = {}
    for number, listing in enumerate(scan_tree(str(tree), filter_of(tree), helper=ahead)):
        found[listing.directory] = listing
        if number == after:
            ahead.close()
    assert list(found) == list(before)
    rest = list(before)[after + 1 :]
    assert {d: found[d] for d in rest} == {d: before[d] for d in rest}


def test_a_helper_that_cannot_start_is_done_without(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = walk(tree)
    monkeypatch.setattr("agent.source.ahead.sys.executable", "/bin/false")
    assert helped(tree, known_from(before)) == before
    monkeypatch.setattr("agent.source.ahead.sys.executable", "/nowhere/at/all")
    assert helped(tree, known_from(before)) == before
