"""What the parameters of API methods may be: one converter per kind, used as `Annotated` metadata.

A converter takes a JSON value and returns the typed one, or raises ValueError whose text completes the
sentence "<parameter> must be …".
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from agent.jetstream.constants import PRIORITY_MAX, RATE_UNLIMITED

MAX_TEXT = 4096
MAX_RATE = 1e12  # kbit/s: a petabit per second
MAX_ID = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Convert:
    """Metadata of an annotated parameter type."""

    function: Callable[[Any], Any]

    def __call__(self, value: Any) -> Any:
        return self.function(value)


def to_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a string")  # noqa: TRY004 - one kind of error for callers
    if len(value) > MAX_TEXT or "\0" in value:
        raise ValueError(f"a string of at most {MAX_TEXT} characters without NUL")
    return value


def to_path(value: Any) -> str:
    """A path: text that the file system's encoding can carry (surrogate escapes for other bytes)."""
    text = to_text(value)
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise ValueError("a path whose characters the file system can carry") from None
    return text


def to_name(value: Any) -> str:
    """Text that can be stored and printed: no lone surrogates."""
    text = to_text(value)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("valid Unicode text") from None
    return text


def to_boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")  # noqa: TRY004 - one kind of error for callers
    return value


def integer(low: int, high: int) -> Callable[[Any], int]:
    def convert(value: Any) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return value

    return convert


def number(low: float, high: float) -> Callable[[Any], float]:
    def convert(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError("a number")
        if not low <= value <= high:
            raise ValueError(f"a number from {low:g} to {high:g}")
        return float(value)

    return convert


def to_rate(value: Any) -> float:
    """kbit/s above zero, or -1 for no limit."""
    rate = number(RATE_UNLIMITED, MAX_RATE)(value)
    if rate <= 0 and rate != RATE_UNLIMITED:
        raise ValueError("a rate in kbit/s above 0, or -1 for no limit")
    return rate


def to_floor(value: Any) -> float:
    """kbit/s; 0 and -1 for none."""
    rate = number(RATE_UNLIMITED, MAX_RATE)(value)
    if rate < 0 and rate != RATE_UNLIMITED:
        raise ValueError("a rate in kbit/s, 0 or -1 for none")
    return rate or RATE_UNLIMITED


def identifier(field: str) -> Callable[[Any], int]:
    """An id as decimal text or number, or a structure that holds one under `field`."""

    def convert(value: Any) -> int:
        if isinstance(value, dict):
            if field not in value:
                raise ValueError(f"an id, or a structure with {field!r}")
            value = value[field]
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19:
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_ID:
            raise ValueError(f"an id (decimal digits), or a structure with {field!r}")
        return value

    return convert


_OBJECT_FIELDS = ("transferId", "token", "manifestId", "destinationId", "connectionId")
_TOKEN = re.compile(r"[0-9a-f]{32,128}")


def to_object_id(value: Any) -> int | str:
    """The id of any object, or a token. A structure may hold the ids of others too (a transfer those of its
    manifest and destination, a token that of its manifest), hence the order."""
    field = "transferId"
    if isinstance(value, dict):
        field = next((name for name in _OBJECT_FIELDS if name in value), field)
        value = value.get(field) if field == "token" else value
    if isinstance(value, str) and _TOKEN.fullmatch(value):
        return value
    return identifier(field)(value)


def to_token(value: Any) -> str:
    """A token, or a structure that holds one."""
    found = value.get("token") if isinstance(value, dict) else value
    if not isinstance(found, str) or _TOKEN.fullmatch(found) is None:
        raise ValueError("a token (lower-case hexadecimal digits), or a structure with 'token'")
    return found


def to_text_map(value: Any) -> dict[str, str]:
    """User data: string to string, bounded."""
    if not isinstance(value, dict) or len(value) > 256:
        raise ValueError("an object of at most 256 strings")
    try:
        return {to_name(key): to_name(text) for key, text in value.items()}
    except ValueError:
        raise ValueError("an object whose keys and values are strings") from None


def to_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("an object")  # noqa: TRY004 - one kind of error for callers
    return value


def list_of_paths(limit: int) -> Callable[[Any], list[str]]:
    def convert(value: Any) -> list[str]:
        if not isinstance(value, list) or len(value) > limit:
            raise ValueError(f"a list of at most {limit} paths")
        return [to_path(item) for item in value]

    return convert


def list_of_names(limit: int) -> Callable[[Any], list[str]]:
    def convert(value: Any) -> list[str]:
        if not isinstance(value, list) or len(value) > limit:
            raise ValueError(f"a list of at most {limit} names")
        return [to_name(item) for item in value]

    return convert


def list_of_pairs(limit: int) -> Callable[[Any], list[tuple[str, str]]]:
    def convert(value: Any) -> list[tuple[str, str]]:
        if not isinstance(value, list) or len(value) > limit:
            raise ValueError(f"a list of at most {limit} pairs of paths")
        if not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
            raise ValueError("a list of pairs: [old path, new path]")
        return [(to_path(old), to_path(new)) for old, new in value]

    return convert


Text = Annotated[str, Convert(to_name)]
Path = Annotated[str, Convert(to_path)]
Names = Annotated[list[str], Convert(list_of_names(20))]
Paths = Annotated[list[str], Convert(list_of_paths(20_000))]
Pairs = Annotated[list[tuple[str, str]], Convert(list_of_pairs(10_000))]
Boolean = Annotated[bool, Convert(to_boolean)]
Count = Annotated[int, Convert(integer(0, 2**31 - 1))]
Cursor = Annotated[int, Convert(integer(0, 2**53))]
Small = Annotated[int, Convert(integer(-(2**31), 2**31 - 1))]
Seconds = Annotated[float, Convert(number(0, 10**9))]
Priority = Annotated[int, Convert(integer(0, PRIORITY_MAX))]
Port = Annotated[int, Convert(integer(1, 65535))]
SenderPort = Annotated[int, Convert(integer(-1, 65535))]
Rate = Annotated[float, Convert(to_rate)]
Floor = Annotated[float, Convert(to_floor)]
UserData = Annotated[dict[str, str], Convert(to_text_map)]
Object = Annotated[dict[str, Any], Convert(to_object)]
DestinationId = Annotated[int, Convert(identifier("destinationId"))]
ManifestId = Annotated[int, Convert(identifier("manifestId"))]
TransferId = Annotated[int, Convert(identifier("transferId"))]
ConnectionId = Annotated[int, Convert(identifier("connectionId"))]
RequestId = Annotated[int, Convert(identifier("requestId"))]
ObjectId = Annotated[int | str, Convert(to_object_id)]
TokenId = Annotated[str, Convert(to_token)]
Anything = Annotated[Any, Convert(lambda value: value)]
