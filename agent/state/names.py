"""Names of the objects that an agent has applied. Apart from the state proper: completion has to be quick."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from urllib.parse import quote

DATABASE_NAME = "agent.db"
LIMIT = 1000
_WAIT = 0.2


def applied_names(state_dir: str, beginning: str = "") -> list[str]:
    """`Kind/name` of those that begin like this, in whatever case; the first thousand. Empty when there is no
    state that we may read. Nothing is locked or written, whether an agent runs or not."""
    pattern = "".join(f"\\{c}" if c in "%_\\" else c for c in beginning) + "%"
    path = quote(os.path.abspath(os.path.join(state_dir, DATABASE_NAME)))
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=_WAIT)) as db:
            query = "SELECT key FROM applied_specs WHERE key LIKE ? ESCAPE '\\' ORDER BY key LIMIT ?"
            return [row[0] for row in db.execute(query, (pattern, LIMIT))]
    except (sqlite3.Error, UnicodeError, ValueError):
        return []
