"""Accounts of a real server: everybody has their own objects, superusers see all."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rawclient import Lines, explicit
from servers import Server, start_server

from agent.jetstream import (
    APIInterface,
    CommandError,
    NotFoundError,
)
from agent.server import accounts

pytestmark = pytest.mark.e2e

PASSWORDS = {"anna": "secret", "bert": "battery staple", "chief": "correct horse", "named": "by an option"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("accounts")
    for user, password in PASSWORDS.items():
        accounts.add(folder / "accounts.json", user, password, superuser=user == "chief")
    with start_server(folder / "s", accounts=folder / "accounts.json", superuser="named") as running:
        yield running


Login = Callable[[str], APIInterface]


@pytest.fixture
def login(server: Server) -> Iterator[Login]:
    opened: list[APIInterface] = []

    def connect(user: str) -> APIInterface:
        api = server.api()
        opened.append(api)
        api.server.auth(user, PASSWORDS[user])
        return api

    yield connect
    for api in opened:
        api.disconnect()


def _objects(api: APIInterface, port: int) -> dict[str, Any]:
    """One of each kind; the destination answers to nobody."""
    destination = api.send.createDestination("127.0.0.1", destinationPort=port)
    manifest = api.send.createManifest(mappings=explicit(3))
    transfer = api.send.createTransfer(destination, manifest)
    api.send.suspendTransfer(transfer)
    return {
        "destination": destination["destinationId"],
        "connection": destination["connectionId"],
        "manifest": manifest["manifestId"],
        "transfer": transfer["transferId"],
        "token": api.send.createSharedToken(manifest)["token"],
        "apiToken": api.server.createAPIToken()["token"],
        "request": api.send.setSendRateMaxAsync(destination, 1000.0)["requestId"],
    }


def _calls(found: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Every method that names an object."""
    destination, manifest, transfer = found["destination"], found["manifest"], found["transfer"]
    lanes = {"one": 1.0}
    named: list[tuple[str, dict[str, Any]]] = [
        *(
            (f"send.{name}", {"destinationId": destination})
            for name in ("getDestination", "deleteDestination")
        ),
        ("send.getTransfers", {"destinationId": destination}),
        ("send.updateTransferDefaults", {"destinationId": destination, "priority": 1}),
        ("send.setSendRateMax", {"destinationId": destination, "sendRateMax": 1}),
        ("send.setPriorityLanes", {"destinationId": destination, "priorityLanes": lanes}),
        ("send.schedulePing", {"destinationId": destination, "pingCount": 1}),
        ("lanesync.deletePaths", {"destinationId": destination, "files": ["/a"], "directories": []}),
        ("send.getConnection", {"connectionId": found["connection"]}),
        ("send.updateConnectionParams", {"connectionId": found["connection"], "sendRateMax": 5}),
        *(
            (f"send.{name}", {"manifestId": manifest})
            for name in ("getManifest", "getManifestFiles", "waitForManifest", "deleteManifest")
        ),
        ("send.createSharedToken", {"manifestId": manifest}),
        ("send.createTransfer", {"destinationId": destination, "manifestId": manifest}),
        *(
            (f"send.{name}", {"transferId": transfer})
            for name in ("getTransfer", "waitForTransfer", "deleteTransfer", "failTransfer")
        ),
        *((f"send.{name}", {"transferId": transfer}) for name in ("suspendTransfer", "resumeTransfer")),
        ("send.setTransferPriority", {"transferId": transfer, "priority": 5}),
        ("send.setTransferSendRateMax", {"transferId": transfer, "sendRateMax": 5}),
        ("lanesync.getTransferResults", {"transferId": transfer}),
        *((f"send.{name}", {"token": found["token"]}) for name in ("getSharedToken", "deleteSharedToken")),
        ("send.updateSharedToken", {"token": found["token"], "description": "mine now"}),
        *((f"server.{name}", {"token": found["apiToken"]}) for name in ("getAPIToken", "deleteAPIToken")),
        *((f"server.getRequest{name}", {"requestId": found["request"]}) for name in ("Status", "Result")),
    ]
    for object_id in (destination, manifest, transfer, found["token"]):
        named.append(("send.updateObjectUserData", {"objId": object_id, "key": "k", "value": "v"}))
        named.append(("send.deleteObjectUserData", {"objId": object_id, "key": "k"}))
    return named


def _outcome(api: APIInterface, method: str, parameters: dict[str, Any]) -> tuple[int, str] | None:
    """The refusal, without the object's name; None when it was carried out."""
    try:
        api.call(method, parameters)
    except CommandError as error:
        text = str(error)
        for value in parameters.values():
            text = re.sub(rf"\b{re.escape(str(value))}\b", "X", text)
        return error.code, text
    return None


