"""A small storage: `python -m fts3_double.webdav --root R` serves a folder over WebDAV, plain or TLS.

A PUT writes in place, so a broken one leaves a partial file, as simple storages do.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit
from xml.sax.saxutils import escape

from .__main__ import hold_back_the_end, report, tls_context, wait_for_end
from .copying import digest
from .faults import Faults
from .front import Answer, Front, Request, json_answer
from .identity import peer_chain
from .pki import slash_dn

ALLOWED = "GET, HEAD, PUT, DELETE, MKCOL, MOVE, PROPFIND, OPTIONS"
BLOCK = 1 << 20


class Tree:
    """The folder that is served. Paths of requests stay below it."""

    def __init__(self, root: Path, faults: Faults, *, token: str = "", certificate: bool = False) -> None:
        self._root = root.resolve()
        self._faults = faults
        self._token, self._certificate = token, certificate

    def __call__(self, request: Request) -> Answer:
        handler = getattr(self, f"do_{request.method.lower()}", None)
        if handler is None:
            return _plain(405, Allow=ALLOWED)
        if not self._allowed(request):
            return _plain(403)
        try:
            answer: Answer = handler(request, self._path(request.path))
        except FileNotFoundError:
            return _plain(404)
        except (FileExistsError, IsADirectoryError):
            return _plain(405, Allow=ALLOWED)
        except NotADirectoryError:
            return _plain(409)
        except PermissionError:
            return _plain(403)
        except ConnectionError:
            return _plain(400)
        except OSError:
            return _plain(507)
        return answer

    def _allowed(self, request: Request) -> bool:
        chain = peer_chain(request.tls)
        if chain:
            request.user = _Peer(slash_dn(chain[0].subject))
        if self._token and request.headers.get("Authorization", "") != f"Bearer {self._token}":
            return False
        return bool(chain) or not self._certificate

    def _path(self, path: str) -> Path:
        found = (self._root / path.lstrip("/")).resolve()
        if found != self._root and self._root not in found.parents:
            raise PermissionError(path)
        return found

    def do_options(self, request: Request, path: Path) -> Answer:
        return _plain(200, Allow=ALLOWED, DAV="1")

    def do_head(self, request: Request, path: Path) -> Answer:
        return self.do_get(request, path)

    def do_get(self, request: Request, path: Path) -> Answer:
        try:
            return self._content(request, path)
        except IsADirectoryError:  # also one that another request made just now
            return Answer(200, b"", "text/html", {**_dates(path), "X-Folder": "1"})

    def _content(self, request: Request, path: Path) -> Answer:
        headers = _dates(path)
        for wanted in request.headers.get("Want-Digest", "").split(","):
            with contextlib.suppress(KeyError):
                name = wanted.split(";")[0].strip().lower()
                headers["Digest"] = f"{name}={digest(name, _blocks(path))}"
        file = open(path, "rb")  # noqa: SIM115 - closed by the server once it is sent
        size = os.fstat(file.fileno()).st_size
        return Answer(200, b"", "application/octet-stream", headers, file=file, size=size)

    def do_put(self, request: Request, path: Path) -> Answer:
        if not path.parent.is_dir():
            return _plain(409)
        created = not path.exists()
        with open(path, "wb") as file:
            for block in request.stream.blocks():
                file.write(block)
                file.flush()
        return _plain(201 if created else 204)

    def do_delete(self, request: Request, path: Path) -> Answer:
        if path == self._root:
            raise PermissionError(path)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        return _plain(204)

    def do_mkcol(self, request: Request, path: Path) -> Answer:
        if not path.parent.is_dir():
            return _plain(409)
        path.mkdir()
        return _plain(201)

    def do_move(self, request: Request, path: Path) -> Answer:
        wanted = urlsplit(request.headers.get("Destination", "")).path
        target = self._path(unquote(wanted, errors="surrogateescape"))
        if not path.exists():
            raise FileNotFoundError(path)
        existed = target.exists()
        if existed and request.headers.get("Overwrite", "T").upper() == "F":
            return _plain(412)
        if not target.parent.is_dir():
            return _plain(409)
        os.replace(path, target)
        return _plain(204 if existed else 201)

    def do_propfind(self, request: Request, path: Path) -> Answer:
        if not path.exists():
            raise FileNotFoundError(path)
        found = [path]
        if path.is_dir() and request.headers.get("Depth", "1") != "0":
            found += sorted(path.iterdir())
        parts = "".join(self._properties(entry) for entry in found)
        body = (
            f'<?xml version="1.0" encoding="utf-8"?>\n<D:multistatus xmlns:D="DAV:">{parts}</D:multistatus>\n'
        )
        return Answer(207, body.encode(), "application/xml; charset=utf-8")

    def _properties(self, path: Path) -> str:
        status = path.stat()
        href = "/" + quote(os.fsencode(path.relative_to(self._root))) if path != self._root else "/"
        if path.is_dir():
            kind = "<D:resourcetype><D:collection/></D:resourcetype>"
        else:
            kind = f"<D:resourcetype/><D:getcontentlength>{status.st_size}</D:getcontentlength>"
        date = f"<D:getlastmodified>{formatdate(status.st_mtime, usegmt=True)}</D:getlastmodified>"
        return (
            f"<D:response><D:href>{escape(href)}</D:href><D:propstat><D:prop>{kind}{date}</D:prop>"
            "<D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>"
        )


class _Peer:
    def __init__(self, dn: str) -> None:
        self.user_dn = dn


class Admin:
    """`POST /faults`, `DELETE /faults`, `GET /requests`, `DELETE /requests`."""

    def __init__(self, faults: Faults, front: Front) -> None:
        self._faults, self._front = faults, front

    def __call__(self, request: Request) -> Answer:
        if request.path == "/requests" and request.method == "DELETE":
            self._front.log.clear()
            return json_answer(None)
        if request.path == "/requests":
            return json_answer(list(self._front.log), chunked=False)
        if request.path != "/faults":
            return json_answer({"error": "no such path"}, 404)
        try:
            if request.method == "DELETE":
                self._faults.clear()
            else:
                self._faults.add(json.loads(request.body()))
        except (ValueError, TypeError) as error:
            return json_answer({"error": str(error)}, 400)
        return json_answer(None)


def _plain(status: int, **headers: str) -> Answer:
    return Answer(status, b"", "text/plain", headers)


def _dates(path: Path) -> dict[str, str]:
    return {"Last-Modified": formatdate(path.stat().st_mtime, usegmt=True)}


def _blocks(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            yield block


def main() -> None:
    parser = argparse.ArgumentParser(prog="fts3_double.webdav", description=__doc__)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--pki", type=Path, help="TLS with certificates of this authority; plain without")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--admin-port", type=int, default=0)
    parser.add_argument("--ready-fd", type=int, default=1)
    parser.add_argument("--token", default="", help="only this bearer token is let in")
    parser.add_argument("--require-certificate", action="store_true")
    options = parser.parse_args()
    hold_back_the_end()
    options.root.mkdir(parents=True, exist_ok=True)
    faults = Faults()
    tree = Tree(options.root, faults, token=options.token, certificate=options.require_certificate)
    tls = tls_context(options.pki) if options.pki else None
    front = Front(("127.0.0.1", options.port), tree, tls=tls, faults=faults)
    admin = Front(("127.0.0.1", options.admin_port), Admin(faults, front))
    front.start()
    admin.start()
    report(options.ready_fd, port=front.port, admin=admin.port)
    wait_for_end()


if __name__ == "__main__":
    main()
