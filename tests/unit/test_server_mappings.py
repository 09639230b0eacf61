"""What createManifest accepts, and how sources are walked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from agent.jetstream import constants
from agent.server.errors import CommandError
from agent.server.mappings import Root, distinct, parse
from agent.server.store.manifests import KIND_EMPTY_DIRECTORY, KIND_FILE, Entry
from agent.server.traversal import Traversal, TraversalError


def _walk(root: Root, *, follow: bool = True) -> tuple[dict[str, Entry], str]:
    traversal = Traversal(follow)
    found = {entry.dest: entry for entry in traversal.entries(root)}
    return found, traversal.notes.text()


def test_a_size_makes_an_explicit_file_without_io() -> None:
    """The object form with a size is a file, whether the source exists or not."""
    (entry,) = parse(None, {"/a/f": {"src": "/nowhere/f", "size": 100, "access": "x"}})
    assert entry == Entry("/a/f", "/nowhere/f", KIND_FILE, 100, executable=True)


def test_flags_alone_make_a_file_of_unknown_size() -> None:
    """flags=FILETYPE_REGULAR_FILE without size is a file whose size the sender finds out."""
    (entry,) = parse(None, {"/f": {"src": "/f", "flags": constants.FILETYPE_REGULAR_FILE}})
    assert isinstance(entry, Entry) and (entry.kind, entry.size) == (KIND_FILE, -1)


@pytest.mark.parametrize(
    "source", [{"src": "/e"}, {"src": "/e", "flags": constants.FILETYPE_DIRECTORY, "size": 7}, {}]
)
def test_neither_size_nor_flags_or_a_directory_flag_is_an_empty_directory(source: dict[str, Any]) -> None:
    """As documented; a directory's size is ignored."""
    (entry,) = parse(None, {"/d": source})
    assert isinstance(entry, Entry) and (entry.kind, entry.size) == (KIND_EMPTY_DIRECTORY, 0)


def test_the_deprecated_mapping_is_the_other_way_round() -> None:
    """fileMappings maps source to destination."""
    assert parse({"/src": "dest/x"}, None) == [Root("/dest/x", "/src")]


def test_patterns_that_choose_everything_are_no_empty_directory() -> None:
    """A script whose list of exclusions happens to be empty means the directory's content."""
    assert parse(None, {"/d": {"src": "/s", "exclude": []}}) == [Root("/d", "/s")]


@pytest.mark.parametrize(
    ("mappings", "message"),
    [
        ({}, "empty"),
        ({"/a/../../etc": "/f"}, r"'\.\.'"),
        ({"/a": "relative"}, "absolute path"),
        ({"/a": 7}, "a string"),
        ({"/a": "/f", "a/": "/g"}, "two mappings have the destination path '/a'"),
        ({"/a": {"src": "/f", "size": -1}}, "whole number"),
        ({"/a": {"src": "/f", "colour": 1}}, "unknown field 'colour'"),
        ({"/a": {"src": "/f", "size": 1, "access": "rw"}}, "access must be"),
        ({"/a": {"src": "/f", "size": 1, "access": 0}}, "access must be"),
        ({"/a": {"src": "/f", "access": "w", "include": ["*"]}}, "access must be"),
        ({"/a": {"src": "/f", "size": 1, "include": [".mp3"]}}, "choose files of a directory"),
        ({"/a": {"src": "/f", "flags": 4, "exclude": [".mp3"]}}, "choose files of a directory"),
        ({"/a": {"src": "/f", "flags": 3}}, "FILETYPE"),
        ({"/a": {"src": "/f", "include": "*.tif"}}, "list"),
        ({"/a": {"size": 1}}, "a string"),
        ({"/": {"src": "/f", "size": 1}}, "must name the file"),
        ({"/a\0b": "/f"}, "NUL"),
        ({"/a": "/\ud800"}, "file system"),
    ],
)
def test_a_wrong_mapping_is_refused_by_name(mappings: dict[str, Any], message: str) -> None:
    """Each mistake has a message that says what it is."""
    with pytest.raises(CommandError, match=message):
        parse(None, mappings)


def test_two_sources_for_one_destination_are_refused() -> None:
    """Neither is silently dropped, whichever of the two mappings they come from."""
    with pytest.raises(CommandError, match="two mappings have the destination path '/to'"):
        parse({"/a": "/to", "/b": "/to"}, None)
    with pytest.raises(CommandError, match="two mappings have the destination path '/to'"):
        parse({"/a": "/to"}, {"/to": "/b"})


def _file(dest: str) -> Entry:
    return Entry(dest, "/from" + dest, KIND_FILE, 1, executable=False)