def test_what_others_have_is_not_found_by_any_method(login: Login) -> None:
    """The answer is, word for word, that about an object which never was."""
    found = _objects(login("anna"), 9)
    never = {**dict.fromkeys(found, "99999"), "token": "f" * 48, "apiToken": "f" * 48, "request": 99999}
    bert = login("bert")
    for (method, parameters), (_, unknown) in zip(_calls(found), _calls(never), strict=True):
        outcome = _outcome(bert, method, parameters)
        assert outcome == _outcome(bert, method, unknown), method
        assert outcome is not None, method
    anna = login("anna")
    assert anna.send.getTransfer(found["transfer"])["status"] == "suspended"
    assert anna.send.getDestination(found["destination"])["userData"] == {}


def test_an_id_of_another_kind_is_not_told_either(login: Login) -> None:
    """What an unseen id stands for stays unsaid."""
    found = _objects(login("anna"), 9)
    bert = login("bert")
    with pytest.raises(NotFoundError, match=f"manifest {found['destination']} was not found"):
        bert.send.getManifest(found["destination"])
    with pytest.raises(NotFoundError, match=f"connection {found['manifest']} was not found"):
        bert.send.getConnection(found["manifest"])


def test_lists_hold_what_is_ones_own_and_superusers_see_all(login: Login) -> None:
    """Also between cursors that are somebody else's objects, and before superuser() is called."""
    mine, theirs = _objects(login("anna"), 10), _objects(login("bert"), 11)
    bert, chief = login("bert"), login("chief")
    lists: dict[str, tuple[Callable[[APIInterface], list[Any]], str]] = {
        "destination": (lambda api: api.send.getDestinations(), "destinationId"),
        "connection": (lambda api: api.send.getConnections(), "connectionId"),
        "manifest": (lambda api: api.send.getManifests(after=mine["manifest"]), "manifestId"),
        "transfer": (lambda api: api.send.getTransfers(after=mine["transfer"]), "transferId"),
        "token": (lambda api: api.send.getSharedTokens(), "token"),
        "apiToken": (lambda api: api.server.getAPITokens(), "token"),
    }
    for kind, (get, field) in lists.items():
        shown = {row[field] for row in get(bert)}
        assert theirs[kind] in shown and mine[kind] not in shown, kind
        assert mine[kind] not in {row[field] for row in get(chief)}, kind
    assert bert.send.getManifests(before=mine["manifest"]) == [] or all(
        row["owner"] == "bert" for row in bert.send.getManifests(before=mine["manifest"])
    )
    assert chief.send.getTransfers() == []
    chief.server.superuser()
    for kind in ("destination", "connection", "token", "apiToken"):
        get, field = lists[kind]
        assert {mine[kind], theirs[kind]} <= {row[field] for row in get(chief)}, kind
    assert {row["owner"] for row in chief.send.getTransfers()} == {"anna", "bert"}


def test_a_limit_counts_what_is_seen(login: Login) -> None:
    """Others' objects in between do not use it up."""
    anna, bert = login("anna"), login("bert")
    first = bert.send.createManifest(mappings=explicit(1))
    for _ in range(3):
        anna.send.createManifest(mappings=explicit(1))
    second = bert.send.createManifest(mappings=explicit(1))
    found = bert.send.getManifests(after=first, limit=1)
    assert [row["manifestId"] for row in found] == [second["manifestId"]]


def test_a_superuser_may_change_what_others_have(login: Login) -> None:
    """What is changed keeps its owner."""
    found = _objects(login("anna"), 12)
    chief = login("named")
    chief.server.superuser()
    chief.send.updateObjectUserData(found["transfer"], "seen", "yes")
    transfer = chief.send.getTransfer(found["transfer"])
    assert transfer["owner"] == "anna" and transfer["userData"] == {"seen": "yes"}
    chief.send.deleteTransfer(found["transfer"])
    with pytest.raises(NotFoundError):
        login("anna").send.getTransfer(found["transfer"])


def test_who_is_no_superuser_stays_none(login: Login) -> None:
    """And learns neither the configuration nor what others have."""
    bert = login("bert")
    with pytest.raises(CommandError, match="bert is no superuser"):
        bert.server.superuser()
    assert "configuration" not in bert.server.getServerInfo()
    documented = {
        *("allowRemoteControl", "apiControlPort", "APITokensAvailable", "apiVersion", "authRequired"),
        *("bandwidthLimits", "certificateValidation", "encryptionAvailable", "eventLogAvailable", "hostName"),
        *("license", "minCipher", "multiplexAvailable", "publicKey", "receiver", "revision", "version"),
        *("serverExternalAddress", "serverId", "serverName"),
    }
    assert documented <= bert.server.getServerInfo().keys()
    chief = login("chief")
    assert "configuration" not in chief.server.getServerInfo()
    chief.server.superuser()
    configuration = chief.server.getServerInfo()["configuration"]
    assert configuration["superusers"] == ["named"]
    assert configuration["garbageCollect"] == {"intervalSeconds": 3600, "timeLimitSeconds": 48 * 3600}


