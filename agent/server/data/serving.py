"""One incoming stream: the handshake, then frames until it ends. A thread each."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from agent.jetstream import constants
from agent.server.confine import Directories, FileError, reason, split
from agent.server.data import remote, wire
from agent.server.data.publish import Policy
from agent.server.data.received import ReceivedTransfer
from agent.server.data.rules import UnauthorizedError
from agent.server.data.syncer import Job
from agent.server.data.wire import Header, Json, Kind, Stream, WireError
from agent.server.data.writing import Writer

if TYPE_CHECKING:
    from agent.server.data.receiver import Receiver

_log = structlog.get_logger(__name__)

MAX_HANDLES = 10_000
TAKEOVER_SECONDS = 10.0
_HEX = frozenset("0123456789abcdef")


class Session:
    """All streams of one sender's session, which ends as one."""

    def __init__(self, ident: str, level: int, peer_key: str | None) -> None:
        self.ident = ident
        self.level = level  # what protects it: MIN_CIPHER_*
        self.peer_key = peer_key  # the sender's public key; None when it is not encrypted
        self.lock = threading.Lock()
        self.streams: set[Stream] = set()
        self.handles: dict[int, ReceivedTransfer] = {}
        self.over = threading.Event()  # no thread of it runs any more
        self.ending = False

    def end(self) -> None:
        """Shut all streams down; `over` is set when their threads are through with the frame at hand."""
        with self.lock:
            self.ending = True
            for stream in self.streams:
                stream.shutdown()

    def expel(self, message: str) -> None:
        """End it, and tell the sender why."""
        with self.lock:
            streams = list(self.streams)
        for stream in streams:
            stream.refuse(message, wire.UNAUTHORIZED)
        self.end()


