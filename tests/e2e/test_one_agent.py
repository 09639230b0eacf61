"""One agent for each state directory."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from agents import world
from servers import eventually

pytestmark = pytest.mark.e2e


def test_a_second_agent_is_refused_and_told_who_is_first(tmp_path: Path) -> None:
    """With pid and time; the first goes on. When it was killed the next one starts, and delivers."""
    with world(tmp_path) as w:
        (w.source / "a").write_text("a")
        w.write(w.mapping())
        w.start()
        w.eventually_same()
        assert w.agent is not None
        second = w.call("run", str(w.specs))
        assert second.returncode != 0
        assert re.search(
            rf"process {w.agent.pid}, since 20\d\d-.* UTC, is using it; stop it first", second.stderr
        )
        assert w.agent.poll() is None
        killed = w.agent.pid
        w.kill()
        assert (w.state / "agent.lock").read_text().split()[0] == str(killed)
        (w.source / "b").write_text("b")
        w.start()
        eventually(lambda: (w.target() / "b").exists(), seconds=60, what="delivered by the next one")
        w.in_sync()
