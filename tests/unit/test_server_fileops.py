"""File operations on real directories: what they do, and what they never reach."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Event

import pytest

from agent.server import beneath, fileops
from agent.server.beneath import open_beneath
from agent.server.confine import STAGING, FileError
from agent.server.sandboxes import Place, Root, Roots

GO = Event()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A root with an outside beside it that nothing may reach."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "one.txt").write_bytes(b"1")
    (root / "a" / "b" / "two.txt").write_bytes(b"22")
    (root / os.fsdecode(STAGING) / ("0" * 32)).mkdir(parents=True)
    (root / os.fsdecode(STAGING) / ("0" * 32) / "part").write_bytes(b"unfinished")
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "link").symlink_to(outside)
    return root


def place(home: Path, path: str) -> Place:
    found = Roots((Root(b"/", os.fsencode(home)),)).resolve(os.fsencode(path))
    assert found is not None
    return found


def names(home: Path, path: str, limit: int = 100, after: bytes | None = None) -> list[bytes]:
    return [item.name for item in fileops.ls(place(home, path), limit, after)[0]]


def test_a_listing_shows_kinds_and_hides_unfinished_files(home: Path) -> None:
    items, more = fileops.ls(place(home, "/"), 100, None)
    assert [(item.name, item.kind) for item in items] == [(b"a", "directory"), (b"link", "link")] and not more
    (item,), _ = fileops.ls(place(home, "/a/one.txt"), 100, None)
    assert (item.name, item.kind, item.size, item.executable) == (b"one.txt", "file", 1, False)
    (item,), _ = fileops.ls(place(home, "/link"), 100, None)
    assert (item.kind, item.size) == ("link", 0)


def test_a_listing_goes_on_after_a_name_until_all_is_told(home: Path) -> None:
    expected = sorted([b"%03d" % number for number in range(25)] + [b"\xff\xfe", "ü".encode()])
    for name in expected:
        (home / os.fsdecode(name)).touch()
    told: list[bytes] = []
    more, after = True, None
    while more:
        items, more = fileops.ls(place(home, "/"), 4, after)
        assert len(items) <= 4
        told += [item.name for item in items]
        after = told[-1]
    assert told == sorted([*expected, b"a", b"link"])


@pytest.mark.parametrize("path", ["/link/secret", "/link/x", "/../outside", "/a/../../outside", "/.lanesync"])
def test_nothing_leads_outside_or_into_unfinished_files(home: Path, path: str) -> None:
    """Not by a link that was planted, not by `..`: no operation sees or changes what is there."""
    operations = (
        lambda: fileops.ls(place(home, path), 10, None),
        lambda: fileops.du(place(home, path), GO, 5.0),
        lambda: fileops.mkdir(place(home, path)),
        lambda: fileops.rm(place(home, path), GO, recursive=True),
        lambda: fileops.mv(place(home, path), place(home, "/moved")),
        lambda: fileops.mv(place(home, "/a"), place(home, path)),
    )
    for operation in operations:
        with pytest.raises((FileError, OSError)):
            operation()
    assert (home.parent / "outside" / "secret").read_bytes() == b"secret"
    assert (home / os.fsdecode(STAGING) / ("0" * 32) / "part").exists()
    assert sorted(os.listdir(home)) == [".lanesync", "a", "link"]


def test_usage_counts_what_is_below_and_follows_no_link(home: Path) -> None:
    usage = fileops.du(place(home, "/"), GO, 5.0)
    assert (usage.size, usage.files, usage.directories, usage.complete) == (3, 3, 2, True)
    assert fileops.du(place(home, "/a/one.txt"), GO, 5.0).size == 1


def test_usage_counts_directories_larger_than_a_batch(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fileops, "BATCH", 3)
    for number in range(10):
        (home / "a" / str(number)).mkdir()
        (home / f"f{number}").write_bytes(b"x")
    usage = fileops.du(place(home, "/"), GO, 5.0)
    assert (usage.size, usage.files, usage.directories, usage.complete) == (13, 13, 12, True)


def test_usage_that_is_cut_short_says_so(home: Path) -> None:
    stop = Event()
    stop.set()
    assert not fileops.du(place(home, "/"), stop, 5.0).complete
    assert not fileops.du(place(home, "/"), GO, -1.0).complete


def test_making_a_directory_makes_its_parents_and_may_be_repeated(home: Path) -> None:
    for _ in range(2):
        fileops.mkdir(place(home, "/x/y/z"))
    assert (home / "x" / "y" / "z").is_dir()
    with pytest.raises(FileError, match="not a directory"):
        fileops.mkdir(place(home, "/a/one.txt/below"))


def test_moving_replaces_nothing(home: Path) -> None:
    (home / "other").write_bytes(b"other")
    with pytest.raises(FileError, match="/other exists"):
        fileops.mv(place(home, "/a/one.txt"), place(home, "/other"))
    assert (home / "other").read_bytes() == b"other"
    fileops.mv(place(home, "/a"), place(home, "/renamed"))
    assert (home / "renamed" / "b" / "two.txt").read_bytes() == b"22" and not (home / "a").exists()
    with pytest.raises(FileNotFoundError):
        fileops.mv(place(home, "/a"), place(home, "/again"))


@pytest.mark.parametrize("target", ["/a", "/a/b/c"])
def test_a_directory_is_not_moved_into_itself(home: Path, target: str) -> None:
    with pytest.raises(FileError, match="the same or lies below"):
        fileops.mv(place(home, "/a"), place(home, target))


def test_a_link_is_moved_and_removed_itself(home: Path) -> None:
    fileops.mv(place(home, "/link"), place(home, "/moved"))
    assert (home / "moved").is_symlink()
    assert fileops.rm(place(home, "/moved"), GO, recursive=False).files == 1
    assert (home.parent / "outside" / "secret").exists()


def test_a_directory_is_removed_only_when_asked_for_all(home: Path) -> None:
    with pytest.raises(FileError, match="recursive=True"):
        fileops.rm(place(home, "/a"), GO, recursive=False)
    (home / "a" / "b" / "out").symlink_to(home.parent / "outside")
    removed = fileops.rm(place(home, "/a"), GO, recursive=True)
    assert (removed.files, removed.directories) == (3, 2)
    assert not (home / "a").exists() and (home.parent / "outside" / "secret").exists()


def test_directories_larger_than_a_batch_are_removed_whole(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fileops, "BATCH", 3)
    for number in range(10):
        (home / "a" / "b" / f"d{number}").mkdir()
        (home / "a" / "b" / f"d{number}" / "f").touch()
        (home / "a" / "b" / f"f{number}").touch()
    fileops.rm(place(home, "/a"), GO, recursive=True)
    assert not (home / "a").exists()


@pytest.mark.parametrize("operation", ["rm", "mv"])
def test_a_root_stays(home: Path, operation: str) -> None:
    with pytest.raises(FileError, match=r"is a root and stays|below it"):
        if operation == "rm":
            fileops.rm(place(home, "/"), GO, recursive=True)
        else:
            fileops.mv(place(home, "/"), place(home, "/a/b/c"))


@pytest.mark.parametrize("by_kernel", [True, False])
def test_a_source_is_opened_below_its_root_only(
    home: Path, by_kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links are followed while they stay below; without the kernel's help they are not followed at all."""
    monkeypatch.setattr(beneath, "_available", by_kernel and beneath._available)
    base = os.fsencode(home)
    os.close(open_beneath(base, b"a/one.txt", os.O_RDONLY))
    for path in (
        b"link/secret",
        b"../outside/secret",
        b"/etc/passwd/../../outside",
        b"a/../../outside/secret",
    ):
        with pytest.raises((OSError, FileError)):
            open_beneath(base, path, os.O_RDONLY)
    (home / "inside").symlink_to("a/one.txt")
    (home / "absolute").symlink_to(home.parent / "outside" / "secret")
    with pytest.raises((OSError, FileError)):
        open_beneath(base, b"absolute", os.O_RDONLY)
    if beneath._available:
        fd = open_beneath(base, b"inside", os.O_RDONLY)
        assert os.read(fd, 10) == b"1"
        os.close(fd)
