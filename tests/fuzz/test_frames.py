"""Hostile peers of the data path: whatever arrives, the receiver stays up, small and inside its root."""

from __future__ import annotations

import json
import os
import random
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import xxhash
from data_world import World, wait_for, world
from hypothesis import given
from hypothesis import strategies as st

from agent.server import ipc
from agent.server.data import pack, wire
from agent.server.data.wire import Header, Kind, Stream, WireError

MIB = 1 << 20
OPEN = {"uid": "ab" * 16, "destinationPath": "/in", "overwriteMode": 4, "flags": 7, "timeResolutionUs": 0}


@pytest.fixture(scope="module")
def w(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world")) as made:
        (made.source / "file").write_bytes(b"content")
        yield made
        made.start("1")
        assert made.finish("1")["status"] == "complete", "a sound sender is still served"
        assert (made.root / "in" / "file").read_bytes() == b"content"
        assert sorted(os.listdir(made.home)) == ["received", "source", "state"]


def connect(w: World) -> Stream:
    sock = socket.create_connection(("127.0.0.1", w.port), 10)
    return Stream(sock)


def greet(w: World, session: str = "fuzz") -> Stream:
    stream = connect(w)
    stream.sock.sendall(wire.PREAMBLE)
    stream.send_json(Header(Kind.HELLO), {"protocol": wire.PROTOCOL, "session": session})
    header, _ = stream.receive() or pytest.fail("no answer")
    assert header.kind == Kind.HELLO
    return stream


def opened(w: World, session: str, **changes: object) -> Stream:
    stream = greet(w, session)
    stream.send_json(Header(Kind.OPEN, handle=1), {**OPEN, **changes})
    header, payload = stream.receive() or pytest.fail("no answer")
    assert header.kind == Kind.OPENED and b"error" not in bytes(payload)
    return stream


def ending(stream: Stream) -> str:
    """The text of the ERROR frame with which the receiver ends the stream; "" when it just ends."""
    text = ""
    try:
        while (received := stream.receive()) is not None:
            if received[0].kind == Kind.ERROR:
                text = json.loads(bytes(received[1]))["error"]
    except (ConnectionError, WireError):
        pass
    stream.sock.close()
    return text


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (wire.HEADER.pack(99, 0, 0, 0, 0, 0, 0, 0), "unknown kind 99"),
        (wire.HEADER.pack(Kind.CHUNK, 0, 0, 1, 0, 0xFFFFFFFF, 0, 0), "the limit is"),
        (wire.HEADER.pack(Kind.PACK, 0, 0, 1, 0, 64 * MIB, 0, 0), "the limit is"),
        (wire.HEADER.pack(Kind.PACK, 0, 0, 7, 0, 0, 0, 0), "not open"),
        (wire.HEADER.pack(Kind.OPENED, 0, 0, 1, 0, 2, 0, 0) + b"{}", "not open"),
        (wire.HEADER.pack(Kind.OPEN, 0, 0, 1, 0, 2, 0, 0) + b"{}", "malformed"),
        (wire.HEADER.pack(Kind.OPEN, 0, 0, 1, 0, 3, 0, 0) + b"[1]", "not an object"),
        (wire.HEADER.pack(Kind.OPEN, 0, 0, 1, 0, 20000, 0, 0) + b"[" * 20000, "cannot be read"),
        (
            wire.HEADER.pack(Kind.REMOTE, 0, 0, 0, 0, 40, 0, 0) + b'{"verb":"delete","args":{"files":[1,2]}}',
            "mal",
        ),
    ],
)
def test_broken_frames_end_the_stream_by_name(w: World, data: bytes, why: str) -> None:
    """Every frame that no sound sender sends closes the stream with an ERROR frame that names it."""
    stream = greet(w)
    stream.sock.sendall(data)
    assert why in ending(stream)


def test_other_protocols_are_refused(w: World) -> None:
    """A wrong preamble, a wrong version and a missing HELLO are refused in words."""
    for data, why in (
        (b"GET / HTT", "does not begin"),
        (wire.PREAMBLE + wire.HEADER.pack(Kind.CLOSE, 0, 0, 0, 0, 0, 0, 0), "begin with HELLO"),
    ):
        stream = connect(w)
        stream.sock.sendall(data)
        assert why in ending(stream)
    stream = connect(w)
    stream.sock.sendall(wire.PREAMBLE)
    stream.send_json(Header(Kind.HELLO), {"protocol": 2, "session": "x"})
    assert "speaks data protocol 1" in ending(stream)


def test_uids_and_paths_of_hostile_senders_stay_inside(w: World) -> None:
    """A uid that is a path, and file names that climb, write nothing outside the root."""
    stream = greet(w, "uids")
    stream.send_json(Header(Kind.OPEN, handle=1), {**OPEN, "uid": "../../../../../../../../tmp/abcd"})
    assert "names no transfer" in ending(stream)
    stream = opened(w, "climb", uid="12" * 16)
    names = [
        b"../x",
        b"/../../x",
        b"a/../../../x",
        b"..",
        b"",
        b"/",
        b".lanesync/x/../../y",
        b"a\0b",
        b"x" * 5000,
    ]
    files = [pack.PackedFile(seq, 0, name, 0, b"evil") for seq, name in enumerate(names)]
    payload = pack.encode(files)
    stream.send(Header(Kind.PACK, handle=1, digest=xxhash.xxh3_64_intdigest(payload)), payload)
    header, answer = stream.receive() or pytest.fail("no answer")
    assert header.kind == Kind.FAILED
    refused = {seq for seq, _ in json.loads(bytes(answer))["files"]}
    assert refused == set(range(len(names)))
    stream.sock.close()
    assert not list(w.home.rglob("x")) and not list(w.home.rglob("y"))


