"""The sender worker: one process that reads source files and brings them to destinations."""

from __future__ import annotations

import itertools
import sqlite3
import threading
import time
from typing import TYPE_CHECKING

import structlog

from agent.server.data.connecting import Connector
from agent.server.data.governor import Governor, Portion
from agent.server.data.link import Link
from agent.server.data.manifest import Manifest, Reader
from agent.server.data.order import Order
from agent.server.data.outgoing import Transfer
from agent.server.data.pacing import Pace
from agent.server.data.secure import Contexts
from agent.server.data.target import Target
from agent.server.data.wire import WireError
from agent.server.identity import Identities
from agent.server.ipc import Channel, Message

if TYPE_CHECKING:
    from agent.server.data.options import WorkerOptions

_log = structlog.get_logger(__name__)

DATABASE = "server.db"
TICK_SECONDS = 0.2


class Sender:
    """Carries out what the control process says; one thread calls it."""

    def __init__(self, options: WorkerOptions, channel: Channel) -> None:
        self._manifests = Reader(options.state_dir / DATABASE)
        self._options = options
        self._contexts = Contexts(Identities(options.state_dir))
        self._channel = channel
        self._governor = Governor()
        self._rates: Message = {}  # as told last
        self._lanes: dict[str, dict[str, int]] = {}  # as told last, by destination
        self._links: dict[str, Link] = {}
        self._connectors: dict[str, Connector] = {}
        self._known: dict[str, tuple[str, str]] = {}  # transfer -> uid and destination, for later discards
        self._handles = itertools.count(1)
        self._lock = threading.Lock()

    def report(self, message: Message) -> None:
        try:
            self._channel.send(message)
        except OSError:
            pass  # the control process has ended, and so do we

    def handle(self, message: Message) -> None:
        """KeyError, TypeError or ValueError for a malformed message."""
        op = message.get("op")
        if op == "destination":
            self._destination(message)
        elif op == "removeDestination":
            self._remove(str(message["id"]))
        elif op == "start":
            self._start(Order.parse(message))
        elif op == "update":
            for link in self._links.values():
                link.update(str(message["id"]), message["lane"], int(message["priority"]), message["rate"])
        elif op == "stop":
            self._stop(str(message["id"]), discard=bool(message.get("discard")))
        elif op == "remote":
            self._remote(message)
        elif op == "manifest":
            self._grown(int(message["id"]))
        elif op == "limit":
            self._limit(message["rate"])
        else:
            raise ValueError(f"unknown operation {op!r}")

    def _destination(self, message: Message) -> None:
        ident = str(message["id"])
        lanes = [(str(name), float(share)) for name, share in message["lanes"]]
        target = Target.parse(message)
        pace = Pace.parse(message.get("pace") or {})
        link = self._links.get(ident)
        if link is not None:
            link.set_pace(pace)
            link.configure(lanes, message["rate"])
            self._connectors[ident].aim(target)
            return
        link = Link(ident, lanes, message["rate"], self.report, Portion(self._governor))
        link.set_pace(pace)
        with self._lock:
            self._links[ident] = link
        self._connectors[ident] = Connector(link, target, self._options, self._contexts)

    def _grown(self, manifest_id: int) -> None:
        """Go on with those transfers that wait for entries."""
        for link in self._links.values():
            with link.changed:
                for transfer in list(link.transfers.values()):
                    if transfer.order.manifest_id == manifest_id:
                        transfer.manifest.waits = False
                        link.progressed(transfer)

    def _limit(self, rate: float | None) -> None:
        self._governor.limit(rate, time.monotonic())
        for link in list(self._links.values()):
            link.wake()

    def _remove(self, ident: str) -> None:
        with self._lock:
            link = self._links.pop(ident, None)
        self._connectors.pop(ident, None)
        self._known = {key: value for key, value in self._known.items() if value[1] != ident}
        if link is not None:
            link.remove()

    def _start(self, order: Order) -> None:
        link = self._links[order.destination_id]
        if order.id in link.transfers:
            return
        self._known[order.id] = (order.uid, order.destination_id)
        try:
            skip = order.skips_vanished
            manifest = Manifest(self._manifests, order.manifest_id, int(order.id), skip_vanished=skip)
            link.add(Transfer(order, next(self._handles), manifest))
        except (sqlite3.Error, ValueError) as error:
            failed: Message = {
                "op": "finished",
                "id": order.id,
                "status": "error",
                "results": "",
                "errors": [],
            }
            self.report({**failed, "message": f"the transfer cannot be started: {error}"})

    def _stop(self, ident: str, *, discard: bool) -> None:
        if any(link.stop(ident, discard=discard) for link in list(self._links.values())):
            return
        self.report({"op": "stopped", "id": ident})
        uid, destination = self._known.get(ident, ("", ""))
        link = self._links.get(destination)
        if discard and link is not None:
            link.call(None, "discard", {"uids": [uid]})

    def _remote(self, message: Message) -> None:
        request = int(message["request"])
        link = self._links.get(str(message["destinationId"]))
        if link is None:
            unknown = "the sender does not know the destination"
            self.report({"op": "remoteResult", "request": request, "error": unknown})
            return
        try:
            shown = dict(message.get("credentials") or {})
            link.call(request, str(message["verb"]), dict(message.get("args") or {}), shown)
        except WireError as error:
            self.report({"op": "remoteResult", "request": request, "error": str(error)})

    def tick(self, now: float) -> None:
        with self._lock:
            links = list(self._links.values())
        rows = [row for link in links for row in link.tick(now)]
        if rows:
            self.report({"op": "progress", "transfers": rows})
        self._governor.tick(now)
        self._report_rates(links, now)
        self._report_lanes(links)

    def _report_lanes(self, links: list[Link]) -> None:
        """What each lane of each destination has sent since the sender started, where that has changed."""
        found = {link.ident: link.scheduler.lane_bytes() for link in links}
        changed = {ident: lanes for ident, lanes in found.items() if self._lanes.get(ident) != lanes}
        self._lanes = found
        if changed:
            self.report({"op": "lanes", "links": changed})

    def _report_rates(self, links: list[Link], now: float) -> None:
        """By connection and in all, while something is sent or has changed."""
        sending, short = self._governor.sending(now)
        told: Message = {
            "op": "rates",
            "connections": self._governor.rates(now),
            "links": {link.ident: list(link.paced) for link in links},
            "sending": sending,
            "short": short,
        }
        if sending or short or told != self._rates:
            self._rates = told
            self.report(told)


def _ticking(sender: Sender) -> None:
    while True:
        time.sleep(TICK_SECONDS)
        sender.tick(time.monotonic())


def run_sender(options: WorkerOptions, channel: Channel) -> None:
    """Serve until the control process ends."""
    sender = Sender(options, channel)
    threading.Thread(target=_ticking, args=(sender,), name="tick", daemon=True).start()
    channel.send({"op": "ready"})
    while (received := channel.receive()) is not None:
        try:
            sender.handle(received[0])
        except (KeyError, TypeError, ValueError) as error:
            _log.error("message not understood", op=str(received[0].get("op"))[:40], error=repr(error))
