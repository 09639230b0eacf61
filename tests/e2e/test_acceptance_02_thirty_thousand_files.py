"""Acceptance: 30,000 files within a second, more than the kernel's queue of events takes. All arrive."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from agents import World, world
from servers import eventually

pytestmark = pytest.mark.e2e

FILES = 30_000


@pytest.mark.timeout(300)
def test_thirty_thousand_files_at_once_all_arrive_within_one_scan_interval(tmp_path: Path) -> None:
    """The agent stands still meanwhile, so most events are lost. It says so, and looks for itself."""
    with world(tmp_path) as w:
        w.write(
            w.mapping().replace("interval: 60s", "interval: 1h")
        )  # it is not the interval that finds them
        (w.source / "first").write_text("x")
        w.start()
        w.eventually_same()
        w.in_sync()
        assert w.agent is not None
        queue = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
        w.agent.send_signal(signal.SIGSTOP)
        try:
            for number in range(FILES):
                os.close(os.open(w.source / f"{number:05d}", os.O_CREAT | os.O_WRONLY))
        finally:
            w.agent.send_signal(signal.SIGCONT)
        if queue < 2 * FILES:
            eventually(lambda: "QueueOverflow" in reasons(w), what="the status says that events were lost")
        eventually(lambda: len(os.listdir(w.target())) == FILES + 1, seconds=120, what="every file")
        w.in_sync(100)


def reasons(w: World) -> set[str]:
    return {c["reason"] for c in w.object("Mapping", "dailies").get("conditions", [])}
