"""Specs that name a receiver's key, an account there, a cipher and a relay: by an agent with real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import World, tree, world
from freeports import free_port
from relays import RelayProcess
from servers import Server, eventually, start_server

from agent.server import accounts
from agent.server.identity import Identities

pytestmark = pytest.mark.e2e

USER, PASSWORD = "ingest", "correct horse"
DESTINATION = """
apiVersion: lanesync/v1
kind: Destination
metadata: {{name: archive}}
spec:
  address: {address}
  port: {port}
  identity: {{publicKey: {key}}}
  credentials: {{userName: {user}, password: {{file: {password}}}}}
  transferDefaults: {{minCipher: encrypted256}}
{more}
"""


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made
        if made.agent is not None and made.agent.poll() is None:
            assert made.stop() == 0


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Server]:
    accounts.add(tmp_path / "accounts", USER, PASSWORD)
    with start_server(tmp_path / "receiver", accounts=tmp_path / "accounts", min_cipher=3) as running:
        yield running


def key_of(server: Server) -> str:
    return Identities(server.state_dir).current().public_key


def write(w: World, key: str, port: int, more: str = "", **fields: Any) -> Path:
    """Specs for a destination; returns the password's file."""
    secret = w.directory / "password"
    if not secret.exists():
        secret.write_text(PASSWORD + "\n")
    given = {"address": "127.0.0.1", "user": USER, "password": secret, **fields}
    text = DESTINATION.format(port=port, key=key, more=more, **given)
    (w.specs / "new").write_text(text + w.mapping(more="prune: true"))
    (w.specs / "new").rename(w.specs / "specs.yaml")
    return secret


def conditions(w: World, kind: str, name: str) -> str:
    return " ".join(c["message"] for c in w.object(kind, name).get("conditions", []))


def test_files_go_encrypted_to_an_account_of_the_receiver_that_was_named(w: World, receiver: Server) -> None:
    """Delivery, a change and a deletion, all with the account; a second plan is empty."""
    (w.source / "a").write_text("one")
    (w.source / "b").write_text("two")
    write(w, key_of(receiver), receiver.port)
    w.start()
    target = receiver.receive_root / "paris"
    eventually(lambda: tree(w.source) == tree(target), what="the first delivery")
    (w.source / "b").unlink()
    (w.source / "c").write_text("three")
    eventually(lambda: tree(w.source) == tree(target), what="the change and the deletion")
    w.in_sync()
    plan = w.call("plan", str(w.specs), "--exit-code")
    assert (plan.returncode, PASSWORD in plan.stdout) == (0, False)
    assert PASSWORD not in w.log.read_text()
    for path in w.state.rglob("*"):
        assert not path.is_file() or PASSWORD.encode() not in path.read_bytes(), path


def test_a_wrong_password_is_said_and_mended_without_a_restart(w: World, receiver: Server) -> None:
    """The condition names the account, not the password; the right secret in the file is enough."""
    (w.source / "a").write_text("one")
    secret = write(w, key_of(receiver), receiver.port)
    secret.write_text("wrong password")
    w.start()
    eventually(lambda: USER in conditions(w, "Mapping", "dailies"), what="the condition")
    assert "wrong password" not in conditions(w, "Mapping", "dailies")
    assert not (receiver.receive_root / "paris").exists()
    secret.write_text(PASSWORD)
    eventually((receiver.receive_root / "paris" / "a").exists, what="delivered with the new secret")


def test_a_receiver_with_another_key_gets_nothing(w: World, receiver: Server, tmp_path: Path) -> None:
    """The pinned key is not the receiver's: nothing is sent and both are named, until the spec is mended."""
    (w.source / "a").write_text("one")
    with start_server(tmp_path / "other") as other:
        wrong = key_of(other)
    write(w, wrong, receiver.port)
    w.start()
    eventually(lambda: wrong[:12] in conditions(w, "Mapping", "dailies"), what="the condition names it")
    eventually(lambda: not w.object("Destination", "archive")["ready"], what="the destination is not ready")
    (stalled,) = [c for c in w.object("Destination", "archive")["conditions"] if c["type"] == "Stalled"]
    assert stalled["reason"] == "AuthenticationFailed"
    assert wrong[:12] in stalled["message"] and "identity.publicKey" in stalled["message"]
    assert not (receiver.receive_root / "paris").exists()
    write(w, key_of(receiver), receiver.port)
    eventually((receiver.receive_root / "paris" / "a").exists, what="delivered to the right one")
    w.in_sync()


