"""Scanning real trees: what is listed, what is left out, and what is not known."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.model.change import FileKind
from agent.model.spec import Symlinks
from agent.source.filters import Filter
from agent.source.look import look_at_root, scan_paths
from agent.source.scan import EMPTY, Listing, scan_tree


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without the superuser's right to read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def listings(root: Path, *arguments: object, **options: object) -> dict[str, Listing]:
    return {listing.directory: listing for listing in scan_tree(str(root), *arguments, **options)}  # type: ignore[arg-type]


def files(found: dict[str, Listing]) -> set[str]:
    return {os.path.join(d, name) for d, listing in found.items() for name in listing.entries}


def make(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if path.endswith("/"):
            (root / path).mkdir()
        else:
            (root / path).write_bytes(os.fsencode(path))


def test_every_directory_is_listed_once_top_down(tmp_path: Path) -> None:
    """Files with their versions, subdirectories by name, parents before children."""
    make(tmp_path, "a", "d/b", "d/e/c", "d2/x")
    os.chmod(tmp_path / "a", 0o755)
    found = listings(tmp_path)
    assert list(found) == ["", "d", "d/e", "d2"]
    assert found[""].subdirectories == ("d", "d2")
    assert files(found) == {"a", "d/b", "d/e/c", "d2/x"}
    info = (tmp_path / "a").stat()
    assert found[""].entries["a"] == (FileKind.FILE, 1, info.st_mtime_ns, info.st_ctime_ns, info.st_ino, True)


def test_names_may_be_any_bytes(tmp_path: Path) -> None:
    """Also those that are not UTF-8, in files and directories."""
    make(tmp_path, "caf\udce9/\udcff\n", "ünï")
    assert files(listings(tmp_path)) == {"caf\udce9/\udcff\n", "ünï"}


def test_an_empty_directory_is_an_entry_of_its_parent(tmp_path: Path) -> None:
    """Directories left without anything by the filter too; it has no listing of its own."""
    make(tmp_path, "empty/", "temporary/x.tmp", "outer/inner/")
    found = listings(tmp_path, Filter(exclude=["*.tmp"]))
    assert found[""].entries == {"empty": EMPTY, "temporary": EMPTY}
    assert found["outer"].entries == {"inner": EMPTY}
    assert set(found) == {"", "outer"}


def test_with_include_empty_directories_do_not_count(tmp_path: Path) -> None:
    """Unless their name is included as well."""
    make(tmp_path, "empty/", "keep/", "a.mov")
    found = listings(tmp_path, Filter(include=["*.mov", "keep/"]))
    assert found[""].entries.keys() == {"a.mov", "keep"}


def test_an_empty_root_is_empty(tmp_path: Path) -> None:
    """Which is something else than an unreadable or missing one."""
    found = listings(tmp_path)
    assert found[""].is_empty
    missing = listings(tmp_path / "missing")
    assert isinstance(missing[""].error, FileNotFoundError)
    assert not missing[""].is_empty


def test_a_root_may_be_one_file(tmp_path: Path) -> None:
    """Its listing has one entry without a name."""
    make(tmp_path, "lut.cube")
    found = listings(tmp_path / "lut.cube")
    assert found[""].entries.keys() == {""}
    assert found[""].entries[""].size == 8


def test_excluded_directories_are_not_entered(tmp_path: Path) -> None:
    """Nor named."""
    make(tmp_path, "cache/a", "b/cache/c", "b/d")
    found = listings(tmp_path, Filter(exclude=["cache/"]))
    assert set(found) == {"", "b"}
    assert found["b"].subdirectories == ()


def test_links_are_followed_to_files_and_directories(tmp_path: Path) -> None:
    """The content counts as if it were there, wherever the link leads."""
    make(tmp_path, "out/file", "out/sub/x", "root/a")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "out")
    (tmp_path / "root" / "one").symlink_to("../out/file")
    found = listings(tmp_path / "root")
    assert files(found) == {"a", "one", "link/file", "link/sub/x"}
    assert found[""].entries["one"].size == 8
    ignored = listings(tmp_path / "root", symlinks=Symlinks.IGNORE)
    assert files(ignored) == {"a"}
    assert ignored[""].problems == ()


def test_links_that_loop_or_lead_nowhere_are_named_and_left_out(tmp_path: Path) -> None:
    """The scan ends, and the rest is listed."""
    make(tmp_path, "d/e/file")
    (tmp_path / "d" / "e" / "up").symlink_to("../..")
    (tmp_path / "d" / "self").symlink_to("self")
    (tmp_path / "gone").symlink_to("nowhere")
    found = listings(tmp_path)
    problems = {p.path: p.text for listing in found.values() for p in listing.problems}
    assert files(found) == {"d/e/file"}
    assert problems.keys() == {"d/e/up", "d/self", "gone"}
    assert "above it" in problems["d/e/up"]
    assert problems["gone"].startswith("link leads nowhere")


def test_two_links_at_each_other_end(tmp_path: Path) -> None:
    """A loop over two trees outside is found as well, whichever part the scan starts at."""
    make(tmp_path, "one/a", "two/b", "root/c")
    (tmp_path / "one" / "to").symlink_to(tmp_path / "two")
    (tmp_path / "two" / "to").symlink_to(tmp_path / "one")
    (tmp_path / "root" / "in").symlink_to(tmp_path / "one")
    assert files(listings(tmp_path / "root")) == {"c", "in/a", "in/to/b"}
    assert files(listings(tmp_path / "root", start="in/to")) == {"in/to/b"}


def test_special_files_are_named_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fifo does not block the scan, nor does a socket."""
    make(tmp_path, "a")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # the address of a socket is short
        server.bind("sock")
    found = listings(tmp_path)[""]
    assert found.entries.keys() == {"a"}
    assert {p.path: p.text.split(":")[0] for p in found.problems} == {"pipe": "fifo", "sock": "socket"}


