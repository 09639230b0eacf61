"""Acceptance: whatever is killed at whatever step, nothing is doubled, lost or deleted that is not ours."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
from collections import Counter
from pathlib import Path

import pytest
from agents import World, fill, tree, world
from hops import Hop
from servers import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]

KILLS = int(os.environ.get("LANESYNC_TEST_KILLS", "6"))
"""More of them, a thousand for example, take time and nothing else."""

MIB = 1 << 20
REEL = 16 * MIB
RATE = 32_000  # kbit/s
EVERY = 1  # seconds between checkpoints
ON_THE_WAY = 2 * MIB  # what buffers, sockets and open chunks hold


def edit(source: Path, chance: random.Random, number: int) -> int:
    """What happens to a tree on a working day: new, changed, renamed and deleted files and directories.
    Returns how many bytes have to be sent at most, where each is sent once."""
    before = sizes(source)
    files = sorted(p for p in source.rglob("*") if p.is_file())
    for _ in range(6):
        (source / f"new{number}-{chance.randrange(1000)}").write_bytes(chance.randbytes(30_000))
    for path in chance.sample(files, 3):
        path.write_bytes(chance.randbytes(chance.randrange(60_000)))
    for path in chance.sample(files, 2):
        path.unlink()
    for path in chance.sample(files, 3):
        if path.exists():
            path.rename(path.with_name(f"renamed{number}-{path.name[-20:]}"))
    if number % 4 == 3:
        chosen = chance.choice(sorted(p for p in source.iterdir() if p.is_dir()))
        chosen.rename(source / f"moved{number}")
    (source / f"reel{number % 3}.mov").write_bytes(chance.randbytes(REEL))
    return sum(found[0] for path, found in sizes(source).items() if before.get(path) != found)


def sizes(root: Path) -> dict[str, tuple[int, int]]:
    """Path -> size and mtime."""
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in root.rglob("*")
        if path.is_file()
    }


def kill_something(w: World, chance: random.Random) -> None:
    """The agent itself, or one of the servers and workers below it."""
    assert w.agent is not None
    victim = chance.choice([w.agent.pid, *w.family()])
    if victim == w.agent.pid:
        w.kill()
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim, signal.SIGKILL)


def doubled(w: World) -> dict[str, int]:
    """Paths that more than one unfinished attempt of the agent wants to bring to the one destination."""
    with contextlib.closing(sqlite3.connect(f"file:{w.state}/agent.db?mode=ro", uri=True)) as db:
        rows = db.execute(
            "SELECT i.parent, i.name FROM in_flight i JOIN attempts a ON a.number = i.attempt"
            " WHERE a.operation = 'transfer'"
        )
        return {repr(path): times for path, times in Counter(rows.fetchall()).items() if times > 1}


def in_flight(w: World) -> int:
    """Files of transfers that the agent has begun and not seen the end of."""
    with contextlib.closing(sqlite3.connect(f"file:{w.state}/agent.db?mode=ro", uri=True)) as db:
        (found,) = db.execute(
            "SELECT count(*) FROM in_flight i JOIN attempts a ON a.number = i.attempt"
            " WHERE a.operation = 'transfer' AND a.transfer_id IS NOT NULL"
        ).fetchone()
        return int(found)


def ours(w: World) -> dict[bytes, tuple[str, int, str, bool]]:
    return {path: what for path, what in tree(w.target()).items() if b"foreign" not in path}


def through(w: World, hop: Hop) -> None:
    """What is sent to the destination passes the hop."""
    path = w.specs / "specs.yaml"
    straight, around = (f"address: 127.0.0.1, port: {port}" for port in (w.port, hop.port))
    path.write_text(path.read_text().replace(straight, around))


def test_kills_at_any_step_double_and_lose_nothing_and_delete_nothing_unowned(tmp_path: Path) -> None:
    """Random processes die amid transfers while the source is edited, with `prune`; the files of others at
    the destination stay as they are, when the kills stop the trees are equal beside them, and what was on
    storage at the last checkpoint was not sent again."""
    chance = random.Random(int(os.environ.get("FAULT_SEED", "4")))
    with world(tmp_path) as w:
        hop = Hop(w.port)
        fill(w.source, 300)
        foreign = {w.received / "paris/d000/foreign.txt", w.received / "paris/reel.foreign", w.received / "x"}
        for path in foreign:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("somebody else's")
        w.write(
            w.mapping(more="prune: true\ndeletions: {maxCount: 100000, maxPercent: 100%}"),
            destination=f", sendRateMax: {RATE}kbit/s, transferDefaults: {{checkpointInterval: {EVERY}s}}",
        )
        through(w, hop)
        w.start()
        cut, wanted_bytes = 0, sum(size for size, _ in sizes(w.source).values())
        for number in range(KILLS):
            wanted_bytes += edit(w.source, chance, number)
            at = hop.carried + chance.randrange(REEL - 2 * MIB)  # the instant is what is tried
            eventually(
                lambda at=at: hop.carried >= at and in_flight(w), seconds=120, what="bytes on their way"
            )
            kill_something(w, chance)
            cut += in_flight(w) > 0
            if w.agent is not None and w.agent.poll() is not None:
                assert doubled(w) == {}
                w.start()
        w.in_sync(240.0)
        assert cut >= KILLS * 3 // 4, "the kills came when nothing was on its way"
        again = hop.carried - wanted_bytes
        assert again <= KILLS * (RATE * 125 * EVERY + ON_THE_WAY), f"{again} bytes were sent again"
        # What was published unheard, and has no source any more, is looked for after a while.
        eventually(
            lambda: ours(w) == tree(w.source), seconds=180, what="equal trees beside the files of others"
        )
        assert {path.read_text() for path in foreign} == {"somebody else's"}
        assert w.leftovers() == []
        assert w.stop() == 0
        again_once = w.once()
        assert again_once.returncode == 0
        assert "nothing had to be delivered" in again_once.stdout
        hop.close()
