"""The framing of a data stream: one TCP connection, frames in both directions.

A stream opens with `PREAMBLE` from the sender. Then both sides send frames: a header of 32 bytes, big
endian, and `length` bytes of payload.

    kind u8 · flags u8 · generation u16 · handle u32 · seq u32 · length u32 · offset u64 · digest u64

`handle` numbers a transfer within its session, `seq` is the file's place in the manifest, `generation`
counts the attempts at one file, so that what is left of an earlier attempt is told apart. `digest` is the
xxh3_64 of the payload where the payload is file content. `docs/process-model.md` describes each kind.

A stream is sealed when both sides name `SEALED` in HELLO. From then on each header is followed by its own
xxh3_64 (u64), and `digest` is that of the payload wherever there is one, so nothing passes unchecked. A
receiver of content asks for it again; anything else that is damaged ends the session.
"""

from __future__ import annotations

import json
import mmap
import socket
import struct
import threading
import time
from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import xxhash

if TYPE_CHECKING:
    from agent.server.data.secure import SecureSocket
    from agent.server.data.throttle import Reader

PREAMBLE = b"LSDATA/1\n"
PROTOCOL = 1
SEALED = "sealed"
DELTA = "delta"
FEATURES = ("delete", DELTA, "discard", "holes", "links", "list", "ping", "rename", SEALED, "sets", "strict")

HEADER = struct.Struct(">BBHIIIQQ")
SEAL_SIZE = 8  # bytes behind the header on a sealed stream
CHUNK_SIZE = 1 << 20  # most content of one frame; the unit of checksum and of resending
PACK_FILES = 512  # most files of one pack
PACK_FILE_SIZE = 256 * 1024  # largest file that travels in a pack
MAX_PACK = 4 << 20  # content plus names
USUAL_PAYLOAD = CHUNK_SIZE + (256 << 10)  # most packs are shorter, names and all
MAX_JSON = 8 << 20  # of lists
MAX_NOTE = 64 << 10  # of JSON that says one thing; the longest path fits, escaped as it may be
MAX_VALUES = 500_000  # commas and brackets of one frame: what bounds the memory of what is parsed
DELTA_BLOCK = 4096  # content that one digest of SUMS stands for
MAX_WANTED = 64  # ranges of one WANT
MAX_SEQ = 1 << 24  # manifests are bounded, so that what the receiver remembers per file is
MAX_GENERATION = 0xFFFF
HANDSHAKE_SECONDS = 10.0
SEND_SECONDS = 30

Json = dict[str, Any]


class Kind(IntEnum):
    HELLO = 1
    ERROR = 2
    # sender to receiver
    OPEN = 10
    PACK = 11
    FILE = 12
    CHUNK = 13
    HOLE = 14
    END = 15
    CHECKPOINT = 16
    CLOSE = 17
    REMOTE = 18
    SUMS = 19
    # receiver to sender
    OPENED = 30
    DONE = 31
    FAILED = 32
    NAK = 33
    CHECKPOINTED = 34
    CLOSED = 35
    REMOTE_RESULT = 36
    BASE = 37
    WANT = 38


LIMITS: dict[int, int] = {
    Kind.PACK: MAX_PACK,
    Kind.CHUNK: CHUNK_SIZE,
    Kind.DONE: MAX_PACK,
    Kind.SUMS: 4 + CHUNK_SIZE // DELTA_BLOCK * 8,
    Kind.WANT: MAX_WANTED * 8,
    **dict.fromkeys((Kind.HELLO, Kind.ERROR, Kind.OPEN, Kind.FILE), MAX_NOTE),
    **dict.fromkeys((Kind.REMOTE, Kind.OPENED, Kind.FAILED, Kind.REMOTE_RESULT), MAX_JSON),
    **dict.fromkeys(
        (
            Kind.HOLE,
            Kind.END,
            Kind.CHECKPOINT,
            Kind.CLOSE,
            Kind.NAK,
            Kind.CHECKPOINTED,
            Kind.CLOSED,
            Kind.BASE,
        ),
        0,
    ),
}
"""Longest payload by kind; a kind that is not here is unknown."""

CONTENT = frozenset((Kind.PACK, Kind.CHUNK))
"""Kinds whose payload is checked by whoever takes it, and asked for again."""

# Flags of CHECKPOINT: what becomes of the transfer afterwards. CHECKPOINTED tells them back; without FINAL
# when a set could not be published (`digest` of that CHECKPOINT is how many files the set has).
FINAL = 1  # it is over
DISCARD = 2  # it was given up: drop what is unfinished
RELEASE = 4  # it rests until it is opened again


