"""A row of the ledger with all that it says: what a look at the destination is compared with."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from agent.model.change import FileStat


class Origin(IntEnum):
    """How a path came into the ledger."""

    DELIVERED = 0
    KEPT = 1  # the overwrite mode left what somebody else has there
    ADOPTED = 2  # it was there already and is like the source


class Known(NamedTuple):
    path: str  # full destination path
    stat: FileStat  # the version that was read
    digest: str = ""  # of the content, as hex; empty = not known
    origin: Origin = Origin.DELIVERED
    delivered_at: float = 0.0  # Unix seconds
