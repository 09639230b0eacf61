"""What is known of many small deliveries in a few statements; one by one each would take half a dozen."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from agent.model.change import FileStat
from agent.state.connection import Database
from agent.state.paths import STAT_COLUMNS, to_stat

MOST_DIRECTORIES = 8
"""A delivery with rows in more is none of the small ones."""

MOST_FILES = 32
"""So many rows of one directory are read along with it."""


class KnownDirectory(NamedTuple):
    """One directory of a delivery: how many paths were delivered in it, and the listing digest last set.
    Without a digest, and where they are few, the rows by name; else none."""

    files: int
    digest: bytes | None
    rows: dict[str, FileStat]


class Small(NamedTuple):
    """A mapping of which nothing is on its way: its small deliveries, by destination and by directory, and
    the devices of its sources when they were last believed."""

    deliveries: dict[str, dict[str, KnownDirectory]]
    devices: dict[str, int]


class SmallDeliveries:
    """Reads only; written by the ledger, the roots and the attempts."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def at_rest(self, mappings: Sequence[str]) -> dict[str, Small]:
        """By mapping. To be asked of a hundred or so at once: all that is known of them is held."""
        marks = ",".join("?" * len(mappings))
        busy = {name for (name,) in self._db.rows(_BUSY.format(marks), mappings)}
        found: dict[str, Small] = {}
        for mapping, destination, path, files, digest, name, *stat in self._db.rows(
            _DIRECTORIES.format(marks), (MOST_FILES, *mappings, MOST_DIRECTORIES)
        ):
            if mapping in busy:
                continue
            delivery = found.setdefault(mapping, Small({}, {})).deliveries.setdefault(destination, {})
            directory = os.fsdecode(path)
            known = delivery.get(directory)
            if known is None:
                known = delivery[directory] = KnownDirectory(files, digest, {})
            if name is not None:
                known.rows[os.fsdecode(name)] = to_stat(tuple(stat))
        for mapping, source, device in self._db.rows(_DEVICES.format(marks), mappings):
            if mapping in found:
                found[mapping].devices[os.fsdecode(source)] = int(device)
        return found


_BUSY = "SELECT DISTINCT mapping FROM attempts WHERE mapping IN ({})"
_DEVICES = "SELECT mapping, source, device FROM roots WHERE mapping IN ({})"
_DIRECTORIES = f"""
SELECT mapping, destination, path, files, directories.digest, name, {STAT_COLUMNS} FROM deliveries
  JOIN directories ON delivery = deliveries.id
  LEFT JOIN ledger ON directory = directories.id AND directories.digest IS NULL AND files <= ?
  WHERE mapping IN ({{}})
    AND NOT EXISTS(SELECT 1 FROM directories WHERE delivery = deliveries.id LIMIT 1 OFFSET ?)
"""  # noqa: S608
