"""Acceptance: the source is unmounted in the middle of the day. Nothing is deleted; the status says why."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents import World, fill, tree, world
from servers import eventually

from agent.cli.problems import BLOCKED

pytestmark = pytest.mark.e2e


class MountedWorld(World):
    """The agent lives in a mount namespace of its own, where a disk is mounted on the source."""

    @property
    def disk(self) -> Path:
        return self.directory / "disk"

    def command(self, *arguments: str) -> list[str]:
        command = super().command(*arguments)
        if arguments[0] != "run":
            return command
        mounts = 'mount -t tmpfs none "$0" && mount --bind "$0" "$1" && shift && exec "$@"'
        script = ["sh", "-c", mounts, str(self.disk), str(self.source)]
        return ["unshare", "--mount", "--propagation", "private", *script, *command]

    def inside(self, path: Path) -> Path:
        """A path as the agent sees it."""
        assert self.agent is not None
        return Path(f"/proc/{self.agent.pid}/root{path}")

    def enter(self, *command: str) -> int:
        assert self.agent is not None
        entered = ["nsenter", "--mount", f"--target={self.agent.pid}", *command]
        return subprocess.run(entered, check=False, capture_output=True).returncode


@pytest.fixture
def w(tmp_path: Path) -> Iterator[MountedWorld]:
    try:
        allowed = (
            os.getuid() == 0 and not subprocess.run(["unshare", "--mount", "true"], check=False).returncode
        )
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("mount namespaces cannot be made here")
    made = MountedWorld(tmp_path)
    made.disk.mkdir()
    try:
        yield made
    finally:
        if made.agent is not None and made.agent.poll() is None:
            made.kill()


def suspect(w: World) -> str:
    """The message of the condition that says so; empty while there is none."""
    conditions = w.object("Mapping", "dailies").get("conditions", [])
    return "".join(
        c["message"] for c in conditions if c["reason"] == "SourceSuspect" and c["type"] == "Stalled"
    )


def test_unmounting_the_source_deletes_nothing_and_is_told(w: MountedWorld) -> None:
    """With `prune`, while watching; mounted again it goes on where it was, and only real deletions count."""
    w.write(w.mapping(more="prune: true"))
    w.start()
    eventually(lambda: w.enter("mountpoint", "-q", str(w.source)) == 0, what="the disk is mounted")
    fill(w.inside(w.source), 60)
    wanted = tree(w.inside(w.disk))
    assert len(wanted) == 60
    eventually(lambda: tree(w.target()) == wanted, what="the first delivery")
    w.in_sync()

    eventually(lambda: w.enter("umount", str(w.source)) == 0, what="umount")
    message = eventually(lambda: suspect(w), what="the status says so")
    assert f"source {w.source} is" in message and "nothing below it is deleted" in message
    assert w.call("status").returncode == BLOCKED
    assert w.call("reconcile", "Mapping/dailies").returncode == 0
    assert tree(w.target()) == wanted

    assert w.enter("mount", "--bind", str(w.disk), str(w.source)) == 0
    (w.inside(w.source) / "new").write_text("written after it was mounted again")
    (w.inside(w.source) / "d000" / "f00001.bin").unlink()
    eventually((w.target() / "new").exists, what="it is watched again")
    eventually(lambda: tree(w.target()) == tree(w.inside(w.disk)), what="and its deletions are real again")
    w.in_sync()


def test_moving_the_source_away_deletes_nothing_and_is_told(tmp_path: Path) -> None:
    """The same without any mount: the directory is gone for a while, then back."""
    with world(tmp_path) as w:
        fill(w.source, 60)
        w.write(w.mapping(more="prune: true"))
        w.start()
        w.eventually_same()
        w.in_sync()
        wanted = tree(w.target())
        w.source.rename(tmp_path / "away")
        message = eventually(lambda: suspect(w), what="the status says so")
        assert "is missing" in message and "mount or create it" in message
        assert tree(w.target()) == wanted
        (tmp_path / "away").rename(w.source)
        (w.source / "new").write_text("written after it came back")
        w.eventually_same()
        w.in_sync()
