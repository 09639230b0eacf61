"""What docs/jetstream-api.md says of methods, errors, requests and the console, where no other test does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from documented import Documented, documented, manifest, tree
from freeports import free_port
from servers import eventually

from agent.jetstream import APIInterface, CommandError, NotFoundError, constants

pytestmark = pytest.mark.e2e


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


# Requests, errors, and what follows a method's name


def test_a_request_is_pending_complete_or_failed(api: APIInterface, w: Documented, source: Path) -> None:
    """The status answers at once; the result waits, and raises what the request failed with."""
    waiting = api.server.recvDiscoverPacketAsync(timeoutSeconds=60)
    status = api.server.getRequestStatus(waiting)
    assert (status["status"], status["processing"], status["errorMessage"]) == ("pending", True, "")
    with w.sender.api() as other:
        other.server.auth("anna", "secret")
        other.server.sendDiscoverPacket("127.0.0.1", w.sender.port)
    assert api.send.getRequestResult(waiting)["sourceIP"] == "127.0.0.1"
    assert api.send.getRequestStatus(waiting)["status"] == "complete"
    failed = api.send.suspendTransferAsync(w.done(api, source))
    told = eventually(lambda: not (s := api.server.getRequestStatus(failed))["processing"] and s)
    assert told["status"] == "error" and "it is complete" in told["errorMessage"]
    with pytest.raises(CommandError, match="it is complete"):
        api.server.getRequestResult(failed)


def test_suspending_and_resuming_answer_the_transfer(api: APIInterface, w: Documented, source: Path) -> None:
    """The result of both requests is a Transfer structure; the log names each state once."""
    transfer = w.slow(api, source, transferLog=True)
    result = api.send.getRequestResult(api.send.suspendTransferAsync(transfer))
    assert (result["status"], result["processing"]) == ("suspended", False)
    assert set(transfer) == set(result) and result["transferId"] == transfer["transferId"]
    resumed = api.send.resumeTransfer(transfer)
    assert resumed["processing"] and resumed["queueTime"] > result["queueTime"]
    api.send.setSendRateMax(transfer, -1)
    api.send.waitForTransfer(transfer)
    (log,) = (w.folder / "logs").glob(f"transfer-{transfer['transferId']}-*")
    ended = eventually(lambda: (text := log.read_text()).count('"ended"') and text)
    events = [json.loads(line)["event"] for line in ended.splitlines()]
    assert [name for name in events if name not in ("file", "checkpoint")] == [
        "created",
        "sending",
        "suspended",
        "resuming",
        "sending",
        "ended",
    ]


_NOWHERE, _TOKEN = "999999", "0" * 48
_UNKNOWN: dict[str, Callable[[APIInterface], object]] = {
    "createSharedToken": lambda api: api.send.createSharedToken(_NOWHERE),
    "deleteDestination": lambda api: api.send.deleteDestination(_NOWHERE),
    "deleteManifest": lambda api: api.send.deleteManifest(_NOWHERE),
    "deleteObjectUserData": lambda api: api.send.deleteObjectUserData(_NOWHERE, "k"),
    "deleteSharedToken": lambda api: api.send.deleteSharedToken(_TOKEN),
    "deleteTransfer": lambda api: api.send.deleteTransfer(_NOWHERE),
    "failTransfer": lambda api: api.send.failTransfer(_NOWHERE),
    "getConnection": lambda api: api.send.getConnection(_NOWHERE),
    "getDestination": lambda api: api.send.getDestination(_NOWHERE),
    "getManifest": lambda api: api.send.getManifest(_NOWHERE),
    "getManifestFiles": lambda api: api.send.getManifestFiles(_NOWHERE),
    "getSharedToken": lambda api: api.send.getSharedToken(_TOKEN),
    "getTransfer": lambda api: api.send.getTransfer(_NOWHERE),
    "getTransfers": lambda api: api.send.getTransfers(_NOWHERE),
    "resumeTransferAsync": lambda api: api.send.resumeTransferAsync(_NOWHERE),
    "schedulePingAsync": lambda api: api.send.schedulePingAsync(_NOWHERE, 1),
    "setPriorityLanesAsync": lambda api: api.send.setPriorityLanesAsync(_NOWHERE, {"A": 1.0}),
    "setSendRateMaxAsync": lambda api: api.send.setSendRateMaxAsync(_NOWHERE, 1),
    "setTransferPriorityAsync": lambda api: api.send.setTransferPriorityAsync(_NOWHERE, 1),
    "setTransferSendRateMaxAsync": lambda api: api.send.setTransferSendRateMaxAsync(_NOWHERE, 1),
    "suspendTransferAsync": lambda api: api.send.suspendTransferAsync(_NOWHERE),
    "updateConnectionParamsAsync": lambda api: api.send.updateConnectionParamsAsync(_NOWHERE, sendRate=1),
    "updateObjectUserData": lambda api: api.send.updateObjectUserData(_NOWHERE, "k", "v"),
    "updateSharedToken": lambda api: api.send.updateSharedToken(_TOKEN, description="x"),
    "updateTransferDefaults": lambda api: api.send.updateTransferDefaults(_NOWHERE, priority=1),
    "waitForManifest": lambda api: api.send.waitForManifest(_NOWHERE),
    "waitForTransfer": lambda api: api.send.waitForTransfer(_NOWHERE),
    "getAPIToken": lambda api: api.server.getAPIToken(_TOKEN),
    "deleteAPIToken": lambda api: api.server.deleteAPIToken(_TOKEN),
    "getRequestStatus": lambda api: api.server.getRequestStatus(_NOWHERE),
    "getRequestResult": lambda api: api.server.getRequestResult(_NOWHERE),
}


def test_what_is_not_there_is_not_found_by_any_method(api: APIInterface, w: Documented, source: Path) -> None:
    """Each raises a CommandError at the call, also those whose name ends in Async."""
    for name, call in _UNKNOWN.items():
        with pytest.raises(NotFoundError, match="not found"):
            pytest.fail(f"{name} answered {call(api)!r}")
    for pair in ((w.destination(api), _NOWHERE), (_NOWHERE, manifest(api, source))):
        with pytest.raises(NotFoundError):
            api.send.createTransfer(*pair)


def test_lists_are_cut_by_limits_and_cursors(api: APIInterface, w: Documented) -> None:
    """Destinations, transfers and tokens; before and after are left out, 0 and None are no limit."""
    send = api.send
    made = send.waitForManifest(send.createManifest(mappings={"/f": {"src": "/f", "size": 1}}))
    nowhere = [send.createDestination("127.0.0.1", destinationPort=free_port()) for _ in range(2)]
    sent = [send.createTransfer(nowhere[0], made) for _ in range(4)]
    ids = [each["transferId"] for each in sent]

    def listed(**options: Any) -> list[str]:
        return [each["transferId"] for each in send.getTransfers(**options)]

    assert listed(destinationId=nowhere[0]) == ids and listed(destinationId=nowhere[1]) == []
    assert listed(after=sent[0], before=ids[3]) == ids[1:3] and listed(after=ids[0], limit=1) == ids[1:2]
    assert {each["destinationId"] for each in nowhere} <= {d["destinationId"] for d in send.getDestinations()}
    assert len(send.getDestinations(limit=1)) == 1 and len(send.getDestinations(limit=0)) > 1
    for each in sent:
        send.failTransfer(each)
    tokens = [api.server.createAPIToken(description=name) for name in "ab"]
    assert api.server.getAPIToken(tokens[0]["token"]) == tokens[0]
    assert [each for each in api.server.getAPITokens() if each in tokens] == tokens
    assert len(api.server.getAPITokens(limit=1)) == 1
    api.server.deleteAPIToken(tokens[0])
    assert tokens[0] not in api.server.getAPITokens()


@pytest.mark.parametrize("cipher", range(4))
def test_a_transfer_is_protected_as_its_cipher_says(
    api: APIInterface, w: Documented, source: Path, cipher: int
) -> None:
    """0 is in the clear within one machine; all others are encrypted, for TLS has nothing in between."""
    ended = w.done(api, source, minCipher=cipher)
    found = api.send.getDestination(ended)
    assert found["encryptionEnabled"] is (cipher != constants.MIN_CIPHER_NONE)


def test_a_priority_that_changes_nothing_or_is_none_is_refused(
    api: APIInterface, w: Documented, source: Path
) -> None:
    """Both twins alike: nothing given, an unknown lane, a value out of range."""
    transfer = w.slow(api, source)
    for method in (api.send.setTransferPriority, api.send.setTransferPriorityAsync):
        with pytest.raises(CommandError, match="priority, priorityLane or both"):
            method(transfer)
        with pytest.raises(CommandError, match="High, Normal, Low, Idle"):
            method(transfer, priorityLane="Fast lane")
        with pytest.raises(CommandError, match="4294967295"):
            method(transfer, 4_294_967_296)
    api.send.failTransfer(transfer)


def test_connection_parameters_answer_nothing_as_documented(api: APIInterface, w: Documented) -> None:
    """Despite its name the method answers None; the values are on the connection."""
    destination = w.destination(api)
    update = typing.cast(Callable[..., object], api.send.updateConnectionParamsAsync)
    assert update(destination, sendRateMax=5000.0, sendRateMin=100.0) is None
    found = eventually(lambda: (c := api.send.getConnection(destination))["sendRateMax"] and c)
    assert (found["sendRateMin"], found["sendRateMax"]) == (100.0, 5000.0)
    api.send.updateConnectionParams(destination, sendRateMax=-1, sendRateMin=0)
    found = api.send.getConnection(destination)
    assert (found["sendRateMin"], found["sendRateMax"]) == (None, None)


# The console


def _console(w: Documented, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent.cli.main", "api", *arguments]
    environment = {**os.environ, "JETSTREAM_API_PASSWORD": "secret"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)


def test_the_console_takes_the_documented_command_line(w: Documented, source: Path) -> None:
    """`api --host H --api-control-port P --user U COMMAND --param=value` prints the structure as JSON."""
    where = ("--host", "localhost", "--api-control-port", str(w.sender.port), "--user", "anna")
    made = _console(w, *where, "createManifest", f"--fileMappings={source}:/there", "--symlinkOptions=1")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["status"] == "pending" and '"totalFiles": null' in made.stdout
    files = _console(w, *where, "getManifestFiles", f"--manifestId={json.loads(made.stdout)['manifestId']}")
    assert {f["destPath"] for f in json.loads(files.stdout)["fileMappings"]} == {
        "/there/sub/large",
        "/there/empty",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("getTransfer", "--user", "anna"), "send.getTransfer: transferId is missing\n"),
        (("getTransfers", "--user", "nobody"), "log-in: user name or password is wrong\n"),
        (("garbageCollect", "--user", "anna"), "(lanesync api: --superuser)\n"),
    ],
)
def test_the_console_says_once_what_is_wrong(w: Documented, arguments: tuple[str, ...], message: str) -> None:
    """The step that failed, why, and what helps, on one line."""
    told = _console(w, *arguments, "--port", str(w.sender.port))
    assert told.returncode == 1 and told.stderr.endswith(message) and told.stderr.count("\n") == 1
