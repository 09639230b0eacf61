"""Cutting long lists into pieces that fit one manifest and one message."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from agent.model.plan import MAX_ENTRIES

MAX_PATH_BYTES = 8 << 20
"""Most bytes of paths in one batch as JSON: half of the longest message that a server takes."""

T = TypeVar("T")


def json_length(text: str) -> int:
    """Upper bound of the length of a string as ASCII JSON."""
    if text.isascii():
        return 2 * len(text)
    return 3 * len(text.encode("utf-16-le", "surrogatepass"))


def batches(
    items: Sequence[T],
    paths: Callable[[T], tuple[str, ...]],
    max_entries: int = MAX_ENTRIES,
    max_bytes: int = MAX_PATH_BYTES,
) -> Iterator[tuple[T, ...]]:
    """The items in their order, in pieces of bounded count and bounded length of their paths."""
    start = 0
    length = 0
    for index, item in enumerate(items):
        cost = sum(map(json_length, paths(item)))
        if index > start and (index - start >= max_entries or length + cost > max_bytes):
            yield tuple(items[start:index])
            start = index
            length = 0
        length += cost
    if start < len(items):
        yield tuple(items[start:])
