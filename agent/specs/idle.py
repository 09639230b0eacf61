"""What is written in a spec and has no effect as the rest of it stands: valid, and said all the same. Pure.

Only what is written counts, so the document is looked at and not the spec that was built of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agent.model.spec import DriftPolicy, Kind, OnRemove, Ready
from agent.model.units import parse_duration

Path = tuple[str | int, ...]
Warned = tuple[Path, str]
"""A field, and why it has no effect with what to do about it."""


def idle(kind: Kind, data: dict[str, Any]) -> Iterator[Warned]:
    """Of a document that passed its schema and was built."""
    spec = data["spec"]
    if kind is Kind.MAPPING:
        yield from _deletions(spec)
        yield from _drift(spec)
        yield from _trigger(spec.get("trigger", {}))
        yield from _patterns(spec["paths"])
    elif kind is Kind.DESTINATION:
        for number, window in enumerate(spec.get("windows", ())):
            if "overrun" in window and "pause" not in window:
                where: Path = ("spec", "windows", number, "overrun")
                yield where, "has no effect: it is about a `pause`, and this window has a rate; leave it out"


def _deletions(spec: dict[str, Any]) -> Iterator[Warned]:
    if spec.get("prune", False):
        return
    for field in spec.get("deletions", {}):
        if field != "trash" or spec.get("onRemove") != OnRemove.DELETE:
            message = "has no effect without `prune: true`: nothing is deleted; add it, or leave this out"
            yield ("spec", "deletions", field), message


def _drift(spec: dict[str, Any]) -> Iterator[Warned]:
    given = spec.get("drift", {})
    if "interval" in given and given.get("policy") == DriftPolicy.IGNORE:
        message = "has no effect with `policy: ignore`: nobody looks; take another, or leave this out"
        yield ("spec", "drift", "interval"), message


def _trigger(given: dict[str, Any]) -> Iterator[Warned]:
    ready, here = given.get("ready", Ready.CLOSED), ("spec", "trigger")
    if ready == Ready.QUIET and "settle" in given and parse_duration(given["settle"]) == 0:
        yield (
            (*here, "ready"),
            "has no effect with `settle: 0s`: nothing is waited for; take a longer one",
        )
    if given.get("watch", True):
        return
    without = "has no effect with `watch: false`: a look takes files as they are; watch, or leave this out"
    if ready == Ready.QUIET:
        yield (*here, "ready"), without
    if "settle" in given:
        yield (*here, "settle"), without
    if "maxWait" in given and isinstance(ready, str):  # a sentinel is waited for however it is looked
        yield (*here, "maxWait"), without


def _patterns(paths: dict[str, Any]) -> Iterator[Warned]:
    """Whoever writes a whole path means the file there; to a pattern it lies below the source."""
    for key, entry in paths.items():
        source = "" if isinstance(entry, str) else entry["source"].rstrip("/")
        for field in ("include", "exclude") if source.startswith("/") else ():
            for number, pattern in enumerate(entry.get(field, ())):
                plain = pattern.removeprefix("!")
                if plain == source or plain.startswith(source + "/"):
                    message = (
                        f"matches nothing unless the source holds {plain[1:100]!r}: patterns are relative to "
                        "the source; leave its path out"
                    )
                    yield ("spec", "paths", key, field, number), message
