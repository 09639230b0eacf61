"""Senders and people in between who want to get around encryption and keys, against real servers."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import xxhash
from relays import Between
from servers import Server, eventually, start_server

from agent.jetstream import APIInterface
from agent.server import identity
from agent.server.data import pack, proof, secure, wire
from agent.server.data.secure import Contexts
from agent.server.data.wire import Header, Json, Kind, Stream, WireError
from agent.server.identity import Identities

pytestmark = pytest.mark.fault

NOW = 1_790_000_000.0
MIB = 1 << 20


class Place(NamedTuple):
    server: Server  # takes senders that it knows only, with 256 bits
    known: Contexts  # of such a sender
    stranger: Contexts
    folder: Path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Nothing but what the known sender publishes is there in the end, and nobody died."""
    folder = tmp_path_factory.mktemp("tls")
    contexts = []
    for name in ("known", "stranger"):
        (folder / name).mkdir()
        identity.ensure(folder / name, [name], NOW)
        contexts.append(Contexts(Identities(folder / name)))
    key = contexts[0].own()[0].public_key
    with start_server(folder / "s", min_cipher=3, authorized_client=key) as server:
        with server.api() as api:
            api.recv.allowOnlyAuthorizedClients(True)
        made = Place(server, *contexts, folder)
        publish(made, "/sound")
        worker = server.worker("receiver")
        yield made
        publish(made, "/sound too")
        assert server.worker("receiver") == worker and "Traceback" not in server.log()
        assert sorted(os.listdir(server.receive_root / "in")) == ["sound", "sound too"]


def dial(place: Place) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", place.server.port), 20)
    wire.tune(sock)
    return sock


def encrypted(place: Place, contexts: Contexts, level: int = 3) -> Stream:
    return Stream(secure.connect(dial(place), contexts, level, None, 20))


def said(contexts: Contexts, stream: Stream) -> Json:
    """The HELLO of a sound sender."""
    own: Json = {} if stream.binding is None else proof.make(contexts.own()[0], stream.binding)
    return {"protocol": wire.PROTOCOL, "session": os.urandom(8).hex(), **own}


def answer(stream: Stream) -> tuple[Kind, Json]:
    received = stream.receive()
    assert received is not None, "it ended without a word"
    return Kind(received[0].kind), json.loads(bytes(received[1]))


def greet(stream: Stream, hello: Json) -> tuple[Kind, Json]:
    stream.sock.sendall(wire.PREAMBLE)
    stream.send_json(Header(Kind.HELLO), hello)
    return answer(stream)


def opens(stream: Stream, **more: Any) -> Json:
    value = {"uid": os.urandom(16).hex(), "destinationPath": "/in", "overwriteMode": 4, "flags": 7}
    value |= {"timeResolutionUs": 0, "minCipher": 3}
    stream.send_json(Header(Kind.OPEN, handle=1), value | more)
    kind, said = answer(stream)
    assert kind is Kind.OPENED
    return said


def publish(place: Place, name: str) -> None:
    stream = encrypted(place, place.known)
    assert greet(stream, said(place.known, stream))[0] is Kind.HELLO
    assert "error" not in opens(stream)
    payload = pack.encode([pack.PackedFile(0, 0, name.encode(), 0, b"sound")])
    stream.send(Header(Kind.PACK, handle=1, digest=xxhash.xxh3_64_intdigest(payload)), payload)
    received = stream.receive()
    assert received is not None and received[0].kind == Kind.DONE
    stream.sock.close()


# --- who a sender is ------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["stranger", "nobody", "thief", "replayer", "pretender"])
def test_a_sender_is_who_proves_it_in_this_very_session(place: Place, who: str) -> None:
    """One that is not known; one without a key; the key of another; the proof of another session; and the
    proof of a known sender that was got by posing as a receiver."""
    stream = encrypted(place, place.stranger)
    hello = said(place.stranger, stream)
    known = place.known.own()[0]
    assert stream.binding is not None
    if who == "nobody":
        del hello["publicKey"], hello["proof"]
    elif who == "thief":
        hello["publicKey"] = known.public_key
    elif who == "replayer":
        other = encrypted(place, place.known)
        assert other.binding is not None
        hello |= proof.make(known, other.binding)
        other.sock.close()
    elif who == "pretender":
        hello |= {"publicKey": known.public_key, "proof": proof.make(known, b"\0" * 32)["proof"]}
    kind, words = greet(stream, hello)
    assert kind is Kind.ERROR
    assert ("authorized senders only" if who == "stranger" else "does not prove") in words["error"]


def test_a_plain_session_shows_no_key_and_is_sent_away(place: Place) -> None:
    """The server may be asked for nothing in it: neither files nor deletions."""
    stream = Stream(dial(place))
    kind, words = greet(stream, said(place.known, stream))
    assert kind is Kind.ERROR and "shows no key" in words["error"]


def test_a_key_in_a_plain_session_counts_for_nothing(place: Place) -> None:
    stream = Stream(dial(place))
    kind, words = greet(stream, said(place.known, stream) | proof.make(place.known.own()[0], b""))
    assert kind is Kind.ERROR and "shows no key" in words["error"]


def test_a_session_of_too_few_bits_is_refused_whatever_is_asked_for(place: Place) -> None:
    """A sender that is made to agree on less gets nothing done."""
    context = secure._context(b"TLS_AES_128_GCM_SHA256")
    context.set_alpn_protos([secure.DATA_PROTOCOL])
    contexts = Contexts(Identities(place.folder / "known"))
    contexts._made[3] = context
    stream = encrypted(place, contexts)
    assert stream.level == 2
    assert greet(stream, said(place.known, stream))[0] is Kind.HELLO
    assert "the session has 2" in opens(stream)["error"]
    for verb in ("delete", "discard"):
        stream.send_json(Header(Kind.REMOTE), {"verb": verb, "args": {"files": ["/in/sound"], "uids": []}})
        assert "the session has 2" in answer(stream)[1]["error"]
    assert "came with 0" in opens(stream, minCipher=0)["error"]
    stream.sock.close()


