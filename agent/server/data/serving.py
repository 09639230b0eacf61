"""One incoming stream: the handshake, then frames until it ends. A thread each."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import structlog

from agent.jetstream.constants import PERMISSION_DOWNLOAD, PERMISSION_UPLOAD
from agent.server.confine import Directories, FileError, reason, unwritten
from agent.server.data import proof, remote, wire
from agent.server.data.fullness import is_full
from agent.server.data.granting import Answer, Credentials, Grant, RefusedError
from agent.server.data.received import ReceivedTransfer
from agent.server.data.room import Seat
from agent.server.data.rules import UnauthorizedError
from agent.server.data.sessions import Reception, Session
from agent.server.data.sets import IncompleteError
from agent.server.data.syncer import Job
from agent.server.data.wire import Header, Json, Kind, Stream, WireError
from agent.server.data.wishes import Wishes, min_cipher, wishes
from agent.server.data.writing import Writer

if TYPE_CHECKING:
    from agent.server.data.receiver import Receiver

_log = structlog.get_logger(__name__)

MAX_TOLD = 500  # failures in one frame
_WRITTEN = wire.CONTENT | {Kind.SUMS}


class Serving:
    """Reads one stream."""

    def __init__(self, receiver: Receiver, stream: Stream, peer: tuple[str, int]) -> None:
        self._receiver = receiver
        self._stream = stream
        self._peer = peer
        self._writers: dict[bytes, tuple[Directories, Writer]] = {}  # by root
        self._session: Session | None = None
        self._seat: Seat | None = None  # of the frame at hand, if it may have to wait
        stream.admit = self._admit

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
            self._stand_up()
            self._stream.tidy()

    def _admit(self, header: Header) -> None:
        """WireError for a frame that is not to be read at all."""
        session, kind = self._session, header.kind
        if session is None:
            if kind != Kind.HELLO:
                raise WireError("the data session does not begin with HELLO")
        elif kind in self._receiver.rooms:
            self._seat = self._receiver.rooms[kind].take(session, header.length)
            if self._seat is None:
                raise WireError("too much waits for its credentials to be judged; try again later")
        elif kind != Kind.ERROR and header.handle not in session.handles:
            raise WireError(f"a frame of kind {kind} came for a transfer that is not open")

    def _stand_up(self) -> None:
        if self._seat is not None:
            self._seat.leave()
        self._seat = None

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
        self._stand_up()
        for directories, _ in self._writers.values():
            directories.clear()
        if self._session is not None:
            self._receiver.left(self._session, self._stream)
        for root in self._writers:
            self._receiver.unuse(root)
        self._stream.sock.close()

    def _handshake(self) -> None:
        self._stream.deadline = time.monotonic() + wire.HANDSHAKE_SECONDS
        self._stream.receive_preamble()
        received = self._stream.receive()
        if received is None:
            raise WireError("the data session does not begin with HELLO")
        hello = wire.decode_json(received[1])
        if hello.get("protocol") != wire.PROTOCOL:
            raise WireError(
                f"this server speaks data protocol {wire.PROTOCOL}, the peer {hello.get('protocol')!r}; "
                "bring both servers to the same version"
            )
        if self._stream.binding is not None:
            self._stream.peer_key = proof.check(hello, self._stream.binding)
        ident = hello.get("session")
        if not isinstance(ident, str) or not 0 < len(ident) <= 64:
            raise WireError("HELLO names no session")
        receiver = self._receiver
        self._session = receiver.join(ident, self._stream)
        self._session.server_uid = str(hello.get("serverUid") or "")[:64]
        receiver.rules.check_sender(self._stream.peer_key)  # after joining: a later change of rules finds it
        answer: Json = {"protocol": wire.PROTOCOL, "features": list(wire.FEATURES), "epoch": receiver.epoch}
        answer |= {"serverId": receiver.server_id, "serverUid": receiver.server_uid}
        self._stream.send_hello(answer, seal=wire.both_seal(hello))
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
        if kind == Kind.CHECKPOINT:
            self._checkpoint(session, transfer, header)
        elif kind == Kind.CLOSE:
            self._stream.send(Header(Kind.CLOSED, handle=header.handle))
        else:
            self._content(transfer, header, payload)
            reception = session.receptions.get(header.handle)
            if reception is not None:
                reception.note(self._stream.overhead + header.length)

    def _content(self, transfer: ReceivedTransfer, header: Header, payload: memoryview) -> None:
        if transfer.policy.write and header.kind in _WRITTEN:
            most = wire.CHUNK_SIZE if header.kind == Kind.SUMS else header.length
            self._receiver.fullness.require(transfer.root, most)
        try:
            self._store(self._writer(transfer.root), transfer, header, payload)
        except OSError as error:
            if is_full(error):
                raise self._receiver.fullness.found(transfer.root) from error
            raise

    def _store(self, writer: Writer, transfer: ReceivedTransfer, header: Header, payload: memoryview) -> None:
        if header.kind == Kind.PACK:
            writer.pack(transfer, header, payload)
        elif header.kind == Kind.CHUNK:
            writer.chunk(transfer, header, payload)
        elif header.kind == Kind.FILE:
            writer.file(transfer, header, wire.decode_json(payload))
        elif header.kind == Kind.SUMS:
            writer.sums(transfer, header, payload)
        elif header.kind == Kind.HOLE:
            writer.hole(transfer, header)
        elif header.kind == Kind.END:
            writer.end(transfer, header)
        else:
            raise WireError(f"a {Kind(header.kind).name} frame is not for a receiver")

    def _writer(self, root: bytes) -> Writer:
        if root not in self._writers:
            directories = Directories(root)
            used = self._receiver.use(root)
            writer = Writer(self._stream, directories, used.syncer, used.direct)
            self._writers[root] = (directories, writer)
        return self._writers[root][1]

    def _granted(
        self,
        session: Session,
        value: Json,
        answer: Header,
        work: Callable[[Grant], Json],
        beside: Callable[[Callable[[], None]], bool] | None = None,
    ) -> None:
        """Have `work` done for whom the credentials of a frame stand, now or once they are judged, and send
        what it returns. A refusal is an answer, too. `beside` has it done in another thread, or is False."""
        seat, self._seat = self._seat, None

        def judged(found: Answer) -> None:
            if beside is None:
                then(found)
            elif not beside(partial(then, found)):
                then(RefusedError("the receiving server has too much to do for this sender; ask again later"))

        def then(found: Answer) -> None:
            try:
                self._stream.send_json(answer, _judged(found, work))
            except WireError as error:
                _log.warning("data session refused", peer=self._peer[0], error=str(error))
                self._stream.refuse(str(error))
                self._stream.shutdown()
            except OSError:
                self._stream.shutdown()  # the sender asks again in its next session
            except Exception:  # noqa: BLE001 - nobody above would see it, and the sender waits
                _log.exception("data session failed", peer=self._peer[0])
                self._stream.shutdown()
            finally:
                if seat is not None:
                    seat.leave()

        session.grants.get(Credentials.of(value), self._peer[0], judged)

    def _open(self, session: Session, header: Header, value: Json) -> None:
        """Answer with what is here already, or with why the transfer cannot be received."""
        wanted = wishes(value)
        answer = Header(Kind.OPENED, handle=header.handle)
        refusal = self._receiver.rules.refuses(session.level, min_cipher(value))
        if refusal is not None:
            self._stream.send_json(answer, {"error": refusal})
            return
        handle = header.handle
        self._granted(session, value, answer, lambda grant: self._begin(session, handle, wanted, grant))

    def _begin(self, session: Session, handle: int, wanted: Wishes, grant: Grant) -> Json:
        """Open the transfer below the roots of its user. WireError when the session is over
        or there is no room, RefusedError when it takes no more."""
        grant.require(PERMISSION_UPLOAD)
        try:
            place = grant.roots.resolve(wanted.destination)
            if place is None:
                names = ", ".join(grant.roots.names())
                return {"error": f"destinationPath must begin with one of the user's roots there: {names}"}
            self._receiver.fullness.check(place.base)
            transfer = self._receiver.open(place.base, grant.ident(wanted.uid), session, handle)
        except FileError as error:
            return {"error": str(error)}
        except OSError as error:
            if place is not None and is_full(error):
                raise self._receiver.fullness.found(place.base) from error
            return {"error": unwritten(wanted.destination or b"/", error)}
        transfer.destination, transfer.policy = b"/".join(place.parts), wanted.policy
        transfer.total_size = wanted.total
        transfer.may_look = bool(grant.permissions & PERMISSION_DOWNLOAD)
        partials = [
            [partial.seq, partial.generation, partial.identity, partial.ranges]
            for partial in transfer.snapshot()
        ]
        reception = session.receptions[handle] = self._reception(session, transfer, wanted, grant)
        self._receiver.report(reception.report("receiving"))
        here: Json = {"runs": transfer.outcomes.runs(), "partials": partials}
        return here | {"published": transfer.staged.published} if transfer.policy.as_set else here

    def _reception(
        self, session: Session, transfer: ReceivedTransfer, wanted: Wishes, grant: Grant
    ) -> Reception:
        source = {
            "sourceIP": self._peer[0],
            "sourcePort": self._peer[1],
            "sourceUid": session.server_uid,
            "encrypted": session.level > 0,
            "publicKey": session.peer_key,
        }
        path = os.fsdecode(wanted.destination)
        return Reception(transfer.uid, wanted.uid, grant.user, source, path, wanted.total)

    def _checkpoint(self, session: Session, transfer: ReceivedTransfer, header: Header) -> None:
        def done(error: OSError | None) -> None:
            """In the syncer's thread."""
            if error is not None:
                if is_full(error):
                    self._receiver.fullness.found(transfer.root)
                self._receiver.sync_failed(transfer.root, error)
                self._give_up(f"the destination cannot sync its storage: {reason(error)}")
                return
            answer = Header(Kind.CHECKPOINTED, header.flags, handle=header.handle, offset=header.offset)
            try:
                if header.flags & wire.FINAL and not self._published(transfer, header):
                    answer = answer._replace(flags=0)
                elif header.flags:
                    session.handles.pop(header.handle, None)
                    self._receiver.release(transfer, header.flags)
                    self._ended(session, header)
                self._stream.send(answer)
            except IncompleteError as problem:
                self._receiver.sync_failed(transfer.root, OSError(str(problem)))  # all is sent again
                self._give_up(f"the destination does not have the whole set: {problem}")
            except OSError as problem:  # the sender asks again in its next session
                self._give_up(f"the destination cannot publish the set: {reason(problem)}")

        journaled = None if header.flags & wire.DISCARD else transfer  # nothing of what is dropped
        self._receiver.sync(Job(journaled, done), transfer)

    def _give_up(self, why: str) -> None:
        self._stream.refuse(why)
        self._stream.shutdown()

    def _published(self, transfer: ReceivedTransfer, header: Header) -> bool:
        """Give the files of a set their names; False, with what is in the way told, when that cannot be."""
        if not transfer.policy.as_set:
            return True
        staged, staging = transfer.staged, transfer.staging.fd
        failures = staged.publish(transfer.root, staging, transfer.policy, header.digest)
        for at in range(0, len(failures), MAX_TOLD):
            told = failures[at : at + MAX_TOLD]
            self._stream.send_json(Header(Kind.FAILED, handle=header.handle), {"files": told})
        return staged.published

    def _ended(self, session: Session, header: Header) -> None:
        """The sender is through with a transfer, or has suspended it."""
        reception = session.receptions.pop(header.handle, None)
        if reception is None:
            return
        status = "complete" if header.flags & wire.FINAL else "error"
        if header.flags & wire.RELEASE:
            status = "receiving"
        self._receiver.report(reception.report(status, interrupted=status == "receiving"))

    def _remote(self, session: Session, header: Header, value: Json) -> None:
        answer = Header(Kind.REMOTE_RESULT, offset=header.offset)
        refusal = self._receiver.rules.refuses(session.level)
        if refusal is not None:
            self._stream.send_json(answer, {"error": refusal})
        elif value.get("verb") == "ping":
            self._stream.send_json(answer, {"results": []})
        else:
            receiver = self._receiver

            def stopped() -> bool:
                return session.ending or receiver.errands.over.is_set()

            def work(grant: Grant) -> Json:
                return remote.carry_out(value, grant, receiver, stopped)

            def beside(errand: Callable[[], None]) -> bool:
                return receiver.errands.add(session, errand, slow=remote.is_slow(value))

            self._granted(session, value, answer, work, beside if remote.is_errand(value) else None)


def _judged(found: Answer, work: Callable[[Grant], Json]) -> Json:
    try:
        if isinstance(found, RefusedError):
            raise found
        return work(found)
    except RefusedError as error:
        return {"error": str(error), "refused": True}
