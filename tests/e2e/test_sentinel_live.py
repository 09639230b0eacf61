"""Sentinels between real servers: whoever sees one at the destination has everything that it stands for."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from agents import fill, tree, world
from servers import eventually

pytestmark = pytest.mark.e2e


def test_the_sentinel_is_seen_after_everything_that_it_stands_for(tmp_path: Path) -> None:
    """Watched at the destination while 400 files of several directories arrive, and again after a renewal."""
    with world(tmp_path) as w:
        trigger = "trigger: {interval: 1h, ready: {sentinel: .done}}"
        w.write(w.mapping().replace("trigger: {interval: 60s, settle: 100ms}", trigger))
        w.start()
        card = w.source / "A001"
        card.mkdir()
        fill(card, 400)
        message = eventually(
            lambda: waiting(w.object("Mapping", "dailies")), what="it is told what is missing"
        )
        assert f"for .done in {card}" in message
        assert not os.path.exists(w.target() / "A001")

        seen: list[int] = []
        stop = threading.Event()

        def look() -> None:
            while not stop.is_set():
                if (w.target() / "A001" / ".done").exists():
                    seen.append(len(tree(w.target())))
                    return

        watcher = threading.Thread(target=look)
        watcher.start()
        (card / ".done").touch()
        eventually(lambda: seen, what="the sentinel arrives")
        stop.set()
        watcher.join()
        assert seen == [401]
        w.eventually_same()
        w.in_sync()

        (card / "late").write_text("written after the sentinel")
        eventually(lambda: "1 file waits" in waiting(w.object("Mapping", "dailies")), what="it waits")
        assert not (w.target() / "A001" / "late").exists()
        (card / ".done").touch()
        w.eventually_same()
        w.in_sync()


def waiting(mapping: dict) -> str:  # type: ignore[type-arg]
    conditions = mapping.get("conditions", [])
    return "".join(
        c["message"] for c in conditions if (c["type"], c["reason"]) == ("Ready", "AwaitingSentinel")
    )
