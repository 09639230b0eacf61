"""Free space of a file system that receiving leaves alone."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from fractions import Fraction

_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_WRITTEN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB|%)\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reserve:
    """A share of the file system, at most so many bytes. The default is enough for a system to go on with."""

    share: float = 0.01
    most: int = 1 << 30

    def of(self, size: int) -> int:
        """Bytes that stay free of a file system of `size` bytes."""
        return min(self.most, size, int(size * self.share))  # of a huge number a float is only near


def parse(text: str) -> Reserve:
    """`50GiB` or `5%`. ValueError says what is accepted."""
    found = _WRITTEN.fullmatch(text[:100])
    if found is None:
        raise ValueError(f"{text[:100]!r} is not a size or a percentage; write for example 50GiB, 5% or 0%")
    number, unit = Fraction(found[1]), found[2]
    if unit == "%":
        if number >= 100:
            raise ValueError(f"{text} leaves no room for anything; write less than 100%")
        return Reserve(float(number / 100), sys.maxsize)
    return Reserve(1.0, min(int(number * _UNITS[unit]), sys.maxsize))
