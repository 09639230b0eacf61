"""What a transfer's request says of its files: in which order they appear, and what links say."""

from __future__ import annotations

import os
from collections.abc import Iterable

from agent.engines.port import Entry
from agent.model.change import Change, FileKind
from agent.model.observed import Capabilities
from agent.model.outcome import PermanentError
from agent.model.spec import DestinationSpec, Durability, MappingSpec, Publish
from agent.source.filters import Filter


def entries_of(changes: Iterable[Change], executable: bool, spec: MappingSpec | None) -> tuple[Entry, ...]:
    """In the order of the changes, but for marker files, which come last: a set appears in this order."""
    entries = [_entry(change, executable) for change in changes]
    if spec is None or spec.marker is None:
        return tuple(entries)
    marker, above = Filter(include=(spec.marker,)), spec.destination_path.rstrip("/") + "/"
    return tuple(sorted(entries, key=lambda entry: marker.includes(entry.path.removeprefix(above), False)))


def require_able(
    can: Capabilities, changes: Iterable[Change], spec: MappingSpec | None, destination: DestinationSpec
) -> None:
    """PermanentError for what the engine cannot carry out: it would be sent in another way than asked."""
    asked = {
        "transferDefaults.durability: strict": (
            destination.transfer_defaults.durability is Durability.STRICT,
            can.strict,
        ),
        "publish: set": (spec is not None and spec.publish is Publish.SET, can.sets),
        "symlinks: preserve": (any(c.stat.kind is FileKind.SYMLINK for c in changes), can.links),
    }
    missing = [f"`{field}`" for field, (wanted, able) in asked.items() if wanted and not able]
    if missing:
        raise PermanentError(
            f"{' and '.join(missing)} cannot be carried out by the server of Destination/{destination.name}, "
            "so nothing is sent; leave it out, or use a server of this version"
        )


def _entry(change: Change, executable: bool) -> Entry:
    return Entry(
        path=change.path,
        source=change.source,
        size=change.stat.size,
        is_directory=change.stat.kind is FileKind.EMPTY_DIRECTORY,
        executable=executable and change.stat.executable,
        link=_says(change.source) if change.stat.kind is FileKind.SYMLINK else "",
    )


def _says(path: str) -> str:
    """What a link says now; the sender reads it again when its turn comes, and finds out if it is gone."""
    try:
        return os.readlink(path)
    except OSError:
        return "."
