"""The receiver worker: one process that writes what data sessions bring below the roots of their users."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from typing import TYPE_CHECKING

import structlog

from agent.server.confine import FileError
from agent.server.data import secure, staging, wire
from agent.server.data.errands import Errands
from agent.server.data.fullness import Fullness
from agent.server.data.granting import Authority
from agent.server.data.greetings import Greetings
from agent.server.data.leftovers import Leftovers
from agent.server.data.outcomes import Memory
from agent.server.data.received import ReceivedTransfer
from agent.server.data.receiveroot import ReceiveRoot
from agent.server.data.room import Room
from agent.server.data.rules import Rules
from agent.server.data.serving import Serving
from agent.server.data.sessions import Session
from agent.server.data.sets import finish_roots, go_on_below
from agent.server.data.syncer import Job
from agent.server.data.throttle import Throttle
from agent.server.data.wire import Kind, Stream, WireError
from agent.server.identity import Identities
from agent.server.ipc import Channel, Message
from agent.server.relay import protocol

if TYPE_CHECKING:
    from agent.server.data.options import WorkerOptions

_log = structlog.get_logger(__name__)

MAX_STREAMS = 512
TAKEOVER_SECONDS = 10.0
FORGET_SECONDS = 900.0  # how long a transfer without a session is kept in memory
SWEEP_SECONDS = 60.0
RATES_SECONDS = 0.2
FLUSH_SECONDS = 1.5
PROGRESS_SECONDS = 1.0

Key = tuple[bytes, str]
"""Root and name of a transfer's unfinished files."""


