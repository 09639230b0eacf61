"""Acceptance scenario 10: the rename of a large tree moves near-zero bytes."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents import World, fill, tree, world
from servers import eventually

from agent.jetstream import Jetstream

FILES = 2_000
SIZE = 20_000
PRUNE = "prune: true\ndeletions: {maxCount: 10}"


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as found:
        found.write(found.mapping(more=PRUNE))
        (found.source / "day1").mkdir()
        fill(found.source / "day1", FILES, size=SIZE)
        (found.source / "large").mkdir()
        with open(found.source / "large" / "reel.mov", "wb") as file:
            file.truncate(256 << 20)
        yield found


def sent_bytes(w: World) -> int:
    """What the sender has put on the wire since it started, as it counts itself."""
    port = w.object("Server", "sender")["port"]
    token = (w.state / "servers" / "sender" / "control-token").read_text().strip()
    with Jetstream().api("127.0.0.1", port) as api:
        api.server.authToken(token)
        lanes = [api.lanesync.getLaneBytes(found) for found in api.send.getDestinations()]
    return sum(sum(found["lanes"].values()) for found in lanes)


def attempts(w: World, operation: str) -> int:
    """Attempts of this kind that have ended."""
    with sqlite3.connect(w.state / "agent.db") as db:
        sql = "SELECT count(*) FROM attempt_history WHERE operation=?"
        return int(db.execute(sql, (operation,)).fetchone()[0])


def test_rename_of_a_large_tree_moves_near_zero_bytes(w: World) -> None:
    """With the watch on: the files are at their new paths, the old directories are gone, and no transfer was
    started. Renames are no deletions: the limit of 10 does not hold them."""
    w.start()
    w.in_sync(120.0)
    before, sent = attempts(w, "transfer"), sent_bytes(w)
    assert sent > FILES * SIZE // 2
    (w.source / "day1").rename(w.source / "first day")
    (w.source / "large").rename(w.source / "first day" / "picture")
    eventually(lambda: (w.target() / "first day/picture/reel.mov").exists(), seconds=60, what="renamed")
    w.eventually_same(seconds=60)
    w.in_sync()
    assert attempts(w, "transfer") == before
    assert sent_bytes(w) == sent
    assert not (w.target() / "day1").exists()
    assert not (w.target() / "large").exists()


def test_a_tree_that_was_renamed_while_no_agent_ran_is_not_sent_again(w: World) -> None:
    """After a restart the ledger knows the files by what they are, not by their names."""
    assert w.once().returncode == 0
    before = attempts(w, "transfer")
    (w.source / "day1").rename(w.source / "first day")
    shutil.move(w.source / "large", w.source / "first day" / "large")
    done = w.once()
    assert done.returncode == 0, done.stdout + done.stderr
    assert tree(w.source) == tree(w.target())
    assert attempts(w, "transfer") == before


def test_the_agent_is_killed_while_a_tree_is_renamed(w: World) -> None:
    """Whatever was renamed by then: the destination ends as the source is, and nothing is lost."""
    w.start()
    w.in_sync(120.0)
    (w.source / "day1").rename(w.source / "again")
    eventually(lambda: (w.target() / "again").exists(), what="it begins")
    w.kill()
    w.start()
    w.eventually_same(seconds=90)
    w.in_sync()