@pytest.mark.parametrize("level", [0, 3])
def test_a_stream_of_another_kind_does_not_join_a_session(place: Place, level: int) -> None:
    """Neither a plain one, nor one of another sender."""
    first = encrypted(place, place.known)
    hello = said(place.known, first)
    assert greet(first, hello)[0] is Kind.HELLO
    second = Stream(dial(place)) if level == 0 else encrypted(place, place.stranger)
    kind, words = greet(second, said(place.stranger, second) | {"session": hello["session"]})
    assert kind is Kind.ERROR and "over" in words["error"]
    assert "error" not in opens(first), "the session that was there goes on"
    first.sock.close()


# --- what passes ----------------------------------------------------------------------------------------


def test_a_recorded_session_cannot_be_replayed(place: Place) -> None:
    """Every byte that the known sender has sent, once more: nothing is published by it."""
    between = Between(place.server.port)
    mine = Place(type("Hop", (), {"port": between.port})(), *place[1:])  # type: ignore[arg-type]
    recorded = bytearray()
    between.alter = lambda data: recorded.extend(data) or data  # type: ignore[func-returns-value]
    publish(mine, "/sound")
    between.close()
    (place.server.receive_root / "in" / "sound").unlink()
    assert recorded.startswith(b"\x16\x03")
    with dial(place) as sock:
        sock.sendall(recorded)
        with contextlib.suppress(OSError):
            while sock.recv(65536):
                pass
    assert not (place.server.receive_root / "in" / "sound").exists()
    publish(place, "/sound")


@pytest.mark.parametrize("at", ["handshake", "content"])
def test_flipped_bits_end_the_session_and_publish_nothing(place: Place, at: str) -> None:
    """One bit on the way; the sender hears of it as a lost session."""
    between = Between(place.server.port)
    passed = [0]

    def flip(data: bytes) -> bytes:
        passed[0] += len(data)
        if passed[0] < (1 if at == "handshake" else 3000):
            return data
        return data[:-1] + bytes((data[-1] ^ 1,))

    between.alter = flip
    mine = Place(type("Hop", (), {"port": between.port})(), *place[1:])  # type: ignore[arg-type]
    with pytest.raises((OSError, AssertionError, WireError)):
        for number in range(50):
            publish(mine, f"/flipped{number}")
            passed[0] = 3000 if number > 2 else 0
    between.close()
    for path in (place.server.receive_root / "in").glob("flipped*"):
        assert path.read_bytes() == b"sound"
        path.unlink()


def test_endless_key_updates_and_empty_records_hold_up_nobody(place: Place) -> None:
    """A stream that sends nothing that means anything, while another one publishes."""
    stream = encrypted(place, place.known)
    assert greet(stream, said(place.known, stream))[0] is Kind.HELLO
    over = threading.Event()

    def nonsense() -> None:
        header = wire.HEADER.pack(Kind.ERROR, 0, 0, 0, 0, 2, 0, 0)
        with contextlib.suppress(OSError):
            for byte in header[:31]:
                stream.sock.sendall(bytes((byte,)))
            over.wait(20)

    thread = threading.Thread(target=nonsense)
    thread.start()
    publish(place, "/sound")
    over.set()
    thread.join()
    stream.sock.close()


# --- between servers ------------------------------------------------------------------------------------


def _send(api: APIInterface, port: int, source: Path, **params: Any) -> tuple[Any, Any]:
    destination = api.send.createDestination("127.0.0.1", destinationPort=port, **params)
    manifest = api.send.waitForManifest(api.send.createManifest(mappings={"/file": str(source)}))
    return destination, api.send.createTransfer(destination, manifest)


def test_a_receiver_that_is_exchanged_in_the_middle_gets_nothing(tmp_path: Path) -> None:
    """The same address, another key: what was pinned is what is sent to; with the right one back the
    transfer goes on to its end."""
    (tmp_path / "source").write_bytes(os.urandom(4 * MIB))
    with (
        start_server(tmp_path / "sender") as sender,
        start_server(tmp_path / "right") as right,
        start_server(tmp_path / "wrong") as wrong,
        right.api() as other,
        sender.api() as api,
    ):
        key = other.server.getServerInfo()["publicKey"]
        between = Between(right.port)
        cut = threading.Event()

        def alter(data: bytes) -> bytes:
            if cut.is_set():
                raise OSError("cut")
            return data

        between.alter = alter
        destination, transfer = _send(
            api, between.port, tmp_path / "source", destinationPublicKey=key, sendRateMax=8000
        )
        eventually(lambda: api.send.getTransfer(transfer)["bytesSent"] > 0)
        between._target = ("127.0.0.1", wrong.port)
        cut.set()

        def trouble() -> str:
            return str(api.send.getDestination(destination)["lastErrorMessage"] or "")

        eventually(trouble, what="the session is lost")
        cut.clear()
        eventually(lambda: "nothing was sent" in trouble(), what="the other key is noticed")
        assert not wrong.receive_root.exists() or os.listdir(wrong.receive_root) == []
        between._target = ("127.0.0.1", right.port)
        api.send.setSendRateMax(destination, -1)
        ended = api.send.waitForTransfer(transfer)
        assert ended["status"] == "complete", ended["errorMessage"]
        between.close()
    assert (right.receive_root / "file").read_bytes() == (tmp_path / "source").read_bytes()
