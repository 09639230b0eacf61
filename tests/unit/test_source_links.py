"""`symlinks: preserve` at the source: which links count, in which version, and which do not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.model.change import FileKind
from agent.model.spec import Symlinks
from agent.source.filters import Filter
from agent.source.links import leads_out
from agent.source.look import scan_paths
from agent.source.scan import Listing, scan_tree


def listings(root: Path, filter_: Filter | None = None) -> dict[str, Listing]:
    found = scan_tree(str(root), filter_ or Filter(), Symlinks.PRESERVE)
    return {listing.directory: listing for listing in found}


def test_a_link_is_an_entry_of_its_own_and_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "file").write_text("x")
    (tmp_path / "link").symlink_to("dir")
    (tmp_path / "broken").symlink_to("nowhere")
    found = listings(tmp_path)
    assert set(found) == {"", "dir"}
    stat = found[""].entries["link"]
    info = os.lstat(tmp_path / "link")
    assert (stat.kind, stat.size) == (FileKind.SYMLINK, len("dir"))
    assert (stat.mtime_ns, stat.ctime_ns, stat.inode) == (info.st_mtime_ns, info.st_ctime_ns, info.st_ino)
    assert "broken" in found[""].entries, "where it leads is the reader's affair"
    assert not found[""].problems


def test_another_target_is_another_version(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("one")
    before = listings(tmp_path)[""]
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("two")
    after = listings(tmp_path)[""]
    assert before.entries["link"] != after.entries["link"] and before.digest != after.digest


def test_filters_choose_links_and_a_directory_of_links_alone_counts(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "keep").symlink_to("x")
    (tmp_path / "dir" / "drop").symlink_to("y")
    found = listings(tmp_path, Filter(exclude=("drop",)))
    assert list(found["dir"].entries) == ["keep"] and not found[""].entries


def test_links_that_lead_out_are_left_out_and_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "inside").symlink_to("../b")
    (tmp_path / "a" / "above").symlink_to("../../b")
    (tmp_path / "absolute").symlink_to("/etc")
    found = listings(tmp_path)
    assert list(found["a"].entries) == ["inside"]
    told = {problem.path: problem.text for listing in found.values() for problem in listing.problems}
    assert set(told) == {"a/above", "absolute"} and all("leads out" in text for text in told.values())


@pytest.mark.parametrize(
    ("target", "depth", "fine"),
    [
        ("x", 0, True),
        ("./x//y", 0, True),
        ("..", 1, True),
        ("..", 0, False),
        ("../../x", 1, False),
        ("x/../y", 3, False),
        ("/x", 9, False),
    ],
)
def test_what_leads_out(target: str, depth: int, fine: bool) -> None:
    assert (leads_out(target, depth) is None) is fine


def test_single_paths_are_seen_as_a_scan_sees_them(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "file").write_text("x")
    (tmp_path / "link").symlink_to("dir")
    (tmp_path / "out").symlink_to("..")
    paths = ["link", "out", "link/file", "dir/file", "gone"]
    found = list(scan_paths(str(tmp_path), paths, Filter(), Symlinks.PRESERVE))
    assert found[0].stat == listings(tmp_path)[""].entries["link"]
    assert [one.absent for one in found] == [False, True, True, False, True]
