"""What a receiver tells of what it has: complete, in order, in pages of any size, and nothing beside it."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.server.confine import FileError
from agent.server.data import leftovers, listing
from agent.server.data.leftovers import Leftovers
from agent.server.data.listing import Listing, Row, StoppedError, Wish
from agent.server.sandboxes import Root, Roots


def ask(
    roots: Roots | Path,
    directory: str = "/",
    after: str = "",
    *,
    rows: int = 1000,
    checksum: bool = False,
    over: bool = False,
    stopped: bool = False,
    kept: Leftovers | None = None,
) -> Listing:
    if isinstance(roots, Path):
        roots = Roots((Root(b"/", os.fsencode(roots)),))
    wish = Wish(os.fsencode(directory), os.fsencode(after), checksum, rows, lambda: over, lambda: stopped)
    page = Listing(wish, kept or Leftovers())
    page.walk(roots)
    return page


def pages(roots: Roots | Path, directory: str = "/", **asked: int) -> Iterator[list[Row]]:
    after: bytes | None = b""
    kept = Leftovers()
    while after is not None:
        page = ask(roots, directory, os.fsdecode(after), kept=kept, **asked)  # type: ignore[arg-type]
        yield page.rows
        after = page.next


def paths(rows: list[Row]) -> list[str]:
    return [row[0] for row in rows]


def tree(top: Path, *names: str) -> Path:
    """Names that end with "/" are empty directories."""
    for name in names:
        path = top / name
        if name.endswith("/"):
            path.mkdir(parents=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return top


def leaves(top: Path) -> list[bytes]:
    """Files and empty directories as full paths, by another walk, in byte order."""
    found = []
    for folder, folders, names in os.walk(os.fsencode(top)):
        below = folder[len(os.fsencode(top)) :]
        found += [below + b"/" + name for name in names]
        if not folders and not names and below:
            found.append(below)
    return sorted(found)


_PART = st.text("ab.-0 ", min_size=1, max_size=3).filter(lambda name: name not in (".", ".."))
_NAMES = st.lists(st.lists(_PART, min_size=1, max_size=4).map("/".join), max_size=25)


@settings(max_examples=150, deadline=None)
@given(
    names=_NAMES,
    rows=st.integers(1, 7),
    kept=st.integers(1, 5),
    worth=st.integers(1, 9),
    after=st.text("ab./-0 ", max_size=6),
)
def test_pages_of_any_size_tell_everything_once_and_in_order(
    names: list[str], rows: int, kept: int, worth: int, after: str
) -> None:
    """Whatever the tree, the size of a page and how many names are kept: together the pages are the tree in
    the byte order of its paths, and a page begins right after any path, there or not."""
    top = Path(tempfile.mkdtemp())
    try:
        for name in names:
            try:
                tree(top, name if len(name) % 3 else name + "/")
            except OSError:
                continue  # a file has the name of a directory
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(listing, "LEAST_NAMES", kept)
            patch.setattr(listing, "NAMES_KEPT", kept)
            patch.setattr(leftovers, "WORTH", worth)
            told = [os.fsencode(path) for page in pages(top, rows=rows) for path in paths(page)]
            later = [os.fsencode(path) for path in paths(ask(top, after="/" + after).rows)]
        assert told == leaves(top)
        assert later == [path for path in leaves(top) if path > b"/" + os.fsencode(after)]
    finally:
        shutil.rmtree(top)


def test_only_what_lies_at_or_below_the_directory_is_told(tmp_path: Path) -> None:
    """A name that begins alike is another one; a file and an empty directory may be asked for themselves."""
    tree(tmp_path, "a/x", "a/sub/y", "a.b", "ab", "none/")
    assert paths(ask(tmp_path, "/a").rows) == ["/a/sub/y", "/a/x"]
    assert paths(ask(tmp_path, "//a/").rows) == ["/a/sub/y", "/a/x"]
    assert paths(ask(tmp_path, "/a", after="/a/sub/y").rows) == ["/a/x"]
    assert paths(ask(tmp_path, "/a", after="/a0").rows) == []
    assert paths(ask(tmp_path, "/ab").rows) == ["/ab"]
    assert [row[:2] for row in ask(tmp_path, "/none").rows] == [("/none", "directory")]
    assert ask(tmp_path, "/absent/deep").rows == []
    assert ask(tmp_path / "none").rows == []


@pytest.mark.parametrize(
    "directory", ["/../x", "/a/../../x", "/.lanesync", "/.lanesync/deep", "/link", "/link/x"]
)
def test_nothing_outside_the_root_is_told(tmp_path: Path, directory: str) -> None:
    """Not by dots, not through a link, which is told as a link, and not what is unfinished."""
    tree(tmp_path, "outside/x", "root/a", "root/.lanesync/half")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "outside")
    if directory == "/link":
        assert [row[:2] for row in ask(tmp_path / "root", directory).rows] == [("/link", "link")]
        return
    with pytest.raises(FileError):
        ask(tmp_path / "root", directory)


def test_links_are_told_and_never_followed(tmp_path: Path) -> None:
    """Also those to directories; their digest is that of what they say."""
    tree(tmp_path, "d/x")
    (tmp_path / "to-d").symlink_to("d")
    (tmp_path / "nowhere").symlink_to("/etc/absent")
    rows = {row[0]: row for row in ask(tmp_path, checksum=True).rows}
    assert list(rows) == ["/d/x", "/nowhere", "/to-d"]
    assert rows["/to-d"][1:3] == ("link", 1)
    assert rows["/to-d"][5] == xxhash.xxh3_64_hexdigest(b"d")


def test_what_is_unfinished_and_what_was_put_aside_is_hidden(tmp_path: Path) -> None:
    """At the top alone: below it the names are like any other."""
    tree(tmp_path, ".lanesync/x", ".lanesync-trash/2026/x", "a/.lanesync-trash/x", "a/.lanesync/x")
    assert paths(ask(tmp_path).rows) == ["/a/.lanesync-trash/x", "/a/.lanesync/x"]


def test_what_was_put_aside_is_told_to_who_asks_for_it(tmp_path: Path) -> None:
    """By its name."""
    tree(tmp_path, ".lanesync-trash/2026/x")
    assert paths(ask(tmp_path, "/.lanesync-trash").rows) == ["/.lanesync-trash/2026/x"]


def test_named_roots_are_told_one_after_the_other(tmp_path: Path) -> None:
    """In the order of their paths, each without what is hidden at its top, in pages that cross from one to
    the next; and a user who is held to a folder sees that alone."""
    tree(tmp_path, "one/x", "one/.lanesync/half", "two/y", "two/.lanesync-trash/z", "two/deep/w")
    named = [Root(b"/m", os.fsencode(tmp_path / "two")), Root(b"/m.x", os.fsencode(tmp_path / "one"))]
    roots = Roots(tuple(named))
    told = ["/m.x/x", "/m/deep/w", "/m/y"]
    assert [path for page in pages(roots, rows=1) for path in paths(page)] == told
    assert paths(ask(roots, "/m").rows) == told[1:]
    held = Roots((Root(b"/", os.fsencode(tmp_path / "two")),), below=(b"deep",))
    assert paths(ask(held).rows) == ["/w"]
    assert ask(Roots(held.roots, below=(b"never",))).rows == []


def test_digests_are_of_the_content(tmp_path: Path) -> None:
    """The whole of it, in blocks; a file that cannot be read or is none has no digest."""
    content = os.urandom(2 * 1024 * 1024 + 3)
    (tmp_path / "large").write_bytes(content)
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    rows = {row[0]: row for row in ask(tmp_path, checksum=True).rows}
    assert rows["/large"][5] == xxhash.xxh3_64_hexdigest(content)
    assert rows["/empty"][5] == xxhash.xxh3_64_hexdigest(b"")
    assert rows["/pipe"][1:] == ("other", 0, rows["/pipe"][3], False, "")


def test_a_file_that_grows_while_it_is_read_has_no_digest(tmp_path: Path) -> None:
    """It is of no version; what is told is what it was afterwards."""
    path = tmp_path / "growing"
    path.write_bytes(bytes(3 << 20))

    class Growing:
        asked = 0

        def __call__(self) -> bool:
            self.asked += 1
            if self.asked == 3:
                with path.open("ab") as file:
                    file.write(b"more")
            return False

    page = Listing(Wish(b"/", b"", True, 10, lambda: False, Growing()), Leftovers())
    page.walk(Roots((Root(b"/", os.fsencode(tmp_path)),)))
    assert [(row[0], row[2], row[5]) for row in page.rows] == [("/growing", (3 << 20) + 4, "")]


def test_a_page_that_has_had_its_time_holds_one_file_and_goes_on(tmp_path: Path) -> None:
    """So that a listing comes to its end, however slow it is."""
    tree(tmp_path, "a/x", "b", "c")
    page = ask(tmp_path, over=True)
    assert (paths(page.rows), page.next) == (["/a/x"], b"/a/x")
    assert paths(ask(tmp_path, after="/a/x", over=True).rows) == ["/b"]


def test_a_page_that_nobody_waits_for_ends(tmp_path: Path) -> None:
    """In the middle of what it does."""
    tree(tmp_path, "a")
    with pytest.raises(StoppedError):
        ask(tmp_path, stopped=True)


def test_long_names_end_a_page_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page is bounded in bytes as JSON, too."""
    monkeypatch.setattr(listing, "PAGE_BYTES", 1000)
    for number in range(9):
        (tmp_path / f"{number}{'é' * 100}").touch()
    assert [len(page) for page in pages(tmp_path)] == [2, 2, 2, 2, 1]


