"""From what somebody typed to an object: kinds in any case, and the nearest name when there is none such."""

from __future__ import annotations

import difflib

from agent.model.outcome import LaneSyncError
from agent.model.spec import DesiredState, Key, Kind

SHOWN = 10
"""Names that are listed when none is near."""


def parse_kind(text: str) -> Kind:
    """`mapping`, `Mapping` or `mappings`. LaneSyncError with the nearest."""
    low = text.lower()
    for kind in Kind:
        if low in (kind.lower(), kind.lower() + "s"):
            return kind
    raise LaneSyncError(f"there is no kind {text!r}{_hint(text, [str(kind) for kind in Kind])}")


def parse_key(text: str) -> Key:
    """`Mapping/dailies`, whether or not there is one. LaneSyncError."""
    kind, slash, name = text.partition("/")
    if not slash or not name:
        raise LaneSyncError(f"{text!r} does not name an object; write KIND/NAME, for example Mapping/dailies")
    return Key(parse_kind(kind), name)


def find(desired: DesiredState, text: str) -> Key:
    """One of the objects in force. LaneSyncError."""
    key = parse_key(text)
    if desired.get(key) is None:
        known = [other.name for other in desired.all_keys() if other.kind is key.kind]
        raise LaneSyncError(f"there is no {key}{_hint(key.name, known, key.kind)}")
    return key


def _hint(text: str, known: list[str], kind: Kind | None = None) -> str:
    near = difflib.get_close_matches(text, known, n=1)
    if not near:
        lowered = {name.lower(): name for name in known}
        near = [lowered[name] for name in difflib.get_close_matches(text.lower(), lowered, n=1)]
    if near:
        return f"; did you mean {kind}/{near[0]}?" if kind else f"; did you mean {near[0]}?"
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return f"; known: {', '.join(known[:SHOWN]) or 'none'}{more}"
