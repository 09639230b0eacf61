"""Specs that are edited while the agent runs: what is delivered follows, and so does what is pruned."""

from __future__ import annotations

from pathlib import Path

import pytest
from agents import World, fill, world
from servers import eventually

PRUNE = "prune: true\ndeletions: {maxCount: 1000, maxPercent: 100%}"


def pruned(w: World, filters: str) -> str:
    """The usual mapping with these filters on its only source."""
    plain = w.mapping(more=PRUNE)
    return plain.replace(f"{{/: {w.source}}}", f"{{/: {{source: {w.source}, {filters}}}}}")


@pytest.mark.parametrize("filters", ['include: ["*.keep"]', 'exclude: ["d0*/", "sub"]'])
def test_what_is_newly_left_out_is_pruned_with_its_directories(tmp_path: Path, filters: str) -> None:
    """After an edit of the filters the destination has what a first delivery would bring."""
    with world(tmp_path) as w:
        fill(w.source, 120)
        (w.source / "a.keep").write_text("a")
        (w.source / "sub").mkdir()
        (w.source / "sub" / "deeper").mkdir()
        w.write(w.mapping(more=PRUNE))
        w.start()
        w.eventually_same()
        w.write(pruned(w, filters))
        eventually(lambda: [p.name for p in w.target().rglob("*")] == ["a.keep"], what="only what is left in")
        w.in_sync()


def test_a_new_destination_path_leaves_nothing_at_the_old_one(tmp_path: Path) -> None:
    """With prune, a mapping that moves takes its directories with it, and its old place too."""
    with world(tmp_path) as w:
        fill(w.source, 120)
        (w.source / "empty").mkdir()
        w.write(w.mapping(path="/sites/paris", more=PRUNE))
        w.start()
        w.eventually_same("sites/paris")
        w.in_sync()
        w.write(w.mapping(path="/rome", more=PRUNE))
        w.eventually_same("rome")
        eventually(lambda: not (w.received / "sites").exists(), what="the old place is gone")
        w.in_sync()
