"""Symbolic links between two real workers: made as links, never followed, never out of the root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import xxhash
from data_world import World, world

from agent.jetstream import constants
from agent.server.confine import FileError
from agent.server.data import wire
from agent.server.data.symlink import check_target

pytestmark = pytest.mark.fault
LINK = 2


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def link(w: World, name: str, target: str) -> tuple[object, ...]:
    """A link in the source, and its entry."""
    place = w.source / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)
    return (f"/{name}", os.fsencode(place), LINK, len(target), False)


def test_links_arrive_as_links_with_their_times(w: World) -> None:
    listed = [link(w, "a/b/up", "../../other/x"), link(w, "nowhere", "not-there"), link(w, "caf\udce9", "a")]
    os.utime(w.source / "nowhere", ns=(1, 1_234_567_890_123_456_789), follow_symlinks=False)
    w.start("1", listed)
    assert w.finish("1")["status"] == "complete"
    inside = w.root / "in"
    assert os.readlink(inside / "a" / "b" / "up") == "../../other/x"
    assert os.readlink(inside / "nowhere") == "not-there"
    assert os.lstat(inside / "nowhere").st_mtime_ns == 1_234_567_890_123_456_789
    record = w.records["1"][1]
    assert record.digest == xxhash.xxh3_64_intdigest(b"not-there") and record.size == len("not-there")
    assert record.ctime_ns == os.lstat(w.source / "nowhere").st_ctime_ns
    assert not (w.root / ".lanesync").exists()


@pytest.mark.parametrize("flags", [0, constants.TRANSFER_FLAG_SET, constants.TRANSFER_FLAG_STRICT])
def test_links_and_files_take_each_others_place(w: World, flags: int) -> None:
    flags |= constants.DEFAULT_TRANSFER_FLAGS
    outside = w.home / "outside"
    outside.write_text("untouched")
    (w.root / "in").mkdir()
    (w.root / "in" / "was-link").symlink_to(outside)
    (w.root / "in" / "was-file").write_text("old")
    (w.source / "was-link").write_text("a file now")
    listed = [
        ("/was-link", os.fsencode(w.source / "was-link"), 0, 10, False),
        link(w, "was-file", "was-link"),
    ]
    w.start("1", listed, flags=flags)
    assert w.finish("1")["status"] == "complete"
    assert outside.read_text() == "untouched"
    assert not (w.root / "in" / "was-link").is_symlink()
    assert (w.root / "in" / "was-link").read_text() == "a file now"
    assert os.readlink(w.root / "in" / "was-file") == "was-link"


@pytest.mark.parametrize("mode", [constants.OVERWRITE_NEVER, constants.OVERWRITE_BACKUP])
def test_overwrite_modes_hold_for_links(w: World, mode: int) -> None:
    (w.root / "in").mkdir()
    (w.root / "in" / "one").symlink_to("before")
    listed = [link(w, "one", "after")]
    w.start("1", listed, overwriteMode=mode)
    assert w.finish("1")["status"] == "complete"
    kept, new = ("one", "one.jetpart") if mode == constants.OVERWRITE_NEVER else ("one.jetbak", "one")
    assert os.readlink(w.root / "in" / kept) == "before"
    assert os.readlink(w.root / "in" / new) == "after"


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "../../x", "a/../../../x", "b/../c", "../.lanesync/x", "../../../../etc"]
)
def test_a_link_out_of_the_root_is_not_made(w: World, target: str) -> None:
    """Whatever the sender says: links may climb to the root and no higher, and only at their beginning."""
    listed = [link(w, "good", "../beside"), link(w, "bad", target)]
    w.start("1", listed)
    ended = w.finish("1")
    assert ended["status"] == "error" and "bad" in ended["message"]
    assert os.readlink(w.root / "in" / "good") == "../beside"
    assert not os.path.lexists(w.root / "in" / "bad")


def test_no_chain_of_allowed_links_leads_out(tmp_path: Path) -> None:
    """What is allowed one by one is allowed together: `..` behind a name, which could be such a link, is
    not."""
    check_target((b"a", b"b"), b"one", b"../..")
    with pytest.raises(FileError, match="not below the receive root"):
        check_target((b"a", b"b"), b"two", b"one/../x")
    check_target((b"a", b"b"), b"two", b"one/a/b")
    assert "links" in wire.FEATURES


def test_a_link_that_is_no_link_any_more_is_left_for_the_next_look(w: World) -> None:
    listed = [link(w, "one", "target")]
    (w.source / "one").unlink()
    (w.source / "one").write_text("a file")
    w.start("1", listed, flags=constants.DEFAULT_TRANSFER_FLAGS | constants.TRANSFER_FLAG_SKIP_VANISHED)
    assert w.finish("1")["status"] == "complete"
    assert not os.path.lexists(w.root / "in" / "one")
