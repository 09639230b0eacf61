"""Every field of every structure is there, of its type, and means what docs/jetstream-api.md says."""

from __future__ import annotations

import socket
import time
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from documented import ADDRESS, NAME, SLOW, Documented, documented, manifest, tree
from freeports import free_port
from servers import eventually

from agent.jetstream import APIInterface, CommandError, constants, structures

pytestmark = pytest.mark.e2e

US = 1_000_000


@pytest.fixture(scope="module")
def w(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Documented]:
    with documented(tmp_path_factory.mktemp("documents")) as servers:
        yield servers


@pytest.fixture
def api(w: Documented) -> Iterator[APIInterface]:
    with w.anna() as connected:
        yield connected


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tree(tmp_path)


# Structures: every field, its type and its meaning


def _is(value: object, hint: Any) -> bool:
    """Whether a JSON value is of the annotated kind; an int is no float and a bool no int."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_is(value, each) for each in inner)
    if origin is list:
        return isinstance(value, list) and all(_is(each, inner[0]) for each in value)
    if origin is dict:
        return isinstance(value, dict) and all(_is(each, inner[1]) for each in value.values())
    if origin is typing.NotRequired:
        return _is(value, inner[0])
    if typing.is_typeddict(hint):
        return isinstance(value, dict) and _as(value, hint) == {}
    return value is None if hint is type(None) else type(value) is hint


def _as(structure: dict[str, Any], kind: Any) -> dict[str, Any]:
    """What does not fit: fields that the type has not, or of another kind."""
    hints = typing.get_type_hints(kind)
    return {name: value for name, value in structure.items() if not _is(value, hints.get(name, type(None)))}


def _collect(api: APIInterface, w: Documented, source: Path) -> dict[str, list[dict[str, Any]]]:
    """Structures of every kind, old and fresh ones."""
    send, server = api.send, api.server
    made_of = manifest(api, source)
    fresh = w.destination(api)
    before = [dict(send.getDestination(fresh)), dict(send.getConnection(fresh))]
    made = send.createTransfer(fresh, made_of, userData={"k": "v"})
    ended = send.waitForTransfer(made)
    request = api.server.lsRootsAsync()
    with w.receiver.api() as receiver:
        received, sources = receiver.recv.getTransfers(), receiver.recv.getSources()
    server.superuser()
    info = server.getServerInfo()
    files = send.getManifestFiles(made_of)
    server.mkdir("/made")
    found: dict[str, list[Any]] = {
        "Destination": [before[0], send.getDestination(fresh)],
        "Connection": [before[1], send.getConnection(fresh)],
        "Manifest": [send.createManifest(mappings={"/f": str(source)}), made_of],
        "ManifestFiles": [files],
        "FileMapping": list(files["fileMappings"]),
        "Transfer": [made, ended, send.getTransfer(ended, getCompleteFlags=True)],
        "ReceiveTransfer": list(received),
        "Source": list(sources),
        "Token": [send.createSharedToken(made_of), server.createAPIToken()],
        "ServerInfo": [info],
        "BandwidthLimits": [info["bandwidthLimits"]],
        "GarbageCollect": [server.getGarbageCollectSettings()],
        "Request": [request],
        "RequestStatus": [server.getRequestStatus(request)],
        "Listing": [server.ls("/")],
        "FileItem": list(server.ls("/")["entries"]),
        "Usage": [server.du("/")],
    }
    return found


def test_every_structure_has_exactly_its_fields_and_each_its_kind_of_value(
    api: APIInterface, w: Documented, source: Path
) -> None:
    """The client's types are what the server answers, field by field; the page is held to the types."""
    for kind, found in _collect(api, w, source).items():
        typed = getattr(structures, kind)
        assert found, kind
        assert [_as(each, typed) for each in found] == [{}] * len(found), kind
        assert set().union(*found) == set(typed.__annotations__), kind


