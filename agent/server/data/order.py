"""What the control process wants sent, and how the receiver is told of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.jetstream import constants
from agent.server.counters import Counters
from agent.server.data.wire import Json


@dataclass(frozen=True, slots=True)
class Order:
    """One `start` message."""

    id: str
    uid: str
    destination_id: str
    manifest_id: int
    destination_path: str
    lane: str
    priority: int
    rate: float | None
    flags: int
    overwrite: int
    checkpoint_seconds: float
    time_resolution_us: int
    timeout_seconds: float
    counters: Counters  # before: counted on from there
    min_cipher: int = 0  # the least protection of a session that carries it
    user: str | None = None  # whom the receiver is to take it from
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, message: Json) -> Order:
        """KeyError or ValueError when the message is not a complete `start`."""
        return cls(
            id=str(message["id"]),
            uid=str(message["uid"]),
            destination_id=str(message["destinationId"]),
            manifest_id=int(message["manifestId"]),
            destination_path=str(message["destinationPath"] or "/"),
            lane=str(message["lane"]),
            priority=int(message["priority"]),
            rate=message["rate"],
            flags=int(message["flags"]),
            overwrite=int(message["overwriteMode"]),
            checkpoint_seconds=float(message["checkpointSeconds"] or 0),
            time_resolution_us=int(message["timeResolutionUs"] or 0),
            timeout_seconds=float(message["timeoutSeconds"] or 0),
            counters=Counters.parse(message.get("counters") or {}),
            min_cipher=int(message.get("minCipher") or 0),
            user=message.get("user"),
            password=message.get("password"),
            token=message.get("token"),
        )

    @property
    def reads(self) -> bool:
        """Else zeros are sent in the place of the sources' content."""
        return bool(self.flags & constants.TRANSFER_FLAG_READ)

    @property
    def skips_vanished(self) -> bool:
        """A source that is gone is left out; else it is a failure."""
        return bool(self.flags & constants.TRANSFER_FLAG_SKIP_VANISHED)

    @property
    def as_set(self) -> bool:
        """Nothing is published before all of it is at the receiver."""
        asked = constants.TRANSFER_FLAG_SET | constants.TRANSFER_FLAG_READ | constants.TRANSFER_FLAG_WRITE
        return self.flags & asked == asked

    @property
    def needs(self) -> dict[str, str]:
        """Features that the receiver must have, and what in a spec asks for them."""
        asked = {
            "sets": (constants.TRANSFER_FLAG_SET, "publish: set"),
            "strict": (constants.TRANSFER_FLAG_STRICT, "durability: strict"),
        }
        return {feature: field for feature, (flag, field) in asked.items() if self.flags & flag}

    @property
    def secret(self) -> bool:
        """Whether the receiver is shown what nobody else may see."""
        return bool(self.password or self.token)

    def opening(self, total_size: int) -> Json:
        """The content of an OPEN frame."""
        value: Json = {
            "uid": self.uid,
            "destinationPath": self.destination_path,
            "overwriteMode": self.overwrite,
            "flags": self.flags,
            "timeResolutionUs": self.time_resolution_us,
            "totalSize": total_size,
            "minCipher": self.min_cipher,
        }
        return value | self.credentials()

    def credentials(self) -> Json:
        """What the receiver is shown, as far as there is something."""
        given = {"user": self.user, "password": self.password, "token": self.token}
        return {name: text for name, text in given.items() if text is not None}


def too_old(field: str) -> str:
    """What is wrong with a receiver that lacks what a spec asks for."""
    return f"the destination's server does not know `{field}`; bring it to a newer version, or leave that out"
