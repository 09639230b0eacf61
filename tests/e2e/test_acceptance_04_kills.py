"""Acceptance: whatever is killed at whatever step, nothing is doubled, lost or deleted that is not ours."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import threading
from collections import Counter
from pathlib import Path

import pytest
from agents import World, fill, tree, world

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]

KILLS = int(os.environ.get("LANESYNC_TEST_KILLS", "12"))
"""More of them, a thousand for example, take time and nothing else."""


def edit(source: Path, chance: random.Random, number: int) -> None:
    """What happens to a tree on a working day: new, changed, renamed and deleted files and directories."""
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
    (source / f"reel{number % 3}.mov").write_bytes(chance.randbytes(2 << 20))


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


def test_kills_at_any_step_double_and_lose_nothing_and_delete_nothing_unowned(tmp_path: Path) -> None:
    """Random processes die at random moments while the source is edited, with `prune`; the files of others at
    the destination stay as they are, and when the kills stop the trees are equal beside them."""
    chance = random.Random(4)
    with world(tmp_path) as w:
        fill(w.source, 300)
        foreign = {w.received / "paris/d000/foreign.txt", w.received / "paris/reel.foreign", w.received / "x"}
        for path in foreign:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("somebody else's")
        w.write(
            w.mapping(more="prune: true\ndeletions: {maxCount: 100000, maxPercent: 100%}"),
            destination=", sendRateMax: 80Mbit/s, transferDefaults: {checkpointInterval: 1s}",
        )
        w.start()
        for number in range(KILLS):
            edit(w.source, chance, number)
            threading.Event().wait(10 ** chance.uniform(-2, 0.4))  # a random instant is what is tested
            kill_something(w, chance)
            if w.agent is not None and w.agent.poll() is not None:
                assert doubled(w) == {}
                w.start()
        w.in_sync(120.0)
        there, wanted = tree(w.target()), tree(w.source)
        assert {path: there[path] for path in there if b"foreign" not in path} == wanted
        assert {path.read_text() for path in foreign} == {"somebody else's"}
        assert w.leftovers() == []
        assert w.stop() == 0
        again = w.once()
        assert again.returncode == 0
        assert "nothing had to be delivered" in again.stdout
