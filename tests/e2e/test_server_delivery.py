"""Two real servers: what the control process makes of real transfers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import Server, eventually, server_pair

from agent.jetstream import APIInterface, constants

pytestmark = pytest.mark.e2e

SLOW = 8_000  # kbit/s: 1 MB/s


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    with server_pair(tmp_path) as servers:
        yield servers


def _start(api: APIInterface, receiver: Server, mappings: dict[str, Any], **params: Any) -> dict[str, Any]:
    destination = api.send.createDestination("127.0.0.1", destinationPort=receiver.port, permanent=True)
    manifest = api.send.waitForManifest(api.send.createManifest(mappings=mappings))
    assert manifest["status"] == "complete", manifest
    made = api.send.createTransfer(destination, manifest, **params)
    assert made["processing"]
    return dict(made)


def _large(folder: Path, size: int = 8_000_000) -> Path:
    path = folder / "large"
    path.write_bytes(os.urandom(size))
    return path


def _moving(api: APIInterface, transfer: dict[str, Any]) -> bool:
    found = api.send.getTransfer(transfer)
    return found["status"] == "sending" and found["bytesSent"] > 0


def test_a_tree_arrives_and_is_accounted_for(pair: tuple[Server, Server], tmp_path: Path) -> None:
    """Contents are there; flags and per-file results agree; a source that is gone is told as such, holds up
    nothing, and makes the transfer end in an error that names it, unless it was to be skipped."""
    sender, receiver = pair
    source = tmp_path / "tree"
    (source / "sub").mkdir(parents=True)
    (source / "empty").mkdir()
    (source / "sub" / os.fsdecode(b"\xff")).write_bytes(b"odd")
    (source / "a").write_bytes(b"12345")
    missing = {"src": str(tmp_path / "missing"), "size": 4}
    with sender.api() as api:
        made = _start(api, receiver, {"/t": str(source), "/m": missing}, destinationPath="/base")
        ended = api.send.waitForTransfer(made)
        assert (ended["status"], ended["totalFiles"], ended["filesComplete"]) == ("error", 4, 3)
        assert str(tmp_path / "missing") in ended["errorMessage"]
        skipping = constants.DEFAULT_TRANSFER_FLAGS | constants.TRANSFER_FLAG_SKIP_VANISHED
        again = api.send.createTransfer(made, made, "/again", transferFlags=skipping)
        assert api.send.waitForTransfer(again)["status"] == "complete"
        flags = api.send.getTransfer(made, getCompleteFlags=True)["completeFlags"]
        assert sorted(flags) == [False, True, True, True]
        files = api.lanesync.getTransferResults(made["transferId"])["files"]
    outcomes = {file["path"]: file["outcome"] for file in files}
    odd = f"/base/t/sub/{os.fsdecode(bytes([255]))}"
    expected = {
        "/base/t/a": "delivered",
        odd: "delivered",
        "/base/t/empty": "delivered",
        "/base/m": "vanished",
    }
    assert outcomes == expected
    arrived = receiver.receive_root / "base" / "t"
    assert (arrived / "a").read_bytes() == b"12345" and (arrived / "empty").is_dir()


def test_a_transfer_is_suspended_slowed_and_sped_up_while_it_runs(
    pair: tuple[Server, Server], tmp_path: Path
) -> None:
    """Suspension stops the bytes, resuming goes on, a new rate acts at once."""
    sender, receiver = pair
    large = _large(tmp_path)
    with sender.api() as api:
        made = _start(api, receiver, {"/large": str(large)}, sendRateMax=SLOW)
        eventually(lambda: _moving(api, made))
        api.send.suspendTransfer(made)
        paused = api.send.getTransfer(made)
        assert (paused["status"], paused["processing"]) == ("suspended", False)
        assert not (receiver.receive_root / "large").exists()
        api.send.resumeTransfer(made)
        api.send.setTransferSendRateMax(made, -1)
        assert api.send.waitForTransfer(made)["status"] == "complete"
    assert (receiver.receive_root / "large").read_bytes() == large.read_bytes()


@pytest.mark.parametrize("pause", ["suspend", "restart"])
def test_progress_inside_a_file_outlasts_a_pause(
    pair: tuple[Server, Server], tmp_path: Path, pause: str
) -> None:
    """Neither suspending nor SIGTERM takes back what getTransfer counts, and nothing is sent twice."""
    sender, receiver = pair
    large = _large(tmp_path)
    with sender.api() as api:
        made = _start(api, receiver, {"/large": str(large)}, sendRateMax=SLOW)
        eventually(lambda: api.send.getTransfer(made)["bytesSent"] > 2_000_000)
        before = api.send.getTransfer(made)["bytesSent"]
        if pause == "suspend":
            api.send.suspendTransfer(made)
            assert api.send.getTransfer(made)["bytesSent"] >= before
    sender.restart()
    with sender.api() as api:
        assert api.send.getTransfer(made)["bytesSent"] >= before
        if pause == "suspend":
            api.send.resumeTransfer(made)
        found = eventually(lambda: _moving(api, made) and api.send.getTransfer(made))
        assert found["bytesSent"] >= before
        api.send.setTransferSendRateMax(made, -1)
        ended = api.send.waitForTransfer(made)
        assert (ended["status"], ended["bytesSent"]) == ("complete", large.stat().st_size)
    assert (receiver.receive_root / "large").read_bytes() == large.read_bytes()


def test_a_killed_control_process_goes_on_by_itself(pair: tuple[Server, Server], tmp_path: Path) -> None:
    """After kill -9 in mid-transfer and a start, the transfer completes without any call."""
    sender, receiver = pair
    large = _large(tmp_path)
    with sender.api() as api:
        made = _start(api, receiver, {"/large": str(large)}, sendRateMax=SLOW, checkpointFrequencySeconds=1)
        eventually(lambda: _moving(api, made))
    sender.kill()
    sender.start()
    with sender.api() as api:
        eventually(lambda: _moving(api, made))
        api.send.setTransferSendRateMax(made, -1)
        assert api.send.waitForTransfer(made)["status"] == "complete"
    assert (receiver.receive_root / "large").read_bytes() == large.read_bytes()


@pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])
def test_a_deleted_transfer_leaves_nothing_at_the_receiver(
    pair: tuple[Server, Server], tmp_path: Path, restart: bool
) -> None:
    """The partial file of a suspended transfer goes with it, also when another sender worker runs by then."""
    sender, receiver = pair
    with sender.api() as api:
        made = _start(api, receiver, {"/large": str(_large(tmp_path))}, sendRateMax=SLOW)
        eventually(lambda: _moving(api, made))
        api.send.suspendTransfer(made)
    assert _leftovers(receiver)
    if restart:
        sender.restart()
    with sender.api() as api:
        api.send.deleteTransfer(made)
        eventually(lambda: not _leftovers(receiver), what="the partial file is removed")


def test_a_failed_transfer_sends_nothing_more(pair: tuple[Server, Server], tmp_path: Path) -> None:
    """When failTransfer returns, nothing of it arrives later and nothing is left."""
    sender, receiver = pair
    with sender.api() as api:
        made = _start(api, receiver, {"/large": str(_large(tmp_path))}, sendRateMax=SLOW)
        eventually(lambda: _moving(api, made))
        api.send.failTransfer(made, "not wanted")
        assert api.send.getTransfer(made)["errorMessage"] == "not wanted"
        eventually(lambda: not _leftovers(receiver), what="the partial file is removed")
    assert not (receiver.receive_root / "large").exists()


def test_pings_and_receiver_records(pair: tuple[Server, Server], tmp_path: Path) -> None:
    """A ping shows on the destination; the receiver's side knows transfer and source."""
    sender, receiver = pair
    (tmp_path / "f").write_text("x")
    with sender.api() as api, receiver.api() as far:
        made = _start(api, receiver, {"/f": str(tmp_path / "f")})
        api.send.waitForTransfer(made)
        before = api.send.getDestination(made)["lastRecvTime"]
        api.send.schedulePing(made, 2)
        after = api.send.getDestination(made)
        assert after["lastRecvTime"] > before and after["encryptedConnectionState"] == "connected"
        assert after["lastReceiverDestinationId"] == far.server.getServerInfo()["serverId"]
        found = eventually(
            lambda: [item for item in far.recv.getTransfers() if item["status"] == "complete"],
            what="the receiver tells of the transfer",
        )
        assert found[0]["sourceIP"] == "127.0.0.1"
        assert far.recv.getSources()[0]["completeTransferCount"] == 1


def _leftovers(receiver: Server) -> list[Path]:
    staging = receiver.receive_root / ".lanesync"
    try:
        return [path for path in staging.rglob("*") if path.is_file()]
    except FileNotFoundError:
        return []  # removed while we looked