def test_a_destination_tells_who_answers_and_when(api: APIInterface, w: Documented, source: Path) -> None:
    """Nulls before the first contact; then the receiver's ids, times and what waits."""
    began = time.time_ns() // 1000
    made = w.destination(api)
    unknown = (
        "lastDestinationServerId",
        "lastDestinationServerUid",
        "lastRecvTime",
        "lastSendTime",
        "lastError",
    )
    assert [made[name] for name in unknown] == [None] * 5
    assert (made["encryptedConnectionState"], made["lastErrorMessage"]) == ("disconnected", "")
    transfer = api.send.createTransfer(made, manifest(api, source), sendRateMax=SLOW)
    api.send.schedulePing(made, 1)
    during = api.send.getDestination(made)
    assert (during["encryptedConnectionState"], during["numTransfersQueued"]) == ("connected", 1)
    api.send.setTransferSendRateMax(transfer, -1)
    api.send.waitForTransfer(transfer)
    after = api.send.getDestination(made)
    with w.receiver.api() as receiver:
        info = receiver.server.getServerInfo()
    assert (after["lastDestinationServerId"], after["lastDestinationServerUid"]) == (
        info["serverId"],
        info["serverUid"],
    )
    assert after["lastReceiverDestinationId"] == info["serverId"] and after["numTransfersQueued"] == 0
    assert all(began <= after[name] <= time.time_ns() // 1000 for name in ("lastRecvTime", "lastSendTime"))


def test_a_destination_that_nobody_answers_for_says_why(api: APIInterface, source: Path) -> None:
    """lastError and lastErrorMessage name the address; the transfer goes on waiting."""
    nobody = api.send.createDestination("127.0.0.1", destinationPort=free_port())
    transfer = api.send.createTransfer(nobody, manifest(api, source))
    found = eventually(lambda: (d := api.send.getDestination(nobody))["lastError"] and d)
    assert str(nobody["destinationPort"]) in found["lastErrorMessage"]
    assert found["lastDestinationServerId"] is None and api.send.getTransfer(transfer)["processing"]
    api.send.failTransfer(transfer)


def test_an_encrypted_destination_shows_the_key_of_the_receiver(
    api: APIInterface, w: Documented, source: Path
) -> None:
    """destinationPublicKey is what the receiver has shown, permitted… what it has to be."""
    with w.receiver.api() as receiver:
        key = receiver.server.getServerInfo()["publicKey"]
    made = w.destination(api, authenticateDestination=True, destinationPublicKey=key)
    assert (made["permittedDestinationPublicKey"], made["destinationPublicKey"]) == (key, None)
    api.send.waitForTransfer(api.send.createTransfer(made, manifest(api, source)))
    found = api.send.getDestination(made)
    assert (found["destinationPublicKey"], found["encryptionEnabled"]) == (key, True)
    connection = api.send.getConnection(made)
    assert (connection["destinationPublicKey"], connection["encryptionEnabled"]) == (key, True)
    with w.receiver.api() as receiver:
        keys = {
            (each["destinationPublicKey"], each["encryptionEnabled"]) for each in receiver.recv.getSources()
        }
    assert (api.server.getServerInfo()["publicKey"], True) in keys


def test_a_connection_tells_of_the_latest_of_its_destinations(
    api: APIInterface, w: Documented, source: Path
) -> None:
    """Destinations that reach the same server share it; its times are of who was in touch last."""
    first, second = w.destination(api), w.destination(api)
    assert first["connectionId"] == second["connectionId"] != first["destinationId"]
    api.send.schedulePing(first, 1)
    api.send.schedulePing(second, 1)
    shared, latest = api.send.getConnection(first), api.send.getDestination(second)
    both = {*structures.Connection.__annotations__} & {*structures.Destination.__annotations__}
    assert len(both) >= 14
    of_its_own = {"sendRateMax", "relayPort"}
    assert {name: shared[name] for name in both - of_its_own} == {
        name: latest[name] for name in both - of_its_own
    }
    assert (shared["destinationIP"], shared["destinationPort"]) == ("127.0.0.1", w.receiver.port)
    assert shared["relayIP"] is None and shared["relayPort"] is None
    assert shared["connectionId"] in {each["connectionId"] for each in api.send.getConnections()}
    assert len(api.send.getConnections(limit=1)) == 1
    content = manifest(api, source)
    made = [api.send.createTransfer(each, content, sendRateMax=SLOW) for each in (first, second)]
    assert api.send.getConnection(first)["numTransfersQueued"] == 2
    for each in made:
        api.send.failTransfer(each)


def test_a_manifest_that_fails_says_why_and_is_no_exception(api: APIInterface, tmp_path: Path) -> None:
    """status error, processing False; a transfer of it is refused with that reason."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a/f").write_text("1")
    (tmp_path / "f").write_text("2")
    both = {"/t": str(tmp_path / "a"), "/t/f": str(tmp_path / "f")}
    failed = api.send.waitForManifest(api.send.createManifest(mappings=both))
    assert (failed["status"], failed["processing"]) == ("error", False)
    assert "/t/f" in str(failed["errorMessage"])
    destination = api.send.createDestination("127.0.0.1")
    with pytest.raises(CommandError, match="/t/f"):
        api.send.createTransfer(destination, failed)


def test_file_mappings_tell_path_size_mode_and_time(api: APIInterface, source: Path) -> None:
    """Sizes are bytes, times microseconds; an empty directory has size 0."""
    made_of = manifest(api, source)
    found = api.send.getManifestFiles(made_of)
    assert found["manifestId"] == made_of["manifestId"]
    files = {f["destPath"].removeprefix(f"/{source.parent.name}"): f for f in found["fileMappings"]}
    large, empty = files["/sub/large"], files["/empty"]
    assert large["srcPath"] == str(source / "sub/large") and large["fileSize"] == 200_001
    assert (large["executable"], large["isEmptyDir"]) == (True, False)
    assert large["modificationTime"] == 1_234_567_891_000_000
    assert (empty["isEmptyDir"], empty["fileSize"]) == (True, 0)
    assert len(api.send.getManifestFiles(made_of, limit=1)["fileMappings"]) == 1


def test_times_and_totals_of_a_transfer(api: APIInterface, w: Documented, source: Path) -> None:
    """requestTime is the wall clock's; the others follow in order. Blocks are counted from bytes."""
    wall = time.time_ns() // 1000
    options: dict[str, Any] = {"priority": 7, "priorityLane": "Low", "timeoutSeconds": 60, "sendRateMax": 1e6}
    ended = w.done(api, source, destinationPath="/to", checkpointFrequencySeconds=0, **options)
    times = [ended[name] for name in ("requestTime", "queueTime", "startTime", "endTime", "snapshotTime")]
    assert times == sorted(times) and wall <= times[0] <= wall + 60 * US
    assert (ended["totalFiles"], ended["totalBytes"], ended["totalBlocks"]) == (2, 200_001, 782)
    assert ended["bytesSent"] == ended["bytesAcked"] == 200_001 and ended["filesComplete"] == 2
    assert (ended["blockSize"], ended["blocksSent"], ended["blocksAcked"]) == (256, 782, 782)
    assert ended["packetsSent"] > 0 and ended["packetsRecv"] > 0 and ended["bytesRecv"] > 0
    assert (ended["priority"], ended["priorityLane"], ended["timeoutSeconds"]) == (7, "Low", 60.0)
    assert (ended["destinationPath"], ended["checkpointFrequencySeconds"], ended["sendRateMax"]) == (
        "/to",
        None,
        1e6,
    )
    assert api.send.getTransfer(ended, getCompleteFlags=True)["completeFlags"] == [True, True]
    assert "completeFlags" not in api.send.getTransfer(ended)
    written = w.receiver.receive_root / "to" / source.parent.name / "sub/large"
    assert written.read_bytes() == (source / "sub/large").read_bytes()


def test_the_receiver_tells_of_a_transfer_while_it_comes(
    api: APIInterface, w: Documented, source: Path
) -> None:
    """receiving, then complete; an interruption has a time and is no failure. Rates are kbit/s."""
    transfer = w.slow(api, source, destinationPath="/watched")

    def received() -> Any:
        return next(t for t in there.recv.getTransfers() if t["destinationPath"] == "/watched")

    with w.receiver.api() as there:
        during = received()
        assert (during["status"], during["totalSize"], during["sourceIP"]) == (
            "receiving",
            200_001,
            "127.0.0.1",
        )
        assert during["lastSendTime"] <= time.time_ns() // 1000
        assert during["lastErrorTime"] is None and 0 < during["sourcePort"] < 65536
        (source_of,) = there.recv.getSources()
        assert source_of["activeTransferCount"] >= 1 and source_of["encryptedConnectionState"] == "connected"
        eventually(lambda: there.recv.getSources()[0]["aveRecvRateWindow"] > 0)
        api.send.suspendTransfer(transfer)
        paused = eventually(lambda: (t := received())["lastErrorTime"] and t)
        assert paused["status"] == "receiving"
        assert there.recv.getSources()[0]["inactiveTransferCount"] >= 1
        api.send.resumeTransfer(transfer)
        api.send.setSendRateMax(transfer, -1)
        api.send.waitForTransfer(transfer)
        after = eventually(lambda: (t := received())["status"] == "complete" and t)
        assert after["transferId"] == during["transferId"]
        assert after["lastRecvTime"] >= during["lastRecvTime"]


def test_what_is_made_with_a_token_names_it(api: APIInterface, w: Documented, source: Path) -> None:
    """ownerToken is the token's id, ownerTokenSession the log-in; both null for what an account made."""
    token = api.server.createAPIToken(description="for the night shift", timeLimitSeconds=60)
    assert token["expiryTime"] == token["creationTime"] + 60 * US and token["path"] == ""
    assert token["permissions"] == constants.PERMISSIONS_ALL and token["passwordRequired"] is False
    with w.sender.api() as holder:
        holder.server.authToken(token["token"])
        made = [w.destination(holder), manifest(holder, source)]
        made.append(holder.send.createTransfer(*made))
        assert {(each["owner"], each["ownerToken"]) for each in made} == {("anna", token["tokenId"])}
        assert len({each["ownerTokenSession"] for each in made} - {None}) == 1
        holder.send.waitForTransfer(made[2])
    own = w.destination(api)
    assert (own["owner"], own["ownerToken"], own["ownerTokenSession"]) == ("anna", None, None)


def test_the_server_information_means_what_it_says(api: APIInterface, w: Documented) -> None:
    """Ids, names, days of the certificate; the configuration is for superusers."""
    with w.sender.api() as stranger:
        assert set(stranger.server.getServerInfo()) == {
            *("apiVersion", "version", "authRequired", "serverName", "publicKey", "lanesync")
        }
    info = api.server.getServerInfo()
    assert "configuration" not in info
    assert (info["apiVersion"], info["authRequired"], info["allowRemoteControl"]) == (40, True, False)
    assert info["license"] == {"name": "Apache-2.0", "keyRequired": False} and info["eventLogAvailable"]
    assert info["revision"] >= 1000 and info["version"].count(".") == 2
    assert (info["serverName"], info["serverExternalAddress"]) == (NAME, ADDRESS)
    assert (info["hostName"], info["apiControlPort"]) == (socket.gethostname(), w.sender.port)
    assert 300 < (info["certificateValidation"] or 0) < 4000
    assert info["receiver"] == {"port": w.sender.port, "relay": None}
    assert (info["minCipher"], info["multiplexAvailable"], info["encryptionAvailable"]) == (0, True, True)
    assert len(info["serverId"]) == len(info["serverUid"]) == 32 and info["serverId"] != info["serverUid"]
    api.server.superuser()
    configuration = api.server.getServerInfo()["configuration"]
    assert set(configuration) == {
        *("listen", "stateDir", "receiveRoot", "accounts", "superusers", "sandboxDir", "streams"),
        *("checkpointSeconds", "garbageCollect", "sharedTokens", "APITokens", "reserve"),
    }
    assert configuration["garbageCollect"] == api.server.getGarbageCollectSettings()
    assert configuration["receiveRoot"] == str(w.sender.receive_root)


def test_a_restart_changes_the_id_of_a_server_and_keeps_its_uid(w: Documented) -> None:
    """serverId is of one launch, serverUid of the state directory; the key stays."""
    with w.receiver.api() as api:
        before = api.server.getServerInfo()
    w.receiver.restart()
    with w.receiver.api() as api:
        after = api.server.getServerInfo()
    assert before["serverId"] != after["serverId"]
    assert (before["serverUid"], before["publicKey"]) == (after["serverUid"], after["publicKey"])
