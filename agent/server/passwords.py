"""Passwords as salted scrypt hashes. Each keeps its own cost, so that the cost of new ones can be raised."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Any

MAX_LENGTH = 1024
SHORT = 8  # what is shorter is taken, and warned of
_N, _R, _P = 16384, 8, 1
_MAX_MEMORY = 256 * 1024 * 1024
_MAX_P = 16


@dataclass(frozen=True, slots=True)
class PasswordHash:
    digest: bytes
    salt: bytes
    n: int = _N
    r: int = _R
    p: int = _P

    @property
    def cost(self) -> tuple[int, int, int]:
        return self.n, self.r, self.p

    def matches(self, password: str) -> bool:
        """Takes about 50 ms of a core; call it in a thread."""
        return hmac.compare_digest(_scrypt(password[:MAX_LENGTH], self.salt, *self.cost), self.digest)

    def as_object(self) -> dict[str, Any]:
        return {"scrypt": self.digest.hex(), "salt": self.salt.hex(), "n": self.n, "r": self.r, "p": self.p}


def make(password: str) -> PasswordHash:
    """A new hash, with a salt of its own. ValueError when the password is empty or too long."""
    if not 1 <= len(password) <= MAX_LENGTH:
        raise ValueError(f"a password has 1 to {MAX_LENGTH} characters")
    salt = secrets.token_bytes(16)
    return PasswordHash(_scrypt(password, salt, _N, _R, _P), salt)


def nobody(like: PasswordHash | None = None) -> PasswordHash:
    """What no password matches, and takes as long to find out as with `like`."""
    n, r, p = (_N, _R, _P) if like is None else like.cost
    return PasswordHash(b"\0" * 64, b"\0" * 16, n, r, p)


def from_object(entry: Any) -> PasswordHash:
    """The inverse of `as_object`. ValueError when it is damaged or would take too much memory."""
    try:
        digest, salt = bytes.fromhex(entry["scrypt"]), bytes.fromhex(entry["salt"])
        n, r, p = entry["n"], entry["r"], entry["p"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("it is not a scrypt hash") from error
    if not all(type(value) is int and value > 0 for value in (n, r, p)) or not digest or not salt:
        raise ValueError("it is not a scrypt hash")
    if n < 2 or n & (n - 1) or 128 * n * r > _MAX_MEMORY or p > _MAX_P:
        raise ValueError(f"its cost (n={n}, r={r}, p={p}) is out of bounds")
    return PasswordHash(digest, salt, n, r, p)


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    secret = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(secret, salt=salt, n=n, r=r, p=p, maxmem=256 * n * r + 1024 * 1024)
