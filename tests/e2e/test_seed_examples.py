"""The examples of the public JetStream API documents, run against a live server that sends to itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from servers import Server, eventually, start_server

from agent.cli.api import command
from agent.jetstream import APIInterface, AuthenticationError, CommandError, JetStream, Jetstream, constants

pytestmark = pytest.mark.e2e

README = b"Please read me.\n" * 68 + b"..."  # 1091 bytes, as in the documents


def accounts_file(path: Path, user: str, password: str) -> Path:
    """An accounts file as documented, with one account."""
    salt = b"sixteen bytes ok"
    digest = hashlib.scrypt(password.encode(), salt=salt, n=16384, r=8, p=1, maxmem=2**26)
    account = {"scrypt": digest.hex(), "salt": salt.hex(), "n": 16384, "r": 8, "p": 1}
    path.write_text(json.dumps({"accounts": {user: account}}))
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("seed")
    accounts = accounts_file(folder / "accounts.json", "jsmith", "secret")
    with start_server(folder / "server", accounts=accounts) as started:
        yield started


@pytest.fixture
def api(server: Server) -> Iterator[APIInterface]:
    with Jetstream().api("localhost", server.port) as connected:
        connected.server.auth("jsmith", "secret")
        yield connected


@pytest.fixture
def readme(tmp_path: Path) -> Path:
    path = tmp_path / "readme.txt"
    path.write_bytes(README)
    return path


def shown(structure: dict[str, Any], *names: str) -> dict[str, Any]:
    """The fields that an example shows of a structure."""
    return {name: structure[name] for name in names}


def ready_manifest(api: APIInterface, readme: Path) -> Any:
    return api.send.waitForManifest(api.send.createManifest(mappings={"/docs/readme.txt": str(readme)}))


def slow_transfer(api: APIInterface, tmp_path: Path, server: Server) -> Any:
    """A transfer that takes minutes: 10 MB at 1 Mbit/s."""
    path = tmp_path / "large"
    path.write_bytes(b"l" * 10_000_000)
    manifest = api.send.waitForManifest(api.send.createManifest(mappings={f"/{tmp_path.name}": str(path)}))
    destination = api.send.createDestination(
        "localhost", sendRateMax=1000, destinationPort=server.port, exclusive=True
    )
    return api.send.createTransfer(destination, manifest)


def end(api: APIInterface, transfer: Any) -> None:
    if api.send.getTransfer(transfer)["processing"]:
        api.send.suspendTransfer(transfer)
    api.send.deleteTransfer(transfer)


# Connecting To A Server


def test_connecting_to_a_server(server: Server) -> None:
    """connect() by hand, in both spellings of the class."""
    for entry in (Jetstream, JetStream):
        api = entry().api("localhost", server.port)
        api.connect()
        assert api.connected
        api.disconnect()


def test_the_api_is_a_context_manager(server: Server) -> None:
    """The interface is connected inside `with` and disconnects by itself."""
    api = Jetstream().api("localhost", server.port)
    with api:
        assert api.server.getServerInfo()["apiVersion"] == constants.API_VERSION
    assert not api.connected


# Authenticating With a Server


def test_auth_returns_none_and_raises_on_error(server: Server) -> None:
    """The right password answers None, a wrong one raises, and nothing else works before."""
    with Jetstream().api("localhost", server.port) as api:
        with pytest.raises(AuthenticationError):
            api.send.getTransfers()
        with pytest.raises(AuthenticationError):
            api.server.auth("jsmith", "wrong")
        assert api.server.auth("jsmith", "secret") is None  # type: ignore[func-returns-value]
        assert isinstance(api.send.getTransfers(), list)


def test_authenticating_asynchronously(server: Server) -> None:
    """authAsync answers a request, whose status and result are documented."""
    with Jetstream().api("localhost", server.port) as api:
        request = api.server.authAsync("jsmith", "secret")
        assert list(request) == ["requestId"]
        status = eventually(lambda: (s := api.server.getRequestStatus(request))["processing"] is False and s)
        assert shown(status, "errorMessage", "processing", "status") == {
            "errorMessage": "",
            "processing": False,
            "status": "complete",
        }
        assert api.server.getRequestResult(request) is None
        assert isinstance(api.send.getTransfers(), list)


# Creating and monitoring a manifest


def test_creating_a_manifest(api: APIInterface, readme: Path) -> None:
    """The answer comes at once: pending, and nothing known yet."""
    manifest = api.send.createManifest(mappings={"/data/docs/readme.txt": str(readme)})
    names = ("status", "processing", "totalFiles", "totalSize", "errorMessage")
    assert shown(manifest, *names) == {
        "status": "pending",
        "processing": True,
        "totalFiles": None,
        "totalSize": None,
        "errorMessage": None,
    }
    assert manifest["manifestId"].isdigit()


def test_monitoring_a_manifest(api: APIInterface, readme: Path) -> None:
    """`processing` becomes False and `status` complete, with the totals."""
    made = api.send.createManifest(mappings={"/data/docs/readme.txt": str(readme)})
    polled = eventually(lambda: not (m := api.send.getManifest(made))["processing"] and m)
    assert shown(polled, "processing", "status", "manifestId") == {
        "processing": False,
        "status": "complete",
        "manifestId": made["manifestId"],
    }
    waited = api.send.waitForManifest(made)
    assert shown(waited, "status", "totalFiles", "totalSize", "manifestId") == {
        "status": "complete",
        "totalFiles": 1,
        "totalSize": 1091,
        "manifestId": made["manifestId"],
    }


def test_a_source_must_exist_at_the_time_of_the_call(api: APIInterface, tmp_path: Path) -> None:
    """The string form looks; the object form with a size does no I/O."""
    missing = str(tmp_path / "missing")
    with pytest.raises(CommandError, match="missing"):
        api.send.createManifest(mappings={"/a": missing})
    manifest = api.send.createManifest(
        mappings={
            "/storage/destinationFile.txt": {"src": missing, "size": 100},
            "/project/data/destinationEmptyDir": {"src": str(tmp_path / "emptyDir")},
        }
    )
    found = api.send.waitForManifest(manifest)
    assert shown(found, "status", "totalFiles", "totalSize")["status"] == "complete"
    files = {f["destPath"]: f for f in api.send.getManifestFiles(manifest)["fileMappings"]}
    assert files["/storage/destinationFile.txt"]["fileSize"] == 100
    assert files["/project/data/destinationEmptyDir"]["isEmptyDir"] is True


def test_directories_with_include_and_exclude(api: APIInterface, tmp_path: Path) -> None:
    """A real directory is traversed; patterns choose."""
    for name in ("a.mp3", "b.png", "sub/c.mp3", "sub/d.txt"):
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"1234")
    source = str(tmp_path / "source")
    whole = api.send.waitForManifest(api.send.createManifest(mappings={"/p": source}))
    assert (whole["totalFiles"], whole["totalSize"]) == (4, 16)
    chosen = api.send.createManifest(
        mappings={"/p": {"src": source, "exclude": ["*.png", "*.PNG"], "include": ["*.mp3"]}}
    )
    api.send.waitForManifest(chosen)
    files = {f["destPath"] for f in api.send.getManifestFiles(chosen)["fileMappings"]}
    assert files == {"/p/a.mp3", "/p/sub/c.mp3"}


# Creating a destination


def test_creating_a_destination(api: APIInterface, server: Server) -> None:
    """Address, port and IP are told; the same again is the same destination."""
    made = api.send.createDestination("localhost", destinationPort=server.port)
    names = ("destinationAddress", "destinationPort", "destinationIP")
    assert shown(made, *names) == {
        "destinationAddress": "localhost",
        "destinationPort": server.port,
        "destinationIP": "127.0.0.1",
    }
    assert made["destinationId"].isdigit()
    again = api.send.createDestination("localhost", destinationPort=server.port)
    assert again["destinationId"] == made["destinationId"]
    exclusive = api.send.createDestination("localhost", destinationPort=server.port, exclusive=True)
    assert exclusive["destinationId"] != made["destinationId"]
    api.send.deleteDestination(exclusive)


# Creating and monitoring a transfer


def test_creating_and_monitoring_a_transfer(api: APIInterface, server: Server, readme: Path) -> None:
    """From pending to complete, and the file is at its destination."""
    destination = api.send.createDestination("localhost", destinationPort=server.port)
    transfer = api.send.createTransfer(destination, ready_manifest(api, readme), destinationPath="/data")
    assert shown(transfer, "processing", "status", "destinationId") == {
        "processing": True,
        "status": "pending",
        "destinationId": destination["destinationId"],
    }
    assert transfer["transferId"].isdigit()
    polled = eventually(lambda: not (t := api.send.getTransfer(transfer))["processing"] and t)
    assert shown(polled, "processing", "status", "transferId") == {
        "processing": False,
        "status": "complete",
        "transferId": transfer["transferId"],
    }
    assert api.send.waitForTransfer(transfer)["status"] == "complete"
    assert (server.receive_root / "data/docs/readme.txt").read_bytes() == README
    assert transfer["transferId"] in {t["transferId"] for t in api.send.getTransfers(destination)}


def test_a_failed_transfer_says_why(api: APIInterface, server: Server, tmp_path: Path) -> None:
    """failTransfer ends in `error` with the given message."""
    transfer = slow_transfer(api, tmp_path, server)
    api.send.failTransfer(transfer, "the shoot was cancelled")
    ended = api.send.waitForTransfer(transfer)
    assert shown(ended, "processing", "status", "errorMessage") == {
        "processing": False,
        "status": "error",
        "errorMessage": "the shoot was cancelled",
    }
    end(api, transfer)


def test_suspending_and_resuming_a_transfer(api: APIInterface, server: Server, tmp_path: Path) -> None:
    """Request, status, result and the transfer's state are those of the documents."""
    send = api.send
    transfer = slow_transfer(api, tmp_path, server)
    eventually(lambda: send.getTransfer(transfer)["status"] == "sending")
    request = send.suspendTransferAsync(transfer)
    result = send.getRequestResult(request)
    assert send.getRequestStatus(request)["status"] == "complete"
    assert result["transferId"] == transfer["transferId"]
    assert shown(send.getTransfer(result), "status", "processing") == {
        "status": "suspended",
        "processing": False,
    }
    assert send.waitForTransfer(transfer)["status"] == "suspended"
    result = send.getRequestResult(send.resumeTransferAsync(transfer))
    assert send.getTransfer(result)["status"] in ("resuming", "sending")
    with pytest.raises(CommandError):
        send.resumeTransfer(transfer)
    with pytest.raises(CommandError):
        send.deleteTransfer(transfer)
    end(api, transfer)
    with pytest.raises(CommandError):
        send.getTransfer(transfer)


