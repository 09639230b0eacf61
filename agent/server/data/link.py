"""One destination as the sender sees it: its transfers, its scheduler, its session with the receiver.

All state is guarded by `changed`, a condition that is notified whenever there may be something new to do.
The threads of a session are a pump and a reader per stream; the link's own thread connects and reconnects.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

from agent.lanes.scheduler import LaneScheduler
from agent.server.data import calls, pacing, wire
from agent.server.data.calls import EAVESDROPPED, Calls
from agent.server.data.governor import Portion
from agent.server.data.openings import Openings
from agent.server.data.order import too_old
from agent.server.data.outgoing import Transfer
from agent.server.data.pacing import Pace
from agent.server.data.session import Session
from agent.server.data.target import required
from agent.server.data.telling import Telling, first_failure
from agent.server.data.wire import Header, Json, Kind
from agent.server.ipc import Message
from agent.server.results import RECORD

IDLE_SECONDS = 60.0
CALL_SECONDS = 10.0  # how long a call waits for a connection
LOOK_SECONDS = 1.0  # between looks at all transfers
MAX_UNCONFIRMED = 200_000 * RECORD.size  # bytes of records that make a checkpoint due early

Report = Callable[[Message], None]


class Link:
    def __init__(
        self, ident: str, lanes: list[tuple[str, float]], rate: float | None, report: Report, portion: Portion
    ) -> None:
        """ValueError for lanes that break a rule."""
        self.ident = ident
        self.portion = portion  # of what all links may send together
        self.pace = Pace()
        self.paced = ("", "")  # congestion control of the session, and what is wrong with it
        lock = threading.RLock()
        self.changed = threading.Condition(lock)
        self.turned = threading.Condition(lock)  # whether there should be a session, and which, is to be seen
        self.resting = threading.Condition(lock)  # where streams wait that are not in use
        self.scheduler = LaneScheduler(lanes, rate)
        self.transfers: dict[str, Transfer] = {}
        self.session: Session | None = None
        self.calls = Calls(report)
        self.call_cipher = 0  # the minCipher of calls
        self.last_used = 0.0
        self.removed = False
        self.report = report
        self._telling = Telling(report)
        self._handles: dict[int, Transfer] = {}
        self._openings = Openings(lanes)
        self._asking = False  # in `_ask`
        self._ciphers: Counter[int] = Counter()  # the minCipher of the transfers
        self._moved: dict[str, Transfer] = {}  # since the last look at times and counters
        self._looked = 0.0  # at those of all

    # --- what the control process wants ------------------------------------------------------------

    def configure(self, lanes: list[tuple[str, float]], rate: float | None) -> None:
        with self.changed:
            now = time.monotonic()
            self.scheduler.set_lanes(lanes, now)
            self._openings.set_lanes(lanes)
            self.scheduler.set_rate(rate, now)
            self.changed.notify_all()

    def set_pace(self, pace: Pace) -> None:
        """What the link shares with others on its connection, and how its sockets are set up."""
        with self.changed:
            self.portion.place(pace, time.monotonic())
            if pace != self.pace:
                self.pace = pace
                self.repace()
            self.changed.notify_all()

    def repace(self) -> None:
        """Set up the session's sockets (under the lock)."""
        if self.session is None:
            return
        try:
            self.paced = pacing.apply(self.session.streams, self.pace)
        except OSError:
            pass  # the connection is gone, as its threads are about to notice

    def wake(self) -> None:
        """Have those who wait look again: a limit was changed."""
        with self.changed:
            self.changed.notify_all()

    def add(self, transfer: Transfer) -> None:
        order = transfer.order
        with self.changed:
            now = time.monotonic()
            number = int(order.id) if order.id.isdecimal() else 0
            self.scheduler.add(transfer.flow, order.lane, order.priority, number, order.rate, now)
            self.scheduler.set_ready(transfer.flow, False)
            self.transfers[order.id] = transfer
            self._handles[transfer.handle] = transfer
            self._ciphers[order.min_cipher] += 1
            transfer.last_checkpoint = now
            transfer.disconnected_since = now if self.session is None else None
            size = transfer.manifest.total_size
            self._openings.add(order.id, order.lane, order.priority, number, size)
            self._ask()
            self.turned.notify_all()

    def update(self, ident: str, lane: str, priority: int, rate: float | None) -> None:
        with self.changed:
            if ident in self.transfers:
                now = time.monotonic()
                self.scheduler.update(ident, now, lane=lane, priority=priority, rate=rate)
                self._openings.update(ident, lane, priority)
                self._ask()

    def stop(self, ident: str, *, discard: bool) -> bool:
        """Send nothing more of a transfer; "stopped" is reported now or once the receiver is through with
        what is on its way. False for a transfer that is not here."""
        with self.changed:
            transfer = self.transfers.get(ident)
            if transfer is None:
                return False
            transfer.discard = transfer.discard or discard
            transfer.stopping = True
            if self.session is None or not self._openings.asked(ident):
                self._stopped(transfer)
            else:
                self.progressed(transfer)
            return True

    def call(self, request: int | None, verb: str, arguments: Json, credentials: Json | None = None) -> None:
        """Have the receiver do something, for whom the credentials stand; WireError when the arguments are
        too large for one message."""
        shown = credentials or {}
        payload = calls.encode(verb, arguments, shown)
        with self.changed:
            self.calls.add(request, payload, secret=bool(shown))
            if self.session is not None:
                self._post_calls(self.session)
            self.turned.notify_all()

    def remove(self) -> None:
        with self.changed:
            self.removed = True
            for transfer in list(self.transfers.values()):
                self._forget(transfer)
            self.calls.refuse("the destination was removed")
            self.broken(self.session, "the destination was removed")
            self.portion.remove()
            self.turned.notify_all()

    # --- the session -------------------------------------------------------------------------------

    @property
    def wanted(self) -> bool:
        """Whether there is something to connect for."""
        return bool(self.transfers or self.calls)

    def asked(self) -> list[int]:
        """The minCipher of all that waits for a session or has one (under the lock)."""
        return [*self._ciphers, self.call_cipher] if self.calls else list(self._ciphers)

    def connected(self, session: Session) -> None:
        with self.changed:
            self.session = session
            self.last_used = time.monotonic()
            self.repace()
            self.portion.begun(self.last_used)
            for transfer in self.transfers.values():
                transfer.disconnected_since = None  # from when it is opened
            self._openings.begin()
            self._ask()
            self._post_calls(session)

    def broken(self, session: Session | None, error: str) -> None:
        """End a session: its threads notice and leave."""
        with self.changed:
            if session is None or session.over:
                return
            session.over = True
            session.error = error
            for stream in session.streams:
                stream.shutdown()
            self.changed.notify_all()
            self.turned.notify_all()
            self.resting.notify_all()

    def disconnected(self) -> None:
        """The threads of the session are gone."""
        with self.changed:
            self.session = None
            self.portion.leave()
            now = time.monotonic()
            for transfer in list(self.transfers.values()):
                transfer.session_lost()
                transfer.disconnected_since = now
                self.scheduler.set_ready(transfer.flow, False)
                if transfer.stopping:
                    self._stopped(transfer)
            self.calls.lost()

    def _post(self, session: Session, header: Header, payload: bytes = b"", stream: int = 0) -> None:
        session.outboxes[stream].append((header, payload))
        (self.changed if stream < session.used else self.resting).notify_all()

    def _ask(self) -> None:
        """Have opened what is next; some end by this, which leads here again."""
        if self.session is not None and not self._asking and not self.removed:
            self._asking = True
            try:
                while (ident := self._openings.next()) is not None:
                    self._open(self.session, self.transfers[ident])
            finally:
                self._asking = False
        self.changed.notify_all()

    def _open(self, session: Session, transfer: Transfer) -> None:
        transfer.disconnected_since = time.monotonic()
        if session.level < required(transfer.order.min_cipher):
            return  # the connector makes a better session
        if transfer.order.secret and not session.confidential:
            self._finish(transfer, EAVESDROPPED)
            return
        for feature, field in transfer.order.needs.items():
            if feature not in session.features:
                self._finish(transfer, too_old(field))
                return
        value = transfer.order.opening(transfer.manifest.total_size)
        self._post(session, Header(Kind.OPEN, handle=transfer.handle), wire.encode_json(value))

    def _post_calls(self, session: Session) -> None:
        if session.level < required(self.call_cipher):
            return
        for call in self.calls.due(confidential=session.confidential):
            self._post(session, Header(Kind.REMOTE, offset=call.number), call.payload)

    # --- answers of the receiver (under the lock) --------------------------------------------------

    def by_handle(self, handle: int) -> Transfer | None:
        return self._handles.get(handle)

    def opened(self, session: Session, transfer: Transfer, value: Json) -> None:
        """ValueError or TypeError when the answer makes no sense."""
        if transfer.opened:
            return
        self._openings.answered(transfer.order.id)
        if value.get("error"):
            why = str(value["error"])[:1000]
            self._finish(
                transfer, why if value.get("refused") else f"the destination refuses the transfer: {why}"
            )
            return
        same = transfer.epoch == session.epoch
        runs = [(int(first), int(count), int(outcome)) for first, count, outcome in value.get("runs", ())]
        transfer.resume(runs, value.get("partials", []), same, bool(value.get("published")))
        transfer.epoch = session.epoch
        transfer.disconnected_since = None
        self.progressed(transfer)
        self._ask()

    def checkpointed(self, transfer: Transfer, answered: int) -> None:
        """`answered`: the flags that the receiver tells back; those of an old one tell nothing."""
        flags, transfer.checkpointing = transfer.checkpointing, None
        if flags is None:
            return
        if transfer.order.as_set and not flags & answered & wire.FINAL:
            transfer.uncover()  # staged is not published
        durable, transfer.covered = transfer.covered or bytearray(), None
        transfer.set_published = bool(flags & answered & wire.FINAL)
        self._telling.results(transfer, durable + transfer.settled)
        transfer.settled = bytearray()
        if flags & wire.DISCARD and transfer.failed and not transfer.stopping:
            self._finish(transfer, "")  # a set that was given up
        elif flags & (wire.DISCARD | wire.RELEASE):
            transfer.discard = False  # carried out
            self._stopped(transfer)
        elif flags & wire.FINAL and (transfer.set_published or not transfer.order.as_set):
            self._finish(transfer, "")
        else:
            self.progressed(transfer)

    # --- progress (under the lock) -----------------------------------------------------------------

    def begun(self, transfer: Transfer) -> None:
        if not transfer.begun:
            transfer.begun = True
            self.report({"op": "sending", "id": transfer.order.id})

    def settle_flow(self, flow: str) -> None:
        """The scheduler granted what cannot be used just now."""
        transfer = self.transfers.get(flow)
        if transfer is None:
            self.scheduler.remove(flow)
        else:
            self.progressed(transfer)

    def progressed(self, transfer: Transfer) -> None:
        """See what is next for a transfer after anything happened to it."""
        session = self.session
        if transfer.order.id not in self.transfers or session is None:
            return
        self.last_used = time.monotonic()
        self._moved[transfer.order.id] = transfer
        self.scheduler.set_ready(transfer.flow, transfer.has_work())
        if self._openings.ending(transfer.order.id, transfer.nothing_left):
            self._ask()
        if transfer.stopping:
            self._close(session, transfer)
        elif transfer.checkpointing is None and transfer.all_final():
            self._checkpoint(session, transfer, transfer.last_word())
        self.changed.notify_all()

    def _close(self, session: Session, transfer: Transfer) -> None:
        """Once nothing is being read, push what is on its way through every stream."""
        if transfer.opened and not transfer.reading and not transfer.closing:
            transfer.closing = len(session.streams)
            for stream in session.streams:
                self._post(session, Header(Kind.CLOSE, handle=transfer.handle), stream=stream.number)
        else:
            self._rest(session, transfer)

    def closed(self, session: Session, transfer: Transfer) -> None:
        transfer.closed += 1
        self._rest(session, transfer)

    def _rest(self, session: Session, transfer: Transfer) -> None:
        if transfer.closing and transfer.closed == transfer.closing and transfer.checkpointing is None:
            self._checkpoint(session, transfer, wire.DISCARD if transfer.discard else wire.RELEASE)

    def _checkpoint(self, session: Session, transfer: Transfer, flags: int) -> None:
        transfer.checkpointing = flags
        transfer.covered, transfer.published = transfer.published, bytearray()
        transfer.last_checkpoint = time.monotonic()
        files = len(transfer.covered) // RECORD.size if transfer.order.as_set else 0
        self._post(session, Header(Kind.CHECKPOINT, flags, handle=transfer.handle, digest=files))

    def tick(self, now: float) -> list[list[str | int]]:
        """Start checkpoints that are due, fail what waited too long; returns what to tell of progress. Those
        that only wait are looked at once a second."""
        rows: list[list[str | int]] = []
        with self.changed:
            if self.session is None:
                self.calls.refuse("the destination cannot be reached; try again", before=now - CALL_SECONDS)
            looked, self._moved = self._moved, {}
            if now - self._looked >= LOOK_SECONDS:
                looked, self._looked = dict(self.transfers), now
            for ident, transfer in looked.items():
                self._check_times(transfer, now)
                if transfer.unconfirmed and ident in self.transfers:
                    self._moved[ident] = transfer
                told = transfer.counters.row()
                if told != transfer.told and transfer.order.id in self.transfers:
                    transfer.told = told
                    rows.append([transfer.order.id, *told])
        return rows

    def _check_times(self, transfer: Transfer, now: float) -> None:
        since, timeout = transfer.disconnected_since, transfer.order.timeout_seconds
        if since is not None and timeout and now - since > timeout:
            self._finish(transfer, f"there was no connection to the destination for {timeout:g} s")
            return
        every = transfer.order.checkpoint_seconds
        unconfirmed = 0 if transfer.order.as_set else len(transfer.published)
        due = every > 0 and now - transfer.last_checkpoint >= every and transfer.unconfirmed
        idle = transfer.checkpointing is None and not transfer.stopping
        if self.session is not None and idle and (due or unconfirmed > MAX_UNCONFIRMED):
            self._checkpoint(self.session, transfer, 0)

    # --- the end of a transfer (under the lock) ----------------------------------------------------

    def _finish(self, transfer: Transfer, error: str) -> None:
        self._telling.settled(transfer)
        self._forget(transfer)
        self._telling.finished(transfer, error or first_failure(transfer))

    def _stopped(self, transfer: Transfer) -> None:
        self._telling.settled(transfer)
        self._forget(transfer)
        self.report({"op": "stopped", "id": transfer.order.id, **transfer.counters.told()})
        if transfer.discard:
            self.call(None, "discard", {"uids": [transfer.order.uid]}, transfer.order.credentials())

    def _forget(self, transfer: Transfer) -> None:
        self.scheduler.remove(transfer.flow)
        self._handles.pop(transfer.handle, None)
        self._moved.pop(transfer.order.id, None)
        if self.transfers.pop(transfer.order.id, None) is not None:
            self._ciphers -= Counter((transfer.order.min_cipher,))
        for file in transfer.files.values():
            file.close()
        self._openings.remove(transfer.order.id)
        self._ask()
