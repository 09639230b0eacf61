"""An agent that speaks to its server through the vendor's module: the documented surface alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents import World, tree, world
from servers import Server, eventually, start_server

pytestmark = pytest.mark.e2e

VENDOR = str(Path(__file__).parent.parent / "vendor")
SPECS = """
apiVersion: lanesync/v1
kind: Server
metadata: {{name: studio}}
spec: {{engine: jetstream, address: 127.0.0.1, port: {sender}, client: vendor}}
---
apiVersion: lanesync/v1
kind: Destination
metadata: {{name: archive}}
spec: {{server: studio, address: 127.0.0.1, port: {receiver}}}
"""


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    with start_server(tmp_path / "one") as sender, start_server(tmp_path / "two") as receiver:
        yield sender, receiver


def write(w: World, servers: tuple[Server, Server], more: str = "") -> None:
    sender, receiver = servers
    specs = SPECS.format(sender=sender.port, receiver=receiver.port)
    (w.specs / "specs.yaml").write_text(specs + w.mapping(more=more))


def test_edits_are_delivered_and_a_second_plan_is_empty(
    w: World, servers: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """First delivery, a change under watch, and nothing left to do: through documented calls alone."""
    monkeypatch.setenv("PYTHONPATH", VENDOR + os.pathsep + os.environ.get("PYTHONPATH", ""))
    target = servers[1].receive_root / "paris"
    (w.source / "a").write_text("one")
    (w.source / "empty").mkdir()
    write(w, servers)
    w.start()
    eventually(lambda: tree(w.source) == tree(target), what="the first delivery")
    (w.source / "a").write_text("two, and longer")
    (w.source / "b").write_text("new")
    eventually(lambda: tree(w.source) == tree(target), what="the changes")
    w.in_sync()
    assert w.call("plan", str(w.specs), "--exit-code").returncode == 0
    w.stop()


def test_what_the_server_cannot_do_is_said(
    w: World, servers: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleting at the destination is not among the documented calls: the mapping says so and delivers."""
    monkeypatch.setenv("PYTHONPATH", VENDOR + os.pathsep + os.environ.get("PYTHONPATH", ""))
    (w.source / "a").write_text("one")
    (w.source / "b").write_text("two")
    write(w, servers, "prune: true")
    w.start()
    target = servers[1].receive_root / "paris"
    eventually(lambda: tree(w.source) == tree(target), what="the first delivery")
    w.in_sync()
    (w.source / "b").unlink()
    (w.source / "c").write_text("three")
    eventually((target / "c").exists, what="new files still go")
    told = eventually(
        lambda: [
            c["message"] for c in w.object("Mapping", "dailies")["conditions"] if "`prune" in c["message"]
        ],
        what="the condition names the field",
    )
    assert all("cannot delete" in text or "no way to delete" in text for text in told), told
    assert all("`prune: false`" in text for text in told), told
    assert (target / "b").exists()
    w.stop()


CONTROL = """
---
apiVersion: lanesync/v1
kind: Server
metadata: {{name: archive-ctl}}
spec: {{engine: jetstream, address: 127.0.0.1, port: {receiver}, client: vendor}}
"""


def test_a_control_server_does_what_the_sending_one_cannot(
    w: World, servers: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that left the source leave the destination, one that was renamed is renamed there, and what
    somebody removed there is noticed: through documented calls of the receiving side alone."""
    monkeypatch.setenv("PYTHONPATH", VENDOR + os.pathsep + os.environ.get("PYTHONPATH", ""))
    target = servers[1].receive_root / "paris"
    for name in ("a", "b", "d/c"):
        (w.source / name).parent.mkdir(exist_ok=True)
        (w.source / name).write_text(name)
    write(w, servers, "prune: true\ndrift: {policy: correct, interval: 2s}")
    specs = (
        (w.specs / "specs.yaml")
        .read_text()
        .replace("spec: {server:", "spec: {controlServer: archive-ctl, server:")
    )
    (w.specs / "specs.yaml").write_text(specs + CONTROL.format(receiver=servers[1].port))
    w.start()
    eventually(lambda: tree(w.source) == tree(target), what="the first delivery")
    w.in_sync()
    (w.source / "b").unlink()
    eventually(lambda: not (target / "b").exists(), what="the deletion")
    inode = (target / "a").stat().st_ino
    (w.source / "a").rename(w.source / "e")
    eventually(lambda: (target / "e").exists() and not (target / "a").exists(), what="the renaming")
    assert (target / "e").stat().st_ino == inode, "renamed there, not sent again"
    (target / "d/c").unlink()
    eventually((target / "d/c").exists, what="what was removed there is sent again")
    w.in_sync()
    told = [c["message"] for c in w.object("Mapping", "dailies")["conditions"]]
    assert not [text for text in told if "cannot delete" in text or "has no effect" in text]
    w.stop()


def test_files_are_sent_while_the_control_server_is_away(
    w: World, servers: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The destination says what waits for it."""
    monkeypatch.setenv("PYTHONPATH", VENDOR + os.pathsep + os.environ.get("PYTHONPATH", ""))
    (w.source / "a").write_text("one")
    write(w, servers, "prune: true")
    specs = (w.specs / "specs.yaml").read_text()
    specs = specs.replace("spec: {server:", "spec: {controlServer: archive-ctl, server:")
    (w.specs / "specs.yaml").write_text(specs + CONTROL.format(receiver=1))
    w.start()
    eventually(lambda: tree(w.source) == tree(servers[1].receive_root / "paris"), what="the delivery")
    eventually(
        lambda: [
            c
            for c in w.object("Destination", "archive")["conditions"]
            if "Server/archive-ctl" in c["message"]
        ],
        what="the destination says what is missing",
    )
    w.stop()


def test_a_missing_module_is_named(w: World, servers: tuple[Server, Server]) -> None:
    """Without the vendor's module the server stalls, and says what to install."""
    write(w, servers)
    w.start()
    found = eventually(
        lambda: next(
            (c for c in w.object("Server", "studio").get("conditions", []) if c["type"] == "Stalled"), None
        ),
        what="the server stalls",
    )
    assert "`jetstream`" in found["message"]
    assert "install it" in found["message"]
    w.stop()
