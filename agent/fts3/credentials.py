"""Who we are: a certificate with its key (or a proxy, which is both in one file), or a bearer token."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from agent.fts3.errors import BadCredential

_MAX_FILE_BYTES = 1024 * 1024
_KEY_BLOCK = re.compile(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.+?-----END \1-----\n?", re.DOTALL)
_CERTIFICATE_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Loaded:
    """chain: the certificate itself, then those that signed it as far as the file has them."""

    chain: tuple[x509.Certificate, ...]
    key: PrivateKey

    @property
    def ends(self) -> datetime:
        """When the first certificate of the chain expires, UTC."""
        return min(certificate.not_valid_after_utc for certificate in self.chain)


@dataclass(frozen=True, slots=True)
class Certificate:
    """Paths of PEM files. Read anew when needed, so that a proxy may be renewed in place."""

    cert: str
    key: str

    def load(self, now: datetime) -> Loaded:
        """Read both files. BadCredential when they are missing, damaged, expired or not a pair."""
        blocks = _CERTIFICATE_BLOCK.findall(_read(self.cert, "the certificate"))
        if not blocks:
            raise BadCredential(f"{self.cert} holds no certificate; give a PEM file")
        try:
            chain = tuple(x509.load_pem_x509_certificate(block) for block in blocks)
        except ValueError as error:
            raise BadCredential(f"{self.cert} holds a damaged certificate: {error}") from None
        loaded = Loaded(chain, self._load_key())
        if loaded.key.public_key() != chain[0].public_key():
            raise BadCredential(f"the key in {self.key} does not belong to the certificate in {self.cert}")
        if loaded.ends <= now:
            raise BadCredential(f"{self.cert} expired at {loaded.ends:%Y-%m-%d %H:%M:%S} UTC; renew it")
        return loaded

    def _load_key(self) -> PrivateKey:
        block = _KEY_BLOCK.search(_read(self.key, "the private key"))
        if block is None:
            raise BadCredential(f"{self.key} holds no private key; give a PEM file")
        try:
            key = load_pem_private_key(block[0], None)
        except TypeError:
            raise BadCredential(f"the key in {self.key} is encrypted; make a proxy of it first") from None
        except ValueError:
            raise BadCredential(f"the key in {self.key} cannot be read; is it damaged?") from None
        if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            raise BadCredential(f"the key in {self.key} is neither RSA nor EC")
        return key

    def fingerprint(self) -> tuple[tuple[int, int, int], ...]:
        """Differs after the files were replaced or rewritten; empty while one is missing."""
        try:
            found = [os.stat(path) for path in (self.cert, self.key)]
        except OSError:
            return ()
        return tuple((one.st_ino, one.st_size, one.st_mtime_ns) for one in found)


@dataclass(frozen=True, slots=True, repr=False)
class Token:
    """read: returns the bearer token that is valid now; asked for each request, so that it may be renewed."""

    read: Callable[[], str]

    def header(self) -> str:
        token = self.read().strip()
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise BadCredential("the bearer token is empty or holds characters that no token has")
        return "Bearer " + token


Credential = Certificate | Token | None


def given(ucert: str | None, ukey: str | None, token: str | Callable[[], str] | None) -> Credential:
    """The credential that the caller names; the token wins, as it does on the server."""
    if token:
        return Token(token) if callable(token) else Token(lambda: token)
    if ucert:
        return Certificate(str(ucert), str(ukey or ucert))
    if ukey:
        raise BadCredential("a key was given without its certificate")
    return None


def discover(environ: Mapping[str, str], uid: int, folder: str = "/tmp") -> Credential:  # noqa: S108
    """What the environment offers, the grid's usual places in their usual order.

    The host's own certificate is never taken: it makes whoever uses it root of the service.
    folder: where the default files lie.
    """
    if proxy := environ.get("X509_USER_PROXY"):
        return Certificate(proxy, proxy)
    if cert := environ.get("X509_USER_CERT"):
        return Certificate(cert, environ.get("X509_USER_KEY") or cert)
    if token := environ.get("BEARER_TOKEN", "").strip():
        return Token(lambda: token)
    if path := environ.get("BEARER_TOKEN_FILE"):
        return _token_file(path)
    default_proxy = os.path.join(folder, f"x509up_u{uid}")
    if _is_private(default_proxy, uid):
        return Certificate(default_proxy, default_proxy)
    for place in (environ.get("XDG_RUNTIME_DIR"), folder):
        file = os.path.join(place, f"bt_u{uid}") if place else ""
        if file and _is_private(file, uid):
            return _token_file(file)
    return None


def _token_file(path: str) -> Token:
    return Token(lambda: _read(path, "the bearer token").decode("ascii", "replace"))


def _is_private(path: str, uid: int) -> bool:
    """A file in a folder that everybody may write to counts only if it is ours and closed to others."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_uid == uid and not found.st_mode & 0o077


def _read(path: str, what: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BadCredential(f"{what} {path} cannot be read: {error.strerror}") from None
    if len(data) > _MAX_FILE_BYTES:
        raise BadCredential(f"{what} {path} is longer than {_MAX_FILE_BYTES} bytes; is it something else?")
    return data
