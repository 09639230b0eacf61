"""`…Async` requests: a record in the store and a task that carries it out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from agent.jetstream.constants import ERROR_INTERNAL, ERROR_NOT_FOUND
from agent.server.core import Core
from agent.server.errors import CommandError, RpcError, not_authenticated
from agent.server.fleeting import Fleeting
from agent.server.session import Session
from agent.server.store import requests
from agent.server.store.requests import Request
from agent.server.store.scope import Scope

_log = structlog.get_logger(__name__)

MAX_PENDING = 10_000
MAX_BEFORE_LOGIN = 100  # requests of a connection
_EVENTS = dict.fromkeys(
    ("lanesync.deletePathsAsync", "lanesync.renamePathsAsync", "lanesync.listPathsAsync"), "deletion"
)
"""Requests whose end is an event of its own, under the request's id."""
_FLEETING = frozenset({"lanesync.listPathsAsync"})
"""Requests whose results are not stored."""


class RequestQueue:
    """Event loop only. Requests run at once and side by side; what they contend for orders itself."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._tasks: set[asyncio.Task[None]] = set()
        self._fleeting = Fleeting()

    async def submit(
        self, session: Session, method: str, work: Callable[[], Awaitable[Any]]
    ) -> dict[str, Any]:
        """Record and start; answers the Request Structure."""
        if len(self._tasks) >= MAX_PENDING:
            raise CommandError(f"{MAX_PENDING} requests are pending; wait for some to finish")
        stranger, now = session.user is None, self._core.clock.wall_us()
        if stranger and len(session.requests) >= MAX_BEFORE_LOGIN:
            raise not_authenticated(f"{MAX_BEFORE_LOGIN} requests were made without a login; connect again")
        request_id = await self._core.database.run(requests.create, method, session.owner, now)
        if stranger:
            session.requests.add(request_id)
        task = asyncio.create_task(self._carry_out(request_id, method, work), name=method)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return {"requestId": request_id}

    async def get(self, session: Session, request_id: int) -> Request:
        """CommandError when it is unknown, expired, or of somebody else. A token is shown its own requests
        alone: results of its maker's may be of methods that it may not call."""
        found = await self._core.database.run(requests.get, request_id)
        scope = session.scope if session.token is None else Scope(session.user, session.token)
        if request_id not in session.requests and not scope.owns(found):
            raise requests.missing(request_id)
        return found

    async def forget(self, session: Session) -> None:
        """A connection is over: what it asked for before logging in is for nobody else."""
        if session.requests:
            await self._core.database.run(requests.delete, session.requests)

    async def result(self, session: Session, request_id: int) -> Any:
        """Wait for the end of a request; its result, or its error raised."""
        async with self._core.events.watching("request", request_id) as changed:
            while (found := await self.get(session, request_id)).processing:
                changed.clear()
                await changed.wait()
        if found.error is not None:
            raise RpcError(found.error["code"], found.error["message"], found.error.get("data"))
        return self._taken(found) if found.method in _FLEETING else found.result

    def _taken(self, found: Request) -> Any:
        try:
            return self._fleeting.take(found.id)
        except KeyError:
            raise CommandError(
                f"the result of request {found.id} is not kept any more, or was fetched before; ask again",
                ERROR_NOT_FOUND,
            ) from None

    async def _carry_out(self, request_id: int, method: str, work: Callable[[], Awaitable[Any]]) -> None:
        result, error = None, None
        try:
            result = await work()
        except RpcError as failure:
            error = failure.as_object()
        except Exception:  # noqa: BLE001 - a request always ends
            _log.exception("request failed", request=request_id)
            error = RpcError(ERROR_INTERNAL, "the server failed; its log says why").as_object()
        if method in _FLEETING and error is None:
            now = time.monotonic()
            self._fleeting.expire(now)
            self._fleeting.put(request_id, result, now)
            result = None
        await self._core.database.run(requests.finish, request_id, result, error, self._core.clock.wall_us())
        self._core.events.wake("request", request_id)
        if method in _EVENTS:
            self._core.events.post(_EVENTS[method], request_id)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