def test_an_unreadable_directory_has_no_opinion() -> None:
    """Its listing carries the error, also when only its names can be read; its siblings are listed."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make(root, "closed/a", "names/c", "open/b")
        modes = {"": 0o755, "closed": 0, "names": 0o744}
        for path, mode in modes.items():
            (root / path).chmod(mode)
        try:
            with as_nobody():
                found = listings(root)
                (looked,) = scan_paths(folder, ["closed/a"])
        finally:
            for path in modes:
                (root / path).chmod(0o755)
    assert isinstance(found["closed"].error, PermissionError)
    assert isinstance(found["names"].error, PermissionError)
    assert found["open"].entries.keys() == {"b"}
    assert found[""].subdirectories == ("closed", "names", "open")
    assert looked.error is not None
    assert not looked.absent


def test_a_subtree_can_be_scanned_alone(tmp_path: Path) -> None:
    """With the same listings as in a scan of everything."""
    make(tmp_path, "a/b/c", "a/d", "e")
    whole = listings(tmp_path)
    part = listings(tmp_path, start="a")
    assert part == {"a": whole["a"], "a/b": whole["a/b"]}


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "f").write_text("longer"),
        lambda root: os.utime(root / "f", ns=(1, 1)),
        lambda root: (root / "f").chmod(0o755),
        lambda root: (root / "f").rename(root / "g"),
        lambda root: (root / "new").write_text(""),
        lambda root: (root / "empty").mkdir(),
        lambda root: make(root, "sub/more"),
        lambda root: (root / "copy").write_text("f") and (root / "copy").replace(root / "f"),
    ],
)
def test_a_digest_changes_with_what_it_covers(tmp_path: Path, change: object) -> None:
    """Equal without a change, another after any change of a child."""
    make(tmp_path, "f", "g2")
    before = listings(tmp_path)[""].digest
    assert listings(tmp_path)[""].digest == before
    assert len(before) == 16
    change(tmp_path)  # type: ignore[operator]
    assert listings(tmp_path)[""].digest != before


def test_a_digest_does_not_cover_what_is_deeper(tmp_path: Path) -> None:
    """Each directory has its own."""
    make(tmp_path, "d/f")
    before = listings(tmp_path)
    make(tmp_path, "d/g")
    after = listings(tmp_path)
    assert before[""].digest == after[""].digest
    assert before["d"].digest != after["d"].digest


# -- single paths


def test_single_paths_are_seen_as_a_scan_sees_them(tmp_path: Path) -> None:
    """Files, directories with content, empty ones, excluded and absent ones."""
    make(tmp_path, "d/file", "empty/", "x.tmp", "e/f")
    rules = Filter(exclude=["*.tmp"])
    asked = ["d/file", "d", "empty", "x.tmp", "gone", "d/file/below"]
    found = {f.path: f for f in scan_paths(str(tmp_path), asked, rules)}
    assert found["d/file"].stat == listings(tmp_path, rules)["d"].entries["file"]
    assert found["d"].is_directory
    assert found["empty"].stat == EMPTY
    assert [path for path in asked if found[path].absent] == ["x.tmp", "gone", "d/file/below"]


def test_the_last_file_leaves_an_empty_directory(tmp_path: Path) -> None:
    """Whoever looks at a removed path hears of the directory that is empty now, once."""
    make(tmp_path, "d/a", "d/b")
    (tmp_path / "d" / "a").unlink()
    assert [f.path for f in scan_paths(str(tmp_path), ["d/a"])] == ["d/a"]
    (tmp_path / "d" / "b").unlink()
    found = list(scan_paths(str(tmp_path), ["d/a", "d/b"]))
    assert [(f.path, f.stat) for f in found] == [("d/a", None), ("d", EMPTY), ("d/b", None)]


def test_a_missing_root_says_nothing_about_its_paths(tmp_path: Path) -> None:
    """They are unknown, not absent."""
    (found,) = scan_paths(str(tmp_path / "gone"), ["a"])
    assert found.error is not None
    assert not found.absent


def test_paths_behind_ignored_links_are_absent(tmp_path: Path) -> None:
    """As in a scan; followed links show what they lead to."""
    make(tmp_path, "d/a")
    (tmp_path / "link").symlink_to("d")
    (followed,) = scan_paths(str(tmp_path), ["link/a"])
    assert followed.stat is not None
    (ignored,) = scan_paths(str(tmp_path), ["link/a"], symlinks=Symlinks.IGNORE)
    assert ignored.absent


def test_a_root_is_described(tmp_path: Path) -> None:
    """With what the safety rules compare: existence, device and inode."""
    state = look_at_root(str(tmp_path))
    info = tmp_path.stat()
    assert (state.exists, state.readable, state.device, state.inode) == (True, True, info.st_dev, info.st_ino)
    assert not look_at_root(str(tmp_path / "gone")).exists
    make(tmp_path, "file")
    assert look_at_root(str(tmp_path / "file")).is_file
    assert not look_at_root(str(tmp_path / "file" / "below")).exists


_PATHS = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join), max_size=8)


@settings(deadline=None, max_examples=50)
@given(_PATHS, st.lists(st.sampled_from(["a", "b/", "/c", "a/b"]), max_size=2))
def test_scan_and_look_agree(paths: list[str], exclude: list[str]) -> None:
    """For any tree and filter, looking at every path gives exactly the entries of a scan."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for path in paths:
            if not any((root / p).is_file() for p in Path(path).parents) and not (root / path).exists():
                make(root, path)
        rules = Filter(exclude=exclude)
        every = [os.path.relpath(os.path.join(d, n), root) for d, ds, fs in os.walk(root) for n in ds + fs]
        looked = {f.path: f.stat for f in scan_paths(str(root), every, rules) if f.stat is not None}
        found = listings(root, rules)
        scanned = {os.path.join(d, n): s for d, listing in found.items() for n, s in listing.entries.items()}
        assert looked == scanned
