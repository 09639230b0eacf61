"""What alerts watch and what they have told: so that a restart neither repeats nor forgets anything.

An alert has at most one message on its way; what happens meanwhile is in its instances and goes into the
next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.model.spec import AlertOn
from agent.planning.alerts import Fact, Id, Instance
from agent.state.connection import Database, Row

SCHEMA = """
CREATE TABLE alert_instances(alert TEXT NOT NULL, object TEXT NOT NULL, what TEXT NOT NULL,
  since REAL NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL, told_at REAL, ended REAL,
  PRIMARY KEY(alert, object, what)) WITHOUT ROWID;
CREATE TABLE alert_messages(alert TEXT PRIMARY KEY, id TEXT NOT NULL, body TEXT NOT NULL,
  tries INTEGER NOT NULL, next_at REAL NOT NULL, last_error TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE alert_sent(alert TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message that is to be sent until it is taken, always with the same id and text."""

    alert: str
    id: str
    body: str
    tries: int = 0
    next_at: float = 0.0
    last_error: str = ""


class Alerts:
    def __init__(self, db: Database) -> None:
        self._db = db

    def instances(self, alert: str) -> dict[Id, Instance]:
        rows = self._db.rows(
            "SELECT object, what, since, reason, message, told_at, ended FROM alert_instances WHERE alert=?",
            (alert,),
        )
        return {found.id: found for found in map(_instance, rows)}

    def update(self, alert: str, before: Mapping[Id, Instance], after: Mapping[Id, Instance]) -> None:
        """Write down what differs."""
        gone = [(alert, *id_) for id_ in before if id_ not in after]
        new = [i for id_, i in after.items() if before.get(id_) != i]
        if not gone and not new:
            return
        with self._db.transaction():
            self._db.execute_many("DELETE FROM alert_instances WHERE alert=? AND object=? AND what=?", gone)
            self._db.execute_many(
                "INSERT OR REPLACE INTO alert_instances VALUES(?,?,?,?,?,?,?,?)",
                [(alert, *i.id, i.since, *i.fact, i.told_at, i.ended) for i in new],
            )

    def send(
        self, message: Outgoing, before: Mapping[Id, Instance], after: Mapping[Id, Instance], now: float
    ) -> None:
        """A message is owed, and what it tells counts as told: one transaction."""
        with self._db.transaction(durable=True):
            self.update(message.alert, before, after)
            self._db.execute(
                "INSERT INTO alert_messages VALUES(?,?,?,?,?,?)",
                (message.alert, message.id, message.body, 0, now, ""),
            )
            self._db.execute("INSERT OR REPLACE INTO alert_sent VALUES(?,?)", (message.alert, now))

    def last_sent(self, alert: str) -> float:
        """Unix seconds; 0 = nothing was ever sent."""
        row = self._db.row("SELECT at FROM alert_sent WHERE alert=?", (alert,))
        return 0.0 if row is None else float(row[0])

    def outgoing(self, alert: str) -> Outgoing | None:
        row = self._db.row(
            "SELECT alert, id, body, tries, next_at, last_error FROM alert_messages WHERE alert=?", (alert,)
        )
        return None if row is None else Outgoing(*row)

    def done(self, message: Outgoing) -> None:
        self._db.execute("DELETE FROM alert_messages WHERE alert=? AND id=?", (message.alert, message.id))

    def failed(self, message: Outgoing, error: str, next_at: float) -> None:
        self._db.execute(
            "UPDATE alert_messages SET tries=tries+1, last_error=?, next_at=? WHERE alert=? AND id=?",
            (error, next_at, message.alert, message.id),
        )

    def drop(self, alert: str) -> None:
        """The alert is gone."""
        with self._db.transaction():
            self._db.execute("DELETE FROM alert_instances WHERE alert=?", (alert,))
            self._db.execute("DELETE FROM alert_messages WHERE alert=?", (alert,))
            self._db.execute("DELETE FROM alert_sent WHERE alert=?", (alert,))


def _instance(row: Row) -> Instance:
    object_, what, since, reason, message, told_at, ended = row
    return Instance(Id(object_, AlertOn(what)), since, Fact(reason, message), told_at, ended)