def test_a_directory_may_hold_what_another_mapping_puts_into_it_but_no_file_twice() -> None:
    """What is found below a mapping that lies within another one is compared; the rest needs no memory."""
    items = parse(None, {"/": "/a", "/sub": "/b", "/sub/f": {"src": "/c", "size": 1}})
    fine = [_file("/f"), _file("/sub/g"), _file("/subway"), _file("/sub/f")]
    assert list(distinct(items, iter(fine))) == fine
    with pytest.raises(CommandError, match="two sources have the destination path '/sub/g'"):
        list(distinct(items, [*fine, _file("/sub/g")]))
    empty = Entry("/sub", "/b", KIND_EMPTY_DIRECTORY, 0, executable=False)
    assert list(distinct(items, [empty, empty])) == [empty, empty]
    with pytest.raises(CommandError, match="'/sub'"):
        list(distinct(items, [empty, _file("/sub")]))


def test_patterns_choose_by_ending_name_and_path(tmp_path: Path) -> None:
    """Both documented forms: `.png` is the end of a file's name, `*.png` a pattern; a directory is only left
    out by its whole name or path."""
    for name in ("a.png", "b.PNG", "c.mp3", "d.png/e.mp3", ".git/config", "x/.git/config", "f.git"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    all_but, _ = _walk(Root("/", str(tmp_path), exclude=(".png", "*.PNG", ".git")))
    assert set(all_but) == {"/c.mp3", "/d.png/e.mp3"}
    only, _ = _walk(Root("/", str(tmp_path), include=(".mp3", ".git/config"), exclude=("*/e.*",)))
    assert set(only) == {"/c.mp3"}
    by_path, _ = _walk(Root("/", str(tmp_path), include=("/d.png/*",)))
    assert set(by_path) == {"/d.png/e.mp3"}


def test_access_makes_all_files_of_a_directory_executable(tmp_path: Path) -> None:
    """`access` x holds for what the patterns choose, too; a directory ignores a size."""
    (tmp_path / "f.sh").write_text("x")
    given = {"src": str(tmp_path), "include": [".sh"], "access": "x", "flags": constants.FILETYPE_DIRECTORY}
    (root,) = parse(None, {"/t": {**given, "size": 9}})
    assert isinstance(root, Root)
    found, _ = _walk(root)
    assert found["/t/f.sh"].executable


def test_a_tree_is_walked_with_its_names_sizes_and_modes(tmp_path: Path) -> None:
    """Files of all depths, any bytes in names, executable bits and mtimes; empty directories count."""
    odd = os.fsdecode(b"\xff\xfe")
    (tmp_path / "d" / odd).mkdir(parents=True)
    (tmp_path / "d" / odd / "f").write_bytes(b"12345")
    (tmp_path / "run").write_bytes(b"")
    (tmp_path / "run").chmod(0o755)
    os.utime(tmp_path / "run", ns=(0, 1_500_000_000_123_456_000))
    (tmp_path / "empty").mkdir()
    found, note = _walk(Root("/to", str(tmp_path)))
    assert set(found) == {f"/to/d/{odd}/f", "/to/run", "/to/empty"}
    assert found[f"/to/d/{odd}/f"].size == 5
    assert found["/to/run"].executable and found["/to/run"].mtime_us == 1_500_000_000_123_456
    assert found["/to/empty"].kind == KIND_EMPTY_DIRECTORY
    assert note == ""


def test_include_and_exclude_choose_files(tmp_path: Path) -> None:
    """Exclude wins over include; an excluded directory is not entered; directories left bare are not sent."""
    for name in ("a.mp3", "a.png", "sub/b.mp3", "skip/c.mp3", "only/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    found, _ = _walk(Root("/", str(tmp_path), include=("*.mp3",), exclude=("*/skip",)))
    assert set(found) == {"/a.mp3", "/sub/b.mp3"}


def test_links_are_followed_but_never_in_circles(tmp_path: Path) -> None:
    """Contents of links are sent; what leads back up or nowhere is left out and said."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "f").write_text("x")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "up").symlink_to("..")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    found, note = _walk(Root("/t", str(tmp_path)))
    assert {"/t/real/f", "/t/link/f"} <= set(found)
    assert not any("up/up" in path for path in found)
    assert note.startswith("left out: ") and "more)" in note
    ignored, _ = _walk(Root("/t", str(tmp_path)), follow=False)
    assert set(ignored) == {"/t/real/f"}


def test_a_source_that_is_a_file_is_sent_as_the_named_path(tmp_path: Path) -> None:
    """A file maps to exactly its destination path."""
    (tmp_path / "f").write_text("abc")
    found, _ = _walk(Root("/x/y", str(tmp_path / "f")))
    assert found["/x/y"].size == 3


def test_a_missing_source_is_an_error_that_names_it(tmp_path: Path) -> None:
    """Nothing is quietly empty."""
    with pytest.raises(TraversalError, match="gone"):
        _walk(Root("/x", str(tmp_path / "gone")))
