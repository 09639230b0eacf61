"""One `lanesync serve`: the control process from start to end."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from agent.server import identity, log, notify, options, relaying, statedir, triggers
from agent.server.access import Access, Credentials, read_token
from agent.server.accounts import Accounts, AccountsError
from agent.server.bandwidth import Bandwidth
from agent.server.clock import SystemClock
from agent.server.collect import Collector
from agent.server.connection import Connection, Limits
from agent.server.core import IO_THREAD_NAME, Core, open_core, process_owner
from agent.server.discovery import Discovery
from agent.server.errors import StartError
from agent.server.eventlog import EventRecorder
from agent.server.gate import Gate
from agent.server.listener import Listener, bind
from agent.server.methods.bandwidth import BandwidthMethods
from agent.server.methods.clients import ClientMethods, read_rules
from agent.server.methods.connections import ConnectionMethods
from agent.server.methods.control import ControlMethods
from agent.server.methods.destinations import DestinationMethods
from agent.server.methods.extension import ExtensionMethods
from agent.server.methods.far import FarMethods
from agent.server.methods.files import FileMethods
from agent.server.methods.housekeeping import HousekeepingMethods
from agent.server.methods.manifestparts import ManifestParts
from agent.server.methods.manifests import ManifestMethods
from agent.server.methods.recv import RecvMethods
from agent.server.methods.sandboxes import SandboxMethods
from agent.server.methods.server import ServerMethods
from agent.server.methods.tokens import TokenMethods
from agent.server.methods.transfers import TransferMethods
from agent.server.options import ServeOptions
from agent.server.queue import RequestQueue
from agent.server.receiving import Receiver
from agent.server.registry import Registry
from agent.server.rpc import Dispatcher
from agent.server.sending import Sender
from agent.server.store import transfers
from agent.server.store.database import Database
from agent.server.store.schema import DATABASE_NAME
from agent.server.tls import ServerContexts
from agent.server.triggers import Triggers

_log = structlog.get_logger(__name__)

STOP_SECONDS = 5.0  # a server whose parent is gone is gone by then


def run(serve: ServeOptions) -> int:
    """Serve until SIGTERM, SIGINT or the end of the parent's pipe; returns the exit code. StartError when
    it cannot start."""
    log.configure()
    options.check(serve)
    credentials = _credentials(serve)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    lock_fd = statedir.lock(serve.state_dir)
    try:
        identity.ensure(serve.state_dir, _names(serve), time.time())
        sock = bind(serve.host, serve.port)
        database = Database(serve.state_dir / DATABASE_NAME)
        try:
            asyncio.run(_serve(serve, credentials, sock, database, lock_fd))
        finally:
            sock.close()
            database.close()
    finally:
        os.close(lock_fd)
    _leave_stuck_threads()
    return 0


def _leave_stuck_threads() -> None:
    """A thread that hangs in a file system or name server must not keep the process: all is closed by now."""
    deadline = time.monotonic() + 0.5
    while any(thread.name.startswith(IO_THREAD_NAME) for thread in threading.enumerate()):
        if time.monotonic() > deadline:
            os._exit(0)
        time.sleep(0.01)


def _names(serve: ServeOptions) -> list[str]:
    """What the server's certificate is for."""
    return identity.own_names(serve.host, serve.external_address.rpartition(":")[0])


def _credentials(serve: ServeOptions) -> Credentials:
    token = None if serve.control_token_file is None else read_token(serve.control_token_file)
    accounts = None
    if serve.accounts is not None:
        try:
            accounts = Accounts(serve.accounts)
        except AccountsError as error:
            raise StartError(str(error)) from error
    if accounts is None and token is None:
        _log.warning(
            "this server has no accounts: every user of this machine may command it",
            remedy="start it with --accounts FILE; lanesync user add NAME --accounts FILE makes one",
        )
    return Credentials(process_owner(), accounts, token)


@dataclass(slots=True)
class _Server:
    """All parts, wired."""

    core: Core
    sender: Sender
    receiver: Receiver
    queue: RequestQueue
    dispatcher: Dispatcher
    manifests: ManifestMethods
    access: Access
    limits: Limits
    collector: Collector
    recorder: EventRecorder
    discovery: Discovery
    gate: Gate
    bandwidth: Bandwidth

    async def api(self, sock: socket.socket, encrypted: bool) -> None:
        try:
            channel, peer = await self.gate.admit(sock, encrypted=encrypted)
        except OSError:
            return  # it was told, or is gone
        session = self.access.open_session(peer)
        try:
            await Connection(channel, session, self.dispatcher, self.limits).serve()
        finally:
            await self.queue.forget(session)

    def data(self, sock: socket.socket, encrypted: bool) -> None:
        self.receiver.accept(sock, encrypted=encrypted)

    async def stop(self) -> None:
        await self.dispatcher.stop()
        await self.queue.stop()
        await self.sender.rest()
        parts = (self.sender, self.receiver, self.manifests, self.core.triggers)
        await asyncio.gather(*(part.stop() for part in parts))
        await asyncio.to_thread(self.core.logs.stop)
        self.core.io.shutdown(wait=False, cancel_futures=True)


