"""A relay with senders and receivers on real sockets: who meets whom, and what nobody can do to it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from relays import Key, LocalReceiver, LocalRelay, Loop, relay_world
from servers import eventually

from agent.server import identity
from agent.server.data import dialing
from agent.server.data.target import Target
from agent.server.data.wire import WireError
from agent.server.relay import proof, protocol, tls
from agent.server.relay.splice import CHUNK, Splice

World = tuple[Loop, LocalRelay]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with relay_world(
        tmp_path / "relay", half_seconds=0.4, decide_seconds=1.0, rendezvous_seconds=1.0
    ) as made:
        yield made


def _target(relay: LocalRelay, address: str = "receiver.example", **more: object) -> Target:
    way = {"relay_address": "127.0.0.1", "relay_port": relay.port}
    return Target(address, 8886, **way, **more)  # type: ignore[arg-type]


def _receiver(world: World, *addresses: str, key: Key | None = None) -> LocalReceiver:
    loop, relay = world
    made = LocalReceiver(loop, relay.way, addresses, key)
    eventually(lambda: made.link.state.registered, what="the receiver is registered")
    return made


def _meet(world: World, receiver: LocalReceiver, target: Target) -> tuple[socket.socket, socket.socket]:
    count = len(receiver.arrived)
    near = dialing.connect(target, 10)
    eventually(lambda: len(receiver.arrived) > count, what="the receiver has the connection")
    return near, receiver.arrived[-1]


def _answer(sock: socket.socket) -> dict[str, object]:
    """The one line that a refused peer gets before the end."""
    sock.settimeout(10)
    with sock, sock.makefile("rb") as file:
        found = json.loads(file.readline())
        assert file.read() == b""
    return dict(found)


def _all(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(1 << 16), b""))


# --- who is brought together ---------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["address", "key"])
def test_a_sender_reaches_a_receiver_by_its_address_or_its_pinned_key(world: World, by: str) -> None:
    """Both directions carry what the other wrote, and a half-close arrives as one."""
    receiver = _receiver(world, "Receiver.Example.:8886")
    key = receiver.key.public_key if by == "key" else None
    near, far = _meet(
        world, receiver, _target(world[1], "elsewhere" if key else "receiver.EXAMPLE", public_key=key)
    )
    assert receiver.peers == [f"127.0.0.1:{near.getsockname()[1]}"]
    with near, far:
        near.sendall(b"question")
        near.shutdown(socket.SHUT_WR)
        assert _all(far) == b"question"
        far.sendall(b"answer")
        far.close()
        assert _all(near) == b"answer"


def test_two_receivers_behind_one_relay_get_their_own_senders(world: World) -> None:
    receivers = {name: _receiver(world, f"{name}:8886") for name in ("one", "two")}
    for name, receiver in receivers.items():
        near, far = _meet(world, receiver, _target(world[1], name))
        with near, far:
            near.sendall(name.encode())
            assert far.recv(16) == name.encode()
    assert [len(receiver.arrived) for receiver in receivers.values()] == [1, 1]


def test_an_unknown_receiver_is_named_with_what_to_do(world: World) -> None:
    with pytest.raises(
        WireError, match=r"does not know the receiver nobody:8886; start it with --recv-relay"
    ):
        dialing.connect(_target(world[1], "nobody"), 5)


def test_much_passes_in_both_directions_at_once(world: World) -> None:
    """Neither direction waits for the other, and both arrive whole."""
    receiver = _receiver(world, "r:8886")
    near, far = _meet(world, receiver, _target(world[1], "r"))
    sent = {near: os.urandom(12_000_000), far: os.urandom(12_000_000)}
    got: dict[socket.socket, bytes] = {}

    def send(sock: socket.socket) -> None:
        sock.sendall(sent[sock])
        sock.shutdown(socket.SHUT_WR)

    def receive(sock: socket.socket) -> None:
        got[sock] = _all(sock)

    threads = [threading.Thread(target=role, args=(sock,)) for sock in sent for role in (send, receive)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert got[far] == sent[near] and got[near] == sent[far]
    eventually(lambda: len(world[1].relay.sessions) == 0, what="the session is over")


def test_a_receiver_that_reads_nothing_stops_its_sender(world: World) -> None:
    """The relay keeps what fits into its buffers and no more; other sessions go on."""
    receiver = _receiver(world, "r:8886")
    near, far = _meet(world, receiver, _target(world[1], "r"))
    far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    near.settimeout(0.3)
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < 500_000_000:
            sent += near.send(bytes(1 << 20))
    other, its = _meet(world, receiver, _target(world[1], "r"))
    other.sendall(b"x")
    assert its.recv(1) == b"x"
    near.close()
    assert len(_all(far)) == sent


def test_sessions_and_refusals_leave_no_descriptors(world: World) -> None:
    """Whoever ends a session first, and however."""
    receiver = _receiver(world, "r:8886")
    _visit(world, receiver)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        _visit(world, receiver)
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= before, what="all descriptors are closed")
    assert len(world[1].relay.sessions) == 0


def _visit(world: World, receiver: LocalReceiver) -> None:
    """Two sessions, one ended by each side, the second rudely; two refusals; a link that breaks off."""
    for first in (0, 1):
        pair = _meet(world, receiver, _target(world[1], "r"))
        pair[first].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", first, 0))
        pair[first].close()
        assert pair[1 - first].recv(1) == b""
        pair[1 - first].close()
    with pytest.raises(WireError):
        dialing.connect(_target(world[1], "nobody"), 5)
    with world[1].connect() as sock:
        sock.sendall(b"{}\n")
    _control(world[1])[0].close()


# --- life ----------------------------------------------------------------------------------------------


def test_a_session_that_nobody_waits_for_any_more_is_closed_to_the_end() -> None:
    """A reader that is left behind would keep the next connection with that descriptor from being heard."""

    async def cancelled() -> list[int]:
        (near, one), (other, far) = socket.socketpair(), socket.socketpair()
        with near, far:
            for sock in (near, one, other, far):
                sock.setblocking(False)
            splice = Splice(one, other, memoryview(bytearray(CHUNK)))
            splice.over.cancel()
            splice.close()
            assert near.recv(1) == far.recv(1) == b""
        return [one.fileno(), other.fileno()]

    assert asyncio.run(cancelled()) == [-1, -1]


def test_everybody_comes_back_after_a_restart_of_the_relay(world: World) -> None:
    relay = world[1]
    receiver = _receiver(world, "r:8886")
    near, far = _meet(world, receiver, _target(relay, "r"))
    relay.stop()
    assert near.recv(1) == b"" and far.recv(1) == b""
    assert eventually(lambda: not receiver.link.state.registered)
    relay.start()
    eventually(lambda: receiver.link.state.registered, what="the receiver registers again")
    _meet(world, receiver, _target(relay, "r"))


def test_a_half_of_a_session_whose_other_half_died_is_cleaned_up(world: World) -> None:
    """A peer that never ends its side keeps no session."""
    receiver = _receiver(world, "r:8886")
    near, far = _meet(world, receiver, _target(world[1], "r"))
    near.shutdown(socket.SHUT_WR)
    assert far.recv(1) == b""  # and never closes
    eventually(lambda: len(world[1].relay.sessions) == 0, what="the session is dropped")
    assert near.recv(1) == b""


def test_a_session_without_a_byte_ends(tmp_path: Path) -> None:
    with relay_world(tmp_path, idle_seconds=0.5, half_seconds=0.2) as world:
        receiver = _receiver(world, "r:8886")
        near, _far = _meet(world, receiver, _target(world[1], "r"))
        near.settimeout(20)
        assert near.recv(1) == b""


def test_a_receiver_that_falls_silent_is_forgotten(tmp_path: Path) -> None:
    """It does not ping: the relay does not send senders to it for ever."""
    with relay_world(tmp_path, dead_seconds=0.3) as (loop, relay):
        LocalReceiver(loop, replace(relay.way, ping_seconds=60.0), ("r:8886",))
        eventually(lambda: "r:8886" in relay.relay.receivers())
        eventually(lambda: relay.relay.receivers() == [], what="the silent receiver is gone")


def test_a_relay_that_falls_silent_is_left(tmp_path: Path) -> None:
    """A receiver whose relay does not answer looks for it anew."""
    with relay_world(tmp_path) as (loop, relay):
        receiver = LocalReceiver(loop, replace(relay.way, ping_seconds=60.0, dead_seconds=0.3), ("r:8886",))
        eventually(lambda: receiver.link.state.registered)
        eventually(lambda: not receiver.link.state.registered, what="silence is noticed")


def test_heartbeats_keep_a_quiet_link(tmp_path: Path) -> None:
    """Both sides count the other's heartbeats: the link outlives many silences."""
    with relay_world(tmp_path, dead_seconds=0.5) as (loop, relay):
        receiver = LocalReceiver(loop, replace(relay.way, ping_seconds=0.05, dead_seconds=0.5), ("r:8886",))
        eventually(lambda: receiver.link.state.registered)
        first = loop.call(lambda: receiver.link.since)
        assert eventually(lambda: loop.call(loop.loop.time) - first > 2.0)
        assert (receiver.link.state.registered, receiver.link.since) == (True, first)


