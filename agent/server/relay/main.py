"""One `lanesync relay`: from start to end."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import time

import structlog

from agent.server import identity, log, notify, statedir
from agent.server.identity import Identities
from agent.server.listener import bind
from agent.server.relay.options import RelayOptions
from agent.server.relay.service import Relay
from agent.server.relay.tls import Certificates

_log = structlog.get_logger(__name__)


def run(options: RelayOptions) -> int:
    """Relay until SIGTERM or SIGINT; returns the exit code. StartError when it cannot start."""
    log.configure()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    lock_fd = statedir.lock(options.state_dir)
    try:
        identity.ensure(options.state_dir, identity.own_names(options.host), time.time())
        with bind(options.host, options.port) as sock:
            asyncio.run(_serve(options, sock))
    finally:
        os.close(lock_fd)
    return 0


async def _serve(options: RelayOptions, sock: socket.socket) -> None:
    identities = Identities(options.state_dir)
    relay = Relay(Certificates(identities), options.accepted)
    work = [asyncio.create_task(relay.serve(sock)), asyncio.create_task(_feed_watchdog())]
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, _end, ended, number.name)
    _announce(options, sock.getsockname()[1], identities.current().public_key)
    try:
        await asyncio.wait([*work, ended], return_when=asyncio.FIRST_COMPLETED)
        for task in work:
            if task.done():
                task.result()
    finally:
        notify.notify("STOPPING=1")
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        _log.info("stopped")


def _end(ended: asyncio.Future[None], reason: str) -> None:
    if not ended.done():
        _log.info("stopping", reason=reason)
        ended.set_result(None)


def _announce(options: RelayOptions, port: int, key: str) -> None:
    """Tell all who asked that we listen, and where."""
    address: dict[str, object] = {"address": options.host, "port": port, "pid": os.getpid(), "publicKey": key}
    _log.info("listening", address=options.host, port=port, key=key)
    if not options.accepted:
        _log.warning(
            "every receiver may register at this relay, each under its own key",
            remedy="start it with --accept-key KEY for each receiver that may",
        )
    if options.address_file is not None:
        statedir.announce_file(options.address_file, address)
    if options.ready_fd is not None:
        statedir.announce_fd(options.ready_fd, address)
    notify.notify("READY=1")


async def _feed_watchdog() -> None:
    interval = notify.watchdog_seconds()
    while interval is not None:
        notify.notify("WATCHDOG=1")
        await asyncio.sleep(interval)
    await asyncio.Event().wait()