class Receiver:
    """Sessions, transfers and roots of this process. `_lock` guards the tables."""

    def __init__(self, options: WorkerOptions, channel: Channel) -> None:
        self.server_id = options.server_id
        self.server_uid = options.server_uid
        self.contexts = secure.Contexts(Identities(options.state_dir))
        self.rules = Rules()
        self.authority = Authority(self.report)
        self.throttle = Throttle()
        self.epoch = secrets.token_hex(8)
        """Names what this process remembers as published; changes when that can no longer be relied on."""
        self._channel = channel
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}
        self._transfers: dict[Key, ReceivedTransfer] = {}
        self._roots: dict[bytes, ReceiveRoot] = {}
        self._swept: set[bytes] = set()  # roots that may hold what nobody came back for
        self._streams = 0
        self._greetings, self._memory = Greetings(), Memory()
        self.errands = Errands()
        self.leftovers, self.fullness = Leftovers(), Fullness(options.reserve)
        self.rooms: dict[int, Room] = {
            Kind.OPEN: Room(64 << 20, 8 << 20),
            Kind.REMOTE: Room(128 << 20, 16 << 20),
        }
        """For frames whose credentials have to be judged first: memory before anybody is known."""

    def report(self, message: Message) -> None:
        try:
            self._channel.send(message)
        except OSError:
            pass  # the control process has ended, and so do we

    # --- sessions ----------------------------------------------------------------------------------

    def serve(self, fd: int, *, encrypted: bool, peer: str = "") -> None:
        """Take over an accepted connection. `encrypted`: it begins with a TLS handshake. `peer`: where it
        comes from, if that is not the other end (a relay)."""
        sock = socket.socket(fileno=fd)
        sock.setblocking(True)
        with self._lock:
            self._streams += 1
        threading.Thread(target=self._run, args=(sock, encrypted, peer), name="stream", daemon=True).start()

    def _run(self, sock: socket.socket, encrypted: bool, peer: str) -> None:
        try:
            self._greetings.begin(sock)
            try:
                serving = self._greet(sock, encrypted, peer)
            finally:
                self._greetings.end(sock)
            if serving is not None:
                serving.run()
        finally:
            self._ended()

    def _greet(self, sock: socket.socket, encrypted: bool, behind: str) -> Serving | None:
        """Find out who it is; None when the connection is over already."""
        peer = ("", 0)
        try:
            wire.tune(sock)
            peer = protocol.parse_address(behind) if behind else sock.getpeername()[:2]
            stream = Stream(secure.accept(sock, self.contexts, wire.HANDSHAKE_SECONDS) if encrypted else sock)
        except (OSError, ValueError) as error:
            if peer[0]:
                _log.warning("data session refused", peer=peer[0], error=str(error))
            sock.close()
            return None
        if self._streams > MAX_STREAMS and not self._give_up_idle():
            stream.refuse(f"more than {MAX_STREAMS} data streams at once; try again later")
            stream.sock.close()
            return None
        serving = Serving(self, stream, (str(peer[0]), int(peer[1])))
        return serving if serving.greet() else None

    def _give_up_idle(self) -> bool:
        """End the oldest session that has no transfer open, if there is one: who only connects keeps nobody
        out."""
        with self._lock:
            idle = (one for one in self._sessions.values() if not one.handles and not one.ending)
            oldest = next(idle, None)
        if oldest is not None:
            oldest.end()
        return oldest is not None

    def set_rules(self, rules: Rules) -> None:
        """They hold for running sessions, too."""
        self.rules = rules
        with self._lock:
            sessions = list(self._sessions.values())
        for session in sessions:
            try:
                rules.check_sender(session.peer_key)
            except WireError as error:
                threading.Thread(target=session.expel, args=(str(error),), name="expel", daemon=True).start()

    def forget_grants(self) -> None:
        """What was granted may be so no more: ask again for the next transfer."""
        with self._lock:
            sessions = list(self._sessions.values())
        for session in sessions:
            session.grants.forget()

    def _ended(self) -> None:
        with self._lock:
            self._streams -= 1

    def join(self, ident: str, stream: Stream) -> Session:
        with self._lock:
            session = self._sessions.get(ident)
            if session is None:
                made = Session(ident, stream.level, stream.peer_key, self.authority)
                session = self._sessions[ident] = made
            session.take(stream, few=self._streams > MAX_STREAMS // 2)
            stream.throttle = self.throttle.reader()
            return session

    def left(self, session: Session, stream: Stream) -> None:
        """A stream ended, and so does its session; with the last one its transfers are put to rest."""
        session.end()
        with session.lock:
            session.streams.discard(stream)
            if session.streams:
                return
        session.grants.close()
        with self._lock:
            session.closed = True
            if self._sessions.get(session.ident) is session:
                del self._sessions[session.ident]
        for transfer in set(session.handles.values()):
            if transfer.session is session:
                transfer.close_files()
                transfer.idle_since = time.monotonic()
                transfer.session = None
                self.sync(Job(transfer, lambda _error: None), transfer)
        for reception in list(session.receptions.values()):
            self.report(reception.report("receiving", interrupted=True))
        session.over.set()

    # --- roots -------------------------------------------------------------------------------------

    def use(self, path: bytes) -> ReceiveRoot:
        """A root, kept until `unuse`. OSError when the directory is missing."""
        with self._lock:
            root = self._root(path)
            root.users += 1
            return root

    def unuse(self, path: bytes) -> None:
        with self._lock:
            self._roots[path].users -= 1

    def _root(self, path: bytes) -> ReceiveRoot:
        if path not in self._roots:
            self._roots[path] = ReceiveRoot(path)
            self._swept.add(path)
        return self._roots[path]

    def set_roots(self, paths: list[bytes]) -> None:
        """Roots that an earlier process may have left unfinished files in, or a set half published."""
        finish_roots(paths)
        with self._lock:
            self._swept.update(paths)

    # --- transfers ---------------------------------------------------------------------------------

    def open(self, path: bytes, ident: str, session: Session, handle: int) -> ReceivedTransfer:
        """The transfer, taken away from an older session if it has one. OSError when the root cannot be
        written, WireError when the session is over, RefusedError when it takes no more."""
        while True:
            with self._lock:
                session.check_room(handle)
                taken = session.handles.get(handle)
                if taken is not None and (taken.root, taken.uid) != (path, ident):
                    raise WireError(f"handle {handle} is another open transfer's")
                self._root(path)
                go_on_below(path, ((k, t.staged) for k, t in self._transfers.items() if t.staged.journaled))
                transfer = self._transfers.get((path, ident))
                if transfer is None:
                    transfer = self._transfers[path, ident] = ReceivedTransfer(ident, path, self._memory)
                owner = transfer.session
                if owner is None or owner is session:
                    if owner is session:
                        session.handles.pop(transfer.handle, None)  # one handle ends it, so it has one
                    transfer.session, transfer.handle = session, handle
                    transfer.revive()
                    session.handles[handle] = transfer
                    return transfer
            owner.end()
            if not owner.over.wait(TAKEOVER_SECONDS):
                raise OSError("the transfer's previous session does not end")

    def sync(self, job: Job, transfer: ReceivedTransfer) -> None:
        """Carry out a job where the transfer's files are."""
        self._roots[transfer.root].syncer.submit(job)

    def release(self, transfer: ReceivedTransfer, flags: int) -> None:
        """Its session is through with a transfer. After a regular end only the memory of what was published
        stays for a while: the sender may not hear of the end before its connection breaks."""
        transfer.close_files()
        if flags & (wire.FINAL | wire.DISCARD):
            try:
                transfer.staging.remove()
            except OSError as error:
                _log.warning("staging not removed", uid=transfer.uid, error=str(error))
        with self._lock:
            transfer.idle_since = time.monotonic()
            transfer.session = None
            if flags & wire.DISCARD:
                self._transfers.pop((transfer.root, transfer.uid), None)
                transfer.outcomes.clear()

    def discard(self, path: bytes, ident: str) -> None:
        """Forget a transfer that no session has."""
        if len(ident) != 32 or not ident.isascii() or not ident.isalnum():
            return
        with self._lock:
            transfer = self._transfers.get((path, ident))
            if transfer is not None and (transfer.session is not None or transfer.staged.publishing.locked()):
                return
            self._transfers.pop((path, ident), None)
        if transfer is not None:
            transfer.staging.close()
            transfer.outcomes.clear()
        staging.discard(path, ident)

    def sync_failed(self, path: bytes, error: OSError) -> None:
        """What was published below a root since the last good sync may not be on storage, whatever later
        syncs say. Sessions that write elsewhere go on."""
        _log.warning("sync failed", root=os.fsdecode(path), error=str(error))
        with self._lock:
            self.epoch = secrets.token_hex(8)
            lost = {transfer for key, transfer in self._transfers.items() if key[0] == path}
            for transfer in lost:
                transfer.outcomes.clear()
            sessions = [one for one in self._sessions.values() if lost & set(one.handles.values())]
        for session in sessions:
            session.end()

    def sweep(self, now: float) -> None:
        """Drop what nobody came back for, from memory after a while, from storage after two days."""
        self.leftovers.expire(now)
        with self._lock:
            for key, transfer in list(self._transfers.items()):
                if transfer.session is None and now - transfer.idle_since > FORGET_SECONDS:
                    transfer.staging.close()
                    transfer.outcomes.clear()
                    del self._transfers[key]
            used = {path for path, _ in self._transfers}
            for path, root in list(self._roots.items()):
                if not root.users and path not in used:
                    self._roots.pop(path).syncer.stop()
            active, paths = set(self._transfers), list(self._swept)
        for path in paths:
            try:
                staging.remove_abandoned(path, {ident for root, ident in active if root == path})
            except (OSError, FileError) as error:
                _log.warning("unfinished files not looked through", root=os.fsdecode(path), error=str(error))

    def progress(self) -> None:
        """Tell how much came of each transfer since it was told last."""
        with self._lock:
            sessions = list(self._sessions.values())
        rows = []
        for session in sessions:
            rows += [
                [one.ident, came, one.last_recv, one.last_send]
                for one in list(session.receptions.values())
                if (came := one.news())
            ]
        if rows:
            self.report({"op": "recvProgress", "transfers": rows})

    def flush(self) -> None:
        """Before an orderly end: journal what is unfinished, for a moment."""
        with self._lock:
            transfers = [transfer for transfer in self._transfers.values() if transfer.unfinished]
        done = threading.Semaphore(0)
        for transfer in transfers:
            self.sync(Job(transfer, lambda _error: done.release()), transfer)
        deadline = time.monotonic() + FLUSH_SECONDS
        for _ in transfers:
            done.acquire(timeout=max(0.0, deadline - time.monotonic()))


def _sweep(receiver: Receiver) -> None:
    while True:
        receiver.sweep(time.monotonic())
        time.sleep(SWEEP_SECONDS)


def _report_rates(receiver: Receiver) -> None:
    """While something is received or has changed."""
    last: Message = {}
    while True:
        time.sleep(RATES_SECONDS)
        receiving, short = receiver.throttle.receiving(time.monotonic())
        told: Message = {"op": "rates", "receiving": receiving, "short": short}
        if receiving or short or told != last:
            last = told
            receiver.report(told)


def _tell_progress(receiver: Receiver) -> None:
    while True:
        time.sleep(PROGRESS_SECONDS)
        receiver.progress()


def run_receiver(options: WorkerOptions, channel: Channel) -> None:
    """Serve until the control process ends."""
    receiver = Receiver(options, channel)
    threading.Thread(target=_sweep, args=(receiver,), name="sweep", daemon=True).start()
    threading.Thread(target=_report_rates, args=(receiver,), name="rates", daemon=True).start()
    threading.Thread(target=_tell_progress, args=(receiver,), name="progress", daemon=True).start()
    channel.send({"op": "ready"})
    waiting: list[tuple[int, bool, str]] | None = []  # for the rules
    while (received := channel.receive()) is not None:
        message, fds = received
        if message.get("op") == "rules":
            receiver.set_rules(Rules.parse(message))
            for fd, encrypted, peer in waiting or ():
                receiver.serve(fd, encrypted=encrypted, peer=peer)
            waiting = None
        elif message.get("op") == "limit":
            receiver.throttle.limit(message["rate"])
        elif message.get("op") == "authorized":
            receiver.authority.answered(message)
        elif message.get("op") == "forgetGrants":
            receiver.forget_grants()
        elif message.get("op") == "roots":
            receiver.set_roots([os.fsencode(path) for path in message["paths"]])
        elif message.get("op") == "session" and fds:
            encrypted, peer = bool(message.get("encrypted")), str(message.get("peer") or "")
            if waiting is None:
                receiver.serve(fds.pop(), encrypted=encrypted, peer=peer)
            else:
                waiting.append((fds.pop(), encrypted, peer))
        for fd in fds:
            os.close(fd)
    receiver.errands.over.set()
    receiver.flush()