REPORTED = "the destination reports: "  # what its ERROR frame says, as the sender passes it on
UNAUTHORIZED = "unauthorized"  # code of an ERROR frame: another key of the sender may be welcome


class WireError(Exception):
    """The peer broke the protocol, or told us that we did. The stream is of no more use."""


class Header(NamedTuple):
    kind: int
    flags: int = 0
    generation: int = 0
    handle: int = 0
    seq: int = 0
    length: int = 0
    offset: int = 0
    digest: int = 0


def decode_header(data: bytes | bytearray | memoryview) -> Header:
    """Raises WireError for an unknown kind and for a payload beyond its kind's limit."""
    header = Header._make(HEADER.unpack(data))
    limit = LIMITS.get(header.kind)
    if limit is None:
        raise WireError(f"a frame of the unknown kind {header.kind} arrived")
    if header.length > limit:
        name = Kind(header.kind).name
        raise WireError(f"a {name} frame of {header.length} bytes arrived, the limit is {limit}")
    return header


def decode_json(data: bytes | bytearray | memoryview) -> Json:
    text = bytes(data)
    if text.count(b",") + text.count(b"[") + text.count(b"{") > MAX_VALUES:
        raise WireError(f"a frame's JSON has more than {MAX_VALUES} values")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WireError("a frame's JSON cannot be read") from error
    if not isinstance(value, dict):
        raise WireError("a frame's JSON is not an object")
    return value


def encode_json(value: Json) -> bytes:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode("ascii")


def hello_digest(header: Header, payload: bytes | memoryview) -> int:
    """What HELLO has in `digest`, as its own header and payload are not sealed yet; 0 from older peers."""
    head = HEADER.pack(*header[:7], 0)
    return xxhash.xxh3_64_intdigest(payload, xxhash.xxh3_64_intdigest(head))


def both_seal(hello: Json) -> bool:
    """Whether the peer's HELLO names `SEALED`, as ours does."""
    features = hello.get("features")
    return isinstance(features, list) and SEALED in features and SEALED in FEATURES


