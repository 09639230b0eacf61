"""The state that every operation needs: an endpoint, a credential, and connections to it."""

from __future__ import annotations

import ipaddress
import json
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

from agent import __version__
from agent.fts3 import credentials
from agent.fts3.credentials import Certificate, Token
from agent.fts3.errors import (
    BadCredential,
    BadEndpoint,
    FTS3ClientException,
    Kind,
    NoAnswer,
    ServerError,
    Unauthorized,
    error_for,
)
from agent.fts3.retrying import Retries, Runtime, with_retries
from agent.fts3.structures import Json, WhoAmI
from agent.fts3.transport import Answer, Limits, Transport

T = TypeVar("T")

_GRID_AUTHORITIES = "/etc/grid-security/certificates"


@dataclass
class Memory:
    """What was learned about the present credential; forgotten when the credential changes."""

    whoami: WhoAmI | None = None
    delegated_until: datetime | None = None


class Context:
    """An FTS3 endpoint as seen by one user. For use from several threads; also a context manager.

    endpoint: `https://host:port`. Plain http is taken for this machine only.
    ucert, ukey: PEM files; a proxy is given as ucert alone. Without them and without a token the environment
    is looked at (X509_USER_PROXY, X509_USER_CERT and X509_USER_KEY, BEARER_TOKEN, BEARER_TOKEN_FILE, then the
    usual files), unless `no_creds`.
    fts_access_token: a bearer token, or a function that returns the present one.
    capath: authorities to trust, a PEM file or a directory with hashed names; else X509_CERT_DIR, the grid's
    directory if there is one, or the system's. verify=False trusts everybody.
    connectTimeout, timeout: seconds to connect, and between two bytes of an answer.

    Making a context sends nothing. Raises BadCredential or BadEndpoint for what is wrong at sight.
    """

    def __init__(
        self,
        endpoint: str,
        ucert: str | None = None,
        ukey: str | None = None,
        verify: bool = True,
        *,
        fts_access_token: str | Callable[[], str] | None = None,
        no_creds: bool = False,
        capath: str | None = None,
        connectTimeout: float = 30,
        timeout: float = 30,
        user_agent: str | None = None,
        limits: Limits | None = None,
        retries: Retries | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        self.endpoint = _checked(endpoint)
        self.user_agent = user_agent or f"lanesync-fts3/{__version__}"
        self.runtime = runtime or Runtime()
        self.memory = Memory()
        self.delegating = threading.Lock()
        self._retries = retries or Retries()
        self._info: Json | None = None
        self._credential = None
        if not no_creds:
            named = credentials.given(ucert, ukey, fts_access_token)
            self._credential = named or credentials.discover(os.environ, os.geteuid())
        self._fingerprint: object = None
        if isinstance(self._credential, Certificate):
            self._fingerprint = self._credential.fingerprint()
            self._credential.load(self.runtime.now())
        trusted = authorities(capath) if verify and self.endpoint.startswith("https:") else verify
        self._transport = Transport(trusted, limits or Limits(connect=connectTimeout, read=timeout))

    @property
    def access_method(self) -> str | None:
        """ "X509", "oauth2", or None for nobody."""
        if self._credential is None:
            return None
        return "X509" if isinstance(self._credential, Certificate) else "oauth2"

    @property
    def certificate(self) -> Certificate:
        """The certificate at hand; BadCredential if we have a token or nothing."""
        if not isinstance(self._credential, Certificate):
            raise BadCredential("this needs a certificate; give ucert and ukey")
        return self._credential

    def get_endpoint_info(self) -> Json:
        """What the service says of itself at `/`, and its `url`. Asked once.

        BadEndpoint when nobody answers, or something that is no FTS3 REST service.
        """
        if self._info is None:
            info = self.get("/")
            if not isinstance(info, dict) or "api" not in info:
                raise self._no_service()
            self._info = {**info, "url": self.endpoint}
        return dict(self._info)

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """The decoded JSON answer."""
        return self._ask("GET", path, self._decode, query=query, safe=True)

    def post(self, path: str, body: Any, *, safe: bool = False) -> Any:
        """Send JSON; returns the decoded JSON answer. safe: doing it twice is the same as doing it once."""
        return self._ask("POST", path, self._decode, body=encoded(body), safe=safe)

    def delete(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """The decoded JSON answer; None for an empty one."""

        def read(answer: Answer, path: str) -> Any:
            return self._decode(answer, path) if answer.body or not answer.whole else None

        return self._ask("DELETE", path, read, query=query)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
        safe: bool | None = None,
    ) -> Answer:
        """The answer, if its status is one of success; else the exception that stands for it.

        Its body may be cut short (`whole`). safe: whether it may be sent twice; None = only a GET may.
        """
        repeatable = method == "GET" if safe is None else safe
        return self._ask(
            method,
            path,
            lambda answer, _: answer,
            query=query,
            body=body,
            content_type=content_type,
            safe=repeatable,
        )

    def _ask(
        self,
        method: str,
        path: str,
        read: Callable[[Answer, str], T],
        *,
        query: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
        safe: bool = False,
    ) -> T:
        """What `read` makes of the answer. Reading belongs to the try: an answer may break off."""
        url = self.endpoint + path + ("?" + urlencode(query) if query else "")
        resource = self.endpoint + path
        cert = self._present_certificate()

        def once() -> T:
            answer = self._transport.send(method, url, self._headers(body, content_type), body, cert)
            if not 200 <= answer.status < 300:
                raise error_for(
                    answer.status, answer.body, resource=resource, retry_after=_retry_after(answer)
                )
            return read(answer, path)

        try:
            return with_retries(once, safe=safe, policy=self._retries, runtime=self.runtime)
        except (Unauthorized, ServerError) as error:
            if self._token_is_refused(error, path):
                raise Unauthorized(
                    "the service does not accept the bearer token; is it expired, or for another audience?",
                    kind=Kind.NEEDS_CREDENTIAL,
                    status=error.status,
                ) from error
            raise

    def _token_is_refused(self, error: FTS3ClientException, path: str) -> bool:
        """To this service the bearer of a bad token is nobody, whose calls end in 403 or even 500."""
        suspicious = error.status == 500 or error.kind is Kind.NOT_PERMITTED
        if not isinstance(self._credential, Token) or not suspicious or path == "/whoami":
            return False
        try:
            return WhoAmI.read(self.get("/whoami")).anonymous
        except FTS3ClientException:
            return False

    def close(self) -> None:
        """Drop all connections. A later call opens new ones. Idempotent."""
        self._transport.close()

    def __enter__(self) -> Context:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _headers(self, body: bytes | None, content_type: str) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": self.user_agent}
        if body is not None:
            headers["Content-Type"] = content_type
        if isinstance(self._credential, Token):
            headers["Authorization"] = self._credential.header()
        return headers

    def _present_certificate(self) -> tuple[str, str] | None:
        """The TLS files. After a renewal in place, old connections and what we knew of us are dropped."""
        if not isinstance(self._credential, Certificate):
            return None
        fingerprint = self._credential.fingerprint()
        if fingerprint != self._fingerprint:
            self._fingerprint = fingerprint
            self.memory = Memory()
            self._transport.reset()
        return self._credential.cert, self._credential.key

    def _decode(self, answer: Answer, path: str) -> Any:
        """The JSON of an answer. One that broke off counts only if nothing of it can be missing."""
        try:
            found = json.loads(answer.body)
        except (ValueError, RecursionError):
            found = None
            if answer.whole and path == "/":
                raise self._no_service() from None
            if answer.whole:
                raise ServerError(f"{self.endpoint}{path} answered with something that is no JSON") from None
        if not answer.whole and not isinstance(found, dict | list):
            raise NoAnswer(f"{self.endpoint}{path}: the connection ended before the answer did")
        return found

    def _no_service(self) -> BadEndpoint:
        return BadEndpoint(
            f"{self.endpoint} answers, but not like an FTS3 REST service; check host and port",
            kind=Kind.PERMANENT,
        )


def encoded(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def _retry_after(answer: Answer) -> float | None:
    """Seconds; the form with a date is left unread, our own pause does."""
    value = next((v for k, v in answer.headers.items() if k.lower() == "retry-after"), "")
    return float(value) if value.isascii() and value.isdigit() and len(value) < 9 else None


def _checked(endpoint: str) -> str:
    """The endpoint without a slash at its end. BadEndpoint if it is not of the form https://host:port."""
    parts = urlsplit(endpoint if isinstance(endpoint, str) else "")
    try:
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    odd = "@" in parts.netloc or parts.query or parts.fragment or any(c <= " " for c in endpoint)
    if parts.scheme not in ("https", "http") or not host or odd:
        raise BadEndpoint("an endpoint has the form https://host:port", kind=Kind.PERMANENT)
    if parts.scheme == "http" and not _is_here(host):
        raise BadEndpoint(f"{host} would be asked without TLS; use https://", kind=Kind.PERMANENT)
    return endpoint.rstrip("/")


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def authorities(capath: str | None) -> bool | str:
    """Whom to trust: `capath`, or X509_CERT_DIR, or the grid's directory, or True for the system's."""
    for place in (capath, os.environ.get("X509_CERT_DIR")):
        if place:
            if not os.path.exists(place):
                raise BadEndpoint(f"the authorities to trust, {place}, are not there", kind=Kind.PERMANENT)
            return str(place)
    return _GRID_AUTHORITIES if os.path.isdir(_GRID_AUTHORITIES) else True
