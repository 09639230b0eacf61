"""Real servers that know each other by their keys: what is encrypted, who is refused, what people hear."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import Server, eventually, server_pair, start_server

from agent.jetstream import APIInterface, CommandError, Jetstream, ProtocolError, UntrustedServerError

pytestmark = pytest.mark.e2e

SLOW = 8_000  # kbit/s: 1 MB/s
NONE, ENCRYPTED_128, ENCRYPTED_256 = 0, 2, 3


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    with server_pair(tmp_path) as servers:
        yield servers


def _key(server: Server) -> str:
    with server.api() as api:
        return str(api.server.getServerInfo()["publicKey"])


def _destination(api: APIInterface, receiver: Server, **params: Any) -> dict[str, Any]:
    return dict(
        api.send.createDestination("127.0.0.1", destinationPort=receiver.port, permanent=True, **params)
    )


def _start(
    api: APIInterface, destination: dict[str, Any], source: Path, path: str = "/in", **params: Any
) -> dict[str, Any]:
    manifest = api.send.waitForManifest(api.send.createManifest(mappings={f"/{source.name}": str(source)}))
    return dict(api.send.createTransfer(destination, manifest, destinationPath=path, **params))


def _file(folder: Path, size: int = 3_000_000) -> Path:
    path = folder / "file"
    path.write_bytes(os.urandom(size))
    return path


def _error(api: APIInterface, destination: dict[str, Any], *words: str) -> str:
    """The destination's error once it says all of that."""

    def look() -> str:
        text = str(api.send.getDestination(destination)["lastErrorMessage"])
        return text if all(word in text for word in words) else ""

    return eventually(look, what=f"an error with {words}")


def _keygen(server: Server, *arguments: str) -> str:
    command = [sys.executable, "-m", "agent.cli.main", "keygen", "--state-dir", str(server.state_dir)]
    ended = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
    return ended.stdout.strip()


# --- pinned keys ---------------------------------------------------------------------------------------


def test_a_pinned_receiver_gets_the_files_encrypted(pair: tuple[Server, Server], tmp_path: Path) -> None:
    """Destination, connection and source say so, with each other's keys."""
    sender, receiver = pair
    key, source = _key(receiver), _file(tmp_path)
    with sender.api() as api, receiver.api() as other:
        destination = _destination(api, receiver, authenticateDestination=True, destinationPublicKey=key)
        assert not destination["encryptionEnabled"] and destination["destinationPublicKey"] is None
        ended = api.send.waitForTransfer(_start(api, destination, source))
        assert ended["status"] == "complete", ended
        found = api.send.getDestination(destination)
        connection = api.send.getConnection(found["connectionId"])
        for structure in (found, connection):
            assert structure["encryptionEnabled"] and structure["destinationPublicKey"] == key
            assert structure["encryptedConnectionState"] == "connected"
        assert found["permittedDestinationPublicKey"] == key
        (seen,) = other.recv.getSources()
        assert seen["encryptionEnabled"] and seen["destinationPublicKey"] == _key(sender)
    assert (receiver.receive_root / "in" / "file").read_bytes() == source.read_bytes()


def test_nothing_is_sent_to_a_receiver_with_another_key(pair: tuple[Server, Server], tmp_path: Path) -> None:
    """The error names the beginnings of both keys; the right key on another destination works."""
    sender, receiver = pair
    wrong, right, source = _key(sender), _key(receiver), _file(tmp_path)
    with sender.api() as api:
        with pytest.raises(CommandError, match="needs destinationPublicKey"):
            _destination(api, receiver, authenticateDestination=True)
        destination = _destination(api, receiver, destinationPublicKey=wrong)
        held = _start(api, destination, source, "/wrong")
        message = _error(
            api, destination, wrong[:32], right[:32], "nothing was sent", "create the destination anew"
        )
        assert right not in message
        assert api.send.getTransfer(held)["bytesSent"] == 0
        good = _destination(api, receiver, destinationPublicKey=right)
        assert api.send.waitForTransfer(_start(api, good, source, "/right"))["status"] == "complete"
    assert os.listdir(receiver.receive_root) == ["right"] or not (receiver.receive_root / "wrong").exists()


# --- how well protected --------------------------------------------------------------------------------


