"""How `agent.db` came to be what it is: a step for each change of its tables, the oldest first.

A file's version is the number of steps that were made with it (`PRAGMA user_version`). A new file is made by
all of them, an older one by those it lacks, in one transaction, so both end with the same tables.

To change the tables, append a step: SQL, or a function for what SQL cannot do. A step that has landed is
never edited, moved or removed, for there are files that it has made. Prefer steps that add: a table, an
index, a column with a default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from agent.state import (
    alerts,
    approvals,
    attempts,
    audit,
    events,
    hooks,
    ledger,
    looks,
    overrides,
    receipts,
    released,
    roots,
    shares,
    specs,
    status,
    tombstones,
    turns,
    uncertain,
)
from agent.state.connection import Database


class Step(NamedTuple):
    what: str  # what the agent remembers from here on
    make: str | Callable[[Database], None]  # SQL, or what a function does inside the transaction


_META = "CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
_FIRST = (ledger, attempts, roots, approvals, overrides, specs, status, events)

STEPS: tuple[Step, ...] = (
    Step("deliveries, decisions and events", _META + "".join(module.SCHEMA for module in _FIRST)),
    Step("calls of hooks", hooks.SCHEMA),  # files of version 1 may have them, too
    Step("the audit trail", audit.SCHEMA),
    Step("looks at destinations", looks.SCHEMA),
    Step("what alerts watch and have told", alerts.SCHEMA),
    Step("where a renamed file was, and since when one is gone", ledger.INODES + tombstones.SCHEMA),
    Step("looks at sources by the clock", turns.SCHEMA),
    Step("receipts of what was delivered", receipts.SCHEMA),
    Step("shared tokens that were made", shares.SCHEMA),
    Step("attempts by the ids that servers gave them", attempts.BY_TRANSFER),
    Step("which source files were released", released.SCHEMA),
    Step("of which standstill a hook was told", hooks.STALLED),
    Step("files of which nobody heard whether they were delivered", uncertain.SCHEMA),
)

SCHEMA_VERSION = len(STEPS)


def bring_up_to_date(db: Database, version: int, until: int = SCHEMA_VERSION) -> None:
    """Make the steps that a file of this version lacks. All or nothing, and on storage when it returns."""
    if version == until:
        return
    with db.transaction(durable=True):
        for step in STEPS[version:until]:
            if isinstance(step.make, str):
                for statement in _statements(step.make):
                    db.execute(statement)
            else:
                step.make(db)
        db.execute(f"PRAGMA user_version={until}")


def _statements(script: str) -> Iterator[str]:
    """Split a script; a trigger's body holds semicolons of its own."""
    part = ""
    for piece in script.split(";"):
        part += piece + ";"
        if "CREATE TRIGGER" in part and not piece.strip().endswith("END"):
            continue
        if part.strip(" \n;"):
            yield part
        part = ""
