"""`lanesync apply` beside an agent that runs: that one does the work, and the command waits for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from agents import world

pytestmark = pytest.mark.e2e


def test_apply_ends_when_what_changed_has_been_delivered(tmp_path: Path) -> None:
    """Though nobody watches, and all was in sync when it was asked."""
    with world(tmp_path) as w:
        (w.source / "a").write_text("first")
        w.write(w.mapping().replace("trigger: {", "trigger: {watch: false, "))
        w.start()
        w.in_sync()
        for content in ("second", "third, which is longer"):
            (w.source / "a").write_text(content)
            applied = w.call("apply", str(w.specs), "--yes", "--timeout", "60s")
            assert applied.returncode == 0, applied.stdout + applied.stderr
            assert (w.target() / "a").read_text() == content
