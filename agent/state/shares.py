"""Shared tokens that were made: where, of what, and since when. Never the token, which its server keeps."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from agent.state.connection import Database

SCHEMA = """
CREATE TABLE shares(name TEXT PRIMARY KEY, server TEXT NOT NULL, content TEXT NOT NULL,
  created_at REAL NOT NULL, files INTEGER NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Share:
    name: str
    server: str  # name of the Server object that has the token
    content: str  # digest of what cannot be changed of a token
    created_at: float  # Unix seconds; expiry counts from here, also for a token that had to be made again
    files: int


class Shares:
    def __init__(self, db: Database) -> None:
        self._db = db

    def get(self, name: str) -> Share | None:
        row = self._db.row(
            "SELECT name, server, content, created_at, files FROM shares WHERE name=?", (name,)
        )
        return None if row is None else Share(*row)

    def put(self, share: Share) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO shares VALUES(?,?,?,?,?)",
            (share.name, share.server, share.content, share.created_at, share.files),
        )

    def remove(self, name: str) -> None:
        self._db.execute("DELETE FROM shares WHERE name=?", (name,))

    def keyed(self, secret: str) -> str:
        """A digest by which a change of a secret is seen, and which says nothing of it without this state."""
        self._db.execute("INSERT OR IGNORE INTO meta VALUES('share_key', ?)", (secrets.token_hex(32),))
        row = self._db.row("SELECT value FROM meta WHERE key='share_key'")
        key = bytes.fromhex(str(row[0])) if row is not None else b""
        return hmac.new(key, secret.encode(), hashlib.sha256).hexdigest()