@pytest.mark.parametrize("pinned", ["old", "new"])
def test_a_relay_with_a_new_key_answers_with_the_one_that_is_expected(world: World, pinned: str) -> None:
    """While both are good, receivers that have pinned either register."""
    loop, relay = world
    renewed = identity.rotate(relay.folder, ["localhost"], 3600.0, time.time()).public_key
    assert renewed != relay.key
    way = replace(relay.way, key=relay.key if pinned == "old" else renewed)
    receiver = LocalReceiver(loop, way, ("r:8886",))
    eventually(lambda: receiver.link.state.registered, what="it registers")


def test_a_receiver_with_a_new_key_is_found_by_the_old_and_the_new_one(world: World) -> None:
    """Without a restart: the link is made anew when the keys have changed."""
    loop, relay = world
    first, second = Key(), Key()
    receiver = LocalReceiver(loop, replace(relay.way, ping_seconds=0.05), (), first)
    eventually(lambda: receiver.link.state.registered)
    receiver.keys = [second, first]
    for key in (second, first):
        near, _ = eventually(lambda key=key: _try(world, receiver, public_key=key.public_key))
        near.close()


# --- who may register ----------------------------------------------------------------------------------


def test_only_accepted_keys_register(tmp_path: Path) -> None:
    mine, other = Key(), Key()
    with relay_world(tmp_path, mine.public_key) as world:
        loop, relay = world
        refused = LocalReceiver(loop, relay.way, ("other:8886",), other)
        _receiver(world, "mine:8886", key=mine)
        eventually(lambda: "--accept-key" in refused.link.state.trouble, what="the refusal is told")
        assert relay.relay.receivers() == ["mine:8886"]


