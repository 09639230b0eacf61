"""Clean-up, event log, licences, discover packets and the end, on a real server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from freeports import free_port
from rawclient import Lines, explicit
from servers import Server, eventually, start_server

from agent.jetstream import APIInterface, CommandError, NotFoundError
from agent.server import accounts

pytestmark = pytest.mark.e2e

PASSWORDS = {"anna": "anna's words", "bert": "bert's words", "chief": "chief's words"}
Login = Callable[[str], APIInterface]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("housekeeping")
    for user, password in PASSWORDS.items():
        accounts.add(folder / "accounts.json", user, password, superuser=user == "chief")
    with start_server(folder / "s", accounts=folder / "accounts.json") as running:
        yield running


@pytest.fixture
def login(server: Server) -> Iterator[Login]:
    opened: list[APIInterface] = []

    def connect(user: str) -> APIInterface:
        api = server.api()
        opened.append(api)
        api.server.auth(user, PASSWORDS[user])
        if user == "chief":
            api.server.superuser()
        return api

    yield connect
    for api in opened:
        api.disconnect()


def test_what_keeps_the_house_is_for_superusers(login: Login) -> None:
    api = login("anna").server
    for attempt in (
        api.garbageCollect,
        lambda: api.updateGarbageCollectSettings(60, 0),
        lambda: api.setLicenseKey("key"),
        lambda: api.setSandboxMapping("anna", {"/": "/"}),
        api.getSandboxMappings,
        lambda: api.deleteSandboxMapping("anna"),
        api.terminate,
    ):
        with pytest.raises(CommandError, match="for superusers"):
            attempt()


def test_clean_up_settings_are_checked_and_survive_a_restart(server: Server, login: Login) -> None:
    chief = login("chief").server
    assert chief.getGarbageCollectSettings() == {"intervalSeconds": 3600, "timeLimitSeconds": 172_800}
    for interval, limit in ((59, None), (2**31, None), (None, -1), (None, 2**31)):
        with pytest.raises(CommandError):
            chief.updateGarbageCollectSettings(interval, limit)
    assert chief.updateGarbageCollectSettings(timeLimitSeconds=7) == {
        "intervalSeconds": 3600,
        "timeLimitSeconds": 7,
    }
    assert chief.updateGarbageCollectSettings(2**31 - 1)["timeLimitSeconds"] == 7
    server.restart()
    chief = login("chief").server
    assert chief.getGarbageCollectSettings() == {"intervalSeconds": 2**31 - 1, "timeLimitSeconds": 7}
    chief.updateGarbageCollectSettings(3600, 172_800)


def test_a_clean_up_takes_what_is_over_and_leaves_what_is_used(login: Login) -> None:
    """With no grace, at once: not what a transfer or a shared token uses, and no permanent destination."""
    chief, api = login("chief").server, login("anna")
    unused, shared, sending = (
        api.send.waitForManifest(api.send.createManifest(mappings=explicit(1))) for _ in range(3)
    )
    api.send.createSharedToken(shared)
    idle = api.send.createDestination("127.0.0.1", destinationPort=free_port())
    kept = api.send.createDestination("127.0.0.1", destinationPort=free_port(), permanent=True)
    busy = api.send.createDestination("127.0.0.1", destinationPort=free_port())
    active = api.send.createTransfer(busy, sending)
    failed = api.send.createTransfer(kept, sending)
    api.send.failTransfer(failed, "given up")
    assert not any(chief.garbageCollect().values()), "nothing is old enough"
    chief.updateGarbageCollectSettings(timeLimitSeconds=0)
    removed = chief.getRequestResult(chief.garbageCollectAsync())
    assert removed == {"transfers": 1, "manifests": 1, "destinations": 1, "tokens": 0}
    for gone in (
        lambda: api.send.getManifest(unused),
        lambda: api.send.getDestination(idle),
        lambda: api.send.getTransfer(failed),
    ):
        with pytest.raises(NotFoundError):
            gone()
    assert api.send.getManifest(shared) and api.send.getManifest(sending)
    assert api.send.getDestination(kept) and api.send.getDestination(busy)
    assert api.send.getTransfer(active)["processing"]
    chief.updateGarbageCollectSettings(timeLimitSeconds=172_800)
    api.send.failTransfer(active, "over")


def test_the_event_log_tells_each_what_is_theirs(server: Server, login: Login) -> None:
    """States of transfers with the documented keys, and the launch; superusers see all."""
    anna, bert, chief = login("anna"), login("bert"), login("chief")
    assert anna.server.getServerInfo()["eventLogAvailable"] is True
    made = anna.send.waitForManifest(anna.send.createManifest(mappings=explicit(1)))
    transfer = anna.send.createTransfer(
        anna.send.createDestination("127.0.0.1", destinationPort=free_port()), made
    )
    ident = transfer["transferId"]

    def told(api: APIInterface, event: str) -> list[Any]:
        log = api.server.getEventLog()
        return [row for row in log if row["_event"] == event and row.get("transferId", ident) == ident]

    eventually(lambda: told(anna, "transferUpdated"))
    anna.send.failTransfer(transfer, "given up")
    rows = eventually(lambda: [r for r in told(anna, "transferUpdated") if r["status"] == "error"])
    assert rows[0]["errorMessage"] == "given up" and rows[0]["_timestamp"] > transfer["requestTime"]
    assert set(rows[0]) == set(anna.send.getTransfer(transfer)) | {"_event", "_timestamp"}
    assert told(chief, "transferUpdated") and not told(bert, "transferUpdated")
    for api in (anna, bert, chief):
        assert told(api, "serverStarted"), "everybody may know when the server was started"
    anna.send.deleteTransfer(transfer)
    assert eventually(lambda: told(anna, "transferDeleted"))
    assert not told(bert, "transferDeleted")
    assert len(anna.server.getEventLog(limit=1)) == 1


def test_licences_of_what_it_is_made_with_are_told(login: Login) -> None:
    found = {row["name"]: row for row in login("anna").server.getThirdPartyLicenses()}
    assert {"Python", "PyYAML", "xxhash", "cryptography"} <= set(found)
    assert all(row["version"] and row["license"] for row in found.values())


def test_a_licence_key_is_not_needed_and_the_server_says_so(login: Login) -> None:
    chief = login("chief").server
    answer = chief.getRequestResult(chief.setLicenseKeyAsync("any"))
    assert answer["licenseRequired"] is False and "needs no licence key" in answer["message"]


def test_a_discover_packet_tells_its_sender_from_where_it_came(
    server: Server, login: Login, tmp_path: Path
) -> None:
    """And the receiver, if it waits for one."""
    receiver = login("anna").server
    with start_server(tmp_path / "other") as other, other.api() as api:
        waiting = receiver.recvDiscoverPacketAsync(timeoutSeconds=60)
        seen = api.server.sendDiscoverPacket("127.0.0.1", server.port)
        assert (seen["address"], seen["port"]) == (seen["localAddress"], seen["localPort"])
        assert seen["serverUid"] == receiver.getServerInfo()["serverUid"]
        found = receiver.getRequestResult(waiting)
        assert (found["sourceIP"], found["sourcePort"]) == (seen["address"], seen["port"])
        assert receiver.recvDiscoverPacket(timeoutSeconds=0) is None
        for port, says in ((free_port(), "cannot be reached"), (server.port, None)):
            request = api.server.sendDiscoverPacketAsync("127.0.0.1", port)
            if says is None:
                assert api.server.getRequestResult(request)["address"] == "127.0.0.1"
                continue
            with pytest.raises(CommandError, match=says):
                api.server.getRequestResult(request)


def test_what_does_not_answer_discover_packets_is_named(login: Login) -> None:
    """A server of another kind says something else, or nothing: neither takes us for long."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.sendall(b"220 mail.example ESMTP\r\n" + b"x" * 10_000)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(CommandError, match="does not answer discover packets"):
            login("anna").server.sendDiscoverPacket("127.0.0.1", listener.getsockname()[1])
        thread.join()


def test_a_server_that_is_told_to_end_answers_and_ends(tmp_path: Path) -> None:
    """Orderly: with exit code 0, and all of its processes."""
    server = start_server(tmp_path / "s")
    with Lines(server.port) as client:
        assert client.call("server.terminate")["result"] is None
        assert client.hear() is None, "the connection is closed then"
    eventually(lambda: not server.running)
    assert server.stop() == 0
