"""JSON-RPC 2.0: bytes of one line in, bytes of one line out.

Requests, notifications and batches. Whatever arrives is answered by an error object at worst; the size of a
line, the number of its values and the length of a batch are bounded before anything is built from them.
"""

from __future__ import annotations

import asyncio
import json
import math
import sqlite3
from collections import Counter
from collections.abc import Coroutine
from functools import partial
from typing import Any, NoReturn

import structlog

from agent.jetstream.constants import (
    ERROR_INTERNAL,
    ERROR_INVALID_REQUEST,
    ERROR_PARSE,
    MAX_MESSAGE_BYTES,
)
from agent.server.access import Access
from agent.server.errors import CommandError, RpcError
from agent.server.queue import RequestQueue
from agent.server.registry import Command, Registry
from agent.server.session import Session

_log = structlog.get_logger(__name__)

MAX_VALUES = 2_000_000  # commas and brackets in one line: what bounds the memory of the parsed message
MAX_BATCH = 1000
SMALL_BYTES = 64 * 1024  # in lines up to this a repeated name is found; in a list of files it costs too much


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    """What is read can be answered with: infinity has no spelling in JSON."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large a number")
    return number


def parse(line: bytes) -> Any:
    """One JSON value. RpcError (-32700) for anything else."""
    if line.count(b",") + line.count(b"[") + line.count(b"{") > MAX_VALUES:
        raise RpcError(ERROR_PARSE, f"the message has more than {MAX_VALUES} values; send it in parts")
    try:
        hook = _unique if len(line) <= SMALL_BYTES else None
        return json.loads(line, parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=hook)
    except _RepeatedError as error:
        raise RpcError(ERROR_PARSE, str(error)) from None
    except RecursionError:
        raise RpcError(ERROR_PARSE, "the message is nested too deeply") from None
    except ValueError as error:
        raise RpcError(ERROR_PARSE, f"the message is not JSON: {str(error)[:200]}") from None


class _RepeatedError(Exception):
    """A name is in an object twice; which value is meant, nobody can tell."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        repeated = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise _RepeatedError(
            f"names must be unique: {repeated[:80]!r} is in one object of the message more than once"
        )
    return made


def encode(value: object) -> bytes:
    return (
        json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"
    )


def error_line(error: RpcError, request_id: object = None) -> bytes:
    return encode({"jsonrpc": "2.0", "id": request_id, "error": error.as_object()})


class Dispatcher:
    """Carries out messages of any session."""

    def __init__(self, registry: Registry, access: Access, queue: RequestQueue) -> None:
        self._registry = registry
        self._access = access
        self._queue = queue
        self._running: set[asyncio.Future[Any]] = set()

    async def handle(self, session: Session, message: object) -> bytes | None:
        """The answer to one parsed line; None when it has none (notifications)."""
        if not isinstance(message, list):
            answer = await self._answer(session, message)
            return None if answer is None else _bounded(answer, answer["id"])
        if not 0 < len(message) <= MAX_BATCH:
            return error_line(RpcError(ERROR_INVALID_REQUEST, f"a batch has 1 to {MAX_BATCH} requests"))
        answers = await asyncio.gather(*(self._answer(session, item) for item in message))
        kept = [answer for answer in answers if answer is not None]
        return _bounded(kept, None) if kept else None

    async def _answer(self, session: Session, message: object) -> dict[str, Any] | None:
        request_id: object = None
        try:
            call = _identify(message)
            request_id, wants_answer = call.get("id"), "id" in call
            result = await self._call(session, call["method"], call.get("params"))
        except RpcError as error:
            return (
                {"jsonrpc": "2.0", "id": request_id, "error": error.as_object()}
                if (not isinstance(message, dict) or "id" in message or error.code == ERROR_INVALID_REQUEST)
                else None
            )
        return {"jsonrpc": "2.0", "id": request_id, "result": result} if wants_answer else None

    async def _call(self, session: Session, method: str, params: object) -> Any:
        await self._access.check(session, method)
        command = self._registry.find(method)
        arguments = command.bind(params)
        try:
            if command.waits:
                result = await command.function(session, **arguments)
                await self._access.check(session, method)  # the login may have ended while it waited
                return result
            return await self._whole(self._run(session, command, arguments))
        except RpcError:
            raise
        except sqlite3.Error as error:
            _log.exception("store failed", method=method)
            raise CommandError(f"the server could not store or read this: {error}") from error
        except Exception as error:
            _log.exception("method failed", method=method)
            raise RpcError(ERROR_INTERNAL, "the server failed; its log says why") from error

    async def _run(self, session: Session, command: Command, arguments: dict[str, Any]) -> Any:
        if not command.queued:
            return await command.function(session, **arguments)
        if command.check is not None:
            await command.check(session, **arguments)
        work = partial(command.function, session, **arguments)
        return await self._queue.submit(session, command.name, work)

    async def _whole(self, work: Coroutine[Any, Any, Any]) -> Any:
        """A command that began is carried out whole, even when its caller leaves in the middle."""
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    def _forget(self, task: asyncio.Future[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # told to the caller if there is one; never "not retrieved"

    async def stop(self) -> None:
        """Let commands that began end, for a moment."""
        if self._running:
            await asyncio.wait(self._running, timeout=1.0)


def _identify(message: object) -> dict[str, Any]:
    """The message, when it is a request. RpcError (-32600) when it is not a request."""
    if not isinstance(message, dict):
        raise RpcError(ERROR_INVALID_REQUEST, "a request is an object with jsonrpc, method, params and id")
    request_id = message.get("id")
    if isinstance(request_id, bool) or not isinstance(request_id, str | int | float | type(None)):
        raise RpcError(ERROR_INVALID_REQUEST, "id must be a string, a number or null")
    if message.get("jsonrpc") != "2.0":
        raise RpcError(ERROR_INVALID_REQUEST, 'jsonrpc must be "2.0"')
    if not isinstance(message.get("method"), str):
        raise RpcError(ERROR_INVALID_REQUEST, "method must be a string")
    return message


def _bounded(answer: object, request_id: object) -> bytes:
    try:
        line = encode(answer)
    except (ValueError, RecursionError):  # another server's words are in it
        _log.exception("an answer has no spelling in JSON")
        return error_line(RpcError(ERROR_INTERNAL, "the server failed; its log says why"), request_id)
    if len(line) > MAX_MESSAGE_BYTES:
        message = f"the answer has {len(line)} bytes, more than {MAX_MESSAGE_BYTES}; ask for less with limit"
        return error_line(CommandError(message), request_id)
    return line
