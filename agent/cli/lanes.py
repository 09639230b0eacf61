"""What the live view says of lanes: who is in line where, and what each lane gets of what it should."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Document = Mapping[str, Any]


class LaneShare(NamedTuple):
    lane: str
    asked: float  # 0 to 1
    got: float  # of what moves to the destination now, 0 to 1
    rate: float  # bytes/s


def _transfers(document: Document) -> Iterator[tuple[str, Document]]:
    """(destination, transfer), of all that is on its way."""
    for thing in document["objects"]:
        for delivery in thing.get("deliveries", ()):
            for transfer in delivery["transfers"]:
                yield delivery["destination"], transfer


def places(document: Document) -> dict[str, tuple[int, int]]:
    """By id of a transfer: its place in its lane, and how many are in it. The lowest priority value goes
    first, then the oldest."""
    lines: dict[tuple[str, str], list[Document]] = defaultdict(list)
    for destination, transfer in _transfers(document):
        lines[destination, str(transfer["lane"])].append(transfer)
    found: dict[str, tuple[int, int]] = {}
    for line in lines.values():
        line.sort(key=lambda t: (int(t["priority"]), len(str(t["id"])), str(t["id"])))
        for number, transfer in enumerate(line, 1):
            found[str(transfer["id"])] = (number, len(line))
    return found


def shares(document: Document, rates: Mapping[str, float]) -> dict[str, list[LaneShare]]:
    """By destination to which something moves; `rates` are bytes/s by id of the transfer."""
    moving: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for destination, transfer in _transfers(document):
        moving[destination][str(transfer["lane"])] += rates.get(str(transfer["id"]), 0.0)
    found: dict[str, list[LaneShare]] = {}
    for thing in document["objects"]:
        lanes = moving.get(thing["name"], {}) if thing["kind"] == "Destination" else {}
        total = sum(lanes.values())
        if total > 0:
            found[thing["name"]] = [
                LaneShare(
                    lane["name"], float(lane["share"]), lanes[lane["name"]] / total, lanes[lane["name"]]
                )
                for lane in thing.get("lanes", ())
            ]
    return found