# The examples of single methods


def test_rates_lanes_and_priorities(api: APIInterface, server: Server, tmp_path: Path) -> None:
    """The results of the asynchronous setters are those of the documents."""
    send = api.send
    transfer = slow_transfer(api, tmp_path, server)
    destination = send.getDestination(transfer)
    result = send.getRequestResult(send.setSendRateMaxAsync(destination, sendRateMax=750))
    assert result == {"sendRateMax": 750.0}
    assert send.getRequestResult(send.setTransferSendRateMaxAsync(transfer, 500)) == {"sendRateMax": 500.0}
    moved = send.getRequestResult(send.setTransferPriorityAsync(transfer, 1, "High"))
    assert moved["transferId"] == transfer["transferId"]
    assert shown(send.getTransfer(transfer), "priority", "priorityLane") == {
        "priority": 1,
        "priorityLane": "High",
    }
    lanes = {"High": 0.5, "Normal": 0.3, "Low": 0.2, "Idle": 0.0}
    send.getRequestResult(send.setPriorityLanesAsync(destination, lanes))
    assert send.getDestination(destination)["priorityLanes"] == lanes
    for broken in ({}, {"High": 0.5}, {"High": 1.0, "A": 0.0, "B": 0.0}, {" ": 1.0}):
        with pytest.raises(CommandError):
            send.setPriorityLanes(destination, broken)
    end(api, transfer)


