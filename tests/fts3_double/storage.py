"""A client for storages over WebDAV: what the copies and the data management calls need."""

from __future__ import annotations

import base64
import contextlib
import errno
import http.client
import os
import ssl
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

SCHEMES = {"https": True, "davs": True, "http": False, "dav": False}
TIMEOUT = 60.0
BLOCK = 1 << 18
LIST_LIMIT = 64 << 20
SAFE = "/%:@!$&'()*+,;=~"
ERRORS = {
    401: (errno.EACCES, "Authentication Error"),
    403: (errno.EPERM, "Permission refused"),
    404: (errno.ENOENT, "File not found"),
    405: (errno.EEXIST, "Method not allowed"),
    409: (errno.ENOENT, "Conflict"),
    412: (errno.EEXIST, "Precondition failed"),
    423: (errno.EBUSY, "Locked"),
    507: (errno.ENOSPC, "Insufficient storage"),
}
DAV = "{DAV:}"


class StorageError(Exception):
    """What a storage refused, with an errno."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.number, self.text = number, text


@dataclass(frozen=True)
class Entry:
    name: str
    size: int
    mtime: int
    folder: bool


class Storage:
    """Speaks to any `http(s)` or `dav(s)` URL, with one certificate or token. Use as a context manager."""

    def __init__(self, ca_file: str, proxy: str = "", token: str = "") -> None:
        self._token = token
        self._tls = ssl.create_default_context(cafile=ca_file or None)
        if proxy:
            with tempfile.NamedTemporaryFile(suffix=".pem") as file:
                file.write(proxy.encode())
                file.flush()
                self._tls.load_cert_chain(file.name)
        self._connections: dict[tuple[str, str], http.client.HTTPConnection] = {}

    def __enter__(self) -> Storage:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._connections.values():
            connection.close()

    def stat(self, url: str) -> Entry:
        answer = self._ask("HEAD", url)
        size = int(answer.headers.get("Content-Length") or 0)
        modified = answer.headers.get("Last-Modified")
        mtime = int(parsedate_to_datetime(modified).timestamp()) if modified else 0
        path = unquote(urlsplit(url).path)
        return Entry(os.path.basename(path.rstrip("/")), size, mtime, answer.headers.get("X-Folder") == "1")

    def find(self, url: str) -> Entry | None:
        """What is there, None when nothing is."""
        try:
            return self.stat(url)
        except StorageError as error:
            if error.number == errno.ENOENT:
                return None
            raise

    def checksum(self, url: str, algorithm: str) -> str:
        """In hex, without leading zeros, lower case; EOPNOTSUPP when the storage gives none."""
        answer = self._ask("HEAD", url, {"Want-Digest": algorithm})
        for part in (answer.headers.get("Digest") or "").split(","):
            name, _, value = part.strip().partition("=")
            if name.lower() == algorithm:
                text = base64.b64decode(value).hex() if algorithm == "md5" else value
                return plain_sum(text)
        raise StorageError(errno.EOPNOTSUPP, f"no {algorithm} checksum from the storage")

    @contextlib.contextmanager
    def read(self, url: str) -> Iterator[http.client.HTTPResponse]:
        """The open answer of a GET; what was not read of it is thrown away with the connection."""
        answer = self._send("GET", url, {}, None)
        _check(answer)
        try:
            yield answer
        finally:
            if not answer.isclosed():
                self._drop(urlsplit(url))

    def write(self, url: str, blocks: Iterable[bytes], size: int) -> None:
        try:
            self._ask("PUT", url, {"Content-Length": str(size)}, blocks)
        except StorageError as error:
            if "HTTP 403" not in error.text:
                raise
            text = f"TRANSFER ERROR: Copy failed (streamed). Last attempt: {error.text} (destination)"
            # The library's own number for a refusal, which is that of EEXIST.
            raise StorageError(errno.EEXIST, text) from None

    def delete(self, url: str) -> None:
        self._ask("DELETE", url)

    def make_folder(self, url: str) -> None:
        self._ask("MKCOL", url)

    def make_parents(self, url: str) -> None:
        """All folders above a URL that are not there yet."""
        missing = []
        parent = _parent(url)
        while parent and self.find(parent) is None:
            missing.append(parent)
            parent = _parent(parent)
        for folder in reversed(missing):
            try:
                self.make_folder(folder)
            except StorageError as error:
                if error.number != errno.EEXIST:  # another copy was faster
                    raise

    def move(self, old: str, new: str) -> None:
        self._ask("MOVE", old, {"Destination": _http_url(new), "Overwrite": "T"})

    def listing(self, url: str) -> list[Entry]:
        answer = self._send("PROPFIND", url, {"Depth": "1"}, None)
        body = answer.read(LIST_LIMIT)
        _check(answer)
        own = unquote(urlsplit(url).path).strip("/")
        found = [_entry(node) for node in ET.fromstring(body).iter(f"{DAV}response")]
        return [entry for path, entry in found if path.strip("/") != own]

    def _ask(
        self, method: str, url: str, headers: dict[str, str] | None = None, body: Any = None
    ) -> http.client.HTTPResponse:
        answer = self._send(method, url, headers or {}, body)
        answer.read()
        _check(answer)
        return answer

    def _send(self, method: str, url: str, headers: dict[str, str], body: Any) -> http.client.HTTPResponse:
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES:
            raise StorageError(errno.EPROTONOSUPPORT, "Protocol not supported or path/url invalid")
        if self._token:
            headers = {**headers, "Authorization": f"Bearer {self._token}"}
        target = quote(parts.path or "/", safe=SAFE) + (f"?{parts.query}" if parts.query else "")
        try:
            return self._exchange(parts, method, target, headers, body)
        except (OSError, http.client.HTTPException) as error:
            number = getattr(error, "errno", None) or errno.ECOMM
            raise StorageError(
                errno.ETIMEDOUT if isinstance(error, TimeoutError) else number, str(error)
            ) from error

    def _exchange(
        self, parts: SplitResult, method: str, target: str, headers: dict[str, str], body: Any
    ) -> http.client.HTTPResponse:
        connection = self._connection(parts)
        try:
            connection.request(method, target, body, headers)
            return connection.getresponse()
        except BaseException:  # also what the body itself raises: half a request is on the line
            self._drop(parts)
            raise

    def _connection(self, parts: SplitResult) -> http.client.HTTPConnection:
        key = (parts.scheme, parts.netloc)
        if key not in self._connections:
            host, port = parts.hostname or "", parts.port
            if SCHEMES[parts.scheme]:
                self._connections[key] = http.client.HTTPSConnection(
                    host, port, timeout=TIMEOUT, context=self._tls, blocksize=BLOCK
                )
            else:
                self._connections[key] = http.client.HTTPConnection(
                    host, port, timeout=TIMEOUT, blocksize=BLOCK
                )
        return self._connections[key]

    def _drop(self, parts: SplitResult) -> None:
        connection = self._connections.pop((parts.scheme, parts.netloc), None)
        if connection is not None:
            connection.close()


def _check(answer: http.client.HTTPResponse) -> None:
    if answer.status >= 400:
        number, text = ERRORS.get(answer.status, (errno.EIO, answer.reason or "Server error"))
        raise StorageError(number, f"Result HTTP {answer.status} : {text}  after 1 attempts")


def _entry(node: ET.Element) -> tuple[str, Entry]:
    path = unquote(urlsplit(node.findtext(f"{DAV}href") or "").path)
    size = next(node.iter(f"{DAV}getcontentlength"), None)
    modified = next(node.iter(f"{DAV}getlastmodified"), None)
    mtime = int(parsedate_to_datetime(modified.text or "").timestamp()) if modified is not None else 0
    folder = next(node.iter(f"{DAV}collection"), None) is not None
    length = int(size.text or 0) if size is not None else 0
    return path, Entry(os.path.basename(path.rstrip("/")), length, mtime, folder)


def _parent(url: str) -> str:
    parts = urlsplit(url)
    above = os.path.dirname(parts.path.rstrip("/"))
    return parts._replace(path=above + "/", query="").geturl() if above not in ("", "/") else ""


def _http_url(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(
        scheme="https" if SCHEMES.get(parts.scheme) else "http", path=quote(parts.path, safe=SAFE)
    ).geturl()


def plain_sum(text: str) -> str:
    return text.strip().lower().lstrip("0") or "0"
