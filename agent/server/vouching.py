"""A server that sends to itself vouches for its own users: what they log in for once, they need not again.

The voucher of a user is a token of this launch, kept in memory. It is shown to this server alone: only where
the destination's address is, word by word, the one on which it listens.
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
from typing import Protocol


class Target(Protocol):
    @property
    def address(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def relay_address(self) -> str: ...


class Vouchers:
    """Event loop only."""

    def __init__(self, host: str) -> None:
        self._host = host
        self.port = 0  # of this server, once it listens
        self._tokens: dict[str, str] = {}
        self._users: dict[bytes, str] = {}

    def token(self, user: str, target: Target) -> str | None:
        """The user's voucher; None when the target is not this server."""
        if target.relay_address or target.port != self.port or not self._is_here(target.address):
            return None
        if user not in self._tokens:
            token = self._tokens[user] = secrets.token_hex(32)
            self._users[_digest(token)] = user
        return self._tokens[user]

    def user(self, token: str) -> str | None:
        """For whom it vouches; None for any other token."""
        return self._users.get(_digest(token))

    def _is_here(self, address: str) -> bool:
        try:
            wanted = ipaddress.ip_address("127.0.0.1" if address == "localhost" else address)
            listening = ipaddress.ip_address(self._host.partition("%")[0])
        except ValueError:
            return False
        everywhere = listening.is_unspecified and listening.version == wanted.version
        return wanted == listening or (everywhere and wanted.is_loopback)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
