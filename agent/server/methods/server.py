"""`server.*`: logging in, facts about the server, requests."""

# ruff: noqa: ARG002 - every method takes the session and its documented parameters

from __future__ import annotations

import asyncio
import socket
from typing import Any

from agent import __version__
from agent.jetstream import constants
from agent.server import collect, structures
from agent.server.access import Access
from agent.server.bandwidth import Bandwidth
from agent.server.core import Core
from agent.server.errors import CommandError
from agent.server.params import Count, RequestId, Text
from agent.server.queue import RequestQueue
from agent.server.registry import command
from agent.server.session import Session
from agent.server.store.requests import Request

MAX_SLEEP_MS = 3_600_000
EXTENSIONS = ["events", "results", "deletePaths", "renamePaths", "listPaths", "skipVanished", "laneBytes"]
EXTENSIONS += ["links", "sets", "strict", "fillManifest", "early", "eventKinds", "sendEntries"]


class ServerMethods:
    def __init__(self, core: Core, access: Access, queue: RequestQueue, bandwidth: Bandwidth) -> None:
        self._core = core
        self._bandwidth = bandwidth
        self._access = access
        self._queue = queue

    @command("server.auth", twin=True)
    async def auth(self, session: Session, user: Text, password: Text) -> None:
        await self._access.log_in(session, user, password)

    @command("server.authToken", twin=True)
    async def auth_token(self, session: Session, token: Text, password: Text | None = None) -> None:
        await self._access.log_in_token(session, token, password)

    @command("server.superuser")
    async def superuser(self, session: Session) -> None:
        self._access.raise_to_superuser(session)

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
            "publicKey": self._core.identities.current().public_key,
            "lanesync": {"protocol": 1, "extensions": EXTENSIONS},
        }
        if session.user is None or session.shared is not None:
            return reduced
        details = reduced | self._details()
        return details | {"configuration": await self._configuration()} if session.superuser else details

    async def _configuration(self) -> dict[str, Any]:
        """What the server was started with and told since; no secrets are among it."""
        serve = self._core.options
        collecting = await self._core.database.run(collect.load)
        return {
            "listen": f"{serve.host}:{self._core.port}",
            "stateDir": str(serve.state_dir),
            "receiveRoot": str(serve.receive_directory),
            "reserve": serve.reserve,
            "accounts": None if serve.accounts is None else str(serve.accounts),
            "superusers": list(serve.superusers),
            "sandboxDir": serve.sandbox_dir,
            "streams": serve.streams,
            "checkpointSeconds": serve.checkpoint_seconds,
            "garbageCollect": {
                "intervalSeconds": collecting.interval_seconds,
                "timeLimitSeconds": collecting.time_limit_seconds,
            },
            "sharedTokens": not serve.disable_shared_tokens,
            "APITokens": not serve.disable_api_tokens,
        }

    def _certificate_days(self) -> int:
        return self._core.identities.current().days_left(self._core.clock.wall_us() / 1e6)

    def _details(self) -> dict[str, Any]:
        return {
            "allowRemoteControl": self._core.options.allow_remote_control,
            "apiControlPort": self._core.port,
            "APITokensAvailable": not self._core.options.disable_api_tokens,
            "bandwidthLimits": self._bandwidth.structure(),
            "certificateValidation": self._certificate_days(),
            "encryptionAvailable": True,
            "eventLogAvailable": True,
            "hostName": socket.gethostname(),
            "license": {"name": "Apache-2.0", "keyRequired": False},
            "minCipher": self._core.options.least_cipher,
            "multiplexAvailable": True,
            "receiver": {"port": self._core.port, "relay": structures.relay(self._core.live.relay)},
            "revision": _revision(),
            "serverExternalAddress": self._core.options.external_address or None,
            "serverId": self._core.server_id,
            "serverUid": self._core.server_uid,
        }


def _revision() -> int:
    """A number that grows with every version."""
    major, minor, patch = constants.BUILD_VERSION
    return (major * 1000 + minor) * 1000 + patch


def _status(request: Request) -> dict[str, Any]:
    message = "" if request.error is None else request.error["message"]
    return {
        "requestId": request.id,
        "status": request.status,
        "processing": request.processing,
        "errorMessage": message,
    }
