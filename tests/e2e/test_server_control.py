"""The control port of a real `lanesync serve`: its protocol and its objects."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from freeports import free_port
from rawclient import Lines, explicit
from servers import Server, eventually, start_server

from agent.jetstream import Jetstream, constants

pytestmark = pytest.mark.e2e

LIMIT = constants.MAX_MESSAGE_BYTES


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with start_server(tmp_path_factory.mktemp("control") / "server") as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[Lines]:
    with Lines(server.port) as lines:
        yield lines


# --- JSON-RPC ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"{nonsense}", constants.ERROR_PARSE),
        (b"[" * 100_000, constants.ERROR_PARSE),
        (b'{"a":' * 50_000, constants.ERROR_PARSE),
        (b"[]", constants.ERROR_INVALID_REQUEST),
        (b"[" + b"1," * 1000 + b"1]", constants.ERROR_INVALID_REQUEST),
        (b"{}", constants.ERROR_INVALID_REQUEST),
        (b'{"jsonrpc":"1.0","id":1,"method":"server.echo"}', constants.ERROR_INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":{},"method":"server.echo"}', constants.ERROR_INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1,"method":7}', constants.ERROR_INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1,"method":"server.echo","params":7}', constants.ERROR_INVALID_PARAMS),
        (b'{"jsonrpc":"2.0","id":1,"method":"server.echo","params":[1,2,3]}', constants.ERROR_INVALID_PARAMS),
        (b'{"jsonrpc":"2.0","id":NaN,"method":"server.echo"}', constants.ERROR_PARSE),
        (b'{"jsonrpc":"2.0","id":' + b"9" * 5000 + b',"method":"x"}', constants.ERROR_PARSE),
        (b'{"\xff\xfe":1}', constants.ERROR_PARSE),
    ],
)
def test_hostile_lines_get_an_error_and_the_connection_lives(client: Lines, line: bytes, code: int) -> None:
    """Whatever a line holds, its answer is an error object and the next call works."""
    client.say(line + b"\n")
    assert client.hear()["error"]["code"] == code
    assert client.call("server.echo", text="still here")["result"] == "still here"


def test_an_endless_line_is_refused_at_the_limit(server: Server) -> None:
    """The server says what the limit is, hangs up, and serves others."""
    with Lines(server.port) as lines:
        lines.say(b'{"jsonrpc":"')
        with contextlib.suppress(ConnectionError):
            for _ in range(LIMIT // 65536 + 8):
                lines.say(b"x" * 65536)
        with contextlib.suppress(ConnectionError):
            assert str(LIMIT) in lines.hear()["error"]["message"]
            assert lines.hear() is None
    with Lines(server.port) as lines:
        assert lines.call("server.echo", text="x")["result"] == "x"


def test_a_message_of_millions_of_values_is_refused_before_it_is_built(client: Lines) -> None:
    """Memory is bounded by values, not only by bytes."""
    client.say(b"[" + b"[]," * 1_500_000 + b"[]]\n")
    assert "values" in client.hear()["error"]["message"]


def test_batches_and_notifications(client: Lines) -> None:
    """A batch is answered by one array; notifications have no answer."""
    note = {"jsonrpc": "2.0", "method": "server.echo", "params": {"text": "n"}}
    calls = [{**note, "id": number} for number in (1, "two", None)]
    client.say(json.dumps(note).encode() + b"\n")
    client.say(json.dumps([calls[0], note, calls[1], 5, calls[2]]).encode() + b"\n")
    answers = client.hear()
    assert [answer["id"] for answer in answers] == [1, "two", None, None]
    assert sorted(answer.get("result", "error") for answer in answers) == ["error", "n", "n", "n"]


def test_unknown_names_come_with_the_nearest_one(client: Lines) -> None:
    """Methods and parameters are suggested."""
    assert "send.createTransfer" in client.call("send.createTranfer")["error"]["message"]
    error = client.call("send.createDestination", destinationAdress="x")["error"]
    assert "destinationAddress" in error["message"]
    assert error["code"] == constants.ERROR_INVALID_PARAMS


def test_every_documented_method_is_known(client: Lines) -> None:
    """What is not carried out is refused by name, never as unknown; Async methods have blocking twins."""
    interface = Jetstream().api().send
    members = [name for name, _ in inspect.getmembers(interface, inspect.ismethod)]
    names = [name for name in members if not name.startswith(("_", "getRequest"))]
    assert len(names) >= 34
    for name in names:
        for method in {name, name.removesuffix("Async")}:
            error = client.call(f"send.{method}", nonsense=1)["error"]
            assert error["code"] == constants.ERROR_INVALID_PARAMS, method


def test_wrong_types_name_the_parameter(client: Lines) -> None:
    """A parameter of the wrong kind is refused with what it must be."""
    message = client.call("send.createDestination", destinationAddress="x", destinationPort="8886")["error"][
        "message"
    ]
    assert "destinationPort must be a whole number from 1 to 65535" in message


def test_a_blocking_call_does_not_hold_up_others(client: Lines) -> None:
    """Requests of one connection run side by side; answers carry their ids."""
    sleep = {"jsonrpc": "2.0", "id": "slow", "method": "server.sleep", "params": {"milliseconds": 3_000_000}}
    client.say(json.dumps(sleep).encode() + b"\n")
    assert client.call("server.echo", "fast", text="x")["id"] == "fast"


def test_what_is_neither_is_turned_away(server: Server) -> None:
    """Plain HTTP gets a JSON error line and the end; what only begins like TLS is closed and logged."""
    with Lines(server.port) as lines:
        lines.say(b"GET / HTTP/1.1\r\n\r\n")
        assert "JSON-RPC" in lines.hear()["error"]["message"]
        assert lines.hear() is None
    with Lines(server.port) as lines:
        lines.say(b"\x16\x03\x01\x00\x04\x02\x00\x00\x00")
        with contextlib.suppress(ConnectionError):
            assert lines.file.read(1) == b""
    eventually(lambda: "ClientHello is malformed" in server.log())


# --- objects -------------------------------------------------------------------------------------------


def test_destinations_are_shared_unless_exclusive(client: Lines) -> None:
    """The same parameters find the same destination, whose rate is not changed; exclusive makes another."""
    params = {"destinationAddress": "127.0.0.1", "destinationPort": 9}
    first = client.call("send.createDestination", **params, sendRateMax=1000)["result"]
    again = client.call("send.createDestination", **params, sendRateMax=5)["result"]
    other = client.call("send.createDestination", **params, exclusive=True, permanent=True)["result"]
    assert (again["destinationId"], again["sendRateMax"]) == (first["destinationId"], 1000)
    assert other["destinationId"] != first["destinationId"] and other["permanent"]
    assert other["connectionId"] == first["connectionId"]


def test_a_manifest_is_pending_when_answered_and_complete_when_waited_for(
    client: Lines, tmp_path: Path
) -> None:
    """Also one without any I/O; the totals come with completion."""
    (tmp_path / "f").write_text("12345")
    for mappings, files, size in ((explicit(3), 3, 3), ({"/x": str(tmp_path)}, 1, 5)):
        made = client.call("send.createManifest", mappings=mappings)["result"]
        pending = {"status": "pending", "processing": True, "totalFiles": None, "errorMessage": None}
        assert pending.items() <= made.items()
        done = client.call("send.waitForManifest", manifestId=made)["result"]
        assert (done["status"], done["totalFiles"], done["totalSize"]) == ("complete", files, size)


def test_a_large_manifest_pages_and_deletes(client: Lines) -> None:
    """20,000 entries in one call; getManifestFiles honours limit; deleting is allowed any time."""
    made = client.call("send.createManifest", mappings=explicit(20_000))["result"]
    assert client.call("send.waitForManifest", manifestId=made)["result"]["totalFiles"] == 20_000
    listed = client.call("send.getManifestFiles", manifestId=made, limit=3)["result"]["fileMappings"]
    assert [entry["destPath"] for entry in listed] == ["/d/0", "/d/1", "/d/2"]
    assert client.call("send.deleteManifest", manifestId=made)["result"] is None
    assert "was not found" in client.call("send.getManifest", manifestId=made)["error"]["message"]


def test_names_that_are_not_utf8_survive(client: Lines, tmp_path: Path) -> None:
    """Any bytes of a file name come back as they went in."""
    name = os.fsdecode(b"caf\xe9-\xff")
    (tmp_path / name).write_text("x")
    made = client.call("send.createManifest", mappings={f"/t/{name}": str(tmp_path / name)})["result"]
    client.call("send.waitForManifest", manifestId=made)
    (entry,) = client.call("send.getManifestFiles", manifestId=made)["result"]["fileMappings"]
    assert (entry["destPath"], entry["srcPath"]) == (f"/t/{name}", str(tmp_path / name))


def test_a_missing_source_is_refused_at_the_call(client: Lines) -> None:
    """String mappings must exist when the manifest is created."""
    error = client.call("send.createManifest", mappings={"/x": "/nowhere/at/all"})["error"]
    assert "/nowhere/at/all" in error["message"] and error["data"]["type"] == "CommandError"


def test_list_cursors_are_exclusive(client: Lines) -> None:
    """before and after take ids or structures and leave them out."""
    made = [client.call("send.createManifest", mappings=explicit(1))["result"] for _ in range(4)]
    ids = [manifest["manifestId"] for manifest in made]
    listed = client.call("send.getManifests", after=made[0], before=ids[3])["result"]
    assert [manifest["manifestId"] for manifest in listed] == ids[1:3]
    listed = client.call("send.getManifests", after=ids[0], limit=1)["result"]
    assert [manifest["manifestId"] for manifest in listed] == ids[1:2]


@pytest.fixture
def transfer(client: Lines) -> dict[str, Any]:
    """A transfer to a port where nobody listens: it stays active."""
    destination = client.call(
        "send.createDestination", destinationAddress="127.0.0.1", destinationPort=free_port(), exclusive=True
    )["result"]
    manifest = client.call("send.createManifest", mappings=explicit(2))["result"]
    made = client.call("send.createTransfer", destinationId=destination, manifestId=manifest)["result"]
    assert isinstance(made, dict)
    return made


def test_a_transfer_goes_through_its_states(client: Lines, transfer: dict[str, Any]) -> None:
    """An absent receiver is waited for; suspend, resume, fail and delete follow the documented rules."""
    identity = {"transferId": transfer["transferId"]}
    assert (transfer["status"], transfer["processing"], transfer["queueTime"]) == ("pending", True, None)
    assert "suspend it" in client.call("send.deleteTransfer", **identity)["error"]["message"]
    assert identity.items() <= client.call("send.suspendTransfer", **identity)["result"].items()
    assert client.call("send.waitForTransfer", **identity)["result"]["status"] == "suspended"
    assert "is suspended" in client.call("send.failTransfer", **identity)["error"]["message"]
    assert identity.items() <= client.call("send.resumeTransfer", **identity)["result"].items()
    assert client.call("send.getTransfer", **identity)["result"]["processing"]
    assert client.call("send.failTransfer", **identity, errorMessage="enough")["result"] is None
    failed = client.call("send.getTransfer", **identity, getCompleteFlags=True)["result"]
    assert (failed["status"], failed["errorMessage"]) == ("error", "enough")
    assert failed["completeFlags"] == [False, False] and failed["endTime"] >= failed["requestTime"]
    assert "only suspended" in client.call("send.resumeTransfer", **identity)["error"]["message"]
    assert client.call("send.deleteTransfer", **identity)["result"] is None
    assert "was not found" in client.call("send.getTransfer", **identity)["error"]["message"]


def test_requests_are_followed_by_their_id(client: Lines, transfer: dict[str, Any]) -> None:
    """An Async method answers a request; its failure is in the record, what is plainly wrong at the call."""
    request = client.call("send.suspendTransferAsync", transferId=transfer)["result"]
    result = client.call("server.getRequestResult", requestId=request)["result"]
    assert (result["transferId"], result["status"]) == (transfer["transferId"], "suspended")
    status = client.call("server.getRequestStatus", requestId=request)["result"]
    assert {"status": "complete", "processing": False, "errorMessage": ""}.items() <= status.items()
    again = client.call("send.suspendTransferAsync", transferId=transfer)["result"]
    assert (
        "cannot be suspended" in client.call("server.getRequestResult", requestId=again)["error"]["message"]
    )
    assert client.call("server.getRequestStatus", requestId=again)["result"]["status"] == "error"
    assert "was not found" in client.call("send.suspendTransferAsync", transferId=999_999)["error"]["message"]
    assert "was not found" in client.call("server.getRequestStatus", requestId=999_999)["error"]["message"]


def test_priority_lane_and_rate_change_while_it_runs(client: Lines, transfer: dict[str, Any]) -> None:
    """Live changes show in the structure; a lane that does not exist is refused at the call."""
    client.call("send.setTransferPriority", transferId=transfer, priority=4_294_967_295, priorityLane="Idle")
    client.call("send.setTransferSendRateMax", transferId=transfer, sendRateMax=1500)
    changed = client.call("send.getTransfer", transferId=transfer)["result"]
    assert (changed["priority"], changed["priorityLane"], changed["sendRateMax"]) == (
        4_294_967_295,
        "Idle",
        1500,
    )
    client.call("send.setTransferSendRateMax", transferId=transfer, sendRateMax=-1)
    assert client.call("send.getTransfer", transferId=transfer)["result"]["sendRateMax"] is None
    error = client.call("send.setTransferPriorityAsync", transferId=transfer, priorityLane="Fast")["error"]
    assert "it has High, Normal, Low, Idle" in error["message"]
    error = client.call("send.setTransferPriority", transferId=transfer, priority=2**32)["error"]
    assert "4294967295" in error["message"]


def test_a_destination_with_active_transfers_stays(client: Lines, transfer: dict[str, Any]) -> None:
    """It is deleted once they are not active, and takes its transfers along."""
    destination = {"destinationId": transfer["destinationId"]}
    assert "active" in client.call("send.deleteDestination", **destination)["error"]["message"]
    lanes = {"High": 0.5, "Normal": 0.5}
    assert (
        "number of lanes"
        in client.call("send.setPriorityLanes", **destination, priorityLanes=lanes)["error"]["message"]
    )
    client.call("send.suspendTransfer", transferId=transfer)
    assert client.call("send.deleteDestination", **destination)["result"] is None
    assert "was not found" in client.call("send.getTransfer", transferId=transfer)["error"]["message"]


def test_defaults_apply_to_new_transfers(client: Lines) -> None:
    """updateTransferDefaults changes only what is given; createTransfer overrides it."""
    destination = client.call(
        "send.createDestination", destinationAddress="127.0.0.1", destinationPort=free_port(), exclusive=True
    )["result"]
    client.call("send.updateTransferDefaults", destinationId=destination, priority=7, priorityLane="Low")
    manifest = client.call("send.createManifest", mappings=explicit(1))["result"]
    both = {"destinationId": destination, "manifestId": manifest}
    made = client.call("send.createTransfer", **both)["result"]
    assert (made["priority"], made["priorityLane"], made["checkpointFrequencySeconds"]) == (7, "Low", 30)
    made = client.call("send.createTransfer", **both, priority=8, checkpointFrequencySeconds=0)["result"]
    assert (made["priority"], made["checkpointFrequencySeconds"]) == (8, None)


def test_user_data_is_kept_on_all_kinds(client: Lines, transfer: dict[str, Any]) -> None:
    """By bare id or by structure; ids say what they are, so a wrong kind is named."""
    ids = [transfer["transferId"], transfer["destinationId"], transfer["manifestId"]]
    for object_id in ids:
        client.call("send.updateObjectUserData", objId=object_id, key="k", value="v")
    assert client.call("send.getTransfer", transferId=ids[0])["result"]["userData"] == {"k": "v"}
    assert client.call("send.getDestination", destinationId=ids[1])["result"]["userData"] == {"k": "v"}
    assert client.call("send.getManifest", manifestId=ids[2])["result"]["userData"] == {"k": "v"}
    client.call("send.deleteObjectUserData", objId=transfer, key="k")
    assert client.call("send.getTransfer", transferId=ids[0])["result"]["userData"] == {}
    message = client.call("send.getTransfer", transferId=ids[1])["error"]["message"]
    assert f"{ids[1]} is the id of a destination" in message


def test_waiters_hear_of_changes(client: Lines, server: Server, transfer: dict[str, Any]) -> None:
    """waitEvents returns when something changes, with what and which."""
    cursor = client.call("lanesync.waitEvents")["result"]["next"]
    with Lines(server.port) as other:
        other.call("send.suspendTransfer", transferId=transfer)
    found: list[Any] = []
    while not any(event["id"] == transfer["transferId"] for event in found):
        answer = client.call("lanesync.waitEvents", after=cursor, timeoutSeconds=20)["result"]
        assert answer["events"], "timed out"
        found += answer["events"]
        cursor = answer["next"]
