"""The last applied version of every object: what `onRemove` needs when it leaves the specs."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from agent.model.outcome import PermanentError
from agent.model.spec import Key, Spec, digest
from agent.state.codec import from_json, kind_of, to_json
from agent.state.connection import Database, Row

SCHEMA = """
CREATE TABLE applied_specs(key TEXT PRIMARY KEY, spec TEXT NOT NULL, digest TEXT NOT NULL,
  revision TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class AppliedSpec:
    key: Key
    spec: Spec
    digest: str
    revision: str
    at: float


class AppliedSpecs:
    def __init__(self, db: Database) -> None:
        self._db = db
        self._keys: set[Key] | None = None  # as committed; None = to be read again

    def put(self, spec: Spec, revision: str, now: float) -> None:
        key = Key(kind_of(spec), spec.name)
        self._db.execute(
            "INSERT OR REPLACE INTO applied_specs VALUES(?,?,?,?,?)",
            (str(key), to_json(spec), digest(spec), revision, now),
        )
        self._note(key, there=True)

    def get(self, key: Key) -> AppliedSpec | None:
        row = self._db.row(
            "SELECT key, spec, digest, revision, at FROM applied_specs WHERE key=?", (str(key),)
        )
        return None if row is None else self._applied(row)

    def all(self) -> tuple[AppliedSpec, ...]:
        rows = self._db.rows("SELECT key, spec, digest, revision, at FROM applied_specs ORDER BY key")
        return tuple(self._applied(row) for row in rows)

    def keys(self) -> tuple[Key, ...]:
        return tuple(sorted(self._all_keys()))

    def other_than(self, wanted: Container[Key]) -> list[Key]:
        """Keys that are not among these. Asked whenever somebody asks how things are, so it reads no rows."""
        return sorted(key for key in self._all_keys() if key not in wanted)

    def remove(self, key: Key) -> None:
        """Its `onRemove` has been carried out."""
        self._db.execute("DELETE FROM applied_specs WHERE key=?", (str(key),))
        self._note(key, there=False)

    def _all_keys(self) -> frozenset[Key]:
        with self._db.lock:
            if self._keys is None or self._db.in_transaction:
                rows = self._db.rows("SELECT key FROM applied_specs")
                found = {Key.parse(row[0]) for row in rows}
                self._keys = None if self._db.in_transaction else found
                return frozenset(found)
            return frozenset(self._keys)

    def _note(self, key: Key, *, there: bool) -> None:
        """Of what may yet be rolled back nothing is remembered."""
        with self._db.lock:
            if self._keys is None or self._db.in_transaction:
                self._keys = None
            elif there:
                self._keys.add(key)
            else:
                self._keys.discard(key)

    def _applied(self, row: Row) -> AppliedSpec:
        key = Key.parse(row[0])
        try:
            spec = from_json(key.kind, row[1])
        except ValueError as error:
            raise PermanentError(
                f"the agent's state {self._db.path} holds a version of {key} that cannot be read ({error}); "
                "nothing was overwritten; run the version of lanesync that wrote it"
            ) from error
        return AppliedSpec(key, spec, *row[2:])
