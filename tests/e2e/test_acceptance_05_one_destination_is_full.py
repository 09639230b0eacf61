"""Acceptance: destination A is full and B is fine. B finishes, and A goes on by itself when there is room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import World, fill, tree
from freeports import free_port
from servers import eventually

pytestmark = pytest.mark.e2e

ROOM = 24 << 20

SENDER = """
apiVersion: lanesync/v1
kind: Server
metadata: {name: sender}
spec: {engine: embedded, listen: "127.0.0.1:0"}
---
"""

SERVERS = """
apiVersion: lanesync/v1
kind: Server
metadata: {{name: {name}}}
spec: {{engine: embedded, listen: "127.0.0.1:{port}", receiveRoot: {root}}}
---
apiVersion: lanesync/v1
kind: Destination
metadata: {{name: {name}}}
spec: {{server: sender, address: 127.0.0.1, port: {port}}}
---
"""


class TwoDestinations(World):
    """`small` writes to a disk of 24 MiB, which is mounted where only the agent and its servers see it."""

    def command(self, *arguments: str) -> list[str]:
        command = super().command(*arguments)
        if arguments[0] != "run":
            return command
        mount = f'mount -t tmpfs -o size={ROOM} none "$0" && exec "$@"'
        script = ["sh", "-c", mount, str(self.directory / "disk")]
        return ["unshare", "--mount", "--propagation", "private", *script, *command]

    def write_both(self) -> None:
        roots = {"small": self.directory / "disk", "large": self.directory / "large"}
        text = SENDER + "".join(
            SERVERS.format(name=name, port=free_port(), root=root) for name, root in roots.items()
        )
        mapping = self.mapping().replace("destination: archive", "destinations: [small, large]")
        self.write(text.removesuffix("---\n"), mapping, servers=False)

    @property
    def disk(self) -> Path:
        """The small disk, as the agent sees it."""
        assert self.agent is not None
        return Path(f"/proc/{self.agent.pid}/root{self.directory / 'disk'}")

    def mounted(self) -> bool:
        return self.disk.is_mount() or os.stat(self.disk).st_dev != os.stat(self.directory).st_dev

    def delivery(self, destination: str) -> dict[str, Any]:
        found = self.object("Mapping", "dailies").get("deliveries", [])
        return next((dict(d) for d in found if d["destination"] == destination), {})


@pytest.fixture
def w(tmp_path: Path) -> Iterator[TwoDestinations]:
    try:
        tried = subprocess.run(["unshare", "--mount", "true"], check=False).returncode
    except FileNotFoundError:
        tried = 1
    if os.getuid() or tried:
        pytest.skip("mount namespaces cannot be made here")
    made = TwoDestinations(tmp_path)
    (tmp_path / "disk").mkdir()
    try:
        yield made
    finally:
        if made.agent is not None and made.agent.poll() is None:
            made.kill()


def test_a_full_destination_holds_up_no_other_and_goes_on_by_itself(w: TwoDestinations) -> None:
    """The status names the full one and says why; nobody has to do anything but make room."""
    (w.source / "first").write_text("x")
    w.write_both()
    w.start()
    eventually(w.mounted, what="the small disk is mounted")
    w.in_sync()
    ballast = w.disk / "ballast"
    ballast.write_bytes(bytes(ROOM - (4 << 20)))
    (w.source / "reel.mov").write_bytes(os.urandom(12 << 20))
    fill(w.source, 200)
    eventually(lambda: tree(w.directory / "large/paris") == tree(w.source), seconds=60, what="the other one")

    def told() -> bool:
        mapping, small = w.object("Mapping", "dailies"), w.object("Destination", "small")
        conditions = [*mapping.get("conditions", []), *small.get("conditions", [])]
        return [c["type"] for c in conditions if c["reason"] == "NoSpace"].count("Reconciling") == 2

    eventually(told, what="the status says which one is full")

    def says(text: str) -> bool:
        return any(text in c["message"] for c in w.object("Mapping", "dailies").get("conditions", []))

    eventually(lambda: says("at small, whose storage is full: free space there"), what="and what to do")
    assert w.object("Destination", "large")["ready"]
    (w.source / "later").write_text("written while one of them is full")
    eventually((w.directory / "large/paris/later").exists, what="the other one goes on")
    assert not w.status()["inSync"]

    ballast.unlink()
    eventually(lambda: tree(w.disk / "paris") == tree(w.source), seconds=60, what="it goes on by itself")
    w.in_sync()
    assert w.delivery("small").keys() == w.delivery("large").keys()
