"""Every structure of a real server has the documented fields, and the client's types know all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from freeports import free_port
from servers import Server, start_server

from agent.jetstream import APIInterface, structures

pytestmark = pytest.mark.e2e

OWNED = "owner ownerToken ownerTokenSession userData"
DOCUMENTED = {
    "Destination": "connectionId destinationAddress destinationId destinationIP destinationPort "
    "destinationPublicKey encryptedConnectionState encryptionEnabled lastDestinationServerId "
    "lastDestinationServerUid lastError lastErrorMessage lastRecvTime lastSendTime numTransfersQueued "
    f"permittedDestinationPublicKey {OWNED}",
    "Connection": "connectionId destinationIP destinationPort destinationPublicKey "
    "encryptedConnectionState encryptionEnabled lastDestinationServerId lastDestinationServerUid lastError "
    "lastErrorMessage lastRecvTime lastSendTime numTransfersQueued rateControllerActive rateControlMethod "
    "relayIP relayPort",
    "Manifest": f"errorMessage manifestId processing status totalFiles totalSize {OWNED}",
    "ManifestFiles": "manifestId fileMappings",
    "FileMapping": "destPath executable fileSize isEmptyDir modificationTime srcPath",
    "Transfer": "blocksAcked blockSize blocksRetransmitted blocksSent bytesRecv bytesSent "
    "checkpointFrequencySeconds destinationId destinationPath endTime errorMessage manifestId packetsRecv "
    "packetsSent priority processing queueTime requestTime snapshotTime startTime status totalBlocks "
    f"totalBytes transferId {OWNED}",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with start_server(tmp_path_factory.mktemp("structures") / "server") as running:
        yield running


@pytest.fixture(scope="module")
def found(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One structure of each kind."""
    source: Path = tmp_path_factory.mktemp("source") / "f"
    source.write_text("12345")
    with server.api() as api:
        return _collect(api, source)


def _collect(api: APIInterface, source: Path) -> dict[str, Any]:
    send = api.send
    destination = send.createDestination("127.0.0.1", destinationPort=free_port())
    manifest = send.waitForManifest(send.createManifest(mappings={"/f": str(source)}))
    transfer = send.createTransfer(destination, manifest)
    files = send.getManifestFiles(manifest)
    return {
        "Destination": send.getDestination(destination),
        "Connection": send.getConnection(destination),
        "Manifest": manifest,
        "ManifestFiles": files,
        "FileMapping": files["fileMappings"][0],
        "Transfer": send.getTransfer(transfer, getCompleteFlags=True),
    }


@pytest.mark.parametrize("kind", sorted(DOCUMENTED))
def test_documented_fields_are_there_and_all_fields_are_typed(found: dict[str, Any], kind: str) -> None:
    """The documents' fields, by name; what the server adds is in the client's types as well."""
    fields = set(found[kind])
    assert set(DOCUMENTED[kind].split()) <= fields
    assert fields == set(getattr(structures, kind).__annotations__)


def test_a_fresh_transfer_has_no_times_but_its_request(found: dict[str, Any]) -> None:
    """Null while not valid; totals come from the manifest; nothing is counted before it is sent."""
    transfer = found["Transfer"]
    assert transfer["startTime"] is None and transfer["endTime"] is None
    assert transfer["requestTime"] <= transfer["snapshotTime"]
    assert (transfer["totalBytes"], transfer["totalBlocks"], transfer["totalFiles"]) == (5, 1, 1)
    counters = ("bytesSent", "bytesRecv", "blocksSent", "blocksAcked", "packetsSent", "packetsRecv")
    assert not any(transfer[name] for name in (*counters, "blocksRetransmitted", "filesComplete"))
    assert transfer["completeFlags"] == [False]
    assert all(type(transfer[name]) is int for name in (*counters, "requestTime", "priority"))
