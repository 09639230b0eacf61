"""Destinations and the connections that they share."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, dataclass, replace

from agent.jetstream import constants
from agent.server.errors import CommandError, not_found
from agent.server.store import objects
from agent.server.store.scope import EVERYTHING, Scope

Lanes = tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a new transfer gets where its creator says nothing."""

    priority: int = constants.DEFAULT_PRIORITY
    flags: int = constants.DEFAULT_TRANSFER_FLAGS
    checkpoint_seconds: int = constants.DEFAULT_CHECKPOINT_FREQUENCY_SECONDS
    rate_max: float | None = None
    lane: str | None = None  # None = the default lane, or the first when there is none of that name
    overwrite: int = constants.DEFAULT_OVERWRITE_MODE
    min_cipher: int = constants.MIN_CIPHER_NONE
    time_resolution_us: int = constants.DEFAULT_FILE_TIME_RESOLUTION_MICROSECONDS


@dataclass(frozen=True, slots=True)
class Destination:
    id: int
    connection_id: int
    address: str
    port: int
    ip: str | None
    sender_port: int
    permanent: bool
    rate_max: float | None  # kbit/s
    lanes: Lanes
    defaults: Defaults
    owner: str
    created_us: int
    public_key: str | None = None  # what the receiver must show
    authenticate: bool = False
    relay_address: str = ""
    relay_port: int = 0
    owner_token: str | None = None
    owner_session: str | None = None

    @property
    def default_lane(self) -> str:
        names = [name for name, _ in self.lanes]
        for name in (self.defaults.lane, constants.DEFAULT_PRIORITY_LANE):
            if name in names:
                return name
        return names[0]


@dataclass(frozen=True, slots=True)
class Connection:
    id: int
    address: str
    port: int
    ip: str | None
    rate_min: float | None
    rate_max: float | None
    rate: float | None
    rate_control: bool
    rate_method: int
    relay_address: str
    relay_port: int


_FIELDS = tuple(Destination.__dataclass_fields__)
_COLUMNS = ", ".join(_FIELDS)
_CONNECTION = ", ".join(Connection.__dataclass_fields__)
_WAY = ("address", "port", "sender_port", "public_key", "authenticate", "relay_address", "relay_port")
_SAME = " AND ".join(f"{field} IS ?" for field in (*_WAY, "owner", "owner_token"))


def _destination(row: tuple[object, ...]) -> Destination:
    made = Destination(*row)  # type: ignore[arg-type]
    return replace(
        made,
        permanent=bool(made.permanent),
        authenticate=bool(made.authenticate),
        lanes=tuple((name, share) for name, share in json.loads(str(made.lanes))),
        defaults=Defaults(**json.loads(str(made.defaults))),
    )


def create(
    connection: sqlite3.Connection,
    destination: Destination,
    *,
    exclusive: bool,
    make_permanent: bool,
) -> tuple[Destination, bool]:
    """(the destination, whether it is new). `id` and `connection_id` of the argument are ignored. Without
    `exclusive` an existing one that is reached in the same way is returned, made permanent if asked."""
    found = None if exclusive else _match(connection, destination)
    if found is not None:
        if make_permanent and not found.permanent:
            connection.execute("UPDATE destinations SET permanent=1 WHERE id=?", (found.id,))
            found = replace(found, permanent=True)
        return found, False
    made = replace(
        destination,
        id=objects.new_id(connection, "destination"),
        connection_id=_connection_for(connection, destination),
    )
    values = asdict(made) | {"lanes": json.dumps(made.lanes), "defaults": json.dumps(asdict(made.defaults))}
    marks = ",".join("?" * len(_FIELDS))
    connection.execute(
        f"INSERT INTO destinations({_COLUMNS}) VALUES ({marks})",  # noqa: S608
        [values[field] for field in _FIELDS],
    )
    return made, True


def _match(connection: sqlite3.Connection, wanted: Destination) -> Destination | None:
    """The oldest destination that is reached in the same way, by the same owner."""
    query = f"SELECT {_COLUMNS} FROM destinations WHERE {_SAME} ORDER BY id LIMIT 1"  # noqa: S608
    values = [getattr(wanted, field) for field in (*_WAY, "owner", "owner_token")]
    row = connection.execute(query, values).fetchone()
    return None if row is None else _destination(row)


def _connection_for(connection: sqlite3.Connection, destination: Destination) -> int:
    address = destination.ip or destination.address
    key = (address, destination.port, destination.relay_address, destination.relay_port)
    query = "SELECT id FROM connections WHERE address=? AND port=? AND relay_address=? AND relay_port=?"
    row = connection.execute(query, key).fetchone()
    if row is not None:
        return int(row[0])
    made = objects.new_id(connection, "connection")
    connection.execute(
        "INSERT INTO connections(id, address, port, relay_address, relay_port, ip) VALUES (?,?,?,?,?,?)",
        (made, *key, destination.ip),
    )
    return made


