"""The agent on FTS3: specs become jobs, and jobs become files at the destination. Agent, service and storages
are processes of their own."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import World, fill, world
from grid import Grid, start_grid
from servers import eventually

pytestmark = pytest.mark.e2e

SERVER = """
apiVersion: lanesync/v1
kind: Server
metadata: {{name: grid}}
spec:
  engine: fts3
  endpoint: {endpoint}
  auth: {{certificate: {{cert: {cert}, key: {key}}}}}
  ca: {ca}
  storage:
    - {{path: {root}, url: "{url}"}}
---
apiVersion: lanesync/v1
kind: Destination
metadata: {{name: archive}}
spec:
  server: grid
  url: "{target}"
{destination}
"""


class GridWorld:
    """A world whose source is served by a storage, and whose destination is another one."""

    def __init__(self, made: World, grid: Grid, folder: str, user: str) -> None:
        self.world, self.grid, self.folder = made, grid, folder
        self.user = grid.service.user(user)
        self.source = made.source = grid.source.root / folder
        self.source.mkdir()
        made.received = grid.target.root / folder

    def write(self, *mappings: str, destination: str = "", **fields: Any) -> None:
        lines = "\n".join(f"  {line}" for line in destination.splitlines())
        values = {
            "endpoint": self.grid.service.url,
            "cert": self.user.cert,
            "key": self.user.key,
            "ca": self.grid.service.ca,
            "root": self.grid.source.root,
            "url": self.grid.source.url().rstrip("/"),
            "target": self.grid.url(self.folder),
            "destination": lines,
        }
        server = SERVER.format(**{**values, **fields})
        self.world.write(server, *mappings, servers=False)

    def mapping(self, name: str = "dailies", more: str = "", **fields: Any) -> str:
        return self.world.mapping(name, more=more, **fields)

    def files(self, path: str = "paris") -> dict[str, bytes]:
        return contents(self.world.target(path))

    def delivered(self, path: str = "paris", seconds: float = 40.0) -> None:
        eventually(lambda: self.files(path) == contents(self.source), seconds=seconds, what="the same files")

    def condition(self, kind: str, name: str, wanted: str, reason: str) -> str:
        """The message of a condition, once it is there."""

        def look() -> str:
            found = self.world.object(kind, name).get("conditions", [])
            same = [c for c in found if (c["type"], c["reason"]) == (wanted, reason)]
            return str(same[0]["message"]) if same else ""

        return eventually(look, seconds=40, what=f"{wanted} {reason}")

    def jobs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.grid.service.state()["jobs"]
        return found

    def forget_all(self) -> int:
        return self.grid.service.forget()

    def store(self) -> Path:
        return self.world.state / "servers" / "grid" / "fts3.db"


def contents(root: Path) -> dict[str, bytes]:
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            with contextlib.suppress(FileNotFoundError):
                found[str(path.relative_to(root))] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grid]:
    with start_grid(tmp_path_factory.mktemp("grid")) as started:
        yield started


@pytest.fixture
def site(shared: Grid, tmp_path: Path) -> Iterator[GridWorld]:
    shared.reset()
    shared.service.settings(engine_paused=False, max_copies=16)
    with world(tmp_path) as made:
        yield GridWorld(made, shared, "site", "alice")


def test_a_first_delivery_edits_and_deletions_reach_the_storage(site: GridWorld) -> None:
    """`run --once` delivers everything; a running agent follows edits, new files, and deletions."""
    fill(site.source, 120)
    (site.source / "odd %#? name.txt").write_text("odd")
    (site.source / "empty").mkdir()
    site.write(site.mapping(more="prune: true"))
    done = site.world.once()
    assert done.returncode == 0, done.stdout + done.stderr
    assert site.files() == contents(site.source)
    assert site.world.target("paris/empty").is_dir()
    site.world.start()
    (site.source / "d000" / "f00001.bin").write_bytes(b"another version")
    (site.source / "new.txt").write_text("new")
    (site.source / "d001" / "f00050.bin").unlink()
    site.delivered()
    site.world.in_sync()
    assert site.world.stop() == 0
