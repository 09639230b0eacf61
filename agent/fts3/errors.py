# ruff: noqa: N818 -- the names are those of the FTS3 bindings, and they are the contract
"""What the FTS3 client raises.

FTS3ClientException
├── BadEndpoint         nobody answers there, or something that is no FTS3 REST service
│   └── NoAnswer            ours: the request left and no whole answer came; it may have been carried out
├── Unauthorized        the user may not do that, or is not known
├── MethodNotAllowed    the service does not offer that operation (deletion jobs)
├── NotFound            the named thing does not exist; `.resource`
├── ClientError         the request was wrong
│   ├── BadCredential       ours: the certificate, key or token at hand cannot be used
│   ├── Conflict            ours: status 409, with its text
│   ├── PartialAnswer       ours: status 207; `.entries` are the good ones, `.missing`, `.refused`
│   ├── NeedDelegation      the service wants newly delegated credentials
│   └── FailedDependency    a step that the request needs failed, such as VOMS attributes
└── ServerError         the service failed by its own fault
    └── TryAgain            it cannot do that now, but may later

Each carries `.kind` (what to do about it), `.status` (HTTP, or None when there was no answer), `.reason`,
`.retry_after` (seconds that the server asked for, or None), `.about_job` (the service speaks of one job id),
`.sent_before` (an earlier try of the same request may have been carried out) and `.job_id` (of a failed
submission whose id is known beforehand). No message ever holds raw HTML.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from html.parser import HTMLParser
from typing import Any

_MAX_TEXT = 1000


class Kind(StrEnum):
    """What an error asks for."""

    PERMANENT = "permanent"  # the same request will fail again
    RETRYABLE = "retryable"  # worth another try later
    NEEDS_CREDENTIAL = "needs credential"  # delegate, renew or configure a credential, then again
    BANNED = "banned"  # an operator banned the user or the storage
    NOT_PERMITTED = "not permitted"  # known, but without the right to do this
    LOST = "lost"  # the service does not know this job (any more)


class FTS3ClientException(Exception):
    """Base of everything this client raises on purpose."""

    kind = Kind.PERMANENT
    about_job = False
    sent_before = False
    job_id: str | None = None

    def __init__(
        self,
        reason: str = "",
        *,
        kind: Kind | None = None,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.retry_after = retry_after
        if kind is not None:
            self.kind = kind


class BadEndpoint(FTS3ClientException):
    kind = Kind.RETRYABLE


class NoAnswer(BadEndpoint):
    pass


class Unauthorized(FTS3ClientException):
    kind = Kind.NOT_PERMITTED


class MethodNotAllowed(FTS3ClientException):
    pass


class NotFound(FTS3ClientException):
    def __init__(self, reason: str = "", *, resource: str = "", **details: Any) -> None:
        super().__init__(reason, **details)
        self.resource = resource


class ClientError(FTS3ClientException):
    pass


class BadCredential(ClientError):
    kind = Kind.NEEDS_CREDENTIAL


class Conflict(ClientError):
    pass


class PartialAnswer(ClientError):
    """entries: the good ones as the server sent them. missing: unknown job ids. refused: job id -> why."""

    def __init__(
        self, reason: str, entries: list[dict[str, Any]], missing: tuple[str, ...], refused: dict[str, str]
    ) -> None:
        super().__init__(reason, kind=Kind.NOT_PERMITTED if refused else Kind.LOST, status=207)
        self.entries = entries
        self.missing = missing
        self.refused = refused


class NeedDelegation(ClientError):
    kind = Kind.NEEDS_CREDENTIAL


class FailedDependency(ClientError):
    pass


class ServerError(FTS3ClientException):
    kind = Kind.RETRYABLE


class TryAgain(ServerError):
    pass


@dataclass(frozen=True, slots=True)
class Said:
    """What an error answer says. `about_job`: in the form that the service uses about one job id."""

    text: str
    about_job: bool = False


class _Page(HTMLParser):
    """The title and the first paragraph of a page, or else its first words."""

    def __init__(self) -> None:
        super().__init__()
        self._inside: list[str] = []
        self.title = self.paragraph = self.first = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:  # noqa: ARG002
        self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._inside:
            while self._inside.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        words = data.strip()
        if not words or "script" in self._inside or "style" in self._inside:
            return
        if "title" in self._inside:
            self.title = self.title or words
        elif "p" in self._inside:
            self.paragraph = self.paragraph or words
        else:
            self.first = self.first or words

    @property
    def text(self) -> str:
        return self.paragraph or self.title or self.first


def what_it_says(body: bytes) -> Said:
    """The message in the body of an error answer: JSON of either form, HTML, or plain text. Total."""
    text = body[: 64 * 1024].decode("utf-8", "replace").strip()
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        if not text.startswith("<"):
            return Said(_line(text))
        page = _Page()
        page.feed(text)
        return Said(_line(page.text))
    if isinstance(found, list):
        said = [entry.get("http_message") for entry in found if isinstance(entry, dict)]
        return Said(_line("; ".join(one for one in said if isinstance(one, str))))
    if not isinstance(found, dict):
        return Said(_line(found) if isinstance(found, str) else "")
    for key in ("message", "http_message"):
        if isinstance(found.get(key), str):
            message = _line(found[key])
            return Said(message, "job_id" in found or message.startswith("No job with the id"))
    return Said("")


def _line(text: str) -> str:
    """One printable line of bounded length."""
    line = " ".join(re.sub(r"[\x00-\x1f\x7f]", " ", text).split())
    return line if len(line) <= _MAX_TEXT else line[:_MAX_TEXT] + "…"


_TRY_LATER = frozenset({408, 425, 429})
_NEVER_WILL = frozenset({501, 505})


def error_for(
    status: int, body: bytes, *, resource: str = "", retry_after: float | None = None
) -> FTS3ClientException:
    """The exception for an answer that is no success. Total over status codes and bodies.

    resource: what was asked for, for messages.
    """
    said = what_it_says(body)
    text = said.text or f"{resource or 'the request'} was answered with status {status} and no explanation"
    details: dict[str, Any] = {"status": status, "retry_after": retry_after}
    error: FTS3ClientException
    if status == 404:
        kind = Kind.LOST if said.about_job else Kind.PERMANENT
        error = NotFound(text, resource=resource, kind=kind, **details)
    elif 401 <= status <= 403:
        error = Unauthorized(text, kind=_why_refused(status, text), **details)
    else:
        error = _plain_error(status, text, details)
    error.about_job = said.about_job
    return error


def _plain_error(status: int, text: str, details: dict[str, Any]) -> FTS3ClientException:
    """Statuses whose class depends on nothing else."""
    if 300 <= status < 400:
        where = "the address redirects elsewhere; use the final address as endpoint"
        return BadEndpoint(f"{where} (status {status})", kind=Kind.PERMANENT, **details)
    by_status: dict[int, type[FTS3ClientException]] = {
        405: MethodNotAllowed,
        409: Conflict,
        419: NeedDelegation,
        424: FailedDependency,
        503: TryAgain,
    }
    if status in by_status:
        return by_status[status](text, **details)
    if status == 207 or 400 <= status < 500:
        return ClientError(text, kind=Kind.RETRYABLE if status in _TRY_LATER else Kind.PERMANENT, **details)
    return ServerError(text, kind=Kind.PERMANENT if status in _NEVER_WILL else Kind.RETRYABLE, **details)


def _why_refused(status: int, text: str) -> Kind:
    """One status serves for the banned, the unknown and those without the right; the words differ."""
    if re.search(r"(is|been) banned\b", text):
        return Kind.BANNED
    if status == 401 or re.search(r"certificate required|authenticat|token|not allowed to list", text, re.I):
        return Kind.NEEDS_CREDENTIAL
    return Kind.NOT_PERMITTED
