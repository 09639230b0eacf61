"""Senders that do everything wrong, against a real receiver worker: it stays up, small and fair."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import xxhash
from data_world import World, contents, wait_for, world

from agent.server.data import granting, pack, wire
from agent.server.data.received import MAX_RANGES
from agent.server.data.wire import Header, Kind, Stream, WireError

pytestmark = pytest.mark.fault

MIB = 1 << 20
RSS_BOUND = 400 * MIB  # of a receiver worker, whatever was thrown at it here
OPEN = {"uid": "", "destinationPath": "/in", "overwriteMode": 4, "flags": 7, "timeResolutionUs": 0}


@pytest.fixture(scope="module")
def w(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world")) as made:
        (made.source / "file").write_bytes(os.urandom(3 * MIB))
        assert made.receiver is not None
        pid = made.receiver.process.pid
        yield made
        made.judge = lambda _message: True
        made.start("9")
        assert made.finish("9")["status"] == "complete", "a sound sender is still served"
        assert made.receiver.process.pid == pid and made.receiver.process.poll() is None
        assert resident(pid) < RSS_BOUND
        assert sorted(os.listdir(made.home)) == ["received", "source", "state"]


def resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def connect(w: World, session: str) -> Stream:
    stream = Stream(socket.create_connection(("127.0.0.1", w.port), 20))
    stream.sock.sendall(wire.PREAMBLE)
    unique = f"{session} {os.urandom(8).hex()}"  # an earlier one may not know yet that it has ended
    stream.send_json(Header(Kind.HELLO), {"protocol": wire.PROTOCOL, "session": unique})
    assert expect(stream, Kind.HELLO)
    return stream


def expect(stream: Stream, kind: Kind) -> tuple[Header, bytes]:
    received = stream.receive()
    assert received is not None, f"the stream ended instead of {kind.name}"
    header, payload = received[0], bytes(received[1])
    assert header.kind == kind, (Kind(header.kind), payload)
    return header, payload


def open_transfer(stream: Stream, uid: str, handle: int = 1, **changes: object) -> dict[str, Any]:
    stream.send_json(Header(Kind.OPEN, handle=handle), {**OPEN, "uid": uid, **changes})
    return dict(json.loads(expect(stream, Kind.OPENED)[1]))


def opened(w: World, name: str, **changes: object) -> Stream:
    stream = connect(w, name)
    assert "error" not in open_transfer(stream, uid_of(name), **changes)
    return stream


def uid_of(name: str) -> str:
    return xxhash.xxh3_128_hexdigest(name.encode())


def announce(
    stream: Stream, path: str, size: int, seq: int = 1, generation: int = 1, handle: int = 1
) -> None:
    value = {"path": path, "identity": [size, 1, 1, 1], "flags": 0, "mtimeNs": 1}
    stream.send_json(Header(Kind.FILE, generation=generation, handle=handle, seq=seq), value)


def chunk(stream: Stream, data: bytes, offset: int, seq: int = 1, generation: int = 1) -> None:
    header = Header(Kind.CHUNK, 0, generation, 1, seq, 0, offset, xxhash.xxh3_64_intdigest(data))
    stream.send(header, data)


def end(stream: Stream, seq: int = 1, generation: int = 1) -> None:
    stream.send(Header(Kind.END, generation=generation, handle=1, seq=seq))


def ending(stream: Stream) -> str:
    """With which words the receiver ends the stream; "" when without."""
    try:
        while (received := stream.receive()) is not None:
            if received[0].kind == Kind.ERROR:
                return str(json.loads(bytes(received[1]))["error"])
    except (ConnectionError, WireError):
        pass
    finally:
        stream.sock.close()
    return ""


def stays_idle(stream: Stream, w: World) -> None:
    """All that was sent so far was read, and nothing but this was answered."""
    stream.send(Header(Kind.CLOSE, handle=1))
    expect(stream, Kind.CLOSED)


# --- what becomes of files ------------------------------------------------------------------------------


def test_chunks_in_any_order_twice_and_overlapping_make_the_file(w: World) -> None:
    """Whole only when every byte has come, whatever else came more than once."""
    content = os.urandom(1000)
    stream = opened(w, "order")
    announce(stream, "/order", len(content))
    for start, stop in ((700, 1000), (200, 600), (700, 1000), (500, 800), (150, 250)):
        chunk(stream, content[start:stop], start)
    end(stream)
    end(stream)
    stays_idle(stream, w)
    assert not (w.root / "in" / "order").exists()
    chunk(stream, content[:200], 0)
    expect(stream, Kind.DONE)
    assert (w.root / "in" / "order").read_bytes() == content
    chunk(stream, b"x" * 200, 0)  # late, of an attempt that is over
    stays_idle(stream, w)
    assert (w.root / "in" / "order").read_bytes() == content
    stream.sock.close()


def test_an_end_before_all_chunks_publishes_nothing(w: World) -> None:
    stream = opened(w, "early")
    announce(stream, "/early", 100)
    chunk(stream, b"a" * 50, 0)
    end(stream)
    stays_idle(stream, w)
    stream.sock.close()
    wait_for(lambda: (w.root / ".lanesync" / uid_of("early") / "journal").exists(), "it is put to rest")
    assert not (w.root / "in" / "early").exists()


def test_other_generations_and_files_are_passed_over(w: World) -> None:
    """Frames of an earlier or later attempt, or of a file that was never announced, change nothing."""
    stream = opened(w, "generations")
    announce(stream, "/generations", 4, generation=5)
    for generation in (0, 4, 6, 65535):
        chunk(stream, b"evil", 0, generation=generation)
        end(stream, generation=generation)
    chunk(stream, b"evil", 0, seq=77, generation=5)
    end(stream, seq=77, generation=5)
    announce(stream, "/elsewhere", 4, generation=4)  # older than what is under way
    stays_idle(stream, w)
    assert not list((w.root / "in").glob("generations")) and not (w.root / "in" / "elsewhere").exists()
    chunk(stream, b"good", 0, generation=5)
    end(stream, generation=5)
    expect(stream, Kind.DONE)
    assert (w.root / "in" / "generations").read_bytes() == b"good"
    stream.sock.close()


@pytest.mark.parametrize("size", [0, 3])
def test_a_sender_that_lies_about_a_size_is_refused(w: World, size: int) -> None:
    """More than was announced comes: the stream ends with the reason, nothing gets a name."""
    stream = opened(w, f"liar{size}")
    announce(stream, f"/liar{size}", size)
    chunk(stream, b"more", 0)
    assert "beyond the end of its file" in ending(stream)
    assert not (w.root / "in" / f"liar{size}").exists()


def test_sizes_that_no_disk_has_fail_that_file_alone(w: World) -> None:
    """Enormous files by name only: a failure of each, and the next file arrives."""
    stream = opened(w, "huge")
    for seq, size in enumerate(((1 << 63) - 1, 1 << 62), start=1):
        announce(stream, f"/huge{seq}", size, seq)
        stream.send(Header(Kind.HOLE, 0, 1, 1, seq, 0, 0, size - 1))
    announce(stream, "/modest", 1, 9)
    chunk(stream, b"x", 0, 9)
    end(stream, 9)
    failed = []
    while (received := stream.receive()) is not None and received[0].kind == Kind.FAILED:
        failed += [seq for seq, _ in json.loads(bytes(received[1]))["files"]]
    assert received is not None and received[0].kind == Kind.DONE
    assert set(failed) <= {1, 2} and (w.root / "in" / "modest").read_bytes() == b"x"
    assert not list((w.root / "in").glob("huge*"))
    stream.sock.close()


@pytest.mark.parametrize(
    ("records", "why"),
    [
        (struct.pack(">IBHIq", 1, 0, 5, 100, 0) + b"/abcd" + b"short", "malformed"),
        (struct.pack(">IBHIq", 1, 0, 65535, 0, 0) + b"/a", "malformed"),
        (struct.pack(">IBHIq", 1, 0, 2, 0xFFFFFFFF, 0) + b"/a", "malformed"),
        (struct.pack(">IBHIq", 1, 0, 2, 0, 0) + b"/a" + b"rest", "malformed"),
        (struct.pack(">IBHIq", 1 << 24, 0, 2, 0, 0) + b"/z", "out of range"),
        (b"".join(struct.pack(">IBHIq", 1, 0, 0, 0, 0) for _ in range(600)), "malformed"),
    ],
)
def test_packs_whose_sums_do_not_fit_end_the_stream(w: World, records: bytes, why: str) -> None:
    """Sound checksum, impossible content."""
    stream = opened(w, "packs")
    digest = xxhash.xxh3_64_intdigest(records)
    stream.send(Header(Kind.PACK, handle=1, digest=digest), records)
    assert why in ending(stream)


@pytest.mark.parametrize(
    "value",
    [
        {"path": "/\ud800"},
        {"identity": [float("inf"), 1, 1, 1]},
        {"identity": [1, 10**400, 1, 1]},
        {"identity": [-1, 1, 1, 1]},
        {"identity": [1, 1, 1]},
        {"identity": "abcd"},
        {"mtimeNs": 1 << 63},
        {"mtimeNs": float("nan")},
        {"flags": None},
        {"seed": -1},
        {"seed": 1 << 64},
        {"seed": [1]},
    ],
    ids=repr,
)
def test_announcements_that_make_no_sense_end_the_stream_in_words(w: World, value: dict[str, Any]) -> None:
    stream = opened(w, "announced")
    good = {"path": "/f", "identity": [1, 1, 1, 1], "flags": 0, "mtimeNs": 1}
    stream.send_json(Header(Kind.FILE, generation=1, handle=1, seq=1), good | value)
    assert "FILE frame" in ending(stream)


@pytest.mark.parametrize(
    "value",
    [
        {"overwriteMode": float("inf")},
        {"flags": "x"},
        {"timeResolutionUs": float("inf")},
        {"timeResolutionUs": 1 << 70},
        {"totalSize": -1},
        {"totalSize": 10**300},
        {"minCipher": "3"},
        {"destinationPath": "/" + "x" * 5000},
        {"destinationPath": "/\ud800"},
        {"user": ["anna"]},
        {"password": "x" * 2000},
        {"uid": "AB" * 16},
    ],
    ids=lambda value: repr(value)[:40],
)
def test_openings_that_make_no_sense_end_the_stream_in_words(w: World, value: dict[str, Any]) -> None:
    stream = connect(w, "openings")
    stream.send_json(Header(Kind.OPEN, handle=1), {**OPEN, "uid": "0" * 32, **value})
    words = ending(stream)
    assert any(part in words for part in ("malformed", "names no transfer"))


@pytest.mark.parametrize("path", ["/../x", "/a/../../x", "/\0", "/.lanesync/x", "/" + "n" * 256])
def test_destinations_outside_are_refused_in_words(w: World, path: str) -> None:
    answer = open_transfer(connect(w, "outside"), "1" * 32, destinationPath=path)
    assert answer["error"]


# --- sessions -------------------------------------------------------------------------------------------


def test_a_handle_stays_its_transfers(w: World) -> None:
    """A second transfer under a handle in use is refused, and the first can be opened by a later session:
    it was not left behind by one that is gone."""
    stream = connect(w, "handles")
    assert "error" not in open_transfer(stream, uid_of("first"))
    stream.send_json(Header(Kind.OPEN, handle=1), {**OPEN, "uid": uid_of("second")})
    assert "another open transfer's" in ending(stream)
    for name in ("first", "second"):
        later = connect(w, f"later {name}")
        assert open_transfer(later, uid_of(name))["partials"] == []
        later.sock.close()


def test_a_transfer_has_one_handle(w: World) -> None:
    """Opened again under another one, the first is no more."""
    stream = connect(w, "twice")
    for handle in (1, 2):
        assert "error" not in open_transfer(stream, uid_of("twice"), handle)
    stream.send(Header(Kind.CLOSE, handle=2))
    expect(stream, Kind.CLOSED)
    stream.send(Header(Kind.CLOSE, handle=1))
    assert "not open" in ending(stream)


def test_a_transfer_is_taken_over_from_a_session_that_stalls(w: World) -> None:
    """In the middle of a frame, with an open file."""
    first = opened(w, "stalls")
    announce(first, "/stalls", 100)
    first.sock.sendall(wire.HEADER.pack(Kind.CHUNK, 0, 1, 1, 1, 100, 0, 0) + b"half")
    second = connect(w, "takes over")
    assert open_transfer(second, uid_of("stalls"))["partials"] != []
    assert ending(first) == ""
    second.sock.close()


@pytest.mark.parametrize("kind", [Kind.PACK, Kind.CHUNK, Kind.FILE, Kind.HELLO, Kind.CHECKPOINT, Kind.OPENED])
def test_nothing_is_read_of_frames_for_transfers_that_are_not_open(w: World, kind: Kind) -> None:
    """The refusal comes before the payload does."""
    stream = connect(w, "unopened")
    stream.sock.sendall(wire.HEADER.pack(kind, 0, 1, 7, 0, wire.LIMITS[kind], 0, 0))
    assert "not open" in ending(stream)


def test_a_sender_that_says_no_hello_is_refused_before_it_says_much(w: World) -> None:
    stream = Stream(socket.create_connection(("127.0.0.1", w.port), 20))
    stream.sock.sendall(wire.PREAMBLE + wire.HEADER.pack(Kind.REMOTE, 0, 0, 0, 0, wire.MAX_JSON, 0, 0))
    assert "begin with HELLO" in ending(stream)
    stream = Stream(socket.create_connection(("127.0.0.1", w.port), 20))
    stream.sock.sendall(wire.PREAMBLE + wire.HEADER.pack(Kind.HELLO, 0, 0, 0, 0, 1 << 20, 0, 0))
    assert "the limit is" in ending(stream)


@pytest.mark.parametrize(
    ("offset", "payload", "why"),
    [
        (0, b"", "malformed"),
        (0, struct.pack(">I", 4097) + bytes(8), "digest for each block"),
        (0, struct.pack(">I", 1 << 31) + bytes(2048), "digest for each block"),
        (8000, struct.pack(">I", 4096) + bytes(8), "does not have"),
        (1 << 63, struct.pack(">I", 4096) + bytes(8), "does not have"),
    ],
)
def test_digests_that_make_no_sense_end_the_stream_in_words(
    w: World, offset: int, payload: bytes, why: str
) -> None:
    stream = opened(w, "digests")
    value = {"path": "/digests", "identity": [8192, 1, 1, 1], "flags": 0, "mtimeNs": 1, "seed": 5}
    stream.send_json(Header(Kind.FILE, generation=1, handle=1, seq=1), value)
    assert expect(stream, Kind.BASE)[0].offset == 0
    stream.send(Header(Kind.SUMS, 0, 1, 1, 1, 0, offset), payload)
    assert why in ending(stream)


def test_digests_are_answered_for_files_alone_that_were_announced_so(w: World) -> None:
    stream = opened(w, "unasked")
    announce(stream, "/unasked", 4096)
    stream.send(Header(Kind.SUMS, 0, 1, 1, 1), struct.pack(">I", 4096) + bytes(8))
    assert "SUMS" in ending(stream)


# --- memory ---------------------------------------------------------------------------------------------


def test_content_in_scattered_pieces_is_bounded(w: World) -> None:
    """A byte here and a byte there costs memory for each: no sound sender sends that."""
    stream = opened(w, "scattered")
    announce(stream, "/scattered", 1 << 40)
    header = Header(Kind.HOLE, 0, 1, 1, 1)
    for number in range(MAX_RANGES + 1):
        stream.sock.sendall(wire.HEADER.pack(*header[:5], 0, number * 10, 1))
    assert f"more than {MAX_RANGES} separate pieces" in ending(stream)


def test_high_numbers_in_many_transfers_cost_no_memory(w: World) -> None:
    """One small file each, numbered as the last of the largest manifest."""
    assert w.receiver is not None
    before = resident(w.receiver.process.pid)
    record = pack.encode([pack.PackedFile(wire.MAX_SEQ - 1, 0, b"/last", 0, b"x")])
    digest = xxhash.xxh3_64_intdigest(record)
    stream = connect(w, "high numbers")
    for handle in range(1, 101):
        assert "error" not in open_transfer(stream, uid_of(f"high {handle}"), handle)
        stream.send(Header(Kind.PACK, handle=handle, digest=digest), record)
        expect(stream, Kind.DONE)
    assert resident(w.receiver.process.pid) - before < 50 * MIB
    stream.sock.close()


def test_what_waits_to_be_judged_is_bounded(w: World) -> None:
    """Long lists with credentials that nobody has judged yet: the session ends, others are served."""
    assert w.receiver is not None
    before = resident(w.receiver.process.pid)
    w.judge = lambda message: message["user"] != "slow"
    value = {"verb": "delete", "args": {"files": ["x" * 500] * 6000}, "user": "slow", "password": "p"}
    stream = connect(w, "judged")
    with contextlib.suppress(OSError):
        for _ in range(60):
            stream.send_json(Header(Kind.REMOTE), value)
    assert "waits for its credentials" in ending(stream)
    assert resident(w.receiver.process.pid) - before < 100 * MIB
    assert w.ask("ping")["results"] == []


def test_json_of_many_values_is_refused_before_it_is_built(w: World) -> None:
    stream = connect(w, "values")
    payload = b'{"verb":"delete","args":[' + b"[]," * 2_000_000 + b"[]]}"
    stream.send(Header(Kind.REMOTE), payload)
    assert "more than" in ending(stream)


def test_names_that_no_file_system_carries_fail_alone(w: World) -> None:
    answer = w.ask("delete", files=["/\ud800", "/nothing"], directories=["/\udfff\ud800"])
    assert [state for _, state, _ in answer["results"]] == ["failed", "absent", "failed"]


# --- others are served meanwhile ------------------------------------------------------------------------


def test_peers_that_stall_anywhere_hold_nobody_up(w: World) -> None:
    """At every byte of the handshake and of a transfer; a transfer beside them runs to its end."""
    assert w.receiver is not None
    pid = w.receiver.process.pid
    before = threads(pid)
    hello = wire.encode_json({"protocol": wire.PROTOCOL, "session": "stalls"})
    record = pack.encode([pack.PackedFile(0, 0, b"/s", 0, b"content")])
    said = wire.PREAMBLE + wire.HEADER.pack(Kind.HELLO, 0, 0, 0, 0, len(hello), 0, 0) + hello
    opening = wire.encode_json({**OPEN, "uid": "9" * 32})
    said += wire.HEADER.pack(Kind.OPEN, 0, 0, 1, 0, len(opening), 0, 0) + opening
    said += wire.HEADER.pack(Kind.PACK, 0, 0, 1, 0, len(record), 0, xxhash.xxh3_64_intdigest(record)) + record
    stalled = []
    for length in range(len(wire.PREAMBLE), len(said), 7):
        sock = socket.create_connection(("127.0.0.1", w.port), 20)
        sock.sendall(said[:length].replace(b"stalls", b"%06d" % length))
        stalled.append(sock)
    w.start("2")
    assert w.finish("2")["status"] == "complete"
    for sock in stalled:
        sock.close()
    own = granting.THREADS + 4  # the pool, a syncer, and the streams of the session that goes on
    wait_for(lambda: threads(pid) <= before + own, "their threads have ended")


def test_many_that_only_connect_keep_nobody_out(w: World) -> None:
    """More sessions than there may be streams, none of which opens anything: the oldest make room."""
    from agent.server.data import receiver

    idle = [connect(w, f"idle {number}") for number in range(receiver.MAX_STREAMS + 20)]
    w.start("3", destinationPath="/among")
    assert w.finish("3")["status"] == "complete"
    assert contents(w.root / "among") == contents(w.source)
    for stream in idle:
        stream.sock.close()


def test_the_whole_of_a_session_byte_by_byte(w: World) -> None:
    """The slowest sender of all is a sender."""
    hello = wire.encode_json({"protocol": wire.PROTOCOL, "session": "bytes"})
    said = wire.PREAMBLE + wire.HEADER.pack(Kind.HELLO, 0, 0, 0, 0, len(hello), 0, 0) + hello
    stream = Stream(socket.create_connection(("127.0.0.1", w.port), 20))
    stream.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in said:
        stream.sock.sendall(bytes((byte,)))
    expect(stream, Kind.HELLO)
    stream.sock.close()