def test_a_root_that_is_missing_is_not_empty(tmp_path: Path) -> None:
    """What is not mounted has not been emptied."""
    for directory in ("/", "/a"):
        with pytest.raises(FileError, match="No such file"):
            ask(tmp_path / "unmounted", directory)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_directory_that_cannot_be_read_is_not_left_out(tmp_path: Path) -> None:
    """Nothing is to be taken for gone that was not looked at."""
    tree(tmp_path, "a", "closed/x")
    (tmp_path / "closed").chmod(0)
    try:
        with pytest.raises(FileError, match="cannot be listed"):
            ask(tmp_path)
    finally:
        (tmp_path / "closed").chmod(0o755)


def test_a_large_directory_is_told_with_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names beyond those that are kept are read again, never held."""
    monkeypatch.setattr(listing, "NAMES_KEPT", 100)
    monkeypatch.setattr(listing, "LEAST_NAMES", 10)
    for number in range(1000):
        (tmp_path / f"f{number:04}").touch()
    most = 0
    read = listing._Level.read

    def reading(level: listing._Level, limit: int, stopped: object) -> None:
        nonlocal most
        read(level, limit, stopped)  # type: ignore[arg-type]
        most = max(most, len(level.keys))

    monkeypatch.setattr(listing._Level, "read", reading)
    told = [path for page in pages(tmp_path, rows=300) for path in paths(page)]
    assert told == [f"/f{number:04}" for number in range(1000)]
    assert most == 100


def test_names_that_were_kept_are_not_believed_of_a_directory_that_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that came between two pages is told by the second."""
    monkeypatch.setattr(leftovers, "WORTH", 1)
    tree(tmp_path, "d/a", "d/b", "d/d")
    os.utime(tmp_path / "d", (1, 1))
    kept = Leftovers()
    assert ask(tmp_path, rows=1, kept=kept).next == b"/d/a"
    tree(tmp_path, "d/c")
    assert paths(ask(tmp_path, after="/d/a", kept=kept).rows) == ["/d/b", "/d/c", "/d/d"]


def test_names_that_were_kept_are_used_and_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory is read once for several pages; what nobody comes back for is forgotten."""
    monkeypatch.setattr(leftovers, "WORTH", 1)
    tree(tmp_path, "d/a", "d/b", "d/c")
    kept = Leftovers()
    reads = 0
    read = listing._Level.read

    def reading(level: listing._Level, limit: int, stopped: object) -> None:
        nonlocal reads
        reads += level.prefix == b"/d/"
        read(level, limit, stopped)  # type: ignore[arg-type]

    monkeypatch.setattr(listing._Level, "read", reading)
    for after, told in (("", "/d/a"), ("/d/a", "/d/b")):
        assert paths(ask(tmp_path, after=after, rows=1, kept=kept).rows) == [told]
    assert reads == 1
    kept.expire(time.monotonic() + leftovers.KEEP_SECONDS + 1)
    assert paths(ask(tmp_path, after="/d/b", rows=1, kept=kept).rows) == ["/d/c"]
    assert reads == 2
