"""What the adapter does at a destination itself, because FTS3 only copies: look, delete, mkdir, move.

Everything happens below the one URL that a destination was opened for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import unquote_to_bytes, urlsplit

from agent.fts3 import BadEndpoint, FTS3ClientException, Kind, NotFound
from agent.model.outcome import (
    AuthenticationError,
    LaneSyncError,
    NotFoundError,
    PermanentError,
    RetryableError,
    UnreachableError,
)

NOT_NOW = frozenset({408, 425, 429, 502, 503, 504})
"""Statuses that say: the same later."""


class ExistsError(PermanentError):
    """Something is there already, or something of another type."""


class NotEmptyError(PermanentError):
    """A directory that still holds something is not removed."""


class PermissionRefusedError(PermanentError):
    """The storage knows us and forbids this."""


class BusyError(RetryableError):
    """The storage cannot now. retry_after: seconds that it asked for, or None."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Stat:
    """What is at a URL. size: bytes, mtime: seconds since 1970; None where the storage does not tell.

    checksums: by algorithm in lower case, hex digits in lower case, adler32 and crc32 with leading zeros.
    A directory's URL has no slash at its end.
    """

    url: str
    size: int | None
    mtime: int | None
    is_directory: bool
    checksums: Mapping[str, str] = field(default_factory=dict)


class Destination(Protocol):
    """For use from several threads. URLs are as `urls.join(root, path)` writes them.

    Besides what is named below every call raises UnreachableError (nobody answers, or the answer was lost and
    the thing may be done: look, then call again), BusyError, AuthenticationError (a credential is missing or
    not taken), PermissionRefusedError, RetryableError (the storage failed), and PermanentError for what will
    not get better, among it a URL that is not below the root.
    """

    def stat(self, url: str, checksum: str = "") -> Stat | None:
        """None when nothing is there. checksum: an algorithm to ask for, such as "adler32"; costs a request
        more where the storage does not tell it by itself, and may be missing in the answer."""

    def listing(self, url: str) -> Iterator[Stat]:
        """What is directly in a directory. NotFoundError when there is none."""

    def delete(self, url: str) -> bool:
        """Delete a file; False when nothing was there. ExistsError when it is a directory."""

    def rmdir(self, url: str) -> bool:
        """Delete an empty directory; False when nothing was there. NotEmptyError; ExistsError for a file."""

    def mkdir(self, url: str) -> None:
        """Make a directory and those above it, down from the root. Being there is success; ExistsError when a
        file is; NotFoundError when what should hold the root is missing."""

    def move(self, old: str, new: str) -> None:
        """Rename within the destination. NotFoundError (the old one, or the directory of the new one);
        ExistsError when something is at the new place."""

    def close(self) -> None:
        """Drop the connections. Idempotent; a later call opens new ones."""


class Root:
    """The URL that a destination was opened for, and the check that others are below it."""

    def __init__(self, url: str) -> None:
        """PermanentError for what cannot be a destination."""
        parts = urlsplit(url)
        try:
            host, _ = parts.hostname, parts.port
        except ValueError:
            host = None
        if not parts.scheme or not host or "@" in parts.netloc or parts.fragment:
            raise PermanentError(f"{url} cannot be a destination; give scheme://host[:port]/path")
        if odd := _odd(url) or _steps_up(url):
            raise PermanentError(f"{url} cannot be a destination: {odd}")
        self.url = url.rstrip("/")
        self.scheme = parts.scheme.lower()

    def check(self, url: str, *, below: bool = False) -> str:
        """The URL without a slash at its end, if it is the root or below it. below: not the root itself.

        PermanentError tells of a mistake in the caller: nothing was sent.
        """
        found = url.rstrip("/")
        inside = found.startswith(self.url + "/")
        if not inside and (below or found != self.url):
            raise PermanentError(f"{url} is not below the destination {self.url}; nothing was done")
        rest = found[len(self.url) :]
        odd = _odd(rest) or _steps_up(rest)
        if not odd and ("?" in rest or "#" in rest or "//" in rest):
            odd = "its path holds one of ? # // that is not percent-encoded"
        if odd:
            raise PermanentError(f"{url} is no URL of a file below {self.url}: {odd}; nothing was done")
        return found

    def down_to(self, url: str) -> list[str]:
        """The root, then what leads to this URL, then the URL, which was checked."""
        names = url[len(self.url) :].split("/")[1:]
        return [self.url, *(f"{self.url}/{'/'.join(names[: n + 1])}" for n in range(len(names)))]


def _odd(text: str) -> str:
    """urlsplit drops some control characters silently, so they must not get that far."""
    return "it holds a space or a control character" if any(c <= " " or c == "\x7f" for c in text) else ""


def _steps_up(text: str) -> str:
    """Encoded or not; a slash hidden in a name would be another path to some servers."""
    for part in text.split("/"):
        name = unquote_to_bytes(part)
        if name in (b".", b".."):
            return "it holds the step . or .."
        if b"/" in name or b"\0" in name:
            return "it holds an encoded slash or NUL"
    return ""


def tree(destination: Destination, url: str) -> Iterator[Stat]:
    """All that is below a directory, each directory before what is in it; a request for each directory."""
    waiting = [url]
    while waiting:
        for found in destination.listing(waiting.pop()):
            yield found
            if found.is_directory:
                waiting.append(found.url)


def translated(error: FTS3ClientException, url: str) -> LaneSyncError:
    """What the engine port knows instead of an error of the FTS3 client, about this URL. Total."""
    reason = error.reason or type(error).__name__
    text = reason if url in reason else f"{url}: {reason}"
    if isinstance(error, NotFound):
        return NotFoundError(text)
    if error.kind is Kind.NEEDS_CREDENTIAL:
        return AuthenticationError(text)
    if error.kind in (Kind.NOT_PERMITTED, Kind.BANNED):
        return PermissionRefusedError(text)
    if error.kind is not Kind.RETRYABLE:
        return PermanentError(text)
    if isinstance(error, BadEndpoint):
        return UnreachableError(text)
    return BusyError(text, error.retry_after) if error.status in NOT_NOW else RetryableError(text)
