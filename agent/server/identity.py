"""A server's keys: by its public key others recognise it, whatever its name or address.

`STATE/identity/current.pem` holds the private key (Ed25519) and a certificate that it signed itself. After a
rotation `retired-<end>.pem` holds the key before, which is good until that Unix time. Whoever holds an
`Identities` sees a rotation at its next look: a running server needs no restart.
"""

from __future__ import annotations

import fcntl
import hashlib
import ipaddress
import os
import re
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.jetstream import keys
from agent.server.errors import StartError

DIRECTORY, CURRENT = "identity", "current.pem"
CERTIFICATE_DAYS = 3650
RENEW_DAYS = 30  # a certificate with less left is made anew at start, for the same key
MAX_FILE = 64 * 1024
_RETIRED = re.compile(r"retired-(\d{1,12})-[0-9a-f]{8}\.pem")
_PEM = serialization.Encoding.PEM


@dataclass(frozen=True, slots=True)
class Identity:
    key: Ed25519PrivateKey
    certificate: x509.Certificate
    public_key: str  # as keys.encode spells it
    until: float | None = None  # Unix time of its end; None = it is the current one

    @property
    def name(self) -> str:
        """What a peer that expects this key puts into its ClientHello."""
        return keys.server_name(self.public_key)

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(_PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())

    def days_left(self, now: float) -> int:
        """Whole days until the certificate expires, 0 at least."""
        left = self.certificate.not_valid_after_utc - datetime.fromtimestamp(now, UTC)
        return max(0, left.days)

    def sign(self, message: bytes) -> bytes:
        return self.key.sign(message)


class Identities:
    """The keys in a state directory, read anew when they change. For any thread."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / DIRECTORY
        self._lock = threading.Lock()
        self._seen: object = None
        self._known: tuple[Identity, ...] = ()

    def valid(self, now: float) -> tuple[Identity, ...]:
        """The current one, then those before that are still good. StartError when they cannot be read."""
        with self._lock:
            found = _signature(self._folder)
            if found != self._seen or not self._known:
                self._known = _load_all(self._folder)
                self._seen = found
            return tuple(one for one in self._known if one.until is None or one.until > now)

    def current(self) -> Identity:
        return self.valid(float("inf"))[0]


def ensure(state_dir: Path, names: Iterable[str], now: float) -> Identity:
    """The current identity, made now if there is none. `names`: host names and addresses that go into a new
    certificate. StartError when that does not succeed."""
    with _locked(state_dir) as folder:
        path = folder / CURRENT
        if not path.exists():
            _write(path, make(Ed25519PrivateKey.generate(), names, now))
        made = _load(path, None)
        if made.days_left(now) < RENEW_DAYS:
            made = make(made.key, names, now)
            _write(path, made)
        return made


def rotate(state_dir: Path, names: Iterable[str], keep_seconds: float, now: float) -> Identity:
    """A new key; the one before stays good for `keep_seconds`. Retired keys that are past their end go."""
    with _locked(state_dir) as folder:
        path, until = folder / CURRENT, int(now + keep_seconds)
        for old in folder.iterdir():
            found = _RETIRED.fullmatch(old.name)
            if found is not None and int(found[1]) <= now:
                old.unlink()
        if keep_seconds > 0 and path.exists():
            before = _load(path, None)
            tag = hashlib.sha256(before.public_key.encode()).hexdigest()[:8]
            _write(folder / f"retired-{until}-{tag}.pem", before)
        made = make(Ed25519PrivateKey.generate(), names, now)
        _write(path, made)
        return made


def own_names(*more: str) -> list[str]:
    """Names under which clients may reach this machine, for a certificate."""
    found = [socket.gethostname(), "localhost", "127.0.0.1", "::1", *more]
    return list(dict.fromkeys(name for name in found if name and name not in ("0.0.0.0", "::")))  # noqa: S104


def make(key: Ed25519PrivateKey, names: Iterable[str], now: float) -> Identity:
    """An identity with a new certificate."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lanesync")])
    start = datetime.fromtimestamp(now, UTC)
    public = key.public_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - timedelta(days=1))
        .not_valid_after(start + timedelta(days=CERTIFICATE_DAYS))
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, None)
    )
    return Identity(key, certificate, keys.encode(public))


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name.encode("idna").decode("ascii") if not name.isascii() else name)


@contextmanager
def _locked(state_dir: Path) -> Iterator[Path]:
    """The directory of the keys, made if needed, for one process at a time."""
    folder = state_dir / DIRECTORY
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StartError(f"{folder} cannot be used: {error.strerror}; see to its permissions") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(fd)


def _signature(folder: Path) -> object:
    try:
        found = [(entry.name, entry.stat()) for entry in os.scandir(folder)]
    except FileNotFoundError as error:
        raise StartError(f"there is no key in {folder} yet; run: lanesync keygen") from error
    except OSError as error:
        raise StartError(f"{folder} cannot be read: {error.strerror}; see to its permissions") from error
    return sorted((name, status.st_ino, status.st_mtime_ns) for name, status in found)


def _load_all(folder: Path) -> tuple[Identity, ...]:
    """Current first, then the others, the longest good first."""
    found = [_load(folder / CURRENT, None)]
    ends = [(int(match[1]), match[0]) for name in os.listdir(folder) if (match := _RETIRED.fullmatch(name))]
    for until, name in sorted(ends, reverse=True):
        old = _load(folder / name, float(until))
        if all(not keys.same(old.public_key, one.public_key) for one in found):
            found.append(old)
    return tuple(found)


def _load(path: Path, until: float | None) -> Identity:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise StartError(f"{path} is open to others than its owner; run: chmod 600 {path}")
            data = file.read(MAX_FILE)
        key = serialization.load_pem_private_key(data, None)
        certificate = x509.load_pem_x509_certificate(data)
    except OSError as error:
        raise StartError(f"{path} cannot be read: {error.strerror}; run: lanesync keygen") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise StartError(
            f"{path} is damaged; restore it from a backup, or remove it to get a new key: those who have "
            "pinned this server's key must then be given the new one"
        ) from error
    if not isinstance(key, Ed25519PrivateKey) or certificate.public_key() != key.public_key():
        raise StartError(f"{path} must hold an Ed25519 key and its certificate; run: lanesync keygen")
    return Identity(key, certificate, keys.encode(key.public_key()), until)


def _write(path: Path, identity: Identity) -> None:
    """Whole or not at all, and on storage."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(identity.key_pem + identity.certificate_pem)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise StartError(f"{path} cannot be written: {error.strerror}; see to the disk") from error