def test_receivers_of_one_address_are_bounded(tmp_path: Path) -> None:
    """One host cannot keep all others out; who comes back has its place."""
    with relay_world(tmp_path, receivers_each=1) as world:
        loop, relay = world
        key = Key()
        _receiver(world, "one:8886", key=key)
        more = LocalReceiver(loop, relay.way, ("two:8886",))
        eventually(lambda: "at most 1 receivers of one address" in more.link.state.trouble)
        _receiver(world, "one:8886", key=key)


def test_an_address_of_another_receiver_is_refused_by_name(world: World) -> None:
    loop, relay = world
    first = _receiver(world, "shared:8886")
    second = LocalReceiver(loop, relay.way, ("shared:8886",))
    eventually(lambda: "shared:8886 is registered by the receiver" in second.link.state.trouble)
    near, _ = _meet(world, first, _target(relay, "shared"))
    near.close()


def test_a_receiver_that_registers_again_replaces_itself(world: World) -> None:
    """A link that died unnoticed does not lock its owner out."""
    key = Key()
    old = _receiver(world, "r:8886", key=key)
    new = _receiver(world, "r:8886", key=key)
    near, _ = _meet(world, new, _target(world[1], "r"))
    near.close()
    eventually(lambda: "another server has registered with the same key" in old.link.state.trouble)


