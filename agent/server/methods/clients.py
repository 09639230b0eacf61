"""`recv.*` about authorized clients: the senders that this server takes data from, known by their keys."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Callable
from typing import Annotated, Any

from agent.jetstream import keys
from agent.server.core import Core
from agent.server.data.rules import Rules
from agent.server.errors import CommandError
from agent.server.methods import checks
from agent.server.options import ServeOptions
from agent.server.params import Boolean, Convert, to_name
from agent.server.receiving import Receiver
from agent.server.registry import command
from agent.server.session import Session
from agent.server.store import clients


def to_public_key(value: Any) -> str:
    """A key, or a structure that holds one."""
    if isinstance(value, dict):
        names = ("publicKey", "destinationPublicKey", "clientPublicKey")
        value = next((value[name] for name in names if isinstance(value.get(name), str)), None)
    return keys.normalise(to_name(value))


PublicKey = Annotated[str, Convert(to_public_key)]


class ClientMethods:
    """For superusers. A change acts on running sessions at once and survives restarts."""

    def __init__(self, core: Core, receiver: Receiver) -> None:
        self._core = core
        self._receiver = receiver

    @command("recv.addAuthorizedClient", twin=True)
    async def add(self, session: Session, clientPublicKey: PublicKey) -> None:
        checks.superuser(session, "addAuthorizedClient")
        now = self._core.clock.wall_us()
        await self._change(lambda connection: clients.add(connection, clientPublicKey, now))

    @command("recv.removeAuthorizedClient", twin=True)
    async def remove(self, session: Session, clientPublicKey: PublicKey) -> None:
        checks.superuser(session, "removeAuthorizedClient")
        if clientPublicKey in _given(self._core.options):
            raise CommandError(
                "this client was authorized with --authorized-client; restart the server without it"
            )

        def change(connection: sqlite3.Connection) -> None:
            if not clients.remove(connection, clientPublicKey):
                raise CommandError(f"the client {keys.short(clientPublicKey)} is not authorized")

        await self._change(change)

    @command("recv.allowOnlyAuthorizedClients", twin=True)
    async def only(self, session: Session, onlyAuthorizedClientsAllowed: Boolean) -> None:
        checks.superuser(session, "allowOnlyAuthorizedClients")
        if self._core.options.only_authorized_clients and not onlyAuthorizedClientsAllowed:
            raise CommandError("the server was started with --only-authorized-clients; restart it without it")
        await self._change(
            lambda connection: clients.set_only_authorized(connection, onlyAuthorizedClientsAllowed)
        )

    async def _change(self, change: Callable[[sqlite3.Connection], None]) -> None:
        def work(connection: sqlite3.Connection) -> Rules:
            change(connection)
            return read_rules(connection, self._core.options, self._core.port)

        self._receiver.set_rules(await self._core.database.run(work))


def read_rules(connection: sqlite3.Connection, serve: ServeOptions, port: int) -> Rules:
    """Whom the receiver takes data from: by command line and store together."""
    return Rules(
        min_cipher=serve.least_cipher,
        only_authorized=serve.only_authorized_clients or clients.only_authorized(connection),
        authorized=_given(serve) | clients.get_all(connection),
        server=serve.external_address or f"{socket.gethostname()}:{port}",
    )


def _given(serve: ServeOptions) -> frozenset[str]:
    return frozenset(keys.normalise(key) for key in serve.authorized_clients)