def test_user_data_on_every_object(api: APIInterface, server: Server, readme: Path) -> None:
    """Set, changed and removed on destination, manifest and transfer."""
    manifest = ready_manifest(api, readme)
    destination = api.send.createDestination("localhost", destinationPort=server.port)
    transfer = api.send.createTransfer(destination, manifest, userData={"shift": "night"})
    api.send.waitForTransfer(transfer)
    found = {
        "destination": (destination, api.send.getDestination),
        "manifest": (manifest, api.send.getManifest),
        "transfer": (transfer, api.send.getTransfer),
    }
    for structure, get in found.values():
        api.send.updateObjectUserData(structure, "colour", "red")
        assert get(structure)["userData"]["colour"] == "red"
        api.send.deleteObjectUserData(structure, "colour")
        assert "colour" not in get(structure)["userData"]
    assert api.send.getTransfer(transfer)["userData"] == {"shift": "night"}


def test_a_manifest_is_shared_by_token(api: APIInterface, server: Server, readme: Path) -> None:
    """The structure has a token by which others log in and see that manifest."""
    manifest = ready_manifest(api, readme)
    token = api.send.createSharedToken(manifest, downloadLimit=3, timeLimitSeconds=60, description="readme")
    with server.api() as other:
        other.server.authToken(token["token"])
        assert [found["manifestId"] for found in other.send.getManifests()] == [manifest["manifestId"]]
    assert api.send.updateSharedToken(token, description="read me") is None  # type: ignore[func-returns-value]
    assert api.send.getSharedToken(token)["description"] == "read me"
    assert api.send.deleteSharedToken(token) is None  # type: ignore[func-returns-value]
    assert api.send.getSharedTokens() == []
    with pytest.raises(CommandError, match="not found"):
        api.send.getSharedToken(token)