def test_a_session_is_replaced_when_a_transfer_asks_for_more(
    pair: tuple[Server, Server], tmp_path: Path
) -> None:
    """A plain transfer runs; one that has to be encrypted starts; both arrive, and the session stays as good
    as the better one needs it."""
    sender, receiver = pair
    source = _file(tmp_path, 6_000_000)
    with sender.api() as api:
        destination = _destination(api, receiver)
        assert destination["transferDefaults"]["minCipher"] == NONE
        slow = _start(api, destination, source, "/plain", sendRateMax=SLOW)
        eventually(lambda: api.send.getTransfer(slow)["bytesSent"] > 0)
        assert not api.send.getDestination(destination)["encryptionEnabled"]
        careful = _start(api, destination, source, "/careful", minCipher=ENCRYPTED_256)
        assert api.send.waitForTransfer(careful)["status"] == "complete"
        assert api.send.getDestination(destination)["encryptionEnabled"]
        api.send.setTransferSendRateMax(slow, -1)
        assert api.send.waitForTransfer(slow)["status"] == "complete"
    for folder in ("plain", "careful"):
        assert (receiver.receive_root / folder / "file").read_bytes() == source.read_bytes()


def test_a_receiver_refuses_what_is_protected_too_little(tmp_path: Path) -> None:
    """Both values are in the transfer's error, which is final; asking for more works."""
    source = _file(tmp_path)
    with start_server(tmp_path / "s") as sender, start_server(tmp_path / "r", min_cipher=3) as receiver:
        with sender.api() as api:
            destination = _destination(api, receiver)
            ended = api.send.waitForTransfer(_start(api, destination, source))
            assert ended["status"] == "error"
            assert "takes minCipher 3 or better, the transfer came with 0" in ended["errorMessage"]
            api.send.updateTransferDefaults(destination, minCipher=ENCRYPTED_256)
            ended = api.send.waitForTransfer(_start(api, destination, source))
            assert ended["status"] == "complete", ended
        with receiver.api() as other:
            assert other.server.getServerInfo()["minCipher"] == ENCRYPTED_256


def test_a_sender_refuses_to_go_below_its_own_minimum(tmp_path: Path) -> None:
    """At the call, with both values; what is not said is lifted to it."""
    source = _file(tmp_path)
    with start_server(tmp_path / "s", min_cipher=2) as sender, start_server(tmp_path / "r") as receiver:
        with sender.api() as api:
            destination = _destination(api, receiver)
            with pytest.raises(CommandError, match="minCipher 0 is below 2"):
                _start(api, destination, source, minCipher=NONE)
            with pytest.raises(CommandError, match="minCipher 1 is below 2"):
                api.send.updateTransferDefaults(destination, minCipher=1)
            assert api.send.waitForTransfer(_start(api, destination, source))["status"] == "complete"
            assert api.send.getDestination(destination)["encryptionEnabled"]


# --- authorized senders --------------------------------------------------------------------------------


def test_only_authorized_senders_may_write(pair: tuple[Server, Server], tmp_path: Path) -> None:
    """A plain session is told to encrypt, an encrypted one which key has to be added where; once it is added
    the same transfer goes on by itself, and the switch survives a restart."""
    sender, receiver = pair
    key, source = _key(sender), _file(tmp_path)
    with sender.api() as api:
        with receiver.api() as other:
            other.recv.allowOnlyAuthorizedClients(True)
        destination = _destination(api, receiver)
        plain = _start(api, destination, source, "/plain")
        _error(api, destination, "authorized senders only", "minCipher 2 or better")
        api.send.suspendTransfer(plain)
        held = _start(api, destination, source, "/held", minCipher=ENCRYPTED_128)
        _error(api, destination, key, "recv.addAuthorizedClient")
        receiver.restart()
        with receiver.api() as other:
            _error(api, destination, key)
            other.recv.addAuthorizedClient(key)
            assert api.send.waitForTransfer(held)["status"] == "complete"
    assert os.path.exists(receiver.receive_root / "held" / "file")
    assert not os.path.exists(receiver.receive_root / "plain")


def test_a_sender_that_is_removed_loses_its_running_session(
    pair: tuple[Server, Server], tmp_path: Path
) -> None:
    """Within the transfer; added again it goes on where it was."""
    sender, receiver = pair
    key, source = _key(sender), _file(tmp_path, 8_000_000)
    with sender.api() as api, receiver.api() as other:
        other.recv.addAuthorizedClient(key)
        other.recv.allowOnlyAuthorizedClients(True)
        destination = _destination(api, receiver)
        moving = _start(api, destination, source, minCipher=ENCRYPTED_256, sendRateMax=SLOW)
        eventually(lambda: api.send.getTransfer(moving)["bytesSent"] > 500_000)
        other.recv.removeAuthorizedClient(key)
        _error(api, destination, key, "authorized senders only")
        assert api.send.getTransfer(moving)["processing"]
        with pytest.raises(CommandError, match="is not authorized"):
            other.recv.removeAuthorizedClient(key)
        api.send.setTransferSendRateMax(moving, -1)
        other.recv.addAuthorizedClient({"publicKey": key})
        assert api.send.waitForTransfer(moving)["status"] == "complete"
    assert (receiver.receive_root / "in" / "file").read_bytes() == source.read_bytes()


