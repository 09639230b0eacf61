"""Three real processes: a sender, a receiver that nobody can reach, and the relay that both connect to."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from relays import Between, RelayProcess
from servers import Server, eventually, start_server

from agent.jetstream import APIInterface
from agent.server import accounts, identity
from agent.server.data import dialing
from agent.server.data.target import Target
from agent.server.identity import Identities

pytestmark = pytest.mark.e2e

SLOW = 8_000  # kbit/s: 1 MB/s
REGISTERED = '"event": "registered at the relay"'
USER = {"userName": "ingest", "password": "correct horse"}
Receive = Callable[..., Server]


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[RelayProcess]:
    with RelayProcess(tmp_path / "relay", None, {}) as running:
        yield running


@pytest.fixture
def sender(tmp_path: Path) -> Iterator[Server]:
    with start_server(tmp_path / "sender") as running:
        yield running


@pytest.fixture
def receive(tmp_path: Path, relay: RelayProcess) -> Iterator[Receive]:
    """Starts receivers behind the relay, each known there as NAME:8886."""
    running: list[Server] = []
    accounts.add(tmp_path / "accounts", USER["userName"], USER["password"])

    def start(name: str = "studio", **options: Any) -> Server:
        given = {"recv_relay": relay.address, "recv_relay_key": relay.key, "accounts": tmp_path / "accounts"}
        given |= {"external_address": f"{name}:8886"}
        running.append(start_server(tmp_path / name, **(given | options)))
        eventually(lambda: REGISTERED in running[-1].log(), what="it registers")
        return running[-1]

    yield start
    for server in running:
        server.stop()


def _start(
    api: APIInterface,
    relay: RelayProcess | Between,
    mappings: dict[str, str],
    name: str = "studio",
    pin: str | None = None,
    **params: Any,
) -> dict[str, Any]:
    way: dict[str, Any] = {"relayAddress": "127.0.0.1", "relayPort": relay.port, "permanent": True}
    if pin is not None:
        way |= {"authenticateDestination": True, "destinationPublicKey": pin}
    destination = api.send.createDestination(name, destinationPort=8886, **way)
    manifest = api.send.waitForManifest(api.send.createManifest(mappings=mappings))
    return dict(api.send.createTransfer(destination, manifest, **USER, **params))


def _large(folder: Path, size: int = 8_000_000) -> Path:
    path = folder / "large"
    path.write_bytes(os.urandom(size))
    return path


def _under_way(api: APIInterface, transfer: dict[str, Any], beyond: int = 0) -> bool:
    return bool(api.send.getTransfer(transfer)["bytesSent"] > beyond)


def _finish(api: APIInterface, transfer: dict[str, Any]) -> None:
    """At full speed to the end."""
    api.send.setTransferSendRateMax(transfer, -1)

    def over() -> bool:
        found = api.send.getTransfer(transfer)
        assert found["status"] != "error", found["errorMessage"]
        return bool(found["status"] == "complete")

    eventually(over, seconds=90, what=api.send.getDestination(transfer)["lastErrorMessage"])


def _files(root: Path) -> list[Path]:
    """What was published."""
    return [path for path in root.rglob("*") if path.is_file() and ".lanesync" not in path.parts]


def test_a_transfer_goes_through_a_relay(
    relay: RelayProcess, sender: Server, receive: Receive, tmp_path: Path
) -> None:
    """The file arrives, the structures tell of the relay, the relay tells of the session."""
    receiver, large = receive(), _large(tmp_path)
    with sender.api() as api:
        made = _start(api, relay, {"/large": str(large)})
        _finish(api, made)
        destination = api.send.getDestination(made)
        connection = api.send.getConnection(destination)
    assert (destination["relayAddress"], destination["relayPort"]) == ("127.0.0.1", relay.port)
    assert (connection["relayIP"], connection["relayPort"]) == ("127.0.0.1", relay.port)
    assert destination["encryptionEnabled"] and destination["encryptedConnectionState"] == "connected"
    assert (receiver.receive_root / "large").read_bytes() == large.read_bytes()
    with receiver.api() as far:
        far.server.auth(USER["userName"], USER["password"])
        told = far.server.getServerInfo()["receiver"]["relay"]
    assert (told["relayPort"], told["registered"], told["errorMessage"]) == (relay.port, True, "")
    sender.stop()
    lines = eventually(lambda: [line for line in relay.log().splitlines() if "session ended" in line])
    assert '"receiver": "studio:8886"' in lines[0]
    assert not any(secret in relay.log() for secret in (*USER.values(), "large"))


def test_a_killed_relay_costs_a_transfer_nothing_but_time(
    relay: RelayProcess, sender: Server, receive: Receive, tmp_path: Path
) -> None:
    """Both sides come back by themselves and the transfer goes on from where it was."""
    receiver, large = receive(), _large(tmp_path)
    with sender.api() as api:
        made = _start(api, relay, {"/large": str(large)}, sendRateMax=SLOW, checkpointFrequencySeconds=1)
        eventually(lambda: _under_way(api, made, 2_000_000))
        relay.kill()
        eventually(lambda: "relay" in api.send.getDestination(made)["lastErrorMessage"])
        relay.start()
        before = api.send.getTransfer(made)["bytesSent"]
        eventually(lambda: _under_way(api, made, before), seconds=60)
        _finish(api, made)
    assert (receiver.receive_root / "large").read_bytes() == large.read_bytes()


def test_a_restarted_receiver_is_found_again(
    relay: RelayProcess, sender: Server, receive: Receive, tmp_path: Path
) -> None:
    receiver, large = receive(), _large(tmp_path)
    with sender.api() as api:
        made = _start(api, relay, {"/large": str(large)}, sendRateMax=SLOW, checkpointFrequencySeconds=1)
        eventually(lambda: _under_way(api, made, 1_000_000))
        receiver.kill()
        eventually(
            lambda: (
                "does not know the receiver studio:8886" in api.send.getDestination(made)["lastErrorMessage"]
            )
        )
        receiver.start()
        _finish(api, made)
    assert (receiver.receive_root / "large").read_bytes() == large.read_bytes()


def test_an_unknown_receiver_is_waited_for_and_told_of(
    relay: RelayProcess, sender: Server, receive: Receive, tmp_path: Path
) -> None:
    """The destination's lastErrorMessage says what to start; once it runs, the transfer goes on."""
    with sender.api() as api:
        made = _start(api, relay, {"/f": str(_large(tmp_path, 1000))})
        message = eventually(lambda: api.send.getDestination(made)["lastErrorMessage"])
        assert f"the relay {relay.address} does not know the receiver studio:8886; start it with" in message
        receiver = receive()
        _finish(api, made)
    assert (receiver.receive_root / "f").exists()


