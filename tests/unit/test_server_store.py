"""What the server remembers, and what it forgets."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.jetstream import constants
from agent.server import collect
from agent.server.clock import since_request
from agent.server.errors import CommandError, StartError
from agent.server.store import destinations, manifests, objects, requests, schema, transfers
from agent.server.store.destinations import Defaults, Destination
from agent.server.store.manifests import KIND_FILE, Entry
from agent.server.store.scope import Owner
from agent.server.store.transfers import Transfer

HOUR = 3600 * 1_000_000
NOW = 1_000_000 * HOUR


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = schema.open_database(tmp_path / "server.db")
    yield connection
    connection.close()


def _destination(db: sqlite3.Connection, *, permanent: bool = False, created: int = 0) -> Destination:
    wanted = Destination(
        0, 0, "host", 8886, None, 0, permanent, None, (("A", 1.0),), Defaults(), "me", created
    )
    return destinations.create(db, wanted, exclusive=True, make_permanent=permanent)[0]


def _manifest(db: sqlite3.Connection, files: int = 3, created: int = 0) -> int:
    made = manifests.create(db, Owner("me"), created)
    entries = [Entry(f"/{number}", "/s", KIND_FILE, 1, executable=False) for number in range(files)]
    manifests.add_files(db, made.id, 0, entries)
    manifests.finish(db, made.id, files, files, "")
    return made.id


def _transfer(db: sqlite3.Connection, destination: int, manifest: int, status: str, end: int | None) -> int:
    made = Transfer(
        id=0,
        uid=f"{destination}-{manifest}-{status}-{end}",
        destination_id=destination,
        manifest_id=manifest,
        status=status,
        owner="me",
        destination_path="/\udcff",
        lane="A",
        priority=100,
        rate_max=None,
        flags=7,
        overwrite=constants.OVERWRITE_ALWAYS,
        checkpoint_seconds=30,
        time_resolution_us=0,
        timeout_seconds=0,
        total_files=3,
        total_size=3,
        request_us=0,
        request_clock_us=0,
        end_us=end,
    )
    return transfers.create(db, made).id


def test_ids_are_of_one_sequence_and_never_used_again(db: sqlite3.Connection) -> None:
    """An id says what it is, also when its object is gone."""
    first = _manifest(db)
    manifests.delete(db, first)
    second = _destination(db)
    assert second.connection_id > first and second.id > first
    with pytest.raises(CommandError, match=f"{second.id} is the id of a destination, not of a manifest"):
        manifests.get(db, second.id)
    with pytest.raises(CommandError, match=f"manifest {first} was not found"):
        manifests.get(db, first)


def test_paths_of_any_bytes_come_back(db: sqlite3.Connection) -> None:
    """Surrogate escapes are stored as the bytes they stand for."""
    transfer = transfers.get(db, _transfer(db, 1, 2, "pending", None))
    assert transfer.destination_path == "/\udcff"
    (stored,) = db.execute("SELECT destination_path FROM transfers").fetchone()
    assert stored == b"/\xff"


def test_files_are_numbered_in_their_order_however_many_there_are(db: sqlite3.Connection) -> None:
    made = manifests.create(db, Owner("me"), 0)
    entries = [Entry(f"/{n}\udcff", f"/s/{n}", KIND_FILE, n, n % 2 == 0, n or None) for n in range(507)]
    manifests.add_files(db, made.id, 0, entries[:250])
    manifests.add_files(db, made.id, 250, iter(entries[250:]))
    manifests.add_files(db, made.id, 507, [])
    assert list(manifests.files(db, made.id, -1, 1000)) == list(enumerate(entries))


def test_files_of_a_deleted_manifest_stay_while_a_transfer_uses_them(db: sqlite3.Connection) -> None:
    """They go, a part at a time, with the last transfer."""
    manifest = _manifest(db, files=5)
    transfer = _transfer(db, _destination(db).id, manifest, "complete", NOW)
    manifests.delete(db, manifest)
    assert not manifests.purge(db, 2)
    assert len(list(manifests.files(db, manifest, -1, 10))) == 5
    transfers.delete(db, transfer)
    rounds = 0
    while manifests.purge(db, 2):
        rounds += 1
    assert rounds >= 3
    assert db.execute("SELECT count(*) FROM manifest_files").fetchone() == (0,)
    assert db.execute("SELECT count(*) FROM manifests").fetchone() == (0,)


def test_collection_takes_what_is_old_and_unused(db: sqlite3.Connection) -> None:
    """48 hours after their end or creation; never what is active, suspended, used or permanent."""
    old, young = NOW - 49 * HOUR, NOW - 47 * HOUR
    idle, permanent = _destination(db, created=old), _destination(db, permanent=True, created=old)
    busy = _destination(db, created=old)
    used, unused, fresh = _manifest(db, created=old), _manifest(db, created=old), _manifest(db, created=young)
    ended = _transfer(db, permanent.id, used, "complete", old)
    kept = [
        _transfer(db, busy.id, used, "error", young),
        _transfer(db, busy.id, used, "suspended", None),
        _transfer(db, busy.id, used, "sending", None),
    ]
    removed = collect.collect(db, NOW)
    assert removed == collect.Collected([ended], [unused], [idle.id])
    assert [row.id for row in transfers.get_all(db)] == kept
    assert [row.id for row in manifests.get_all(db, None, None, None)] == [used, fresh]
    assert [row.id for row in destinations.get_all(db)] == [permanent.id, busy.id]


def test_request_records_expire_after_an_hour(db: sqlite3.Connection) -> None:
    """A pending request is kept however old it is; the message about a forgotten one says why."""
    done, pending = requests.create(db, "m", Owner("me"), 0), requests.create(db, "m", Owner("me"), 0)
    requests.finish(db, done, {"x": 1}, None, NOW - HOUR - 1)
    collect.collect(db, NOW)
    assert requests.get(db, pending).processing
    with pytest.raises(CommandError, match="kept for an hour"):
        requests.get(db, done)


def test_a_restart_resumes_what_was_sending(db: sqlite3.Connection) -> None:
    """Other states are as they were."""
    ids = {
        status: _transfer(db, 1, 2, status, None)
        for status in ("pending", "sending", "suspended", "complete")
    }
    transfers.restart(db)
    found = {status: transfers.get(db, transfer_id).status for status, transfer_id in ids.items()}
    assert found == {
        "pending": "pending",
        "sending": "resuming",
        "suspended": "suspended",
        "complete": "complete",
    }
    assert [row.id for row in transfers.active(db)] == [ids["pending"], ids["sending"]]


def test_a_jump_of_the_wall_clock_does_not_change_durations(db: sqlite3.Connection) -> None:
    """Times of a transfer are its request time plus steady time; a reboot keeps its age once."""

    class Clock:
        def wall_us(self) -> int:
            return 5

        def steady_us(self) -> int:
            return 700

    transfer_id = _transfer(db, 1, 2, "pending", None)
    assert since_request(1_000, 500, Clock()) == 1_200
    transfers.rebase_clock(db, 400, 50)
    rebased = transfers.get(db, transfer_id)
    assert since_request(rebased.request_us, rebased.request_clock_us, Clock()) == 400 + 650


def test_user_data_is_bounded(db: sqlite3.Connection) -> None:
    """One object holds so many keys and no more."""
    manifest = _manifest(db)
    objects.set_user_data(db, manifest, {str(number): "" for number in range(objects.MAX_KEYS)})
    with pytest.raises(CommandError, match="more than"):
        objects.set_user_data(db, manifest, {"more": ""})


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    """An older program does not touch it, and says what to do."""
    path = tmp_path / "server.db"
    connection = schema.open_database(path)
    connection.execute(f"PRAGMA user_version={schema.SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(StartError, match="newer version"):
        schema.open_database(path)


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    """Its tables are left alone."""
    path = tmp_path / "server.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs(x)")
    other.close()
    with pytest.raises(StartError, match="not a database of this program"):
        schema.open_database(path)


def test_a_database_of_an_earlier_version_is_brought_up_to_date_with_all_it_holds(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "server.db")
    old.executescript(f"{schema._STEPS[0]} PRAGMA user_version=1;")
    old.execute("INSERT INTO objects(id, kind) VALUES (1, 'connection'), (2, 'destination')")
    old.execute("INSERT INTO connections(id, address, port) VALUES (1, 'host', 8886)")
    values = (2, 1, "host", 8886, None, 0, 0, 500.0, '[["A", 1.0]]', "{}", "me", NOW)
    old.execute(f"INSERT INTO destinations VALUES ({','.join('?' * len(values))})", values)
    old.commit()
    old.close()

    db = schema.open_database(tmp_path / "server.db")

    kept = destinations.get(db, 2)
    assert (kept.address, kept.rate_max, kept.relay_address, kept.authenticate) == ("host", 500.0, "", False)
    assert destinations.get_connection(db, kept.connection_id).port == 8886
    assert _destination(db).connection_id == kept.connection_id
    db.close()