def test_what_the_command_line_says_cannot_be_taken_back_by_a_call(tmp_path: Path) -> None:
    """Each refusal names the option."""
    with start_server(tmp_path / "s") as sender:
        key = _key(sender)
        options: dict[str, Any] = {"only_authorized_clients": True, "authorized_client": key}
        with start_server(tmp_path / "r", **options) as receiver, receiver.api() as other:
            with pytest.raises(CommandError, match="--only-authorized-clients"):
                other.recv.allowOnlyAuthorizedClients(False)
            with pytest.raises(CommandError, match="--authorized-client"):
                other.recv.removeAuthorizedClient(key)
            with pytest.raises(CommandError, match="clientPublicKey must be a public key"):
                other.recv.addAuthorizedClient("nonsense")
            with sender.api() as api:
                destination = _destination(api, receiver, destinationPublicKey=_key(receiver))
                ended = api.send.waitForTransfer(_start(api, destination, _file(tmp_path)))
                assert ended["status"] == "complete", ended


# --- replacing keys ------------------------------------------------------------------------------------


def test_keys_are_replaced_under_a_running_transfer(pair: tuple[Server, Server], tmp_path: Path) -> None:
    """Both sides get new keys, the receiver is restarted, and everybody still knows only the old ones: the
    pinned receiver answers with its old key, the authorized sender shows its old one, nothing fails."""
    sender, receiver = pair
    old_sender, old_receiver, source = _key(sender), _key(receiver), _file(tmp_path, 8_000_000)
    with sender.api() as api:
        with receiver.api() as other:
            other.recv.addAuthorizedClient(old_sender)
            other.recv.allowOnlyAuthorizedClients(True)
        destination = _destination(api, receiver, destinationPublicKey=old_receiver)
        moving = _start(api, destination, source, sendRateMax=SLOW)
        eventually(lambda: api.send.getTransfer(moving)["bytesSent"] > 0)
        new_receiver, new_sender = (
            _keygen(server, "--rotate", "--keep", "1h") for server in (receiver, sender)
        )
        assert new_receiver != old_receiver and new_sender != old_sender
        assert _key(sender) == new_sender and _key(receiver) == new_receiver
        receiver.restart()
        api.send.setTransferSendRateMax(moving, -1)
        assert api.send.waitForTransfer(moving)["status"] == "complete"
        pinned_anew = _destination(api, receiver, destinationPublicKey=new_receiver)
        ended = api.send.waitForTransfer(_start(api, pinned_anew, source, "/anew"))
        assert ended["status"] == "complete", ended
    assert (receiver.receive_root / "in" / "file").read_bytes() == source.read_bytes()


def test_a_key_that_is_over_is_not_shown_any_more(pair: tuple[Server, Server], tmp_path: Path) -> None:
    """After --keep 0s who has pinned the old key is told of the new one, and sends nothing."""
    sender, receiver = pair
    old = _key(receiver)
    new = _keygen(receiver, "--rotate", "--keep", "0s")
    with sender.api() as api:
        destination = _destination(api, receiver, destinationPublicKey=old)
        _start(api, destination, _file(tmp_path))
        _error(api, destination, new[:32], old[:32])
    assert not (receiver.receive_root / "in").exists()


# --- one port ------------------------------------------------------------------------------------------


def _tls(port: int, *protocols: str) -> ssl.SSLSocket:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), 10))


def _client_hello(*protocols: str) -> bytes:
    context = ssl.create_default_context()
    context.set_alpn_protocols(list(protocols))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="studio.example").do_handshake()
    return outgoing.read()


def test_a_data_session_never_reaches_the_api(tmp_path: Path) -> None:
    """A peer that calls itself one is answered as one, whatever it says afterwards; the API's side does not
    take data sessions either."""
    call = b'{"jsonrpc":"2.0","id":1,"method":"server.echo","params":{"text":"x"}}\n'
    with start_server(tmp_path / "s") as server:
        with _tls(server.port) as api:
            api.sendall(call)
            assert json.loads(api.recv(4096))["result"] == "x"
            api.sendall(b"LSDATA/1\n")
            assert "error" in json.loads(api.recv(4096))
        with _tls(server.port, "lanesync-data/1") as data:
            data.sendall(call)
            answer = b"".join(iter(lambda: data.recv(4096), b""))
            assert b"does not begin as a data session" in answer and b"jsonrpc" not in answer
        assert server.worker("receiver") is not None


def test_peers_that_stall_hold_up_nobody(tmp_path: Path) -> None:
    """A hundred that begin a ClientHello, and more than may begin a data session at once that end with it:
    transfers go on."""
    hello = _client_hello("lanesync-data/1")
    with server_pair(tmp_path) as (sender, receiver):
        stalled = [socket.create_connection(("127.0.0.1", receiver.port)) for _ in range(250)]
        for sock in stalled[:150]:
            sock.sendall(hello)
        for sock in stalled[150:]:
            sock.sendall(hello[:60])
        key = _key(receiver)
        with sender.api() as api:
            destination = _destination(api, receiver, destinationPublicKey=key)
            ended = api.send.waitForTransfer(_start(api, destination, _file(tmp_path)))
            assert ended["status"] == "complete", ended
        for sock in stalled:
            sock.close()