def get(connection: sqlite3.Connection, destination_id: int, scope: Scope = EVERYTHING) -> Destination:
    """CommandError when there is no such destination in the scope."""
    query = f"SELECT {_COLUMNS} FROM destinations WHERE id=?"  # noqa: S608
    row = connection.execute(query, (destination_id,)).fetchone()
    found = None if row is None else _destination(row)
    if found is None or not scope.sees(found):
        objects.require_kind(connection, destination_id, "destination", scope)
        raise not_found("destination", destination_id)
    return found


def get_all(connection: sqlite3.Connection, limit: int = 0, scope: Scope = EVERYTHING) -> list[Destination]:
    """In order of creation; limit 0 = all."""
    seen, values = scope.condition()
    query = f"SELECT {_COLUMNS} FROM destinations WHERE {seen} ORDER BY id LIMIT ?"  # noqa: S608
    return [_destination(row) for row in connection.execute(query, (*values, limit or -1))]


def update(
    connection: sqlite3.Connection,
    destination_id: int,
    *,
    lanes: Lanes | None = None,
    defaults: Defaults | None = None,
) -> None:
    if lanes is not None:
        connection.execute("UPDATE destinations SET lanes=? WHERE id=?", (json.dumps(lanes), destination_id))
    if defaults is not None:
        text = json.dumps(asdict(defaults))
        connection.execute("UPDATE destinations SET defaults=? WHERE id=?", (text, destination_id))


def set_rate(connection: sqlite3.Connection, destination_id: int, rate_max: float | None) -> None:
    """A connection's lowest and its actual rate come down with what its destinations may have together."""
    connection.execute("UPDATE destinations SET rate_max=? WHERE id=?", (rate_max, destination_id))
    way = "connection_id=(SELECT connection_id FROM destinations WHERE id=?)"
    query = f"SELECT connection_id, rate_max FROM destinations WHERE {way}"  # noqa: S608
    rows = connection.execute(query, (destination_id,)).fetchall()
    if rows and all(rate is not None for _, rate in rows):
        most = sum(rate for _, rate in rows)
        connection.execute(
            "UPDATE connections SET rate_min=min(rate_min, ?), rate=min(rate, ?) WHERE id=?",
            (most, most, rows[0][0]),
        )


def delete(connection: sqlite3.Connection, destination: Destination) -> None:
    """The row alone (its transfers go first), and its connection when nobody else shares it."""
    connection.execute("DELETE FROM destinations WHERE id=?", (destination.id,))
    objects.forget(connection, destination.id)
    shared = connection.execute(
        "SELECT 1 FROM destinations WHERE connection_id=? LIMIT 1", (destination.connection_id,)
    ).fetchone()
    if shared is None:
        connection.execute("DELETE FROM connections WHERE id=?", (destination.connection_id,))
        objects.forget(connection, destination.connection_id)


def _make_connection(row: tuple[object, ...]) -> Connection:
    made = Connection(*row)  # type: ignore[arg-type]
    return replace(made, rate_control=bool(made.rate_control))


def get_connection(
    connection: sqlite3.Connection, connection_id: int, scope: Scope = EVERYTHING
) -> Connection:
    """CommandError when there is no such connection, or no destination of the scope uses it."""
    seen, values = _shared(scope)
    query = f"SELECT {_CONNECTION} FROM connections WHERE id=? AND {seen}"  # noqa: S608
    row = connection.execute(query, (connection_id, *values)).fetchone()
    if row is None:
        objects.require_kind(connection, connection_id, "connection", scope)
        raise not_found("connection", connection_id)
    return _make_connection(row)


def get_connections(
    connection: sqlite3.Connection, limit: int = 0, scope: Scope = EVERYTHING
) -> list[Connection]:
    seen, values = _shared(scope)
    query = f"SELECT {_CONNECTION} FROM connections WHERE {seen} ORDER BY id LIMIT ?"  # noqa: S608
    return [_make_connection(row) for row in connection.execute(query, (*values, limit or -1))]


def _shared(scope: Scope) -> tuple[str, tuple[object, ...]]:
    """A connection has no owner: it is seen by whoever has a destination that uses it."""
    if scope == EVERYTHING:
        return "1", ()
    seen, values = scope.condition()
    return f"id IN (SELECT connection_id FROM destinations WHERE {seen})", values  # noqa: S608


def require_sole_use(connection: sqlite3.Connection, connection_id: int, scope: Scope) -> None:
    """Before a connection is changed. CommandError when destinations outside of the scope use it."""
    seen, values = scope.condition()
    others = connection.execute(
        f"SELECT 1 FROM destinations WHERE connection_id=? AND NOT {seen} LIMIT 1",  # noqa: S608
        (connection_id, *values),
    ).fetchone()
    if others is not None:
        raise CommandError(
            f"connection {connection_id} carries destinations of others too; a superuser may change it, or "
            "limit your destination with setSendRateMax"
        )


def put_connection(connection: sqlite3.Connection, changed: Connection) -> None:
    connection.execute(
        "UPDATE connections SET rate_min=?, rate_max=?, rate=?, rate_control=?, rate_method=? WHERE id=?",
        (
            changed.rate_min,
            changed.rate_max,
            changed.rate,
            changed.rate_control,
            changed.rate_method,
            changed.id,
        ),
    )
