"""Real servers run real programs when something happens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from servers import Server, eventually, start_server

pytestmark = pytest.mark.e2e

EVENTS = (
    "launch",
    "send.destinationCreated",
    "send.destinationDeleted",
    "send.transferComplete",
    "recv.transferComplete",
)


def _triggers(folder: Path) -> Path:
    """A directory of programs that write down their arguments, one a line."""
    folder.mkdir(mode=0o755)
    for event in EVENTS:
        program = folder / event
        told = folder / f"{event}.out"
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {told}.new && mv {told}.new {told}\n')
        program.chmod(0o755)
    return folder


def _told(folder: Path, event: str) -> list[str]:
    """The arguments of an event's program, once it has run."""
    path = folder / f"{event}.out"
    eventually(path.exists, what=f"{event} is run")
    found = path.read_text().split("\n")[:-1]
    path.unlink()
    return found


def test_programs_are_told_what_happens_at_both_ends(tmp_path: Path) -> None:
    sending, receiving = _triggers(tmp_path / "sending"), _triggers(tmp_path / "receiving")
    (tmp_path / "a file").write_text("hello")
    with (
        start_server(tmp_path / "receiver", trigger_dir=receiving) as receiver,
        start_server(tmp_path / "sender", trigger_dir=sending) as sender,
        sender.api() as api,
    ):
        near, far = f"127.0.0.1:{sender.port}", f"127.0.0.1:{receiver.port}"
        assert _told(sending, "launch") == [str(sender.port)]
        destination = api.send.createDestination("127.0.0.1", destinationPort=receiver.port)
        assert _told(sending, "send.destinationCreated") == [far, near]
        mappings = {"/x": str(tmp_path / "a file")}
        manifest = api.send.waitForManifest(api.send.createManifest(mappings=mappings))
        made = api.send.createTransfer(destination, manifest, destinationPath="/to here")
        told = _told(sending, "send.transferComplete")
        assert told == [str(made["transferId"]), "complete", far, "/to here", "1", "5", ""]
        _, status, source, path, size = _told(receiving, "recv.transferComplete")
        assert (status, source.rpartition(":")[0], path, size) == ("complete", "127.0.0.1", "/to here", "5")
        api.send.deleteTransfer(made)
        api.send.deleteDestination(destination)
        assert _told(sending, "send.destinationDeleted") == [far, near]


def test_a_failed_transfer_tells_so(tmp_path: Path) -> None:
    """Whether the transfer failed or was failed by a call."""
    folder = _triggers(tmp_path / "triggers")
    with start_server(tmp_path / "sender", trigger_dir=folder) as sender, sender.api() as api:
        destination = api.send.createDestination("127.0.0.1", destinationPort=1)
        (tmp_path / "f").write_text("x")
        manifest = api.send.waitForManifest(api.send.createManifest(mappings={"/f": str(tmp_path / "f")}))
        made = api.send.createTransfer(destination, manifest)
        api.send.failTransfer(made, "not wanted")
        assert _told(folder, "send.transferComplete")[1::5] == ["error", "not wanted"]
        api.send.createTransfer(destination, manifest, timeoutSeconds=0.5)
        told = _told(folder, "send.transferComplete")
        assert told[1] == "error" and "no connection" in told[-1]


def test_a_program_that_fails_or_hangs_does_not_hurt_transfers(tmp_path: Path) -> None:
    """The transfer completes at once, the failure is in the log, and the server stops in time."""
    folder = _triggers(tmp_path / "triggers")
    (folder / "send.transferComplete").write_text("#!/bin/sh\necho it is broken >&2\nexit 7\n")
    (folder / "send.destinationCreated").write_text("#!/bin/sh\nsleep 1000\n")
    (folder / "recv.transferComplete").write_text("#!/bin/sh\ntouch never\n")
    (folder / "recv.transferComplete").chmod(0o777)
    with start_server(tmp_path / "server", trigger_dir=folder) as server, server.api() as api:
        destination = api.send.createDestination("127.0.0.1", destinationPort=server.port)
        (tmp_path / "f").write_text("x")
        manifest = api.send.waitForManifest(api.send.createManifest(mappings={"/f": str(tmp_path / "f")}))
        made = api.send.createTransfer(destination, manifest)
        assert api.send.waitForTransfer(made)["status"] == "complete"
        ended = eventually(lambda: [entry for entry in _log(server) if entry.get("status") == 7])
        assert (ended[0]["trigger"], ended[0]["output"]) == ("send.transferComplete", "it is broken")
        refused = eventually(lambda: [entry for entry in _log(server) if entry["event"] == "trigger not run"])
        assert "can be written by others" in refused[0]["reason"]
        assert server.stop() == 0


def _log(server: Server) -> list[dict[str, object]]:
    return [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