class Serving:
    """Reads one stream."""

    def __init__(self, receiver: Receiver, stream: Stream, peer: tuple[str, int]) -> None:
        self._receiver = receiver
        self._stream = stream
        self._peer = peer
        self._directories = Directories(receiver.root)
        self._writer = Writer(stream, self._directories, receiver.syncer)
        self._session: Session | None = None

    def greet(self) -> bool:
        """Learn to which session the stream belongs; False when it is over already."""
        joined = False
        try:
            joined = self._guarded(self._handshake)
        finally:
            if not joined:
                self._leave()
        return joined

    def run(self) -> None:
        """Until the peer ends, breaks the protocol, or another session takes over."""
        try:
            self._guarded(self._receive)
        finally:
            self._leave()

    def _receive(self) -> None:
        session = self._session
        while session is not None and (received := self._stream.receive()) is not None:
            self._handle(session, *received)

    def _guarded(self, work: Callable[[], None]) -> bool:
        """Whether it went well; if not, the peer was told why as far as it listens."""
        try:
            work()
        except UnauthorizedError as error:
            _log.warning("data session refused", peer=self._peer[0], key=self._stream.peer_key)
            self._stream.refuse(str(error), wire.UNAUTHORIZED)
        except WireError as error:
            _log.warning("data session refused", peer=self._peer[0], error=str(error))
            self._stream.refuse(str(error))
        except OSError as error:
            _log.warning("data session lost", peer=self._peer[0], error=reason(error))
        else:
            return True
        return False

    def _leave(self) -> None:
        self._directories.clear()
        if self._session is not None:
            self._receiver.left(self._session, self._stream)
        self._stream.sock.close()

    def _handshake(self) -> None:
        self._stream.deadline = time.monotonic() + wire.HANDSHAKE_SECONDS
        self._stream.receive_preamble()
        received = self._stream.receive()
        if received is None or received[0].kind != Kind.HELLO:
            raise WireError("the data session does not begin with HELLO")
        hello = wire.decode_json(received[1])
        if hello.get("protocol") != wire.PROTOCOL:
            raise WireError(
                f"this server speaks data protocol {wire.PROTOCOL}, the peer {hello.get('protocol')!r}; "
                "bring both servers to the same version"
            )
        ident = hello.get("session")
        if not isinstance(ident, str) or not 0 < len(ident) <= 64:
            raise WireError("HELLO names no session")
        receiver = self._receiver
        self._session = receiver.join(ident, self._stream)
        receiver.rules.check_sender(self._stream.peer_key)  # after joining: a later change of rules finds it
        answer: Json = {"protocol": wire.PROTOCOL, "features": list(wire.FEATURES), "epoch": receiver.epoch}
        answer |= {"serverId": receiver.server_id, "serverUid": receiver.server_uid}
        self._stream.send_json(Header(Kind.HELLO), answer)
        self._stream.deadline = None
        self._stream.sock.settimeout(None)
        wire.limit_sends(self._stream.sock)

    def _handle(self, session: Session, header: Header, payload: memoryview) -> None:
        kind = header.kind
        if kind == Kind.OPEN:
            self._open(session, header, wire.decode_json(payload))
            return
        if kind == Kind.REMOTE:
            self._remote(session, header, wire.decode_json(payload))
            return
        if kind == Kind.ERROR:
            raise WireError(f"the sender reports: {str(wire.decode_json(payload).get('error'))[:500]}")
        transfer = session.handles.get(header.handle)
        if transfer is None:
            raise WireError(f"a frame of kind {kind} came for a transfer that is not open")
        writer = self._writer
        if kind == Kind.PACK:
            writer.pack(transfer, header, payload)
        elif kind == Kind.CHUNK:
            writer.chunk(transfer, header, payload)
        elif kind == Kind.FILE:
            writer.file(transfer, header, wire.decode_json(payload))
        elif kind == Kind.HOLE:
            writer.hole(transfer, header)
        elif kind == Kind.END:
            writer.end(transfer, header)
        elif kind == Kind.CHECKPOINT:
            self._checkpoint(session, transfer, header)
        elif kind == Kind.CLOSE:
            self._stream.send(Header(Kind.CLOSED, handle=header.handle))
        else:
            raise WireError(f"a {Kind(kind).name} frame is not for a receiver")

    def _open(self, session: Session, header: Header, value: Json) -> None:
        """Answer with what is here already, or with why the transfer cannot be received."""
        uid, destination, policy, total = _wishes(value)
        refusal = self._receiver.rules.refuses(session.level, _min_cipher(value))
        if refusal is not None:
            self._stream.send_json(Header(Kind.OPENED, handle=header.handle), {"error": refusal})
            return
        if len(session.handles) >= MAX_HANDLES:
            raise WireError(f"more than {MAX_HANDLES} transfers were opened in one session")
        answer: Json
        try:
            split(destination)
            transfer = self._receiver.open(uid, session)
        except FileError as error:
            answer = {"error": str(error)}
        except OSError as error:
            answer = {"error": f"the destination cannot take files: {reason(error)}"}
        else:
            transfer.destination, transfer.policy, transfer.total_size = destination, policy, total
            session.handles[header.handle] = transfer
            partials = [
                [partial.seq, partial.generation, partial.identity, partial.ranges]
                for partial in transfer.snapshot()
            ]
            answer = {"runs": transfer.runs(), "partials": partials}
            self._report(transfer, "receiving")
        self._stream.send_json(Header(Kind.OPENED, handle=header.handle), answer)

    def _checkpoint(self, session: Session, transfer: ReceivedTransfer, header: Header) -> None:
        def done(error: OSError | None) -> None:
            """In the syncer's thread."""
            if error is not None:
                self._receiver.sync_failed(error)
                self._stream.refuse(f"the destination cannot sync its storage: {reason(error)}")
                self._stream.shutdown()
                return
            if header.flags:
                session.handles.pop(header.handle, None)
                self._receiver.release(transfer, header.flags)
                self._report(transfer, "complete" if header.flags & wire.FINAL else "error")
            try:
                self._stream.send(Header(Kind.CHECKPOINTED, handle=header.handle, offset=header.offset))
            except OSError:
                self._stream.shutdown()  # the sender asks again in its next session

        self._receiver.syncer.submit(Job(transfer, done))

    def _remote(self, session: Session, header: Header, value: Json) -> None:
        refusal = self._receiver.rules.refuses(session.level)
        if refusal is not None:
            answer: Json = {"error": refusal}
        else:
            answer = remote.carry_out(value, self._directories, self._receiver)
        self._stream.send_json(Header(Kind.REMOTE_RESULT, offset=header.offset), answer)

    def _report(self, transfer: ReceivedTransfer, status: str) -> None:
        self._receiver.report(
            {
                "op": "recvTransfer",
                "uid": transfer.uid,
                "sourceIP": self._peer[0],
                "sourcePort": self._peer[1],
                "destinationPath": os.fsdecode(transfer.destination),
                "status": status,
                "totalSize": transfer.total_size,
                "encrypted": self._stream.level > 0,
                "publicKey": self._stream.peer_key,
            }
        )


def _min_cipher(value: Json) -> int:
    """Of an OPEN frame; a sender that names none asks for nothing."""
    found = value.get("minCipher", 0)
    if not isinstance(found, int) or not 0 <= found <= constants.MIN_CIPHER_ENCRYPTED_256:
        raise WireError("an OPEN frame is malformed")
    return found


def _wishes(value: Json) -> tuple[str, bytes, Policy, int]:
    """(uid, destination path, policy, total size) of an OPEN frame. WireError when it makes no sense."""
    try:
        uid = str(value["uid"])
        destination = os.fsencode(str(value["destinationPath"]))
        overwrite, flags = int(value["overwriteMode"]), int(value["flags"])
        resolution_ns = int(value["timeResolutionUs"]) * 1000
        total = int(value.get("totalSize", 0))
    except (KeyError, TypeError, ValueError) as error:
        raise WireError("an OPEN frame is malformed") from error
    if len(uid) != 32 or not _HEX.issuperset(uid):
        raise WireError("an OPEN frame names no transfer")
    if not constants.OVERWRITE_IN_PLACE_NEVER <= overwrite <= constants.OVERWRITE_BACKUP:
        raise WireError(f"overwrite mode {overwrite} is not supported by this server")
    policy = Policy(
        overwrite,
        bool(flags & constants.TRANSFER_FLAG_READ),
        bool(flags & constants.TRANSFER_FLAG_WRITE),
        bool(flags & constants.TRANSFER_FLAG_WRITE_MTIME),
        bool(flags & constants.TRANSFER_FLAG_WRITE_ONLY_NEWER),
        resolution_ns,
    )
    return uid, destination, policy, total