def test_a_destination_is_shared_with_oneself_only(login: Login) -> None:
    """createDestination with the same parameters finds one's own; the connection below is the same."""
    anna, bert = login("anna"), login("bert")
    mine = anna.send.createDestination("127.0.0.1", destinationPort=13)
    theirs = bert.send.createDestination("127.0.0.1", destinationPort=13)
    assert mine["destinationId"] != theirs["destinationId"] and mine["connectionId"] == theirs["connectionId"]
    assert (
        anna.send.createDestination("127.0.0.1", destinationPort=13)["destinationId"] == mine["destinationId"]
    )
    with pytest.raises(CommandError, match="destinations of others"):
        anna.send.updateConnectionParams(mine["connectionId"], sendRateMax=5)
    bert.send.deleteDestination(theirs)
    anna.send.updateConnectionParams(mine["connectionId"], sendRateMax=5)
    assert anna.send.getConnection(mine["connectionId"])["sendRateMax"] == 5


def test_a_destination_with_transfers_of_others_is_not_deleted(login: Login) -> None:
    """A superuser may send to somebody's destination; that transfer is not the owner's to delete."""
    anna, chief = login("anna"), login("chief")
    destination = anna.send.createDestination("127.0.0.1", destinationPort=14)
    chief.server.superuser()
    manifest = chief.send.createManifest(mappings=explicit(1))
    transfer = chief.send.createTransfer(destination, manifest)
    chief.send.suspendTransfer(transfer)
    assert transfer["owner"] == "chief"
    assert anna.send.getTransfers(destination) == []
    with pytest.raises(CommandError, match="transfers of others"):
        anna.send.deleteDestination(destination)
    chief.send.deleteTransfer(transfer)
    anna.send.deleteDestination(destination)


def test_events_tell_of_what_is_ones_own(login: Login) -> None:
    """Of what others do, and delete, nothing is told."""
    anna, bert, chief = login("anna"), login("bert"), login("chief")
    chief.server.superuser()
    start = bert.lanesync.waitEvents(after=0)["next"]
    theirs = anna.send.createManifest(mappings=explicit(1))["manifestId"]
    anna.send.deleteManifest(theirs)
    request = anna.lanesync.deletePathsAsync(anna.send.createDestination("127.0.0.1", destinationPort=15), [])
    anna.server.getRequestResult(request)
    mine = bert.send.createManifest(mappings=explicit(1))["manifestId"]
    gone = bert.send.createManifest(mappings=explicit(1))["manifestId"]
    bert.send.deleteManifest(gone)
    told = bert.lanesync.waitEvents(after=start, timeoutSeconds=5.0)
    assert {event["id"] for event in told["events"]} == {mine, gone}
    everything = {(event["kind"], event["id"]) for event in chief.lanesync.waitEvents(after=start)["events"]}
    assert {("manifest", theirs), ("manifest", mine), ("deletion", str(request["requestId"]))} <= everything


def test_waiting_for_events_goes_on_over_those_of_others(server: Server, login: Login) -> None:
    """Somebody else's event is no answer; one's own is, when it comes."""
    anna, bert = login("anna"), login("bert")
    start = anna.lanesync.waitEvents(after=0)["next"]
    with Lines(server.port) as lines:
        assert lines.call("server.auth", user="anna", password=PASSWORDS["anna"])["result"] is None
        wait = {"after": start, "timeoutSeconds": 60.0}
        request = {"jsonrpc": "2.0", "id": 7, "method": "lanesync.waitEvents", "params": wait}
        lines.say(json.dumps(request).encode() + b"\n")
        for _ in range(20):
            bert.send.createManifest(mappings=explicit(1))
        mine = anna.send.createManifest(mappings=explicit(1))["manifestId"]
        answer = lines.hear()
    assert [event["id"] for event in answer["result"]["events"]] == [mine]


def test_without_accounts_everybody_is_the_owner_and_may_be_superuser(tmp_path: Path) -> None:
    """There is nothing to log in to."""
    with start_server(tmp_path / "s") as server, server.api() as api:
        assert api.server.getServerInfo()["authRequired"] is False
        api.server.superuser()
        assert api.server.getServerInfo()["configuration"]["accounts"] is None
