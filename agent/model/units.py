"""Human units of the spec language, parsed and printed.

Internally rates are kilobits per second (the JetStream API's unit), sizes bytes, durations seconds,
proportions fractions of one.
"""

from __future__ import annotations

import re

_NUMBER = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([A-Za-z/%]*)\s*$")

_RATES = {"bit/s": 0.001, "kbit/s": 1.0, "Mbit/s": 1e3, "Gbit/s": 1e6}
_DURATIONS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES = {"B": 1.0, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "TiB": 2.0**40}
_PROPORTIONS = {"%": 0.01}


class UnitError(ValueError):
    """A value whose unit is missing or unknown; the message names the accepted units."""


def _parse(text: str, units: dict[str, float], what: str, example: str) -> float:
    match = _NUMBER.match(text)
    if match is None or match[2] not in units:
        known = ", ".join(units)
        raise UnitError(f"{text!r} is not a {what}; write a number and one of {known}, for example {example}")
    return float(match[1]) * units[match[2]]


def parse_rate(text: str) -> float:
    """`800Mbit/s` -> kilobits per second."""
    return _parse(text, _RATES, "rate", "800Mbit/s")


def parse_duration(text: str) -> float:
    """`200ms` -> seconds."""
    return _parse(text, _DURATIONS, "duration", "30s")


def parse_size(text: str) -> int:
    """`64MiB` -> bytes."""
    return int(_parse(text, _SIZES, "size", "64MiB"))


def parse_proportion(text: str) -> float:
    """`70%` -> 0.7."""
    return _parse(text, _PROPORTIONS, "proportion", "10%")


def format_rate(kbps: float) -> str:
    for unit, factor in (("Gbit/s", 1e6), ("Mbit/s", 1e3)):
        if kbps >= factor:
            return f"{kbps / factor:.3g}{unit}" if kbps / factor < 1000 else f"{kbps / factor:.0f}{unit}"
    return f"{kbps:.3g}kbit/s"


def format_size(count: float) -> str:
    """1536 -> `1.5 KiB`; the form used in tables and progress lines."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def format_duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.3g}s"
    if seconds < 3600:
        return f"{int(seconds // 60)}m{int(seconds % 60):02d}s"
    if seconds < 86400:
        return f"{int(seconds // 3600)}h{int(seconds % 3600 // 60):02d}m"
    return f"{int(seconds // 86400)}d{int(seconds % 86400 // 3600)}h"
