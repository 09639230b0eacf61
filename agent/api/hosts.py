"""By which names the agent answers a browser.

A page of somebody else may point its own name at this address and read what we say (DNS rebinding); the
browser then tells us that name. It cannot do so with an address, nor with a name of ours.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

OPEN = ("/healthz", "/readyz")


def own_names(more: Iterable[str] = ()) -> frozenset[str]:
    """In lower case: this machine's, and those that it was told."""
    name = socket.gethostname()
    return frozenset(each.lower().rstrip(".") for each in ("localhost", name, name.partition(".")[0], *more))


def is_ours(host: str, names: frozenset[str]) -> bool:
    """`host` as in the header: with or without port. Without one it is no browser that asks."""
    name = host.rpartition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
    name = name.lower().rstrip(".")
    if not host or name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class OwnHosts:
    """Reading is open to whoever reaches the port by an address or a name of ours, and to whoever `may` ask
    by any. Changing needs the token or a signature anyway, and how we are tells nothing."""

    def __init__(self, app: ASGIApp, names: frozenset[str], may: Callable[[Request], bool]) -> None:
        self._app = app
        self._names = names
        self._may = may

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._admitted(Request(scope)):
            await self._app(scope, receive, send)
            return
        text = (
            "this agent does not go by the name in `Host`; ask it by its address, or start it with "
            "`run --http-name` and that name"
        )
        await JSONResponse({"error": text}, status_code=421)(scope, receive, send)

    def _admitted(self, request: Request) -> bool:
        return (
            request.method not in ("GET", "HEAD")
            or request.url.path in OPEN
            or is_ours(request.headers.get("host", ""), self._names)
            or self._may(request)
        )