# --- control from elsewhere ----------------------------------------------------------------------------


def test_clients_know_a_server_by_its_key_or_its_authority(tmp_path: Path) -> None:
    """On loopback TLS is there for the asking; another key and another authority are refused by name."""
    with start_server(tmp_path / "s") as server, start_server(tmp_path / "other") as other:
        key, wrong = _key(server), _key(other)
        authorities = []
        for each in (server, other):
            pem = (each.state_dir / "identity" / "current.pem").read_text()
            path = tmp_path / f"{each.port}.pem"
            path.write_text(pem[pem.index("-----BEGIN CERTIFICATE") :])
            authorities.append(str(path))
        for params in ({"tls": True}, {"publicKey": key}, {"ca": authorities[0]}):
            with Jetstream().api("localhost", server.port, **params) as api:
                assert api.server.getServerInfo()["publicKey"] == key
        with pytest.raises(UntrustedServerError, match="nothing was sent") as refused:
            Jetstream().api("127.0.0.1", server.port, publicKey=wrong).connect()
        assert refused.value.publicKey == key
        with pytest.raises(UntrustedServerError, match="does not vouch for"):
            Jetstream().api("127.0.0.1", server.port, ca=authorities[1]).connect()
        old, new = key, _keygen(server, "--rotate", "--keep", "1h")
        for pinned in (old, new):
            with Jetstream().api("127.0.0.1", server.port, publicKey=pinned) as api:
                assert api.server.getServerInfo()["publicKey"] == new


def _own_address() -> str:
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))  # sends nothing
            found = str(sock.getsockname()[0])
        except OSError:
            found = "127.0.0.1"
    if found.startswith("127."):
        pytest.skip("this machine has no address but loopback")
    return found


def _accounts(folder: Path) -> Path:
    path = folder / "accounts"
    command = [sys.executable, "-m", "agent.cli.main", "user", "add", "ann", "--accounts", str(path)]
    environment = {**os.environ, "LANESYNC_USER_PASSWORD": "a long password"}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return path


def test_other_hosts_command_over_tls_only_and_only_if_allowed(tmp_path: Path) -> None:
    """An unknown server is not talked to, and its key is in the error; a known one wants a login."""
    address, accounts = _own_address(), _accounts(tmp_path)
    with start_server(tmp_path / "closed", host=address, accounts=accounts) as server:
        with pytest.raises(ProtocolError, match="--allow-remote-control"):
            Jetstream().api(address, server.port, insecure=True).connect()
    options: dict[str, Any] = {"accounts": accounts, "allow_remote_control": True}
    with start_server(tmp_path / "open", host=address, **options) as server:
        with pytest.raises(UntrustedServerError, match="lanesync keygen --show") as unknown:
            Jetstream().api(address, server.port).connect()
        with socket.create_connection((address, server.port)) as plain:
            plain.sendall(b'{"jsonrpc":"2.0","id":1,"method":"server.echo"}\n')
            assert b"only over TLS" in plain.recv(4096)
        with Jetstream().api(address, server.port, publicKey=unknown.value.publicKey) as api:
            with pytest.raises(CommandError, match=r"call server\.auth first"):
                api.send.getDestinations()
            api.server.auth("ann", "a long password")
            assert api.send.getDestinations() == []
            assert api.server.getServerInfo()["minCipher"] == ENCRYPTED_256


def test_what_goes_to_another_address_is_encrypted_unasked(tmp_path: Path) -> None:
    """The destination's key can be read off it afterwards, to be pinned."""
    address, source = _own_address(), _file(tmp_path)
    with start_server(tmp_path / "s") as sender:
        options: dict[str, Any] = {"only_authorized_clients": True, "authorized_client": _key(sender)}
        with start_server(tmp_path / "r", host=address, **options) as receiver, sender.api() as api:
            destination = api.send.createDestination(address, destinationPort=receiver.port, permanent=True)
            assert destination["transferDefaults"]["minCipher"] == ENCRYPTED_256
            ended = api.send.waitForTransfer(_start(api, destination, source))
            assert ended["status"] == "complete", ended
            found = api.send.getDestination(destination)
            assert found["encryptionEnabled"] and found["permittedDestinationPublicKey"] is None
            pinned = api.send.createDestination(
                address, destinationPort=receiver.port, destinationPublicKey=found["destinationPublicKey"]
            )
            ended = api.send.waitForTransfer(_start(api, pinned, source, "/pinned"))
            assert ended["status"] == "complete", ended
