"""What the watch tells overlaps: of a new directory, and of what is in it. Each path is sent once."""

from __future__ import annotations

from pathlib import Path

import pytest
from unit.reconcile_bench import Bench


@pytest.mark.parametrize(
    "hints",
    [
        ("k", "k/a"),
        ("k/a", "k"),
        ("k", "k-b", "k/a", "k/d", "k/d/a", "k/e"),
        ("", "k", "k/a"),
        ("k/d", "k/d/a"),
    ],
)
def test_hints_that_overlap_send_each_path_once(tmp_path: Path, hints: tuple[str, ...]) -> None:
    """Files and empty directories; and all that is not below another hint is seen, too."""
    b = Bench(tmp_path)
    (b.source / "first").write_text("x")
    b.converge()
    (b.source / "k" / "d").mkdir(parents=True)
    (b.source / "k" / "e").mkdir()
    for name in ("k/a", "k/d/a", "k-b"):
        (b.source / name).write_text(name)
    b.touch(*hints)
    sent = [entry.path for transfer in b.engine._transfers.values() for entry in transfer.todo]
    assert len(sent) == len(set(sent)), sent
    assert {"/" + hint for hint in hints if (b.source / hint).is_file()} <= set(sent)
    b.look()
    b.converge()
    assert set(b.at_destination) == {"/first", "/k/a", "/k/d/a", "/k/e", "/k-b"}
    b.agent.context.state.close()
