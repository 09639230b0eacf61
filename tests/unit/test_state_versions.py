"""State files of every version that was ever written are brought up to date with all that they hold."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from agent.model.change import FileKind, FileStat
from agent.model.outcome import PermanentError
from agent.model.spec import DestinationSpec, Key, Kind, MappingSpec, PathMapping
from agent.state.connection import Database
from agent.state.db import open_state
from agent.state.steps import SCHEMA_VERSION, STEPS, bring_up_to_date

STATES = sorted((Path(__file__).parent / "states").glob("agent-*.sql"))
"""What those versions wrote, as SQL: `agent-VERSION-REMARK.sql`, made by running them."""

KEY = Key(Kind.MAPPING, "dailies")


def _tables(path: Path) -> list[tuple[str, ...]]:
    """Every table with its columns, and every index and trigger."""
    db = sqlite3.connect(path)
    names = db.execute("SELECT type, name, tbl_name FROM sqlite_master ORDER BY 1, 2").fetchall()
    columns = [
        (name, *map(str, column))
        for kind, name, _ in names
        if kind == "table"
        for column in db.execute(f"PRAGMA table_info({name})")
    ]
    db.close()
    return [*names, *columns]


def _load(script: Path, folder: Path) -> Path:
    folder.mkdir()
    db = sqlite3.connect(folder / "agent.db")
    db.executescript(script.read_text())
    db.close()
    return folder


def test_there_are_states_of_earlier_versions() -> None:
    """Or the tests below would say nothing."""
    assert {path.name for path in STATES} >= {"agent-1-first.sql", "agent-1-hooks.sql"}


@pytest.mark.parametrize("script", STATES, ids=lambda path: path.stem)
def test_a_state_of_an_earlier_version_ends_with_the_tables_of_a_new_one(
    script: Path, tmp_path: Path
) -> None:
    """However it was made; and opening it again changes nothing more."""
    old = _load(script, tmp_path / "old")
    open_state(str(old)).close()
    open_state(str(tmp_path / "new")).close()
    assert _tables(old / "agent.db") == _tables(tmp_path / "new" / "agent.db")
    version = sqlite3.connect(old / "agent.db").execute("PRAGMA user_version").fetchone()
    assert version == (SCHEMA_VERSION,)
    open_state(str(old)).close()
    assert _tables(old / "agent.db") == _tables(tmp_path / "new" / "agent.db")


@pytest.mark.parametrize("script", STATES, ids=lambda path: path.stem)
def test_a_state_of_an_earlier_version_keeps_all_that_it_holds(script: Path, tmp_path: Path) -> None:
    """Ledger, what is on its way, decisions, specs and events."""
    state = open_state(str(_load(script, tmp_path / "old")))
    a, b, odd = "/in/a.mov", "/in/sub/b.mov", "/in/\udcff"
    assert state.agent_id == "0123456789abcdef"
    rows = dict(state.ledger.under("dailies", "archive", "/"))
    assert rows.keys() == {a, b, odd}
    assert rows[a] == FileStat(FileKind.FILE, 10, 1_000_000_010, 2_000_000_010, 50, False)
    assert state.ledger.digest("dailies", "archive", a) == "aa11"
    assert state.ledger.digest_of("dailies", "archive", "/in") == b"0123456789abcdef"
    assert state.ledger.count("dailies", "archive") == 3
    assert state.ledger.total_bytes("dailies", "archive") == 34
    (attempt,) = state.attempts.pending()
    assert (attempt.number, attempt.transfer_id, attempt.operation) == (1, "77", "transfer")
    assert state.attempts.left(1).keys() == {"/in/c.mov", "/in/d.mov"}
    assert [past.outcome for past in state.attempts.history()] == ["done"]
    assert state.attempts.failures("dailies", "archive", "r1").consecutive == 2
    assert state.roots.known("dailies", "/src") == (2049, 12)
    assert state.approvals.approved(KEY) == {"abcd"}
    override = state.overrides.get(KEY, now=200.0)
    assert override is not None and override.reason == "maintenance"
    specs = {applied.key.name: applied.spec for applied in state.specs.all()}
    assert specs["dailies"] == MappingSpec("dailies", ("archive",), (PathMapping("/in", "/src"),))
    assert specs["archive"] == DestinationSpec("archive", "host", 8886)
    assert state.status.get(KEY) == {"ready": True}
    assert [event.reason for event in state.events.since(0)] == ["InSync"]
    number = state.attempts.open("dailies", "archive", "transfer", "x", "r2", [], 300.0).number
    assert number > 2, "numbers of attempts are never used twice"
    state.close()


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_every_version_in_between_is_brought_up_to_date(version: int, tmp_path: Path) -> None:
    """A step needs nothing but those before it."""
    open_state(str(tmp_path / "new")).close()
    (tmp_path / "old").mkdir()
    path = tmp_path / "old" / "agent.db"
    db = Database(str(path))
    bring_up_to_date(db, 0, until=version)
    assert db.row("PRAGMA user_version") == (version,)
    bring_up_to_date(db, version)
    db.close()
    assert _tables(path) == _tables(tmp_path / "new" / "agent.db")


def test_a_step_that_fails_leaves_the_file_at_the_version_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All steps are one transaction: a full disk, say, costs a start and nothing else."""
    old = _load(STATES[0], tmp_path / "old")
    before = _tables(old / "agent.db")
    broken = STEPS[-1]._replace(make="CREATE TABLE broken(x); CREATE TABLE broken(x);")
    monkeypatch.setattr("agent.state.steps.STEPS", (*STEPS[:-1], broken))
    with pytest.raises(PermanentError):
        open_state(str(old))
    assert _tables(old / "agent.db") == before
    monkeypatch.undo()
    open_state(str(old)).close()


def test_a_newer_state_with_an_unfinished_log_is_left_as_it_is(tmp_path: Path) -> None:
    """Also what a newer version had written when it was killed: not one byte of the three files changes."""
    open_state(str(tmp_path)).close()
    writer = sqlite3.connect(tmp_path / "agent.db")
    writer.execute("PRAGMA wal_autocheckpoint=0")
    writer.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    writer.commit()
    copy = tmp_path / "killed"
    copy.mkdir()
    for name in ("agent.db", "agent.db-wal"):
        (copy / name).write_bytes((tmp_path / name).read_bytes())
    writer.close()
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    with pytest.raises(PermanentError, match="newer version"):
        open_state(str(copy))
    assert {name: (copy / name).read_bytes() for name in before} == before
