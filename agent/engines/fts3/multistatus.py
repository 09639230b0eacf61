"""What a WebDAV server says of files: the XML of PROPFIND, and checksums. Pure.

Servers differ: absolute and relative addresses, properties found and not found in one answer or in several,
dates of two kinds, checksums under two names. The XML comes from outside, so it is held to bounds, and a
document type, the way to make a small answer large, is refused.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import unquote_to_bytes, urlsplit
from xml.parsers import expat

WANTED = (
    b'<?xml version="1.0" encoding="utf-8"?>\n'
    b'<D:propfind xmlns:D="DAV:" xmlns:oc="http://owncloud.org/ns"'
    b' xmlns:dc="http://www.dcache.org/2013/webdav"><D:prop><D:resourcetype/><D:getcontentlength/>'
    b"<D:getlastmodified/><oc:checksums/><dc:Checksums/></D:prop></D:propfind>\n"
)
"""The body of our PROPFIND."""

MOST_ENTRIES = 1_000_000
_MOST_DEPTH = 32
_MOST_TEXT = 64 * 1024

_DAV = "DAV: "
_OWNCLOUD = "http://owncloud.org/ns "
_DCACHE = "http://www.dcache.org/2013/webdav "
_SUMS = (f"{_OWNCLOUD}checksums", f"{_OWNCLOUD}checksum", f"{_DCACHE}Checksums")
_VALUES = tuple(f"{_DAV}{name}" for name in ("href", "status", "getcontentlength", "getlastmodified"))
_TEXTS = frozenset({*_VALUES, *_SUMS})

_DIGITS = {"adler32": 8, "crc32": 8, "crc32c": 8, "md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}
_SHORT = frozenset({"adler32", "crc32", "crc32c"})  # often written without leading zeros
_OTHER_NAMES = {"adler": "adler32", "sha": "sha1", "sha-1": "sha1", "sha-256": "sha256", "sha-512": "sha512"}


class NotWebDavError(ValueError):
    """hostile: the answer breaks a bound that no honest one does."""

    def __init__(self, message: str, *, hostile: bool = False) -> None:
        super().__init__(message)
        self.hostile = hostile


@dataclass(slots=True)
class Response:
    """One entry of an answer. href: as the server wrote it, bytes that are no UTF-8 as surrogates. status: of
    the entry, None when it is well."""

    href: str = ""
    status: int | None = None
    size: int | None = None
    mtime: int | None = None
    is_directory: bool = False
    checksums: dict[str, str] = field(default_factory=dict)


def read(body: bytes) -> list[Response]:
    """The entries of an answer with status 207. NotWebDavError for anything else.

    Some servers write names as they are, be they UTF-8 or not.
    """
    reader = _Reader(raw=not _is_utf8(body))
    try:
        reader.parser.Parse(body, True)
    except expat.ExpatError as error:
        raise NotWebDavError(f"it is no XML ({expat.ErrorString(error.code)}, line {error.lineno})") from None
    if not reader.is_multistatus:
        raise NotWebDavError("it is XML, but no multistatus")
    return reader.found


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


class _Reader:
    """raw: bytes are taken one by one, and put together again in addresses."""

    def __init__(self, *, raw: bool) -> None:
        self.found: list[Response] = []
        self.is_multistatus = False
        self._raw = raw
        self.parser = expat.ParserCreate("iso-8859-1" if raw else None, " ")
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.StartDoctypeDeclHandler = self._doctype
        self._open: list[str] = []
        self._words: list[str] = []
        self._length = 0
        self._properties: dict[str, str] = {}  # of the propstat that is being read
        self._collection = False

    def _doctype(self, *_: object) -> None:
        raise NotWebDavError("it has a document type, which no WebDAV answer needs", hostile=True)

    def _start(self, name: str, _: Mapping[str, str]) -> None:
        if not self._open:
            self.is_multistatus = name == f"{_DAV}multistatus"
        if len(self._open) >= _MOST_DEPTH:
            raise NotWebDavError(f"its elements are nested more than {_MOST_DEPTH} deep", hostile=True)
        self._open.append(name)
        self._words, self._length = [], 0
        if name == f"{_DAV}response":
            if len(self.found) >= MOST_ENTRIES:
                raise NotWebDavError(f"it has more than {MOST_ENTRIES} entries", hostile=True)
            self.found.append(Response())
        elif name == f"{_DAV}propstat":
            self._properties, self._collection = {}, False
        elif name == f"{_DAV}collection" and f"{_DAV}resourcetype" in self._open:
            self._collection = True

    def _text(self, data: str) -> None:
        if self._open[-1] not in _TEXTS:
            return
        self._length += len(data)
        if self._length > _MOST_TEXT:
            raise NotWebDavError(f"one of its values is longer than {_MOST_TEXT} characters", hostile=True)
        self._words.append(data)

    def _end(self, name: str) -> None:
        self._open.pop()
        text, self._words = "".join(self._words).strip(), []
        if not self.found:
            return
        entry, within = self.found[-1], self._open[-1] if self._open else ""
        if name == f"{_DAV}href" and within == f"{_DAV}response":
            entry.href = (
                text.encode("latin-1", "replace").decode("utf-8", "surrogateescape") if self._raw else text
            )
        elif name == f"{_DAV}status" and within == f"{_DAV}response":
            entry.status = _status(text)
        elif name == f"{_DAV}propstat":
            self._take(entry)
        elif name in _TEXTS and text:
            self._properties[name] = text

    def _take(self, entry: Response) -> None:
        """The properties of a propstat, unless it lists those that the server does not have."""
        found = self._properties
        if not 200 <= (_status(found.get(f"{_DAV}status", "")) or 200) < 300:
            return
        entry.is_directory = entry.is_directory or self._collection
        if f"{_DAV}getcontentlength" in found:
            entry.size = number(found[f"{_DAV}getcontentlength"])
        if f"{_DAV}getlastmodified" in found:
            entry.mtime = moment(found[f"{_DAV}getlastmodified"])
        for name in _SUMS:
            entry.checksums |= checksums(found.get(name, ""))


def _status(line: str) -> int | None:
    """`HTTP/1.1 200 OK` -> 200."""
    found = re.match(r"HTTP/\S+ (\d{3})\b", line)
    return int(found[1]) if found else None


def number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def moment(text: str) -> int | None:
    """Seconds since 1970 of an HTTP or ISO date; None when it is neither."""
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            return None
    try:
        return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())
    except (OverflowError, ValueError):
        return None


def checksums(text: str) -> dict[str, str]:
    """Of a `Digest` header or a property: `adler32=03da0195,md5=…` or `SHA1:… ADLER32:…`; see `Stat`."""
    found = {}
    for part in re.split(r"[,\s]+", text):
        name, sign, value = part.partition("=" if "=" in part.partition(":")[0] else ":")
        algorithm = _OTHER_NAMES.get(name.lower(), name.lower())
        digits = _hex(algorithm, value.strip(":"))
        if sign and digits:
            found[algorithm] = digits
    return found


def _hex(algorithm: str, value: str) -> str:
    """A checksum's value as hex digits, from hex or base64; empty for what is neither."""
    length = _DIGITS.get(algorithm, 0)
    if re.fullmatch(r"[0-9a-fA-F]+", value):
        value = value.lower()
        if algorithm in _SHORT:
            value = value.zfill(length)
        return value if len(value) == length else ""
    try:
        digest = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return ""
    return digest.hex() if length and len(digest) * 2 == length else ""


def segments(address: str) -> tuple[bytes, ...]:
    """The decoded parts of the path of a URL, or of a path from the root; slashes at the end are no part."""
    path = urlsplit(address).path if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", address) else address
    plain = path.encode("utf-8", "surrogateescape")
    return tuple(unquote_to_bytes(part) for part in plain.split(b"/") if part)
