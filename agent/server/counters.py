"""What is counted of a transfer, as workers report it and the store keeps it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields
from typing import Any

BLOCK_SIZE = 256  # documented


def blocks(size: int) -> int:
    """Of `size` bytes; the last one may be short."""
    return -(-size // BLOCK_SIZE)


@dataclass(slots=True)
class Counters:
    """They only grow, but for what a receiver lost again (`bytes_done`, `files_done`)."""

    bytes_sent: int = 0  # content, with what was sent again
    bytes_done: int = 0  # of files that the receiver is through with
    files_done: int = 0
    packets_sent: int = 0  # frames that carried content, or named some
    packets_recv: int = 0  # frames of the receiver about it
    bytes_recv: int = 0  # of those frames
    blocks_resent: int = 0  # presumed lost: damaged, or not there after a break
    bytes_matched: int = 0  # content that the receiver had in an older version of the file

    def told(self) -> dict[str, int]:
        """As they go with a message."""
        return {name: getattr(self, field) for name, field in _WORDS.items()}

    def row(self) -> tuple[int, ...]:
        """In the order of the fields, for messages about many transfers."""
        return astuple(self)

    @classmethod
    def parse(cls, message: Mapping[str, Any]) -> Counters:
        """What a message tells; what it does not is 0. TypeError or ValueError when it makes no sense."""
        return cls(*(int(message.get(name) or 0) for name in _WORDS))

    @classmethod
    def of_row(cls, values: Iterable[Any]) -> Counters:
        return cls(*(int(value) for value in values))


_WORDS = {
    part[0] + "".join(word.title() for word in part[1:]): field.name
    for field in fields(Counters)
    for part in [field.name.split("_")]
}
"""Names in messages (bytesSent) -> fields."""