def test_two_receivers_behind_one_relay_get_what_is_theirs(
    relay: RelayProcess, sender: Server, receive: Receive, tmp_path: Path
) -> None:
    receivers = {name: receive(name) for name in ("one", "two")}
    with sender.api() as api:
        for name in receivers:
            (tmp_path / f"for-{name}").write_text(name)
        made = [_start(api, relay, {"/f": str(tmp_path / f"for-{name}")}, name) for name in receivers]
        for transfer in made:
            _finish(api, transfer)
    for name, receiver in receivers.items():
        assert (receiver.receive_root / "f").read_text() == name


def test_a_pinned_receiver_is_reached_by_its_key(
    relay: RelayProcess, sender: Server, receive: Receive, tmp_path: Path
) -> None:
    """Whatever address it has registered."""
    receiver = receive("inside")
    key = Identities(receiver.state_dir).current().public_key
    with sender.api() as api:
        made = _start(api, relay, {"/f": str(_large(tmp_path, 1000))}, "elsewhere", pin=key)
        _finish(api, made)
        assert api.send.getDestination(made)["destinationPublicKey"] == key
    assert (receiver.receive_root / "f").exists()


def test_a_relay_that_leads_elsewhere_gets_nothing_from_a_sender_with_a_pinned_key(
    relay: RelayProcess, sender: Server, receive: Receive, tmp_path: Path
) -> None:
    """Another receiver answers in place of the right one: the sender sees its key and sends nothing."""
    wanted, other = receive("wanted"), receive("other")
    right, wrong = (Identities(one.state_dir).current().public_key for one in (wanted, other))
    hop = Between(relay.port)
    hop.alter = lambda data: data.replace(right.encode(), wrong.encode())
    with sender.api() as api:
        made = _start(api, hop, {"/f": str(_large(tmp_path, 1000))}, "wanted", pin=right)
        message = eventually(lambda: api.send.getDestination(made)["lastErrorMessage"])
        assert "shows the public key" in message and "nothing was sent" in message
        assert _files(other.receive_root) == []
        hop.alter = bytes
        _finish(api, made)
    assert (wanted.receive_root / "f").exists() and _files(other.receive_root) == []
    hop.close()


def test_senders_are_told_apart_by_their_keys_through_a_relay(
    relay: RelayProcess, sender: Server, tmp_path: Path
) -> None:
    """A receiver without accounts takes the session of the sender that it knows, and of no other."""
    known = Identities(sender.state_dir).current().public_key
    options: dict[str, Any] = {"only_authorized_clients": True, "authorized_client": known}
    options |= {"recv_relay": relay.address, "external_address": "studio:8886"}
    (tmp_path / "f").write_text("x")
    with start_server(tmp_path / "studio", **options) as receiver, start_server(tmp_path / "other") as other:
        eventually(lambda: REGISTERED in receiver.log())
        with other.api() as api:
            made = _start(api, relay, {"/f": str(tmp_path / "f")})
            message = eventually(lambda: api.send.getDestination(made)["lastErrorMessage"])
            assert Identities(other.state_dir).current().public_key in message
        assert _files(receiver.receive_root) == []
        with sender.api() as api:
            _finish(api, _start(api, relay, {"/f": str(tmp_path / "f")}))
        assert (receiver.receive_root / "f").exists()