def test_what_is_no_relay_is_told_as_such(world: World) -> None:
    """A port that speaks no TLS, then one that nobody listens on."""
    loop, relay = world
    with socket.create_server(("127.0.0.1", 0)) as web:
        port = web.getsockname()[1]
        refused = LocalReceiver(loop, replace(relay.way, port=port), ("r:8886",))
        near, _ = web.accept()
        near.recv(4096)
        near.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        eventually(lambda: "no LaneSync relay answers there" in refused.link.state.trouble)
        near.close()
    eventually(lambda: refused.link.state.trouble == "Connection refused", what="the next reason")


def test_a_relay_with_another_key_is_not_registered_at(world: World) -> None:
    loop, relay = world
    receiver = LocalReceiver(loop, replace(relay.way, key=Key().public_key), ("r:8886",))
    eventually(lambda: "not the one of --recv-relay-key" in receiver.link.state.trouble)
    assert relay.relay.receivers() == []


def _control(relay: LocalRelay) -> tuple[ssl.SSLSocket, str]:
    """A link as a receiver opens it, and the nonce of its welcome."""
    sock = tls.receiver_context().wrap_socket(relay.connect())
    return sock, str(json.loads(_line(sock))["nonce"])


def _line(sock: ssl.SSLSocket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        data = sock.recv(4096)
        assert data, f"the link ended after {line!r}"
        line += data
    return line


def test_a_registration_cannot_be_replayed(world: World) -> None:
    """The signature holds for one nonce, one relay and the addresses that were signed."""
    relay, key = world[1], Key()
    signed = None
    for replay in (False, True):
        sock, nonce = _control(relay)
        with sock:
            if signed is None:
                signed = proof.register([key], ("r:8886",), nonce, relay.key)
            sock.sendall(signed)
            answer = json.loads(_line(sock))
            assert answer["op"] == ("refused" if replay else "registered")
        eventually(lambda: relay.relay.receivers() == [], what="it is forgotten when its link ends")
    assert "signature is not that of its key" in answer["error"]


# --- hostile peers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{}\n", "op"),
        (b"[" * 3000 + b"\n", "not JSON"),
        (b'{"op":"connect"}\n', "version"),
        (b'{"op":"connect","relay":1,"address":"r"}\n', "HOST:PORT"),
        (b'{"op":"connect","relay":1,"address":["r"]}\n', "address"),
        (b'{"op":"accept","relay":1,"token":"' + b"a" * 64 + b'"}\n', "nobody waits"),
        (b'{"op":"accept","relay":1,"token":7}\n', "token"),
        (b'{"op":"steal","relay":1}\n', "neither connect nor accept"),
        (b'{"op":"connect","relay":1,"address":"r:1"}\nmore', "more than a line"),
        (b"{" + b"x" * 20_000, "longer than"),
        (b"GET / HTTP/1.1\r\n", "not JSON"),
    ],
)
def test_what_no_sound_peer_says_is_refused_with_the_reason(world: World, line: bytes, reason: str) -> None:
    sock = world[1].connect()
    sock.sendall(line)
    answer = _answer(sock)
    assert answer["op"] == "refused" and reason in str(answer["error"])


def test_an_endless_line_on_a_link_ends_it(world: World) -> None:
    sock, _ = _control(world[1])
    with sock:
        sock.sendall(b"x" * (protocol.MAX_LINE * 3))
        assert "longer than" in json.loads(_line(sock))["error"]


