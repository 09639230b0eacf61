"""The receiving half of one of the sender's streams: what the receiver answers. A thread each."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from agent.server.data import delta_sending, pack, wire
from agent.server.data.outgoing import Transfer
from agent.server.data.wire import Header, Kind, Stream, WireError

if TYPE_CHECKING:
    from agent.server.data.link import Link
    from agent.server.data.session import Session


class Answers:
    def __init__(self, link: Link, session: Session, stream: Stream) -> None:
        self._link = link
        self._session = session
        self._stream = stream

    def run(self) -> None:
        """Until the stream ends, and the session with it."""
        error = "the destination closed the connection"
        try:
            while (received := self._stream.receive()) is not None:
                with self._link.changed:
                    if self._session.over:
                        return
                    self._handle(*received)
        except WireError as problem:
            error = str(problem)
        except OSError as problem:
            error = f"the connection was lost: {problem.strerror or problem}"
        except (ValueError, TypeError, KeyError, OverflowError, AttributeError, struct.error):
            error = "the destination's answer makes no sense; bring both servers to the same version"
        self._link.broken(self._session, error)

    def _handle(self, header: Header, payload: memoryview) -> None:
        """Under the link's lock."""
        if header.kind == Kind.ERROR:
            text = str(wire.decode_json(payload).get("error"))[:1000]
            raise WireError(wire.REPORTED + text)
        if header.kind == Kind.REMOTE_RESULT:
            self._link.calls.answered(header.offset, wire.decode_json(payload))
            return
        transfer = self._link.by_handle(header.handle)
        if transfer is None:
            return  # it was stopped or has failed while this was on its way
        transfer.counters.packets_recv += 1
        transfer.counters.bytes_recv += self._stream.overhead + header.length
        if header.kind == Kind.OPENED:
            self._link.opened(self._session, transfer, wire.decode_json(payload))
        elif header.kind == Kind.CHECKPOINTED:
            self._link.checkpointed(transfer, header.flags)
        elif header.kind == Kind.CLOSED:
            self._link.closed(self._session, transfer)
        elif transfer.opened:
            self._files(transfer, header, payload)

    def _files(self, transfer: Transfer, header: Header, payload: memoryview) -> None:
        if header.kind == Kind.DONE:
            if header.length % pack.OUTCOME.size:
                raise WireError("a DONE frame is malformed")
            for seq, outcome in pack.OUTCOME.iter_unpack(payload):
                transfer.done(seq, outcome)
            transfer.packs.pop(header.offset, None)
        elif header.kind == Kind.FAILED:
            for seq, message in wire.decode_json(payload)["files"]:
                transfer.fail(int(seq), str(message))
        elif header.kind == Kind.NAK:
            if header.digest:
                transfer.chunk_damaged(header.seq, header.generation, header.offset, header.digest)
            else:
                transfer.pack_damaged(header.offset)
        elif header.kind == Kind.BASE:
            delta_sending.based(transfer, header)
        elif header.kind == Kind.WANT:
            delta_sending.wanted(transfer, header, payload)
        else:
            raise WireError(f"a {Kind(header.kind).name} frame is not for a sender")
        self._link.progressed(transfer)
