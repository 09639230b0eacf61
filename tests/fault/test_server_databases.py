"""A server whose database is damaged, of a newer version, or somebody else's: it says so and what to do, and
changes no byte."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from freeports import free_port
from rawclient import Lines, explicit
from rounds import limit, rounds
from servers import start_server

from agent.server.store.schema import DATABASE_NAME, SCHEMA_VERSION

pytestmark = [pytest.mark.fault, limit(300)]


def refused(state: Path) -> str:
    """What the server says when it does not start."""
    command = [sys.executable, "-m", "agent.server", "--listen", "127.0.0.1:0", "--state-dir", str(state)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr
    return done.stderr


def files(state: Path) -> dict[str, bytes]:
    """The database as it lies there; not what is only an index of it."""
    found = state.glob(DATABASE_NAME + "*")
    return {path.name: path.read_bytes() for path in found if not path.name.endswith("-shm")}


def used(state: Path) -> None:
    """A state directory with something in it, left by a kill: the newest of it in the log of the database."""
    with start_server(state) as server:
        with Lines(server.port) as lines:
            for _ in range(40):
                both = {"destinationAddress": "127.0.0.1", "destinationPort": free_port()}
                destination = lines.call("send.createDestination", **both, permanent=True)["result"]
                manifest = lines.call("send.createManifest", mappings=explicit(20))["result"]
                lines.call("send.createTransfer", destinationId=destination, manifestId=manifest)
        server.kill()


def test_a_database_of_a_newer_version_is_left_as_it_is(tmp_path: Path) -> None:
    state = tmp_path / "s"
    used(state)
    database = sqlite3.connect(state / DATABASE_NAME, isolation_level=None)
    database.execute("PRAGMA wal_autocheckpoint=0")
    database.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    before = files(state)
    assert DATABASE_NAME + "-wal" in before, "as after a crash"
    held = {state / name: content for name, content in before.items()}
    database.close()
    for path, content in held.items():
        path.write_bytes(content)
    assert "written by a newer version" in refused(state)
    assert files(state) == before


def test_a_database_of_another_program_is_left_as_it_is(tmp_path: Path) -> None:
    state = tmp_path / "s"
    state.mkdir()
    other = sqlite3.connect(state / DATABASE_NAME)
    other.execute("CREATE TABLE theirs(x)")
    other.commit()
    other.close()
    before = files(state)
    assert "not a database of this program" in refused(state)
    assert files(state) == before


def test_a_damaged_database_is_refused_or_serves_and_never_tramples(tmp_path: Path) -> None:
    """Pages overwritten, cut off, or zeroed anywhere: the server refuses with what to do, or it starts
    because what it reads then is sound."""
    state = tmp_path / "s"
    used(state)
    sound = files(state)
    for chance in rounds(6):
        for name, content in sound.items():
            (state / name).write_bytes(content)
        spoil(state / DATABASE_NAME, chance)
        before = files(state)
        try:
            server = start_server(state)
        except AssertionError:
            assert "is damaged" in refused(state)
            assert files(state) == before
        else:
            with server, Lines(server.port) as lines:
                assert "result" in lines.call("server.getServerInfo")


def spoil(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    how = chance.choice(["header", "page", "cut", "zeros"])
    pages = len(data) // 4096
    at = 4096 * chance.randrange(pages)
    if how == "header":
        data[:100] = chance.randbytes(100)
    elif how == "page":
        data[at : at + 4096] = chance.randbytes(4096)
    elif how == "zeros":
        data[at : at + 4096] = bytes(4096)
    else:
        del data[at or 512 :]
    path.write_bytes(data)
