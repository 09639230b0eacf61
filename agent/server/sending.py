"""The control side of the sender worker: what it is told, and who hears of its reports."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import structlog

from agent.server import triggering
from agent.server.core import Core
from agent.server.counters import Counters
from agent.server.data.pacing import Pace
from agent.server.data.target import Target
from agent.server.errors import CommandError
from agent.server.ipc import Message
from agent.server.live import Flow
from agent.server.orders import Order, active_orders, connection_of, sharing
from agent.server.reports import Reports, store_progress
from agent.server.store import destinations
from agent.server.store.destinations import Connection, Destination
from agent.server.store.transfers import Transfer
from agent.server.supervisor import Callbacks, Worker

_log = structlog.get_logger(__name__)

STOP_SECONDS = 15.0
DISCARD_SECONDS = 60.0
LAST_DISCARD_SECONDS = 2.0
LAST_STOP_SECONDS = 1.5  # what is left of five seconds is for the end of the workers


class Sender:
    """Event loop only. The worker starts with the first transfer."""

    def __init__(self, core: Core, arguments: list[str], keep_fds: tuple[int, ...]) -> None:
        self._core = core
        self._reports = Reports(core)
        callbacks = Callbacks(self._ready, self._message, self._gone)
        self._worker = Worker("sender", arguments, keep_fds, callbacks)
        self._told: dict[int, Message] = {}  # destinations as the worker knows them
        self._started: dict[int, int] = {}  # transfer -> destination
        self._discards: dict[int, set[asyncio.Task[None]]] = {}  # by destination
        self._stops: dict[int, asyncio.Future[None]] = {}
        self._remote: dict[int, asyncio.Future[Message]] = {}
        self._numbers = itertools.count(1)
        self.allowed: float | None = None
        self.measured: Callable[[], None] = lambda: None  # called when `live` has other rates

    @property
    def pid(self) -> int | None:
        return self._worker.pid

    # --- what the worker is told ---------------------------------------------------------------------

    def start(self, order: Order) -> None:
        """Work on a transfer. A worker that is not ready yet learns of it from the store."""
        self._worker.ensure()
        if self._worker.ready:
            self._start(order)

    def resume_all(self) -> None:
        """At launch: what is active in the store goes on by itself."""
        self._worker.ensure()

    def _start(self, order: Order) -> None:
        transfer = order.transfer
        if transfer.id in self._started or transfer.id in self._stops:
            return
        self.tell(order.destination, order.connection)
        self._started[transfer.id] = transfer.destination_id
        self._worker.post(
            {
                "op": "start",
                "id": str(transfer.id),
                "uid": transfer.uid,
                "destinationId": str(transfer.destination_id),
                "manifestId": str(transfer.manifest_id),
                "destinationPath": transfer.destination_path,
                "lane": transfer.lane,
                "priority": transfer.priority,
                "rate": transfer.rate_max,
                "flags": transfer.flags,
                "overwriteMode": transfer.overwrite,
                "checkpointSeconds": transfer.checkpoint_seconds,
                "timeResolutionUs": transfer.time_resolution_us,
                "timeoutSeconds": transfer.timeout_seconds,
                "minCipher": transfer.min_cipher,
                "counters": self._core.live.counters(transfer).told(),
                "user": transfer.user_name,
                "password": self._core.seal.open(transfer.password),
                "token": self._core.seal.open(transfer.token) or self._voucher(order),
            }
        )

    def _voucher(self, order: Order) -> str | None:
        """What a server that sends to itself is shown for its own users."""
        transfer = order.transfer
        if transfer.user_name is not None or transfer.owner_token is not None:
            return None
        return self._core.vouchers.token(transfer.owner, order.destination)

    def works_on(self, transfer_id: int) -> bool:
        """Whether the worker was told to send the transfer, and not to stop since."""
        return transfer_id in self._started

    def limit(self, rate: float | None) -> None:
        """Of all that is sent, kbit/s."""
        if rate != self.allowed:
            self.allowed = rate
            if self._worker.ready:
                self._worker.post({"op": "limit", "rate": rate})

    def tell(self, destination: Destination, connection: Connection, *, only_known: bool = False) -> None:
        """Create or change a destination; nothing is sent when the worker knows it like that."""
        if not self._worker.ready or (only_known and destination.id not in self._told):
            return
        message: Message = {
            "op": "destination",
            "id": str(destination.id),
            **_target(destination, self._core.options.least_cipher).told(),
            "lanes": [list(lane) for lane in destination.lanes],
            "rate": destination.rate_max,
            "pace": _pace(connection).told(),
        }
        if self._told.get(destination.id) != message:
            self._told[destination.id] = message
            self._worker.post(message)

    async def settle_discards(self, destination_id: int) -> None:
        """Before a destination goes: let what is being discarded there end, for a moment."""
        tasks = self._discards.pop(destination_id, set())
        if tasks:
            await asyncio.wait(tasks, timeout=LAST_DISCARD_SECONDS)
        for task in tasks:
            task.cancel()

    def grown(self, manifest_id: int) -> None:
        """A manifest has more entries than before, or all it will ever have."""
        if self._worker.ready and self._started:
            self._worker.post({"op": "manifest", "id": str(manifest_id)})

    def remove_destination(self, destination_id: int) -> None:
        self._core.live.links.pop(destination_id, None)
        if self._told.pop(destination_id, None) is not None:
            self._worker.post({"op": "removeDestination", "id": str(destination_id)})

    def update(self, transfer: Transfer) -> None:
        """Lane, priority and rate of a running transfer."""
        if transfer.id in self._started:
            message = {"op": "update", "id": str(transfer.id), "lane": transfer.lane}
            self._worker.post({**message, "priority": transfer.priority, "rate": transfer.rate_max})

    async def stop_transfer(self, transfer: Transfer, *, discard: bool) -> None:
        """Have the worker stop; returns once it sends nothing more of the transfer (or is gone). `discard`
        also removes what the receiver has of unfinished files, as soon as it can be reached."""
        if not self._worker.ready or transfer.id not in self._started:
            if discard:
                self._discard_later(transfer)
            return
        stopped = self._post_stop(transfer.id, discard=discard)
        try:
            await asyncio.wait_for(asyncio.shield(stopped), STOP_SECONDS)
        except TimeoutError:
            raise CommandError(
                f"the sender did not stop transfer {transfer.id} within {STOP_SECONDS:.0f} s; try again"
            ) from None
        finally:
            self._stops.pop(transfer.id, None)

    def _post_stop(self, transfer_id: int, *, discard: bool) -> asyncio.Future[None]:
        """Done when the worker is through with the transfer; the caller takes it out of `_stops`."""
        stopped = self._stops.setdefault(transfer_id, asyncio.get_running_loop().create_future())
        self._started.pop(transfer_id, None)
        self._worker.post({"op": "stop", "id": str(transfer_id), "discard": discard})
        return stopped

    def _discard_later(self, transfer: Transfer) -> None:
        """Best effort: a receiver that stays away clears what is left by age."""
        tasks = self._discards.setdefault(transfer.destination_id, set())
        task = asyncio.create_task(self._discard(transfer), name=f"discard {transfer.id}")
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _discard(self, transfer: Transfer) -> None:
        try:
            destination = await self._core.database.run(destinations.get, transfer.destination_id)
            seal = self._core.seal
            shown = {
                "user": transfer.user_name,
                "password": seal.open(transfer.password),
                "token": seal.open(transfer.token),
            }
            given = {name: text for name, text in shown.items() if text is not None}
            await self.remote(destination, "discard", {"uids": [transfer.uid]}, DISCARD_SECONDS, given)
        except CommandError as error:
            _log.info("leftovers at the receiver not removed", transfer=str(transfer.id), reason=str(error))

    async def remote(
        self,
        destination: Destination,
        verb: str,
        args: dict[str, Any],
        timeout: float,
        credentials: dict[str, str] | None = None,
    ) -> Message:
        """Carry out a verb over the session with the receiver, for whom the credentials stand; CommandError
        when that fails."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        await self._until_ready(timeout)
        self.tell(destination, await self._core.database.run(connection_of, destination))
        number = next(self._numbers)
        answer: asyncio.Future[Message] = loop.create_future()
        self._remote[number] = answer
        message = {"op": "remote", "request": number, "destinationId": str(destination.id)}
        self._worker.post({**message, "verb": verb, "args": args, "credentials": credentials})
        try:
            result = await asyncio.wait_for(answer, max(0.0, deadline - loop.time()))
        except TimeoutError:
            raise CommandError(
                f"{destination.address}:{destination.port} did not answer within {timeout:.0f} s; "
                "see that a server listens there, then try again"
            ) from None
        finally:
            self._remote.pop(number, None)
        if result.get("error"):
            raise CommandError(str(result["error"]))
        return result

    async def _until_ready(self, timeout: float) -> None:
        self._worker.ensure()
        deadline = asyncio.get_running_loop().time() + timeout
        while not self._worker.ready:
            if asyncio.get_running_loop().time() > deadline:
                raise CommandError("the sender did not start in time; try again")
            await asyncio.sleep(0.01)

    async def refresh(self, connection_id: int) -> None:
        """Tell the worker what holds for a connection now."""
        for destination, shared in await self._core.database.run(sharing, connection_id):
            self.tell(destination, shared, only_known=True)

    async def rest(self) -> None:
        """Before the end: have what is under way made durable at its receivers and counted in the store,
        for a moment. It stays active, and goes on from there at the next launch."""
        if self._worker.ready and self._started:
            progress = dict(self._core.live.progress)  # a receiver may not answer in time
            await self._core.database.run(store_progress, progress)
            stops = [self._post_stop(transfer_id, discard=False) for transfer_id in list(self._started)]
            if stops:  # else the last one has finished meanwhile
                await asyncio.wait(stops, timeout=LAST_STOP_SECONDS)

    async def stop(self) -> None:
        for tasks in self._discards.values():
            for task in tasks:
                task.cancel()
        await self._worker.stop()

    # --- what the worker reports -----------------------------------------------------------------------

    async def _ready(self) -> None:
        self._worker.post({"op": "limit", "rate": self.allowed})
        for order in await self._core.database.run(active_orders):
            self._start(order)

    async def _gone(self) -> None:
        self._told.clear()
        self._started.clear()
        self._core.live.connections.clear()
        self._core.live.sending = Flow()
        for link in self._core.live.links.values():
            link.state = "disconnected"
        for stopped in self._stops.values():
            if not stopped.done():
                stopped.set_result(None)
        for number, answer in self._remote.items():
            if not answer.done():
                answer.set_result({"request": number, "error": "the sender ended; try again"})

    async def _message(self, message: Message) -> None:
        op = message.get("op")
        handler = {
            "sending": self._on_sending,
            "progress": self._on_progress,
            "checkpoint": self._on_checkpoint,
            "finished": self._on_finished,
            "stopped": self._on_stopped,
            "destinationState": self._on_destination_state,
            "remoteResult": self._on_remote_result,
            "rates": self._on_rates,
            "lanes": self._on_lanes,
        }.get(str(op))
        if handler is None:
            _log.warning("unknown message from the sender", op=str(op)[:40])
            return
        await handler(message)

    async def _on_sending(self, message: Message) -> None:
        transfer_id = int(message["id"])
        await self._core.database.run(self._reports.sending, transfer_id)
        self._core.events.post("transfer", transfer_id)

    async def _on_progress(self, message: Message) -> None:
        now, moved = self._core.clock.wall_us(), set[int]()
        for transfer_id, *counters in message["transfers"]:
            if int(transfer_id) in self._started:
                moved.add(self._started[int(transfer_id)])
                self._core.live.progress[int(transfer_id)] = Counters.of_row(counters)
                self._core.events.post("transfer", int(transfer_id))
        for destination_id in moved:
            self._core.live.link(destination_id).moved(now)

    async def _on_lanes(self, message: Message) -> None:
        for destination_id, lanes in message["links"].items():
            self._core.live.lanes[int(destination_id)] = dict(lanes)

    async def _on_checkpoint(self, message: Message) -> None:
        transfer_id = int(message["id"])
        await self._core.database.run(self._reports.store, transfer_id, message)
        self._core.events.post("transfer", transfer_id)

    async def _on_finished(self, message: Message) -> None:
        transfer_id = int(message["id"])
        finished = await self._core.database.run(self._reports.finish, transfer_id, message)
        self._started.pop(transfer_id, None)
        self._core.live.progress.pop(transfer_id, None)
        self._release(transfer_id)
        self._core.events.post("transfer", transfer_id)
        if finished is not None:
            _log.info(
                "transfer finished",
                transfer=str(transfer_id),
                status=finished.status,
                error=finished.error or None,
                files=finished.total_files,
                bytes=finished.total_size,
            )
            await triggering.sent(self._core, finished)

    async def _on_stopped(self, message: Message) -> None:
        transfer_id = int(message["id"])
        await self._core.database.run(self._reports.store, transfer_id, message)
        self._release(transfer_id)

    def _release(self, transfer_id: int) -> None:
        """Wake who waits for the transfer's stop."""
        stopped = self._stops.get(transfer_id)
        if stopped is not None and not stopped.done():
            stopped.set_result(None)

    async def _on_destination_state(self, message: Message) -> None:
        destination_id = int(message["id"])
        if destination_id not in self._told:
            return
        link = self._core.live.link(destination_id)
        link.told(str(message["state"]), str(message.get("error") or ""))
        if link.state == "connected":
            link.relay_ip = message.get("relayIP")
            link.encrypted = bool(message.get("encrypted"))
            link.public_key = message.get("publicKey") or link.public_key
            link.server_id = message.get("serverId") or link.server_id
            link.server_uid = message.get("serverUid") or link.server_uid
            link.last_recv_us = link.last_send_us = self._core.clock.wall_us()
        self._core.events.post("destination", destination_id)

    async def _on_rates(self, message: Message) -> None:
        live = self._core.live
        live.connections = {int(ident): float(rate) for ident, rate in message["connections"].items()}
        live.sending = Flow(float(message["sending"]), bool(message["short"]))
        for ident, (algorithm, problem) in message["links"].items():
            link = live.link(int(ident))
            link.algorithm, link.problem = str(algorithm), str(problem)
        self.measured()

    async def _on_remote_result(self, message: Message) -> None:
        answer = self._remote.get(int(message["request"]))
        if answer is not None and not answer.done():
            answer.set_result(message)


def _pace(row: Connection) -> Pace:
    return Pace(str(row.id), row.rate_min, row.rate_max, row.rate, row.rate_control, row.rate_method)


def _target(destination: Destination, least_cipher: int) -> Target:
    return Target(
        address=destination.address,
        port=destination.port,
        public_key=destination.public_key,
        authenticate=destination.authenticate,
        relay_address=destination.relay_address,
        relay_port=destination.relay_port,
        sender_port=destination.sender_port,
        min_cipher=least_cipher,
        call_cipher=destination.defaults.min_cipher,
    )
