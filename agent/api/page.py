"""The status page's files, and the headers under which a browser runs nothing else.

The page is plain HTML, CSS and JavaScript modules of this package: nothing is built, nothing comes from
elsewhere, no script is inline, and no text of ours or anybody's is ever parsed as HTML (Trusted Types).
"""

from __future__ import annotations

import hashlib
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-cache",  # asked for again each time, and not sent again when it is the same
}


class Page:
    """The files, read once."""

    def __init__(self) -> None:
        self._files = {}
        for file in resources.files(__package__).joinpath("page").iterdir():
            kind = TYPES.get(file.name[file.name.rfind(".") :])
            if kind is not None:
                data = file.read_bytes()
                self._files[file.name] = (data, kind, f'"{hashlib.sha256(data).hexdigest()[:32]}"')

    def routes(self) -> list[Route]:
        return [Route("/", self._index), Route("/page/{name}", self._file)]

    async def _index(self, request: Request) -> Response:
        return self._answer("index.html", request)

    async def _file(self, request: Request) -> Response:
        return self._answer(request.path_params["name"], request)

    def _answer(self, name: str, request: Request) -> Response:
        if name not in self._files:
            return Response("there is no such file\n", 404, media_type="text/plain")
        data, kind, tag = self._files[name]
        headers = {**HEADERS, "ETag": tag}
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(data, media_type=kind, headers=headers)
