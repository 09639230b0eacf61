"""Acceptance: the YAML of one job is bad. The others go on; `validate` shows the file and the line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents import World, fill, tree, world
from servers import eventually

from agent.cli.problems import BLOCKED, INVALID

pytestmark = pytest.mark.e2e

JOBS = ("one", "two", "three")


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        made.write()
        for name in JOBS:
            (tmp_path / name).mkdir()
            fill(tmp_path / name, 20)
            job(made, name)
        yield made


def job(w: World, name: str, text: str = "", more: str = "") -> None:
    """A file of its own for each."""
    new = w.specs / "job.new"
    new.write_text(text or w.mapping(name, f"/{name}", more, source=str(w.directory / name)))
    new.rename(w.specs / f"{name}.yaml")


def in_step(w: World, *names: str) -> bool:
    return all(tree(w.directory / name) == tree(w.target(name)) for name in names)


def ready_jobs(w: World) -> set[str]:
    return {o["name"] for o in w.status()["objects"] if o["kind"] == "Mapping" and o["ready"]}


BROKEN = {
    "the text is no YAML": ("  paths: {/: ", "  paths: {/: [", 9),
    "a tab indents": ("  destination: archive", "\tdestination: archive", 7),
    "a field is misspelt": ("  destination:", "  destinatoin:", 7),
    "a value is of the wrong kind": ("interval: 60s", "interval: soon", 10),
    "a reference leads nowhere": ("destination: archive", "destination: archiev", 7),
}


@pytest.mark.timeout(300)
def test_a_bad_job_stalls_alone_and_validate_shows_its_line(w: World) -> None:
    """It keeps its last good version; the others go on, their edits take effect, and so does the mend."""
    w.start()
    w.in_sync()
    text = (w.specs / "two.yaml").read_text()
    for turn, (good, bad, number) in enumerate(BROKEN.values()):
        assert good in text
        job(w, "two", text.replace(good, bad))
        validated = validate(w)
        assert validated.returncode == INVALID
        told = [line for line in validated.stdout.splitlines() if ".yaml:" in line]
        assert told and all("two.yaml:" in line for line in told), told
        assert any(f"two.yaml:{number}:" in line for line in told), told
        eventually(lambda: w.call("status").returncode == BLOCKED, what="it is noticed")

        for name in JOBS:
            (w.directory / name / f"new{turn}").write_text("written while one job is bad")
        job(w, "three", more="prune: true")
        (w.directory / "three" / "d000" / f"f0000{turn}.bin").unlink()
        eventually(lambda: in_step(w, *JOBS), what="all go on, and an edit of another one takes effect")
        eventually(lambda: {"one", "three"} <= ready_jobs(w), what="the others are in sync")
        job(w, "two")
        job(w, "three")
        w.in_sync()
    assert validate(w).returncode == 0


def validate(w: World) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent.cli.main", "validate", str(w.specs)]
    return subprocess.run(command, capture_output=True, text=True, check=False)
