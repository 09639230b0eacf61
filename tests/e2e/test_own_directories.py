"""What the agent itself writes is no source, wherever a source contains it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from agents import World, world
from servers import eventually

pytestmark = pytest.mark.e2e


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def delivered(w: World) -> set[str]:
    return {str(p.relative_to(w.target())) for p in w.target().rglob("*") if p.is_file()}


def test_a_source_that_contains_the_state_directory_delivers_everything_else(w: World) -> None:
    """State, tokens and received files are left out, also through a link that leads above them."""
    w.state = w.source / "home" / "state"
    w.received = w.state / "received"
    w.state.mkdir(parents=True)
    inner = w.source / "inner"
    inner.mkdir()
    (inner / "up").symlink_to("../home")
    (inner / "a.txt").write_text("a")
    (w.source / "home" / "b.txt").write_text("b")
    w.write(w.mapping())
    w.start()
    eventually((w.target() / "inner" / "a.txt").exists, what="the source's file")
    (w.source / "home" / "later.txt").write_text("c")
    eventually((w.target() / "home" / "later.txt").exists, what="a later file")
    w.in_sync()
    wanted = {"inner/a.txt", "home/b.txt", "home/later.txt", "inner/up/b.txt", "inner/up/later.txt"}
    eventually(lambda: delivered(w) == wanted, what="everything else, and nothing of the agent's own")
