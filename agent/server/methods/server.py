"""`server.*`: logging in, facts about the server, requests."""

# ruff: noqa: ARG002 - every method takes the session and its documented parameters

from __future__ import annotations

import asyncio
import socket
from typing import Any

from agent import __version__
from agent.jetstream import constants
from agent.server.core import Core
from agent.server.errors import CommandError, not_authenticated
from agent.server.params import Count, RequestId, Text
from agent.server.queue import RequestQueue
from agent.server.registry import command
from agent.server.session import Access, Session
from agent.server.store.requests import Request

MAX_SLEEP_MS = 3_600_000
LOGINS_AT_ONCE = 2  # each takes a core for a moment
EXTENSIONS = ["events", "results", "deletePaths"]


class ServerMethods:
    def __init__(self, core: Core, access: Access, queue: RequestQueue) -> None:
        self._core = core
        self._access = access
        self._queue = queue
        self._logins = asyncio.Semaphore(LOGINS_AT_ONCE)

    @command("server.auth", twin=True)
    async def auth(self, session: Session, user: Text, password: Text) -> None:
        accounts = self._access.accounts
        if accounts is None:
            raise not_authenticated(
                "this server has no accounts; start it with --accounts FILE, "
                "made with: lanesync user add NAME --accounts FILE"
            )
        async with self._logins:
            known = await asyncio.to_thread(accounts.verify, user, password)
        if not known:
            raise not_authenticated("user name or password is wrong")
        session.user = user

    @command("server.authToken")
    async def auth_token(self, session: Session, token: Text) -> None:
        if not self._access.matches_token(token):
            raise not_authenticated("the token is not valid here")
        session.user = self._access.owner

    @command("server.echo")
    async def echo(self, session: Session, text: Text = "") -> str:
        return text

    @command("server.sleep", waits=True)
    async def sleep(self, session: Session, milliseconds: Count) -> None:
        if milliseconds > MAX_SLEEP_MS:
            raise CommandError(f"milliseconds is at most {MAX_SLEEP_MS}")
        await asyncio.sleep(milliseconds / 1000)

    @command("server.getRequestStatus")
    async def request_status(self, session: Session, requestId: RequestId) -> dict[str, Any]:
        return _status(await self._queue.get(session, requestId))

    @command("server.getRequestResult", waits=True)
    async def request_result(self, session: Session, requestId: RequestId) -> Any:
        return await self._queue.result(session, requestId)

    @command("server.getServerInfo")
    async def server_info(self, session: Session) -> dict[str, Any]:
        reduced = {
            "apiVersion": constants.API_VERSION,
            "version": __version__,
            "authRequired": self._access.required,
            "serverName": self._core.options.server_name,
            "lanesync": {"protocol": 1, "extensions": EXTENSIONS},
        }
        if session.user is None:
            return reduced
        return reduced | self._details()

    def _details(self) -> dict[str, Any]:
        return {
            "allowRemoteControl": False,
            "apiControlPort": self._core.port,
            "APITokensAvailable": False,
            "bandwidthLimits": None,
            "certificateValidation": None,
            "encryptionAvailable": False,
            "eventLogAvailable": False,
            "hostName": socket.gethostname(),
            "license": None,
            "minCipher": constants.MIN_CIPHER_NONE,
            "multiplexAvailable": True,
            "publicKey": None,
            "receiver": {
                "port": self._core.port,
                "receiveRoot": str(self._core.options.receive_directory),
            },
            "revision": 0,
            "serverExternalAddress": None,
            "serverId": self._core.server_id,
            "serverUid": self._core.server_uid,
        }


def _status(request: Request) -> dict[str, Any]:
    message = "" if request.error is None else request.error["message"]
    return {
        "requestId": request.id,
        "status": request.status,
        "processing": request.processing,
        "errorMessage": message,
    }
