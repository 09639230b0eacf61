"""The status last written, one JSON document per object and one for the agent."""

from __future__ import annotations

import json
from typing import Any

from agent.model.spec import Key
from agent.state.connection import Database

SCHEMA = """
CREATE TABLE status(key TEXT PRIMARY KEY, document TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
"""

Document = dict[str, Any]
_AGENT = ""


class StatusStore:
    def __init__(self, db: Database) -> None:
        self._db = db

    def put(self, key: Key, document: Document, now: float) -> None:
        self._put(str(key), document, now)

    def get(self, key: Key) -> Document | None:
        return self._get(str(key))

    def all(self) -> dict[Key, Document]:
        rows = self._db.rows("SELECT key, document FROM status WHERE key!=? ORDER BY key", (_AGENT,))
        return {Key.parse(row[0]): json.loads(row[1]) for row in rows}

    def remove(self, key: Key) -> None:
        self._db.execute("DELETE FROM status WHERE key=?", (str(key),))

    def put_agent(self, document: Document, now: float) -> None:
        """Facts about the whole: revisions, counts."""
        self._put(_AGENT, document, now)

    def agent(self) -> Document | None:
        return self._get(_AGENT)

    def _put(self, key: str, document: Document, now: float) -> None:
        text = json.dumps(document, ensure_ascii=True)
        self._db.execute("INSERT OR REPLACE INTO status VALUES(?,?,?)", (key, text, now))

    def _get(self, key: str) -> Document | None:
        row = self._db.row("SELECT document FROM status WHERE key=?", (key,))
        if row is None:
            return None
        document: Document = json.loads(row[0])
        return document
