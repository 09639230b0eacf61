"""What is deleted at the source waits at the destination, or goes to the trash there: with real servers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import World, fill, tree, world
from servers import eventually


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as found:
        yield found


def delivery(w: World) -> dict[str, Any]:
    found: dict[str, Any] = w.object("Mapping", "dailies")["deliveries"][0]
    return found


def trashed(w: World, path: str) -> list[Path]:
    """On whatever day it was moved there."""
    return sorted((w.received / ".lanesync-trash").glob(f"*/{path}"))


def test_deleted_files_are_in_the_trash_of_the_receiver(w: World) -> None:
    """With content and path; directories that are empty now are gone; the mapping is in sync."""
    w.write(w.mapping(more="prune: true\ndeletions: {trash: true, maxCount: 50}"))
    fill(w.source, 40, per_directory=10)
    w.start()
    w.in_sync()
    directory = w.source / "d001"
    contents = {path.name: path.read_bytes() for path in directory.iterdir()}
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()
    eventually(lambda: not (w.target() / "d001").exists(), what="the directory is gone")
    w.eventually_same()
    w.in_sync()
    found = {path.name: path.read_bytes() for path in trashed(w, "paris/d001/*")}
    assert found == contents
    again = directory.with_name("d002") / next((w.source / "d002").iterdir()).name
    for content in (b"second", b"third"):
        again.unlink()
        eventually(lambda: not (w.target() / "d002" / again.name).exists(), what="moved to the trash")
        again.write_bytes(content)
        w.eventually_same()
    assert len(trashed(w, f"paris/d002/{again.name}")) == 2


def test_a_deleted_file_waits_for_its_grace(w: World) -> None:
    """The status and the plan say so; when it comes back nothing happens; when it does not, it goes."""
    w.write(w.mapping(more="prune: true\ndeletions: {grace: 15s}"))
    fill(w.source, 10)
    w.start()
    w.in_sync()
    first, second = sorted((w.source / "d000").iterdir())[:2]
    kept = (w.target() / "d000" / second.name).stat()
    first.unlink()
    away = w.directory / "away"
    second.rename(away)
    waiting = eventually(lambda: (d := delivery(w))["deletionsInGrace"] == 2 and d, what="they wait")
    assert waiting["nextDeletion"]
    plan = json.loads(w.call("plan", str(w.specs), "--output", "json").stdout)
    assert "2 deletions in grace" in json.dumps(plan)
    away.rename(second)
    eventually(lambda: not (w.target() / "d000" / first.name).exists(), seconds=60, what="the grace is over")
    w.in_sync()
    now = (w.target() / "d000" / second.name).stat()
    assert (now.st_ino, now.st_ctime_ns) == (kept.st_ino, kept.st_ctime_ns), "it was not touched"
    assert tree(w.source) == tree(w.target())
