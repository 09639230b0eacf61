"""Requests of a WebDAV client: who asks, what is asked twice, and where redirects may lead."""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Mapping
from urllib.parse import urljoin, urlsplit

from agent.engines.fts3 import multistatus
from agent.engines.fts3.destination import NOT_NOW, translated
from agent.fts3 import FTS3ClientException, Limits, NoAnswer, Retries, Runtime
from agent.fts3.credentials import Certificate, Credential, Token
from agent.fts3.errors import error_for
from agent.fts3.retrying import with_retries
from agent.fts3.transport import Answer, Transport
from agent.model.outcome import PermanentError

SCHEMES = {"davs": "https", "https": "https", "dav": "http", "http": "http"}

LIMITS = Limits(connect=10.0, read=30.0, answer=120.0, answer_bytes=256 * 1024 * 1024)
"""Some 600,000 entries of a directory fit into the longest answer."""

RETRIES = Retries(attempts=3, interval=0.5, max_interval=5.0, budget=15.0)
"""Only of what may be done twice. The engine comes again by itself."""

_LOOKS = frozenset({"PROPFIND", "HEAD"})
_MOVED = frozenset({301, 302, 307, 308})
_MOVED_AS_IT_IS = frozenset({307, 308})  # the method stays the same
_MOST_REDIRECTS = 5


class Requests:
    """For use from several threads. Each keeps connections of its own, to ten hosts at most."""

    def __init__(
        self,
        credential: Credential,
        verify: bool | str,
        *,
        limits: Limits = LIMITS,
        retries: Retries = RETRIES,
        runtime: Runtime | None = None,
    ) -> None:
        self.anonymous = credential is None
        self._credential = credential
        self._retries, self._runtime = retries, runtime or Runtime()
        self._transport = Transport(verify, limits)
        self._loading = threading.Lock()
        self._fingerprint: object = None

    def ask(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, *, safe: bool = False
    ) -> Answer:
        """The answer, whatever its status, unless that says "not now": then it is an error.

        url: may end with a slash, as servers want it of directories. safe: doing it twice is harmless.
        Raises what `Destination` says, not FTS3ClientException.
        """
        body = multistatus.WANTED if method == "PROPFIND" else None
        more = dict(headers or {})
        if body is not None:
            more["Content-Type"] = "application/xml; charset=utf-8"

        def once() -> Answer:
            answer = self._followed(method, url, more, body)
            if answer.status in NOT_NOW:
                wait = multistatus.number(header(answer, "retry-after"))
                raise error_for(answer.status, answer.body, resource=url, retry_after=wait)
            return answer

        try:
            return with_retries(
                once, safe=safe or method in _LOOKS, policy=self._retries, runtime=self._runtime
            )
        except FTS3ClientException as error:
            raise translated(error, url) from error

    def _followed(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        """The answer after redirects: a slash added, or the same path on another host of the storage."""
        address = http_url(url)
        first = urlsplit(address)
        followed = _MOVED if method in _LOOKS else _MOVED_AS_IT_IS
        for _ in range(_MOST_REDIRECTS):
            parts = urlsplit(address)
            token = self._token() if parts.netloc == first.netloc else {}
            cert = self._certificate() if parts.scheme == "https" else None
            answer = self._transport.send(method, address, {**headers, **token}, body, cert)
            if not answer.whole:
                raise NoAnswer(f"{url}: the connection ended before the answer did")
            if answer.status not in followed:
                break
            address = urljoin(address, header(answer, "location"))
            same = multistatus.segments(address) == multistatus.segments(url)
            if not same or urlsplit(address).scheme != first.scheme:
                break
        return answer

    def _token(self) -> dict[str, str]:
        return {"Authorization": self._credential.header()} if isinstance(self._credential, Token) else {}

    def _certificate(self) -> tuple[str, str] | None:
        """The TLS files, looked at when they are new. BadCredential for those that cannot be used."""
        if not isinstance(self._credential, Certificate):
            return None
        with self._loading:
            fingerprint = self._credential.fingerprint()
            if fingerprint != self._fingerprint or not fingerprint:
                self._credential.load(self._runtime.now())
                self._fingerprint = fingerprint
                self._transport.reset()
        return self._credential.cert, self._credential.key

    def check(self, url: str) -> None:
        """PermanentError for a URL to which a token would go in the clear."""
        parts = urlsplit(url)
        in_the_clear = SCHEMES[parts.scheme.lower()] == "http" and not _is_here(parts.hostname)
        if in_the_clear and isinstance(self._credential, Token):
            raise PermanentError(f"{url} would get the bearer token without TLS; use davs://")

    def close(self) -> None:
        """Idempotent; a later request opens new connections."""
        self._transport.close()


def header(answer: Answer, wanted: str) -> str:
    return next((value for name, value in answer.headers.items() if name.lower() == wanted), "")


def http_url(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{SCHEMES[scheme.lower()]}://{rest}"


def _is_here(host: str | None) -> bool:
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"
