"""Accounts of a standalone server: a JSON file of names and scrypt hashes.

    {"accounts": {"jsmith": {"scrypt": "<hex>", "salt": "<hex>", "n": 16384, "r": 8, "p": 1}}}

The file is read anew when it changes. It must not be readable by others than its owner and group.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.server.errors import ServerError

_N, _R, _P = 16384, 8, 1
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,63}")
_MAX_FILE = 4 * 1024 * 1024
_MAX_PASSWORD = 1024
MIN_PASSWORD = 8


class AccountsError(ServerError):
    """The accounts file, a name or a new password is not acceptable."""


@dataclass(frozen=True, slots=True)
class Account:
    digest: bytes
    salt: bytes
    n: int
    r: int
    p: int

    def matches(self, password: str) -> bool:
        return hmac.compare_digest(_hash(password, self.salt, self.n, self.r, self.p), self.digest)


_NOBODY = Account(b"\0" * 64, b"\0" * 16, _N, _R, _P)  # so that unknown names take as long as known ones


def _hash(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    secret = password.encode("utf-8", "surrogateescape")
    return hashlib.scrypt(secret, salt=salt, n=n, r=r, p=p, maxmem=256 * n * r)


class Accounts:
    """The accounts of one file. Thread-safe: what is read is replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._accounts: dict[str, Account] = {}
        self.reload()

    def reload(self) -> None:
        """Read the file if it changed. AccountsError when it cannot be read."""
        try:
            found = self._path.stat()
        except OSError as error:
            raise AccountsError(
                f"accounts file {self._path} cannot be read ({error.strerror}); "
                f"make it with: lanesync user add NAME --accounts {self._path}"
            ) from error
        if found.st_mode & stat.S_IRWXO:
            raise AccountsError(
                f"accounts file {self._path} is open to everybody; run: chmod 600 {self._path}"
            )
        stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
        if stamp != self._stamp:
            self._accounts = _read(self._path)
            self._stamp = stamp

    def verify(self, name: str, password: str) -> bool:
        """Whether name and password belong together. Takes about 50 ms of a core; call it in a thread."""
        self.reload()
        account = self._accounts.get(name, _NOBODY)
        return account.matches(password[:_MAX_PASSWORD]) and account is not _NOBODY


def add(path: Path, name: str, password: str) -> bool:
    """Add an account or change its password, atomically; True when it is new. AccountsError."""
    if _NAME.fullmatch(name) is None:
        raise AccountsError(f"{name!r} is not a user name; use letters, digits and . _ @ - (at most 64)")
    if not MIN_PASSWORD <= len(password) <= _MAX_PASSWORD:
        raise AccountsError(f"a password has {MIN_PASSWORD} to {_MAX_PASSWORD} characters")
    accounts = _load(path) if path.exists() else {}
    salt = secrets.token_bytes(16)
    is_new = name not in accounts
    digest = _hash(password, salt, _N, _R, _P).hex()
    accounts[name] = {"scrypt": digest, "salt": salt.hex(), "n": _N, "r": _R, "p": _P}
    _write(path, {"accounts": accounts})
    return is_new


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            json.dump(content, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _load(path: Path) -> dict[str, Any]:
    damaged = f"accounts file {path} is damaged; restore it, or remove it and add the accounts again"
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE + 1)
        accounts = json.loads(text)["accounts"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise AccountsError(damaged) from error
    except OSError as error:
        raise AccountsError(f"accounts file {path} cannot be read ({error.strerror})") from error
    if len(text) > _MAX_FILE or not isinstance(accounts, dict):
        raise AccountsError(damaged)
    return accounts


def _read(path: Path) -> dict[str, Account]:
    try:
        return {
            name: Account(
                bytes.fromhex(entry["scrypt"]),
                bytes.fromhex(entry["salt"]),
                entry["n"],
                entry["r"],
                entry["p"],
            )
            for name, entry in _load(path).items()
        }
    except (KeyError, TypeError, ValueError) as error:
        raise AccountsError(f"accounts file {path} has a damaged entry; add that account again") from error
