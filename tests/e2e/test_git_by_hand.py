"""validate and plan of a repository, without a checkout of one's own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import SPECS, World, fill, world
from gitserver import GitServer, Repo, git_server

pytestmark = pytest.mark.e2e


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with git_server(tmp_path / "git") as made:
        yield made


def test_a_commit_is_validated_and_planned_without_a_checkout(w: World, server: GitServer) -> None:
    """With the revision of the commit, places as in the repository, and nothing left behind."""
    fill(w.source, 3)
    repo = Repo(server.root / "site.git-work")
    where = ("--git", f"{server.url}/site.git-work/.git", "--ref", "main", "--subdir", "site")
    repo.write("site/specs.yaml", SPECS.format(port=w.port, destination="") + w.mapping())
    commit = repo.commit("first")
    before = set(os.listdir("/tmp"))
    valid = _validate(w, *where)
    assert valid["valid"] is True
    assert valid["revision"] == f"git:{commit}"
    plan = w.call("plan", *where, "--output", "json")
    assert plan.returncode == 0, plan.stderr
    document = json.loads(plan.stdout)
    assert document["revision"] == f"git:{commit}"
    assert document["deliveries"][0]["create"] == 3
    saved = w.call("plan", *where, "--out", str(w.directory / "plan.json"))
    assert saved.returncode == 2
    assert "cannot be saved" in saved.stderr
    repo.write("site/specs.yaml", "kind: Mappping\n")
    repo.commit("broken")
    broken = _validate(w, *where)
    assert broken["valid"] is False
    assert broken["errors"][0]["file"].endswith("site/specs.yaml")
    assert w.call("plan", *where).returncode == 5
    assert [name for name in set(os.listdir("/tmp")) - before if name.startswith("lanesync-git-")] == []
    gone = w.call("plan", "--git", f"{server.url}/none/.git", "--ref", "main")
    assert gone.returncode == 1
    assert "no specs from" in gone.stderr


def _validate(w: World, *where: str) -> dict[str, Any]:
    command = w.command("validate", *where, "--output", "json")
    without_state = command[: command.index("--state-dir")]
    answer = subprocess.run(
        without_state, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert answer.stdout, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout)
    return found