def _wire(core: Core, credentials: Credentials, lock_fd: int) -> _Server:
    serve, access = core.options, Access(core, credentials)
    arguments = ["--state-dir", str(serve.state_dir), "--streams", str(serve.streams)]
    arguments += ["--server-id", core.server_id, "--server-uid", core.server_uid]
    arguments += [] if serve.reserve is None else ["--reserve", serve.reserve]
    keep = (lock_fd,) if serve.lock_fd is None else (lock_fd, serve.lock_fd)
    sender, receiver = Sender(core, arguments, keep), Receiver(core, access, arguments, keep)
    queue, registry = RequestQueue(core), Registry()
    bandwidth = Bandwidth(core, sender, receiver)
    manifests, transfers = ManifestMethods(core, sender), TransferMethods(core, sender)
    collector = Collector(core, sender.remove_destination, lambda: manifests.purge(rounds=10_000))
    recorder, discovery = EventRecorder(core), Discovery(core)
    families: tuple[Any, ...] = (
        ServerMethods(core, access, queue, bandwidth),
        BandwidthMethods(bandwidth),
        DestinationMethods(core, sender),
        ConnectionMethods(core, sender),
        manifests,
        ManifestParts(core, transfers),
        transfers,
        ControlMethods(core, sender),
        TokenMethods(core),
        RecvMethods(core, receiver),
        ClientMethods(core, receiver),
        ExtensionMethods(core),
        FarMethods(core, sender),
        FileMethods(core),
        SandboxMethods(core),
        HousekeepingMethods(core, collector, recorder, discovery),
    )
    for family in families:
        registry.add_all(family)
    dispatcher = Dispatcher(registry, access, queue)
    parts = (core, sender, receiver, queue, dispatcher, manifests, access, Limits())
    gate = Gate(ServerContexts(core.identities), remote=serve.allow_remote_control)
    return _Server(*parts, collector, recorder, discovery, gate, bandwidth)


async def _serve(
    serve: ServeOptions, credentials: Credentials, sock: socket.socket, database: Database, lock_fd: int
) -> None:
    core = await open_core(serve, database, SystemClock())
    core.port = core.vouchers.port = sock.getsockname()[1]
    core.triggers = Triggers(serve.trigger_dir)
    server = _wire(core, credentials, lock_fd)
    server.receiver.set_rules(await database.run(read_rules, serve, core.port))
    await server.bandwidth.load()
    listener = Listener(sock, server.api, server.data, server.discovery.serve)
    work = [listener.serve(), server.collector.serve(), server.recorder.serve(), _feed_watchdog()]
    if serve.recv_relay:
        work.append(relaying.link(core, server.receiver).run())
    background = [asyncio.create_task(part) for part in work]
    server.receiver.resume()
    if await database.run(transfers.active_counts):
        server.sender.resume_all()
    _announce(serve, core)
    core.triggers.fire(triggers.LAUNCH, core.port)
    try:
        await _until_end(core, background)
    finally:
        notify.notify("STOPPING=1")
        for task in background:
            task.cancel()
        await listener.close()
        await server.stop()
        _log.info("stopped")


async def _until_end(core: Core, background: list[asyncio.Task[None]]) -> None:
    """Return when we are told to end; raise when a part of us failed."""
    serve = core.options
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def end(reason: str) -> None:
        if not ended.done():
            _log.info("stopping", reason=reason)
            ended.set_result(None)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, end, number.name)
    if serve.parent_pipe_fd is not None:
        threading.Thread(target=_watch_parent, args=(serve.parent_pipe_fd, loop, end), daemon=True).start()
    core.end = end
    await asyncio.wait([*background, ended], return_when=asyncio.FIRST_COMPLETED)
    for task in background:
        if task.done():
            task.result()


def _watch_parent(pipe: int, loop: asyncio.AbstractEventLoop, end: Callable[[str], None]) -> None:
    """End with the parent, also when the event loop is stuck. (The kernel's parent-death signal would come
    when the thread that started us ends, which need not be the end of the process.)"""
    try:
        while os.read(pipe, 4096):
            pass
    except OSError:
        pass
    try:
        loop.call_soon_threadsafe(end, "the parent ended")
    except RuntimeError:
        return  # the loop is closed: we are ending already
    time.sleep(STOP_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def _announce(serve: ServeOptions, core: Core) -> None:
    """Tell all who asked that we listen, and where."""
    address: dict[str, object] = {
        "address": serve.host,
        "port": core.port,
        "pid": os.getpid(),
        "serverId": core.server_id,
        "publicKey": core.identities.current().public_key,
    }
    _log.info(
        "listening",
        address=serve.host,
        port=core.port,
        receive_root=str(serve.receive_directory),
        public_key=address["publicKey"],
    )
    if serve.address_file is not None:
        statedir.announce_file(serve.address_file, address)
    if serve.ready_fd is not None:
        statedir.announce_fd(serve.ready_fd, address)
    notify.notify("READY=1")


async def _feed_watchdog() -> None:
    interval = notify.watchdog_seconds()
    while interval is not None:
        notify.notify("WATCHDOG=1")
        await asyncio.sleep(interval)
    await asyncio.Event().wait()
