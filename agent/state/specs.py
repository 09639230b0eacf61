"""The last applied version of every object: what `onRemove` needs when it leaves the specs."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from agent.model.outcome import PermanentError
from agent.model.spec import Key, Spec, digest
from agent.state.codec import from_json, kind_of, to_json
from agent.state.connection import Database, Row

SCHEMA = """
CREATE TABLE applied_specs(key TEXT PRIMARY KEY, spec TEXT NOT NULL, digest TEXT NOT NULL,
  revision TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
"""

_TOGETHER = 500  # of one statement


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
        self._digests: dict[Key, str] | None = None  # as committed; None = to be read again
        self._others: tuple[Container[Key], list[Key]] | None = None  # the last answer, while it holds

    def put(self, spec: Spec, revision: str, now: float) -> None:
        key = Key(kind_of(spec), spec.name)
        self._db.execute(
            "INSERT OR REPLACE INTO applied_specs VALUES(?,?,?,?,?)",
            (str(key), to_json(spec), digest(spec), revision, now),
        )
        self._note(key, digest(spec))

    def get(self, key: Key) -> AppliedSpec | None:
        row = self._db.row(
            "SELECT key, spec, digest, revision, at FROM applied_specs WHERE key=?", (str(key),)
        )
        return None if row is None else self._applied(row)

    def of(self, keys: Sequence[Key]) -> list[AppliedSpec]:
        """Those of these that there are, in their order, in a few statements."""
        found: list[AppliedSpec] = []
        for start in range(0, len(keys), _TOGETHER):
            some = [str(key) for key in keys[start : start + _TOGETHER]]
            rows = self._db.rows(
                "SELECT key, spec, digest, revision, at FROM applied_specs"  # noqa: S608
                f" WHERE key IN ({','.join('?' * len(some))})",
                some,
            )
            there = {row[0]: row for row in rows}
            found += [self._applied(there[key]) for key in some if key in there]
        return found

    def all(self) -> tuple[AppliedSpec, ...]:
        rows = self._db.rows("SELECT key, spec, digest, revision, at FROM applied_specs ORDER BY key")
        return tuple(self._applied(row) for row in rows)

    def keys(self) -> tuple[Key, ...]:
        with self._db.lock:
            return tuple(sorted(self._all()))

    def digest(self, key: Key) -> str | None:
        """Of the version that was applied last. Asked at every turn of an object, so it reads no rows."""
        with self._db.lock:
            return self._all().get(key)

    def other_than(self, wanted: Container[Key]) -> list[Key]:
        """Keys that are not among these, which must not change afterwards. Asked whenever somebody asks how
        things are, so it reads no rows, and of thousands of keys none twice."""
        with self._db.lock:
            if self._others is not None and self._others[0] is wanted and not self._db.in_transaction:
                return list(self._others[1])
            found = sorted(key for key in self._all() if key not in wanted)
            self._others = None if self._db.in_transaction else (wanted, found)
            return list(found)

    def remove(self, key: Key) -> None:
        """Its `onRemove` has been carried out."""
        self._db.execute("DELETE FROM applied_specs WHERE key=?", (str(key),))
        self._note(key, None)

    def _all(self) -> dict[Key, str]:
        """Under the lock. Of what may yet be rolled back nothing is remembered."""
        if self._digests is not None and not self._db.in_transaction:
            return self._digests
        rows = self._db.rows("SELECT key, digest FROM applied_specs")
        found = {Key.parse(key): str(value) for key, value in rows}
        self._digests = None if self._db.in_transaction else found
        return found

    def _note(self, key: Key, value: str | None) -> None:
        with self._db.lock:
            self._others = None
            if self._digests is None or self._db.in_transaction:
                self._digests = None
            elif value is not None:
                self._digests[key] = value
            else:
                self._digests.pop(key, None)

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
