"""Acceptance: urgent work without end. What is in the low lane arrives all the same, after a bounded wait."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from agents import World, world
from servers import eventually

from agent.jetstream import Jetstream

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SHARE = 0.05  # of the lane Low
PIECE = 2 << 20
LOW = 500_000


def sent(w: World) -> dict[str, int]:
    """Bytes that the sender has put on the wire, by lane, as it counts itself."""
    port = w.object("Server", "sender")["port"]
    token = (w.state / "servers" / "sender" / "control-token").read_text().strip()
    with Jetstream().api("127.0.0.1", port) as api:
        api.server.authToken(token)
        (found,) = api.send.getDestinations()
        return dict(api.lanesync.getLaneBytes(found)["lanes"])


@contextmanager
def urgent_work(w: World, source: Path) -> Iterator[None]:
    """There is always more to send in the lane High than can be sent."""
    over = threading.Event()

    def write() -> None:
        for number in itertools.count():
            waiting = [p for p in source.iterdir() if not (w.target("urgent") / p.name).exists()]
            if len(waiting) < 12:
                (source / f"{number}.mov").write_bytes(os.urandom(PIECE))
            if over.wait(0.02):
                return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        over.set()
        writer.join()


def test_the_low_lane_has_its_share_while_urgent_work_never_ends(tmp_path: Path) -> None:
    """The wait is counted in what the urgent lane sends meanwhile: never much more than the shares say."""
    with world(tmp_path) as w:
        urgent = tmp_path / "urgent"
        urgent.mkdir()
        w.write(
            w.mapping("slow", "/slow", "lane: Low"),
            w.mapping("urgent", "/urgent", "lane: High\npriority: 0", source=str(urgent)),
            destination=", sendRateMax: 60Mbit/s",
        )
        w.start()
        w.in_sync()
        with urgent_work(w, urgent):
            eventually(lambda: sent(w).get("High", 0) > 3 * PIECE, seconds=60, what="urgent work is sent")
            for number in range(3):
                before = sent(w)
                (w.source / f"{number}").write_bytes(os.urandom(LOW))
                eventually((w.target("slow") / f"{number}").exists, seconds=120, what="the low one arrives")
                counted = before.get("Low", 0) + LOW  # a moment after it has arrived
                after = eventually(lambda n=counted: (s := sent(w))["Low"] >= n and s, what="it is counted")
                waited = after["High"] - before["High"]
                assert waited > PIECE, "there was no urgent work"
                assert waited < 3 * LOW / SHARE, f"{waited} urgent bytes went first"
        assert all(c["reason"] != "FilesFailed" for c in w.object("Mapping", "urgent")["conditions"])
