"""Where a destination is, how it is reached, and what protects the way there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields

from agent.jetstream import constants
from agent.server.data.wire import Json


def required(min_cipher: int) -> int:
    """The level of a session that satisfies `min_cipher`. There is no "authenticated, not encrypted" in
    TLS 1.3: who asks for it gets an encrypted session."""
    if min_cipher == constants.MIN_CIPHER_UNENCRYPTED:
        return constants.MIN_CIPHER_ENCRYPTED_128
    return min_cipher


@dataclass(frozen=True, slots=True)
class Target:
    """As the control process tells the sender worker. Equal ones can share a session."""

    address: str
    port: int
    public_key: str | None = None  # what the receiver has to show, normalised; None = any key does
    authenticate: bool = False  # whether it has to
    relay_address: str = ""  # "" = reached directly
    relay_port: int = 0
    sender_port: int = 0  # 0 = any free one, -1 likewise
    min_cipher: int = 0  # the least level of any session, whatever its transfers ask for
    call_cipher: int = field(default=0, compare=False)  # the same when it carries calls (delete, ping)

    @property
    def pin(self) -> str | None:
        """The key that the receiver has to show, if any."""
        return self.public_key if self.authenticate else None

    def level(self, asked: Iterable[int]) -> int:
        """Of a session to it that carries what asks for these values of minCipher."""
        least = constants.MIN_CIPHER_NONE
        if self.pin is not None or self.relay_address:
            least = constants.MIN_CIPHER_ENCRYPTED_128
        return max(least, required(self.min_cipher), *(required(one) for one in asked))

    @property
    def shown(self) -> str:
        """For messages."""
        return f"{self.address}:{self.port}"

    @classmethod
    def parse(cls, value: Json) -> Target:
        """From a message that may hold more. TypeError when it is not complete."""
        return cls(**{each.name: value[each.name] for each in fields(cls) if each.name in value})

    def told(self) -> Json:
        return asdict(self)
