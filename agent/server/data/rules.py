"""Which senders this receiver takes data from, and how well protected it has to be. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from agent.jetstream import marks
from agent.server.data.wire import Json, WireError


class UnauthorizedError(WireError):
    """The sender's key is not welcome here. It may have another one."""


@dataclass(frozen=True, slots=True)
class Rules:
    """As the control process tells the receiver worker."""

    min_cipher: int = 0  # the least level, of a session and of a transfer
    only_authorized: bool = False
    authorized: frozenset[str] = frozenset()  # public keys, normalised
    server: str = ""  # what to call this server in messages

    @classmethod
    def parse(cls, message: Json) -> Rules:
        """KeyError, TypeError or ValueError for a malformed message."""
        return cls(
            min_cipher=int(message["minCipher"]),
            only_authorized=bool(message["onlyAuthorized"]),
            authorized=frozenset(str(key) for key in message["authorized"]),
            server=str(message["server"]),
        )

    def told(self) -> Json:
        return {
            "minCipher": self.min_cipher,
            "onlyAuthorized": self.only_authorized,
            "authorized": sorted(self.authorized),
            "server": self.server,
        }

    def check_sender(self, peer_key: str | None) -> None:
        """UnauthorizedError that tells the sender's operator what has to be done, and where. `peer_key`: what
        the sender has shown, None in a session that is not encrypted."""
        if not self.only_authorized or peer_key in self.authorized:
            return
        if peer_key is None:
            raise UnauthorizedError(
                f"{self.server} {marks.NOT_AUTHORIZED}, and a session that is not encrypted "
                "shows no key; ask for minCipher 2 or better"
            )
        raise UnauthorizedError(
            f"{self.server} {marks.NOT_AUTHORIZED}; have this sender's key {peer_key} added "
            "there: recv.addAuthorizedClient, or --authorized-client"
        )

    def refuses(self, level: int, min_cipher: int | None = None) -> str | None:
        """Why nothing is taken in a session of this level (and for a transfer of this minCipher), if so."""
        if min_cipher is not None and min_cipher < self.min_cipher:
            return (
                f"{self.server} takes minCipher {self.min_cipher} or better, "
                f"the transfer came with {min_cipher}"
            )
        if level < self.min_cipher:
            return f"{self.server} takes minCipher {self.min_cipher} or better, the session has {level}"
        return None