def test_a_receiver_that_does_not_know_us_is_said_at_its_destination(w: World, tmp_path: Path) -> None:
    """It takes files from authorized senders only: the condition tells which key to add there, and when that
    is done all is delivered."""
    (w.source / "a").write_text("one")
    accounts.add(tmp_path / "accounts", USER, PASSWORD, superuser=True)
    known = {"accounts": tmp_path / "accounts", "only_authorized_clients": True, "superuser": "named"}
    with start_server(tmp_path / "closed", **known) as closed:
        write(w, key_of(closed), closed.port)
        w.start()
        eventually(
            lambda: "addAuthorizedClient" in conditions(w, "Destination", "archive"), what="the condition"
        )
        assert not w.object("Destination", "archive")["ready"]
        own = Identities(next((w.state / "servers").iterdir())).current().public_key
        assert own in conditions(w, "Destination", "archive")
        with closed.api() as api:
            api.server.auth(USER, PASSWORD)
            api.server.superuser()
            api.recv.addAuthorizedClient(own)
        eventually((closed.receive_root / "paris" / "a").exists, what="delivered")
        w.in_sync()


def test_a_destination_that_lets_us_in_again_is_ready_though_nothing_is_to_be_sent(
    w: World, tmp_path: Path
) -> None:
    """It threw us out, and a look at it is refused. Once it lets us in again that is found out without work
    and without another look, when somebody asks."""
    (w.source / "a").write_text("one")
    accounts.add(tmp_path / "accounts", USER, PASSWORD, superuser=True)
    known = {"accounts": tmp_path / "accounts", "only_authorized_clients": True, "superuser": "named"}
    with start_server(tmp_path / "closed", **known) as closed, closed.api() as api:
        api.server.auth(USER, PASSWORD)
        api.server.superuser()
        write(w, key_of(closed), closed.port)
        text = (w.specs / "specs.yaml").read_text()
        (w.specs / "specs.yaml").write_text(text.replace("prune: true", "drift: {policy: ignore}"))
        w.start()

        def thrown_out() -> bool:
            return "addAuthorizedClient" in conditions(w, "Destination", "archive")

        eventually(thrown_out, what="who we are")
        own = Identities(next((w.state / "servers").iterdir())).current().public_key
        api.recv.addAuthorizedClient(own)
        w.in_sync()
        api.recv.removeAuthorizedClient(own)
        w.call("verify", "dailies")
        eventually(thrown_out, what="the look is refused")
        api.recv.addAuthorizedClient(own)
        w.call("reconcile", "Destination/archive")
        eventually(lambda: w.object("Destination", "archive")["ready"], what="it lets us in")


def test_a_receiver_is_reached_through_a_relay(w: World, tmp_path: Path) -> None:
    """Nobody listens where the address says: the relay knows the receiver by its key."""
    (w.source / "a").write_text("one")
    accounts.add(tmp_path / "accounts", USER, PASSWORD)
    with RelayProcess(tmp_path / "relay", None, {}) as relay:
        options = {
            "recv_relay": relay.address,
            "recv_relay_key": relay.key,
            "accounts": tmp_path / "accounts",
        }
        with start_server(tmp_path / "inside", external_address="inside.example:8886", **options) as inside:
            way = f"  relay: {{address: 127.0.0.1, port: {relay.port}}}"
            write(w, key_of(inside), 8886, way, address="inside.example")
            w.start()
            target = inside.receive_root / "paris"
            eventually(lambda: tree(w.source) == tree(target), what="delivered through the relay")
            assert w.call("plan", str(w.specs), "--exit-code").returncode == 0


def test_an_embedded_server_takes_files_from_known_servers_only(w: World, tmp_path: Path) -> None:
    """`authorizedClients`: the server with that key may send, a stranger is refused and told what to do."""
    port = free_port()
    with start_server(tmp_path / "friend") as friend, start_server(tmp_path / "stranger") as stranger:
        (w.specs / "specs.yaml").write_text(
            "apiVersion: lanesync/v1\nkind: Server\nmetadata: {name: inbox}\n"
            f"spec: {{listen: '127.0.0.1:{port}', authorizedClients: ['{key_of(friend)}']}}\n"
        )
        w.start()
        eventually(lambda: w.object("Server", "inbox").get("ready"), what="the inbox listens")
        (tmp_path / "file").write_text("x")

        def send(server: Server) -> tuple[str, str]:
            with server.api() as api:
                destination = api.send.createDestination("127.0.0.1", destinationPort=port)
                manifest = api.send.waitForManifest(
                    api.send.createManifest(mappings={f"/{server.state_dir.name}": str(tmp_path / "file")})
                )
                made = api.send.createTransfer(destination, manifest, minCipher=3)
                where = destination["destinationId"]

                def ended() -> tuple[str, str] | None:
                    found = api.send.getTransfer(made)
                    error = api.send.getDestination(where)["lastErrorMessage"] or found["errorMessage"]
                    over = not found["processing"] or error
                    return (str(found["status"]), str(error)) if over else None

                return eventually(ended, what="the transfer is over, or an error is shown")

        assert send(friend)[0] == "complete"
        status, error = send(stranger)
        assert status != "complete"
        assert key_of(stranger)[:12] in error
        inbox = w.state / "servers" / "inbox" / "received"
        assert sorted(p.name for p in inbox.iterdir() if not p.name.startswith(".")) == ["friend"]
