"""Somebody edits the destination: real servers, real files."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import World, fill, tree, world
from servers import eventually

pytestmark = pytest.mark.e2e

OFTEN = "drift: {{policy: {policy}, interval: 500ms}}\nprune: true"


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def aged(root: Path) -> None:
    """As files that were not written just now."""
    for path in root.rglob("*"):
        if path.is_file():
            os.utime(path, ns=(10**18, 10**18 + path.stat().st_size))


def conditions(w: World) -> dict[str, str]:
    return {
        c["type"]: c["message"] for c in w.object("Mapping", "dailies").get("conditions", ()) if c["status"]
    }


def edit(target: Path) -> None:
    """Changed, removed, added, and what was in a directory with it."""
    (target / "d000" / "f00001.bin").write_text("edited by somebody at the destination")
    (target / "d000" / "f00002.bin").unlink()
    shutil.rmtree(target / "d001")
    (target / "d000" / "theirs.txt").write_text("of somebody else")


def test_someone_edits_the_destination_warned_or_repaired_by_policy(w: World) -> None:
    """`warn` says what and touches nothing, `correct` sends it again; what others put there stays."""
    fill(w.source, 120)
    w.write(w.mapping(more=OFTEN.format(policy="warn")))
    w.start()
    w.eventually_same()
    w.in_sync()
    edit(w.target())
    edited = tree(w.target())
    eventually(
        lambda: "51 files missing, 1 changed" in conditions(w).get("Drifted", ""), what="drift is told"
    )
    text = conditions(w)["Drifted"]
    assert "/paris/d000/f00001.bin (37 bytes instead of" in text
    assert "drift.policy: warn" in text
    assert w.object("Mapping", "dailies")["deliveries"][0]["drift"]["foreign"] == 1
    assert tree(w.target()) == edited, "nothing is touched"
    w.write(w.mapping(more=OFTEN.format(policy="correct")))
    (theirs := w.target() / "d000" / "theirs.txt").stat()

    def repaired() -> bool:
        found = tree(w.target())
        found.pop(b"d000/theirs.txt", None)
        return found == tree(w.source)

    eventually(repaired, what="the destination is repaired")
    eventually(lambda: "Drifted" not in conditions(w), what="and that is told")
    assert theirs.read_text() == "of somebody else"


def test_bit_rot_is_found_by_checksum_and_repaired(w: World) -> None:
    """One bit of a file, its size and time as they were: no look at names shows it, a verification does."""
    fill(w.source, 60)
    (w.source / "large.bin").write_bytes(os.urandom(3_000_000))
    w.write(w.mapping(more="drift: {policy: correct, interval: 1h}"))
    w.start()
    w.eventually_same()
    w.in_sync()
    assert w.call("verify", "--checksum").returncode == 0
    for name in ("large.bin", "d000/f00007.bin"):
        rot(w.target() / name)
    assert w.call("verify").returncode == 0, "names, sizes and times are as they were"
    found = w.call("verify", "dailies", "--checksum", "--output", "json")
    assert found.returncode == 3, found.stdout + found.stderr
    (delivery,) = json.loads(found.stdout)["deliveries"]
    assert delivery["found"]["damaged"] == 2
    assert {n["path"] for n in delivery["found"]["paths"]} == {"/paris/large.bin", "/paris/d000/f00007.bin"}
    w.eventually_same()
    w.in_sync()
    again = w.call("verify", "--checksum")
    assert again.returncode == 0, again.stdout
    assert "61 paths compared, contents of 61; all as delivered" in again.stdout
    assert w.call("verify", "dalies").returncode == 1


def rot(path: Path) -> None:
    info = path.stat()
    with open(path, "r+b") as file:
        file.seek(info.st_size // 2)
        byte = file.read(1)
        file.seek(info.st_size // 2)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def test_verifying_without_an_agent_starts_the_servers_for_it(w: World) -> None:
    """And leaves no process; what differs is told, and sent again by the next run."""
    fill(w.source, 30)
    w.write(w.mapping(more="drift: {policy: correct}"))
    assert w.once().returncode == 0
    assert w.call("verify", "--checksum").returncode == 0
    (w.target() / "d000" / "f00001.bin").unlink()
    found = w.call("verify")
    assert found.returncode == 3, found.stdout + found.stderr
    assert "missing: /paris/d000/f00001.bin" in found.stdout
    assert w.family() == []
    assert w.once().returncode == 0
    assert w.same()


def state_file(w: World) -> Path:
    return w.state / "agent.db"


def no_file_at_all(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def a_broken_header(path: Path) -> None:
    with open(path, "r+b") as file:
        file.write(b"\0" * 512)


def broken_pages_in_the_middle(path: Path) -> None:
    size = path.stat().st_size
    with open(path, "r+b") as file:
        for at in range(3, 8):
            file.seek(size * at // 10 // 4096 * 4096)
            file.write(os.urandom(4096))


def counts(w: World) -> dict[str, Any]:
    (delivered,) = [*w.status()["delivered"], {"files": 0, "deleted": 0}][:1]
    return {"files": delivered["files"], "deleted": delivered["deleted"]}


@pytest.mark.parametrize("damage", [no_file_at_all, a_broken_header, broken_pages_in_the_middle])
def test_a_lost_or_damaged_ledger_sends_nothing_again_and_deletes_nothing(w: World, damage: Any) -> None:
    """The agent says so, keeps the damaged file, and takes over what is there; with prune on."""
    fill(w.source, 600)
    aged(w.source)
    w.write(w.mapping(more="prune: true"))
    assert w.once().returncode == 0
    database = state_file(w)
    with sqlite3.connect(database) as db:
        (agent_id,) = db.execute("SELECT value FROM meta WHERE key='agent_id'").fetchone()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    (w.source / "d000" / "f00003.bin").unlink()
    (w.source / "new.bin").write_text("made meanwhile")
    damage(database)
    left = database.read_bytes() if database.exists() else b""
    w.start()
    eventually((w.target() / "new.bin").exists, what="the agent works")
    w.in_sync()
    assert counts(w) == {"files": 1, "deleted": 0}
    assert (w.target() / "d000" / "f00003.bin").exists(), "nobody knows any more that it was ours"
    assert "agent's state" in (w.status()["agent"]["notice"] or "")
    aside = [path for path in w.state.glob("agent.db.damaged-*") if not path.name.endswith(("-wal", "-shm"))]
    assert [path.read_bytes() for path in aside] == ([left] if left else [])
    with sqlite3.connect(database) as db:
        assert db.execute("SELECT value FROM meta WHERE key='agent_id'").fetchone() == (agent_id,)
    db.close()
    (w.source / "d000" / "f00004.bin").unlink()
    eventually(
        lambda: not (w.target() / "d000" / "f00004.bin").exists(), what="what was taken over is pruned"
    )


def test_ten_thousand_files_are_not_sent_again_when_the_ledger_is_lost(w: World) -> None:
    """They are looked at, page by page, and adopted."""
    fill(w.source, 10_000, per_directory=500, size=40)
    aged(w.source)
    w.write(w.mapping())
    assert w.once().returncode == 0
    no_file_at_all(state_file(w))
    done = w.call("run", str(w.specs), "--once", "--timeout", "100s", "--output", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["delivered"] == []
    events = [e for e in w_events(w) if e[0] == "Adopted"]
    assert "adopted 10,000 files" in events[0][1]


def w_events(w: World) -> list[tuple[str, str]]:
    with sqlite3.connect(state_file(w)) as db:
        return db.execute("SELECT reason, message FROM events").fetchall()