def test_those_who_say_nothing_do_not_keep_others_out(tmp_path: Path) -> None:
    """Half-open connections are bounded for each address, and time out."""
    with relay_world(tmp_path, undecided_each=8, decide_seconds=1.0) as world:
        receiver = _receiver(world, "r:8886")
        flood = [world[1].connect() for _ in range(30)]
        for sock in flood[8:]:
            sock.settimeout(10)
            assert sock.recv(1) == b""  # refused at once
        near, _ = eventually(lambda: _try(world, receiver), what="a sender is served after the flood")
        near.close()
        for sock in flood:
            sock.settimeout(10)
            assert sock.recv(1) == b""


def test_half_a_handshake_is_not_waited_for(world: World) -> None:
    """Neither before TLS, nor in it, nor before the registration."""
    begun = world[1].connect()
    begun.sendall(b"\x16")
    half = world[1].connect()
    half.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
    silent, _ = _control(world[1])
    for sock in (begun, half):
        sock.settimeout(10)
        assert sock.recv(1) == b""
    silent.settimeout(10)
    assert b"refused" in silent.recv(4096)


def _try(
    world: World, receiver: LocalReceiver, **target: object
) -> tuple[socket.socket, socket.socket] | None:
    try:
        return _meet(world, receiver, _target(world[1], "r", **target))
    except WireError:
        return None


def test_a_token_is_good_once(world: World) -> None:
    """A replayed token gets nothing, also while its session lasts."""
    sock, nonce = _control(world[1])
    with sock:
        sock.sendall(proof.register([Key()], ("r:8886",), nonce, world[1].key))
        assert json.loads(_line(sock))["op"] == "registered"
        asking = world[1].connect()
        asking.sendall(protocol.encode("connect", relay=1, address="r:8886"))
        token = json.loads(_line(sock))["token"]
        answers = []
        for _ in range(2):
            coming = world[1].connect()
            coming.settimeout(10)
            coming.sendall(protocol.encode("accept", relay=1, token=token))
            answers.append(json.loads(coming.makefile("rb").readline())["op"])
        assert answers == ["connected", "refused"]


def test_a_receiver_that_does_not_come_is_told_of(world: World) -> None:
    """The sender waits for a bounded time and learns whose fault it is."""
    sock, nonce = _control(world[1])
    with sock:
        sock.sendall(proof.register([Key()], ("r:8886",), nonce, world[1].key))
        with pytest.raises(WireError, match=r"receiver r:8886 did not come within 1 s"):
            dialing.connect(_target(world[1], "r"), 5)


@pytest.mark.parametrize("limit", ["sessions", "sessions_each", "sessions_from"])
def test_sessions_are_bounded_and_their_places_are_given_back(tmp_path: Path, limit: str) -> None:
    with relay_world(tmp_path, **{limit: 1}) as world:
        receiver = _receiver(world, "r:8886")
        near, _ = _meet(world, receiver, _target(world[1], "r"))
        with pytest.raises(WireError, match="as many sessions"):
            dialing.connect(_target(world[1], "r"), 5)
        near.close()
        receiver.arrived[0].close()
        assert eventually(lambda: _try(world, receiver))


# --- sender ports --------------------------------------------------------------------------------------


def test_a_sender_port_is_the_first_local_port_that_is_used() -> None:
    """Streams of one session take it and the ones after it."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as probe:
        first = probe.getsockname()[1]
        probe.close()
        target = Target("127.0.0.1", server.getsockname()[1], sender_port=first)
        made = [dialing.connect(target, 5) for _ in range(3)]
        used = [sock.getsockname()[1] for sock in made]
        assert len(set(used)) == 3 and all(first <= port < first + dialing.SENDER_PORTS for port in used)
        assert [server.accept()[1][1] for _ in made] == used
        for sock in made:
            sock.close()


def test_a_destination_that_refuses_is_not_blamed_on_the_sender_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        dialing.connect(Target("127.0.0.1", port, sender_port=40_000), 5)