def test_a_relay_sees_no_content_names_or_credentials(
    relay: RelayProcess, sender: Server, receive: Receive, tmp_path: Path
) -> None:
    """Everything that passes is recorded: of the file, its name and the password there is nothing in it."""
    receiver = receive()
    marker = b"CONFIDENTIAL-0123456789"
    (tmp_path / "secret-name").write_bytes(marker * 100_000)
    hop = Between(relay.port)
    with sender.api() as api:
        _finish(api, _start(api, hop, {"/secret-name": str(tmp_path / "secret-name")}))
    assert (receiver.receive_root / "secret-name").read_bytes() == marker * 100_000
    assert len(hop.seen) > len(marker) * 100_000
    for plain in (marker, b"secret-name", USER["password"].encode()):
        assert plain not in hop.seen
    hop.close()


@pytest.mark.parametrize("after", [0, 3_000_000], ids=["at once", "later"])
def test_a_relay_that_changes_bits_gets_nothing_published(
    relay: RelayProcess, sender: Server, receive: Receive, tmp_path: Path, after: int
) -> None:
    """The session breaks and says so, and once the bits are left alone the transfer completes."""
    receiver, large = receive(), _large(tmp_path)
    hop = Between(relay.port)

    def alter(data: bytes) -> bytes:
        touched = len(hop.seen) > after and not data.startswith(b"{")
        return data[:-1] + bytes([data[-1] ^ 1]) if touched else data

    hop.alter = alter
    with sender.api() as api:
        made = _start(api, hop, {"/large": str(large)})
        message = eventually(lambda: api.send.getDestination(made)["lastErrorMessage"])
        assert any(word in message for word in ("TLS", "encrypt", "connection")), message
        assert _files(receiver.receive_root) == []
        hop.alter = bytes
        _finish(api, made)
    assert (receiver.receive_root / "large").read_bytes() == large.read_bytes()
    hop.close()


@pytest.mark.parametrize(
    "first",
    [
        b"LSDATA/1\n" + bytes(64),
        b'{"jsonrpc":"2.0","id":1,"method":"server.getServerInfo"}\n',
        b"\x16\x03\x01",
    ],
    ids=["plain data", "command", "half a handshake"],
)
def test_a_receiver_takes_nothing_but_encrypted_data_sessions_from_its_relay(
    relay: RelayProcess, receive: Receive, first: bytes
) -> None:
    """Neither a plain data session nor a command gets an answer."""
    receiver = receive()
    target = Target("studio", 8886, relay_address="127.0.0.1", relay_port=relay.port)
    with dialing.connect(target, 10) as sock:
        sock.sendall(first)
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(30)
        answer = b"".join(iter(lambda: sock.recv(4096), b""))
    assert b"LSDATA" not in answer and b"{" not in answer
    assert _files(receiver.receive_root) == []


def test_only_accepted_receivers_register(tmp_path: Path, receive: Receive) -> None:
    """The receiver's log tells which option its key is missing from."""
    good = identity.ensure(tmp_path / "good", ["localhost"], 1_800_000_000.0).public_key
    with RelayProcess(tmp_path / "strict", None, {"accept_key": good}) as strict:
        way = {"recv_relay": strict.address, "recv_relay_key": strict.key, "accounts": tmp_path / "accounts"}
        with start_server(tmp_path / "bad", **way) as bad:
            key = Identities(tmp_path / "bad").current().public_key
            eventually(lambda: f"--accept-key {key}" in bad.log())
            with start_server(tmp_path / "good", **way) as accepted:
                eventually(lambda: REGISTERED in accepted.log())
            assert REGISTERED not in bad.log()


def test_streams_leave_from_the_sender_port(tmp_path: Path, sender: Server) -> None:
    """The receiver sees the local port that createDestination asked for."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        first = probe.getsockname()[1]
    (tmp_path / "f").write_text("x")
    with start_server(tmp_path / "receiver") as receiver, sender.api() as api, receiver.api() as far:
        destination = api.send.createDestination("127.0.0.1", destinationPort=receiver.port, senderPort=first)
        assert destination["senderPort"] == first
        manifest = api.send.waitForManifest(api.send.createManifest(mappings={"/f": str(tmp_path / "f")}))
        _finish(api, api.send.createTransfer(destination, manifest))
        source = eventually(lambda: far.recv.getSources())[0]
        assert first <= source["sourcePort"] < first + dialing.SENDER_PORTS