class Stream:
    """Frames over a connected socket, plain or TLS. Any thread may send; one thread reads."""

    def __init__(self, sock: socket.socket | SecureSocket, number: int = 0) -> None:
        self.sock = sock
        self.number = number
        self.level = 0 if isinstance(sock, socket.socket) else sock.level  # what protects it: MIN_CIPHER_*
        self.peer_key = None if isinstance(sock, socket.socket) else sock.peer_key
        self.binding = None if isinstance(sock, socket.socket) else sock.binding
        self.deadline: float | None = None  # monotonic; until then all must be read that is read
        self.throttle: Reader | None = None  # keeps a limit of what is received
        self.admit: Callable[[Header], None] | None = None  # looks at a frame before its payload is read
        self.sealed = False
        self._lock = threading.Lock()
        self._head = bytearray(HEADER.size + SEAL_SIZE)
        self._payload: bytearray | mmap.mmap = bytearray(64 * 1024)

    @property
    def worn(self) -> bool:
        """Whether its keys have protected enough, so that another one should take its place."""
        return not isinstance(self.sock, socket.socket) and self.sock.worn

    @property
    def overhead(self) -> int:
        """Bytes of a frame beside its payload."""
        return HEADER.size + SEAL_SIZE if self.sealed else HEADER.size

    def send(self, header: Header, payload: bytes | bytearray | memoryview = b"") -> None:
        """Send one frame; its `length` is filled in. OSError when the connection is gone."""
        with self._lock:
            self._send(header, payload)

    def _send(self, header: Header, payload: bytes | bytearray | memoryview) -> None:
        size, digest = len(payload), header.digest
        if self.sealed and size and header.kind not in CONTENT:
            digest = xxhash.xxh3_64_intdigest(payload)
        head = HEADER.pack(*header[:5], size, header.offset, digest)
        if self.sealed:
            head += xxhash.xxh3_64_digest(head)
        if not size:
            self.sock.sendall(head)
            return
        sent = self.sock.sendmsg((head, payload))
        if sent < len(head):
            self.sock.sendall(head[sent:])
            sent = len(head)
        if sent < len(head) + size:
            self.sock.sendall(memoryview(payload)[sent - len(head) :])

    def send_hello(self, value: Json, *, seal: bool = False) -> None:
        """`seal`: both sides do, and this is the last frame without."""
        payload = encode_json(value)
        header = Header(Kind.HELLO, length=len(payload))
        with self._lock:  # no other thread's frame comes between
            self._send(header._replace(digest=hello_digest(header, payload)), payload)
            self.sealed = seal

    def send_json(self, header: Header, value: Json) -> None:
        payload = encode_json(value)
        if len(payload) > LIMITS[header.kind]:
            raise WireError(f"a message of {len(payload)} bytes is too long to send")
        self.send(header, payload)

    def receive(self) -> tuple[Header, memoryview] | None:
        """The next frame, or None at the end of the stream. The payload is overwritten by the next call.
        WireError for what no sound peer sends; OSError (timeouts too) from the socket."""
        head = memoryview(self._head)[: self.overhead]
        if not self._fill(head, eof_allowed=True):
            return None
        # Before anything else: a wrong length would have the rest of the stream misread.
        if self.sealed and xxhash.xxh3_64_digest(head[: HEADER.size]) != head[HEADER.size :]:
            raise WireError("a frame's header was damaged on the way; connecting anew")
        header = decode_header(head[: HEADER.size])
        if self.admit is not None:
            self.admit(header)
        if header.length > len(self._payload):
            self._payload = _pages(max(header.length, USUAL_PAYLOAD))
        view = memoryview(self._payload)[: header.length]
        self._fill(view)
        if not self._sound(header, view):
            raise WireError(f"a {Kind(header.kind).name} frame was damaged on the way; connecting anew")
        return header, view

    def _sound(self, header: Header, payload: memoryview) -> bool:
        """Whether what is not content arrived as it was sent, as far as that can be told."""
        if self.sealed:
            unchecked = header.kind in CONTENT or not header.length
            return unchecked or xxhash.xxh3_64_intdigest(payload) == header.digest
        return header.kind != Kind.HELLO or header.digest in (0, hello_digest(header, payload))

    def tidy(self) -> None:
        """Keep no more memory than usual frames need. The payload of the last one is gone by this."""
        if len(self._payload) > USUAL_PAYLOAD:
            self._payload = _pages(USUAL_PAYLOAD)

    def receive_preamble(self) -> None:
        got = bytearray(len(PREAMBLE))
        self._fill(memoryview(got))
        if got != PREAMBLE:
            raise WireError("the connection does not begin as a data session")

    def _fill(self, view: memoryview, *, eof_allowed: bool = False) -> bool:
        got, size = 0, len(view)
        while got < size:
            if self.deadline is not None:
                self.sock.settimeout(max(0.001, self.deadline - time.monotonic()))
            most = size - got if self.throttle is None else min(size - got, self.throttle.piece)
            count = self.sock.recv_into(view[got:], most, socket.MSG_WAITALL)
            if count == 0:
                if eof_allowed and got == 0:
                    return False
                raise WireError("the connection ended in the middle of a frame")
            if self.throttle is not None:
                self.throttle.read(count)
            got += count
        return True

    def refuse(self, message: str, code: str = "") -> None:
        """Tell the peer why the stream ends, as far as it still listens."""
        try:
            self.sock.settimeout(1.0)
            self.send_json(Header(Kind.ERROR), {"error": message, "code": code})
        except (OSError, WireError):
            pass  # the peer is gone: nobody to tell

    def shutdown(self) -> None:
        """Wake up every thread that waits on the socket; they see the end of the stream."""
        if self.throttle is not None:
            self.throttle.close()
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # not connected any more, which is the aim


def _pages(size: int) -> mmap.mmap:
    """Memory that begins with a page, as direct I/O wants it."""
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def limit_sends(sock: socket.socket | SecureSocket) -> None:
    """A peer that reads nothing for half a minute is given up, so that it holds up nobody else."""
    if isinstance(sock, socket.socket):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", SEND_SECONDS, 0))
    else:
        sock.limit_sends(SEND_SECONDS)


def is_loopback(sock: socket.socket | SecureSocket) -> bool:
    """Whether the peer is this machine. OSError when it is gone."""
    address = str(sock.getpeername()[0]).removeprefix("::ffff:")
    return address == "::1" or address.startswith("127.")


def tune(sock: socket.socket) -> None:
    """Settings of both ends: no delay, dead peers found within half a minute, and little unsent data in the
    kernel so that a change of lane acts at once."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, 15),
        (socket.TCP_KEEPINTVL, 5),
        (socket.TCP_KEEPCNT, 3),
        (socket.TCP_USER_TIMEOUT, 30_000),
        (socket.TCP_NOTSENT_LOWAT, 512 * 1024),
    ):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
    if is_loopback(sock):
        return  # its pacing only costs there (docs/process-model.md)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"bbr")
    except OSError:
        pass  # not allowed here: the kernel's default does