def test_the_server_describes_itself(api: APIInterface, server: Server) -> None:
    """getServerInfo has the documented fields."""
    info = api.server.getServerInfo()
    assert info["apiControlPort"] == server.port
    assert info["authRequired"] is True
    assert info["allowRemoteControl"] is False
    assert {"version", "serverId", "serverName", "hostName", "revision", "minCipher"} <= info.keys()
    assert api.server.echo("hello") == "hello"


def test_the_receiver_tells_what_came_and_from_whom(api: APIInterface, server: Server, readme: Path) -> None:
    """Receive Transfer and Source have the documented fields."""
    destination = api.send.createDestination("localhost", destinationPort=server.port)
    api.send.waitForTransfer(api.send.createTransfer(destination, ready_manifest(api, readme), "/received"))
    found = eventually(
        lambda: [
            t
            for t in api.recv.getTransfers()
            if t["destinationPath"] == "/received" and t["status"] == "complete"
        ]
    )
    names = "destinationPath lastErrorTime lastRecvTime lastSendTime sourceIP sourcePort status totalSize"
    assert {*names.split(), "transferId"} <= found[0].keys()
    assert (found[0]["sourceIP"], found[0]["status"]) == ("127.0.0.1", "complete")
    sources = api.server.getRequestResult(api.recv.getSourcesAsync())
    assert [source["sourceIP"] for source in sources] == ["127.0.0.1"]
    assert sources[0]["completeTransferCount"] >= 1


def test_an_account_that_is_no_superuser_is_refused(api: APIInterface) -> None:
    """superuser() says why, and the connection goes on."""
    with pytest.raises(CommandError, match="no superuser"):
        api.server.superuser()
    assert api.server.echo("still here") == "still here"


# The console


def test_the_console_prints_structures_as_json(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """One connection per call, the password from the environment, exit codes 0 and 1."""

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(command, [*arguments, "--port", str(server.port)])

    assert json.loads(run("getServerInfo").stdout)["apiVersion"] == constants.API_VERSION
    refused = run("send.getTransfers")
    assert refused.exit_code == 1
    assert "server.auth" in refused.stderr
    monkeypatch.setenv("JETSTREAM_API_PASSWORD", "secret")
    made = run("createDestination", "destinationAddress=127.0.0.1", "exclusive=true", "--user", "jsmith")
    assert made.exit_code == 0
    found = json.loads(made.stdout)["destinationId"]
    assert run("deleteDestination", f"destinationId={found}", "--user", "jsmith").stdout == "null\n"
    gone = run("getDestination", f"destinationId={found}", "--user", "jsmith")
    assert gone.exit_code == 1
    assert "not found" in gone.stderr
    monkeypatch.setenv("JETSTREAM_API_PASSWORD", "wrong password")
    assert run("getTransfers", "--user", "jsmith").exit_code == 1
