"""Symbolic links that a destination has already, and links that somebody turns there."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents import World, world
from servers import eventually

pytestmark = pytest.mark.e2e


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        (made.source / "a").mkdir()
        (made.source / "a" / "file").write_text("content")
        os.utime(made.source / "a" / "file", ns=(10**18, 10**18))
        for name, target in LINKS.items():
            (made.source / name).symlink_to(target)
        yield made


LINKS = {"one": "a/file", "two": "a", "a/up": "../one", "nowhere": "a/absent", "l\udcff": "a/fil\udcfe"}


def lose_the_ledger(w: World) -> None:
    for suffix in ("", "-wal", "-shm"):
        (w.state / f"agent.db{suffix}").unlink(missing_ok=True)


def turn(link: Path, target: str) -> None:
    link.unlink()
    link.symlink_to(target)


def inodes(w: World) -> dict[str, int]:
    return {name: os.lstat(w.target() / name).st_ino for name in LINKS}


def test_links_that_say_the_same_are_adopted_when_the_ledger_is_lost(w: World) -> None:
    """By what they say, not by their length; the others are made anew, and what is adopted is ours again."""
    w.write(w.mapping(more="symlinks: preserve\nprune: true"))
    assert w.once().returncode == 0
    turn(w.target() / "two", "b")
    (w.target() / "foreign").symlink_to("a/file")
    before = inodes(w)
    lose_the_ledger(w)
    assert w.once().returncode == 0
    after = inodes(w)
    assert {name for name in LINKS if before[name] != after[name]} == {"two"}
    assert {name: os.readlink(w.target() / name) for name in LINKS} == LINKS
    assert os.readlink(w.target() / "foreign") == "a/file", "nobody knows of it"
    with sqlite3.connect(w.state / "agent.db") as db:
        (told,) = db.execute("SELECT message FROM events WHERE reason = 'Adopted'").fetchall()
    db.close()
    assert "1 file (7 B) and 4 links" in told[0]
    for name in ("one", "nowhere"):
        (w.source / name).unlink()
    assert w.once().returncode == 0
    assert not any(os.path.islink(w.target() / name) for name in ("one", "nowhere")), "what is ours is pruned"
    assert os.path.islink(w.target() / "foreign")


def test_a_link_that_was_turned_to_a_name_as_long_is_put_right(w: World) -> None:
    w.write(w.mapping(more="symlinks: preserve\ndrift: {policy: correct, interval: 500ms}"))
    w.start()
    eventually(lambda: os.path.islink(w.target() / "one"), what="the links")
    w.in_sync()
    turn(w.target() / "one", "a/elsf")
    eventually(
        lambda: os.path.islink(w.target() / "one") and os.readlink(w.target() / "one") == "a/file",
        what="the link says what it ought to",
    )