def test_damaged_content_is_asked_for_again(w: World) -> None:
    """A pack or chunk whose checksum is wrong is answered with NAK and never published."""
    stream = opened(w, "naks", uid="34" * 16)
    payload = pack.encode([pack.PackedFile(0, 0, b"/damaged", 0, b"content")])
    stream.send(Header(Kind.PACK, handle=1, offset=77, digest=1), payload)
    header, _ = stream.receive() or pytest.fail("no answer")
    assert header.kind == Kind.NAK and header.offset == 77
    announce = {"path": "/large", "identity": [4, 1, 1, 1], "flags": 0, "mtimeNs": 1}
    stream.send_json(Header(Kind.FILE, generation=1, handle=1, seq=1), announce)
    stream.send(Header(Kind.CHUNK, generation=1, handle=1, seq=1, digest=1), b"good")
    header, _ = stream.receive() or pytest.fail("no answer")
    assert (header.kind, header.seq, header.offset, header.digest) == (Kind.NAK, 1, 0, 4)
    stream.send(Header(Kind.END, generation=1, handle=1, seq=1))
    good = xxhash.xxh3_64_intdigest(b"good")
    stream.send(Header(Kind.CHUNK, generation=1, handle=1, seq=1, digest=good), b"good")
    assert not (w.root / "in" / "large").exists(), "an END of before the damage does not count"
    stream.send(Header(Kind.END, generation=1, handle=1, seq=1, offset=1))
    header, _ = stream.receive() or pytest.fail("no answer")
    assert header.kind == Kind.DONE and (w.root / "in" / "large").read_bytes() == b"good"
    assert not (w.root / "in" / "damaged").exists()
    stream.sock.close()


@pytest.mark.parametrize("seed", range(20))
def test_random_frames_never_end_the_receiver(w: World, seed: int) -> None:
    """Frames with sound headers and random fields, interleaved with garbage, leave the worker running."""
    generator = random.Random(seed)
    stream = opened(w, f"random{seed}", uid=f"{seed:032x}")
    kinds = [int(kind) for kind in Kind]
    try:
        stream.sock.settimeout(5)
        for _ in range(200):
            kind = generator.choice(kinds)
            size = generator.choice([0, 0, 1, 19, 400]) if wire.LIMITS[kind] else 0
            payload = generator.randbytes(size)
            if kind in (Kind.FILE, Kind.REMOTE, Kind.OPEN):
                payload = b'{"path":"/f","identity":[9,1,1,1],"flags":0,"mtimeNs":0,"verb":"ping"}'
            digest = (
                xxhash.xxh3_64_intdigest(payload) if generator.random() < 0.7 else generator.getrandbits(64)
            )
            offset = generator.choice([0, 0, 1, 1 << 63, (1 << 64) - 1])
            header = Header(kind, generator.randrange(8), generator.randrange(3), 1, generator.randrange(4))
            stream.send(header._replace(offset=offset, digest=digest), payload)
    except OSError:
        pass  # it has had enough of us
    stream.sock.close()
    assert w.receiver is not None and w.receiver.process.poll() is None


def test_a_receiver_stays_small(w: World) -> None:
    """Announced lengths allocate nothing beyond their bounds, on many streams at once."""
    streams = [opened(w, f"small{number}", uid=f"{number:032x}") for number in range(30)]
    for stream in streams:
        stream.sock.sendall(wire.HEADER.pack(Kind.PACK, 0, 0, 1, 0, wire.MAX_PACK, 0, 0) + bytes(1000))
    assert w.receiver is not None
    status = Path(f"/proc/{w.receiver.process.pid}/status").read_text()
    resident = int(status.split("VmRSS:")[1].split()[0])
    assert resident < 300 * 1024
    for stream in streams:
        stream.sock.close()
    wait_for(lambda: w.receiver is not None and w.receiver.process.poll() is None, "the receiver lives")


@given(st.binary(max_size=300))
def test_packs_decode_or_are_refused(data: bytes) -> None:
    """Arbitrary bytes are either a pack whose parts add up, or a WireError."""
    try:
        files = list(pack.decode(memoryview(data)))
    except WireError:
        return
    assert pack.encode(files) == data


@given(st.binary(min_size=32, max_size=32))
def test_headers_decode_or_are_refused(data: bytes) -> None:
    """A header is of a known kind and within its limit, or a WireError."""
    try:
        header = wire.decode_header(data)
    except WireError:
        return
    assert header.length <= wire.LIMITS[header.kind]


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_ipc_bytes_decode_or_are_refused(pieces: list[bytes]) -> None:
    """Arbitrary bytes between control and worker are messages or an IpcError, never anything else."""
    decoder = ipc.Decoder()
    try:
        for piece in pieces:
            decoder.feed(piece)
            while decoder.next() is not None:
                pass
    except ipc.IpcError:
        return


@given(st.lists(st.dictionaries(st.text(), st.integers() | st.text()), max_size=5), st.integers(1, 50))
def test_ipc_messages_survive_any_cutting(messages: list[dict[str, object]], step: int) -> None:
    """Messages come out as they went in, however the stream is cut."""
    messages = [{key: value for key, value in message.items() if key != "fds"} for message in messages]
    data = b"".join(ipc.encode(message) for message in messages)
    decoder, found = ipc.Decoder(), []
    for at in range(0, len(data), step):
        decoder.feed(data[at : at + step])
        while (received := decoder.next()) is not None:
            found.append(received[0])
    assert found == messages


def test_an_oversized_ipc_message_is_refused() -> None:
    """An announced length beyond the limit is refused before anything is kept."""
    decoder = ipc.Decoder()
    decoder.feed(struct.pack(">I", ipc.MAX_MESSAGE + 1))
    with pytest.raises(ipc.IpcError):
        decoder.next()
