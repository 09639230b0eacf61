"""Verbs for the receiver, sent beside the transfers, that are not answered yet."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

from agent.server.data import wire
from agent.server.data.wire import Json
from agent.server.ipc import Message

EAVESDROPPED = (
    "a user's credentials or a token are shown to the destination over encrypted sessions only; "
    "ask for minCipher 2 or better"
)


@dataclass(slots=True)
class RemoteCall:
    """Kept until it was answered or refused."""

    number: int  # ours, unique for the destination
    request: int | None  # the control process's; None when nobody waits for the answer
    payload: bytes
    asked: float
    secret: bool  # it shows the receiver what nobody else may see
    posted: bool = False


class Calls:
    """Those of one destination. The link that has them guards them with its lock."""

    def __init__(self, report: Callable[[Message], None]) -> None:
        self._report = report
        self._calls: dict[int, RemoteCall] = {}
        self._numbers = itertools.count(1)

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add(self, request: int | None, payload: bytes, *, secret: bool) -> None:
        number = next(self._numbers)
        self._calls[number] = RemoteCall(number, request, payload, time.monotonic(), secret)

    def due(self, *, confidential: bool) -> list[RemoteCall]:
        """Those to be posted now; what may not be shown over such a session is refused."""
        found = []
        for call in list(self._calls.values()):
            if call.secret and not confidential:
                self.answered(call.number, {"error": EAVESDROPPED})
            elif not call.posted:
                call.posted = True
                found.append(call)
        return found

    def answered(self, number: int, value: Json) -> None:
        call = self._calls.pop(number, None)
        if call is not None and call.request is not None:
            message: Message = {"op": "remoteResult", "request": call.request}
            if value.get("error"):
                message["error"] = str(value["error"])[:1000]
            else:
                message |= {"results": value.get("results", []), "next": value.get("next")}
            self._report(message)

    def lost(self) -> None:
        """The session is gone: what nobody waits for is posted again in the next one."""
        self.refuse("the connection was lost before the destination answered; ask again", posted=True)
        for call in self._calls.values():
            call.posted = False

    def refuse(self, error: str, *, posted: bool = False, before: float = float("inf")) -> None:
        """Answer calls that somebody waits for with an error. They are never carried out later than that:
        what was right to delete then may be wanted by now."""
        for call in list(self._calls.values()):
            if call.request is not None and call.asked < before and (call.posted or not posted):
                del self._calls[call.number]
                self._report({"op": "remoteResult", "request": call.request, "error": error})


def encode(verb: str, arguments: Json, credentials: Json) -> bytes:
    """The content of a REMOTE frame. WireError when the arguments are too large for one message."""
    payload = wire.encode_json({"verb": verb, "args": arguments, **credentials})
    if len(payload) > wire.MAX_JSON:
        raise wire.WireError("the request is too long; ask for fewer paths at once")
    return payload
