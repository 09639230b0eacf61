"""One HTTP request and its whole answer, over connections that are kept.

Every call names its authority, certificate and proxies itself: `requests` otherwise lets REQUESTS_CA_BUNDLE
override a session's `verify`, and a .netrc file replace a bearer token.
"""

from __future__ import annotations

import re
import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass

import requests
import urllib3
from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_environ_proxies

from agent.fts3.errors import BadCredential, BadEndpoint, FTS3ClientException, Kind, NoAnswer, ServerError

_BLOCK_BYTES = 64 * 1024
_REFUSED_CERTIFICATE = re.compile(
    r"alert ((bad|unsupported) certificate|certificate \w+|unknown ca|access denied|handshake failure)"
)
_NEVER_LEFT = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)


@dataclass(frozen=True, slots=True)
class Answer:
    """whole: False when the connection ended before the promised length."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: to connect; between two bytes; for the whole answer. Bytes: of one answer."""

    connect: float = 30.0
    read: float = 30.0
    answer: float = 120.0
    answer_bytes: int = 64 * 1024 * 1024


class Transport:
    """verify: a CA bundle or directory, True for the system's, False for no verification.

    For use from several threads: each has a session of its own.
    """

    def __init__(self, verify: bool | str, limits: Limits) -> None:
        self._verify = DEFAULT_CA_BUNDLE_PATH if verify is True else verify
        self._limits = limits
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._sessions: weakref.WeakSet[requests.Session] = weakref.WeakSet()
        self._generation = 0

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        cert: tuple[str, str] | None = None,
    ) -> Answer:
        """The answer, whatever its status; redirects are not followed.

        Raises BadEndpoint when the request never left, NoAnswer when it may have been carried out,
        ServerError when the answer is too long or takes too long.
        """
        session, shown = self._session(), url.partition("?")[0]
        try:
            with session.request(
                method,
                url,
                data=body,
                headers={"Accept-Encoding": "identity", **headers},
                verify=self._verify,
                cert=cert,
                proxies=get_environ_proxies(url),
                timeout=(self._limits.connect, self._limits.read),
                allow_redirects=False,
                stream=True,
            ) as response:
                content, whole = self._read(response.raw, shown)
                return Answer(response.status_code, dict(response.headers), content, whole)
        except requests.RequestException as error:
            raise _why(error, shown, self._limits) from error
        except OSError as error:  # the certificate, key or authority file is missing
            raise BadCredential(f"the TLS files cannot be used: {error}") from error

    def reset(self) -> None:
        """Drop all connections when they are next used: they speak for a credential that was replaced."""
        with self._lock:
            self._generation += 1

    def close(self) -> None:
        """Drop all connections. A later request opens new ones."""
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            session.close()

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._mine, "session", None)
        if session is not None and self._mine.generation == self._generation:
            return session
        if session is not None:
            session.close()
        session = requests.Session()
        session.trust_env = False
        self._mine.session, self._mine.generation = session, self._generation
        with self._lock:
            self._sessions.add(session)
        return session

    def _read(self, raw: urllib3.HTTPResponse, url: str) -> tuple[bytes, bool]:
        """The body, and whether it came to its promised end."""
        content, deadline = bytearray(), time.monotonic() + self._limits.answer
        try:
            while block := raw.read1(_BLOCK_BYTES, decode_content=False):
                content += block
                if len(content) > self._limits.answer_bytes:
                    raise ServerError(
                        f"{url} answered with more than {self._limits.answer_bytes} bytes; "
                        "ask for less at a time",
                        kind=Kind.PERMANENT,
                    )
                if time.monotonic() > deadline:
                    raise NoAnswer(f"{url} took longer than {self._limits.answer:g} s over its answer")
        except urllib3.exceptions.ReadTimeoutError:
            raise NoAnswer(f"{url} stopped in the middle of its answer") from None
        except (urllib3.exceptions.HTTPError, OSError):
            return bytes(content), False
        return bytes(content), True


def _why(error: requests.RequestException, url: str, limits: Limits) -> FTS3ClientException:
    """What a failure of `requests` means for us."""
    if isinstance(error, requests.exceptions.SSLError):
        return _why_no_tls(str(error), url)
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return BadEndpoint(f"{url} did not accept a connection within {limits.connect:g} s; is the host up?")
    if isinstance(error, requests.exceptions.ReadTimeout):
        return NoAnswer(f"{url} did not answer within {limits.read:g} s")
    if isinstance(error, requests.exceptions.ProxyError):
        return BadEndpoint(f"{url} cannot be reached through the HTTP proxy; check HTTPS_PROXY and NO_PROXY")
    if isinstance(error, requests.ConnectionError):
        cause = getattr(error.args[0], "reason", None) if error.args else None
        if isinstance(cause, urllib3.exceptions.NameResolutionError):
            return BadEndpoint(f"the host of {url} is not known; check its spelling")
        if isinstance(cause, _NEVER_LEFT):
            return BadEndpoint(f"nothing answers at {url}; check host and port, and that the service runs")
        return NoAnswer(f"{url} closed the connection without an answer")
    return BadEndpoint(f"{url} cannot be asked: {type(error).__name__}", kind=Kind.PERMANENT)


def _why_no_tls(text: str, url: str) -> FTS3ClientException:
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return BadEndpoint(
            f"the certificate of {url} was not signed by an authority that we trust, or names another host; "
            "name the right one (`capath` here, `ca` in specs)",
            kind=Kind.PERMANENT,
        )
    if _REFUSED_CERTIFICATE.search(text):
        return BadCredential(f"{url} refused our certificate in the TLS handshake; is it known there?")
    # TLS may break at any time, also after the request was sent; and a server that refuses a certificate may
    # be gone before it is heard.
    return NoAnswer(f"the TLS connection with {url} broke; does the service take our certificate?")
