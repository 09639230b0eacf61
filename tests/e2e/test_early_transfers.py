"""Transfers of a real server that begin while it still walks their sources."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from servers import server_pair

from agent.jetstream import CommandError, constants

pytestmark = pytest.mark.e2e

EARLY = constants.DEFAULT_TRANSFER_FLAGS | constants.TRANSFER_FLAG_EARLY
FILES, TIMES = 500, 60


def tree(folder: Path) -> dict[str, str]:
    """Mappings of few files that take long to walk: the same ones again and again."""
    folder.mkdir()
    for number in range(FILES):
        (folder / f"{number}").touch()
    return {f"/tree/{number}": str(folder) for number in range(TIMES)}


def test_a_transfer_may_begin_before_its_manifest_is_complete(tmp_path: Path) -> None:
    """Only when it asks for that; its totals are those of the whole manifest in the end."""
    mappings = tree(tmp_path / "source")
    with server_pair(tmp_path) as (sender, receiver), sender.api() as api:
        assert "early" in api.server.getServerInfo()["lanesync"]["extensions"]
        destination = api.send.createDestination("127.0.0.1", destinationPort=receiver.port)
        manifest = api.send.createManifest(mappings=mappings)
        with pytest.raises(CommandError, match="is not complete yet"):
            api.send.createTransfer(destination, manifest)
        transfer = api.send.createTransfer(destination, manifest, transferFlags=EARLY)
        assert api.send.getManifest(manifest)["status"] == "pending"
        ended = api.send.waitForTransfer(transfer)
        whole = api.send.getManifest(manifest)
        assert (ended["status"], whole["status"]) == ("complete", "complete")
        assert ended["totalFiles"] == ended["filesComplete"] == whole["totalFiles"] == FILES * TIMES
        for number in range(TIMES):
            assert len(list((receiver.receive_root / "tree" / f"{number}").iterdir())) == FILES


def test_a_manifest_that_is_deleted_meanwhile_ends_its_transfer(tmp_path: Path) -> None:
    """It will never be complete, and nobody waits for it."""
    with server_pair(tmp_path) as (sender, receiver), sender.api() as api:
        destination = api.send.createDestination("127.0.0.1", destinationPort=receiver.port)
        manifest = api.send.createManifest(mappings=tree(tmp_path / "source"))
        transfer = api.send.createTransfer(destination, manifest, transferFlags=EARLY)
        api.send.deleteManifest(manifest)
        ended = api.send.waitForTransfer(transfer)
        assert (ended["status"], ended["errorMessage"]) == ("error", "the manifest was deleted")


def test_a_restart_before_the_manifest_was_complete_ends_its_transfer(tmp_path: Path) -> None:
    """What was listed is delivered; the transfer does not pass for complete."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "listed").write_bytes(b"content")
    with server_pair(tmp_path) as (sender, receiver):
        port = receiver.port
        receiver.stop()
        with sender.api() as api:
            destination = api.send.createDestination("127.0.0.1", destinationPort=port)
            manifest = api.send.createManifest(mappings={"/tree": str(tmp_path / "source")})
            transfer = api.send.createTransfer(destination, manifest, transferFlags=EARLY)
            api.send.waitForManifest(manifest)
        sender.kill()
        with sqlite3.connect(sender.state_dir / "server.db") as db:  # as if the walk had not ended
            db.execute("UPDATE manifests SET status='pending', total_files=NULL, total_size=NULL")
        db.close()
        receiver.start()
        sender.start()
        with sender.api() as api:
            ended = api.send.waitForTransfer(transfer)
        assert ended["status"] == "error"
        assert ended["errorMessage"].startswith("the server was restarted before the manifest was complete")
        assert (receiver.receive_root / "tree" / "listed").read_bytes() == b"content"
