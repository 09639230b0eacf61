"""A state file that is damaged or gone: kept aside, and begun anew under the same name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.model.change import FileKind, FileStat
from agent.model.outcome import PermanentError
from agent.model.spec import Key, Kind
from agent.state.rebuild import open_or_rebuild

KEY = Key(Kind.MAPPING, "dailies")


def used(tmp_path: Path) -> str:
    """A state with something in it; returns the agent's id."""
    state, notice = open_or_rebuild(str(tmp_path), 1.0)
    assert notice == ""
    stat = FileStat(FileKind.FILE, 1, 2, 3, 4, False)
    state.ledger.record("m", "d", [(f"/d{n % 50}/{n}", stat, "", 1) for n in range(5000)], 1.0)
    state.overrides.set(KEY, "repairs", "ada", 1.0, None)
    assert state.attempts.open("m", "d", "transfer", "", "", [], 1.0).number < 1_000_000
    found = state.agent_id
    state.close()
    return found


def test_a_sound_state_is_opened_as_it_is(tmp_path: Path) -> None:
    """Nothing is moved, nothing is said."""
    agent_id = used(tmp_path)
    state, notice = open_or_rebuild(str(tmp_path), 2.0)
    assert (state.agent_id, notice, state.ledger.count("m", "d")) == (agent_id, "", 5000)
    state.close()
    assert not list(tmp_path.glob("*.damaged-*"))


@pytest.mark.parametrize("part", ["header", "middle", "half"])
def test_a_damaged_state_is_kept_aside_byte_for_byte(tmp_path: Path, part: str) -> None:
    """The agent stays who it is, its numbers never come again, and a suspension by hand is not forgotten."""
    agent_id = used(tmp_path)
    path = tmp_path / "agent.db"
    content = bytearray(path.read_bytes())
    if part == "header":
        content[:100] = bytes(100)
    elif part == "middle":
        middle = len(content) // 2 // 4096 * 4096
        content[middle : middle + 3 * 4096] = os.urandom(3 * 4096)
    else:
        del content[len(content) // 2 :]
    path.write_bytes(content)
    state, notice = open_or_rebuild(str(tmp_path), 1_800_000_000.0)
    assert "nothing is deleted" in notice
    aside, *_belonging = sorted(tmp_path.glob("agent.db.damaged-*"))  # a -wal and -shm may go with it
    assert str(aside) in notice
    assert aside.read_bytes() == bytes(content)
    assert state.agent_id == agent_id
    assert state.ledger.count("m", "d") == 0
    assert state.attempts.open("m", "d", "transfer", "", "", [], 2.0).number >= 1_800_000_000
    if part == "middle":
        assert [o.key for o in state.overrides.all(2.0)] == [KEY]
    state.close()
    again, nothing = open_or_rebuild(str(tmp_path), 1_800_000_001.0)
    assert nothing == ""
    again.close()


def test_a_state_that_is_gone_is_missed(tmp_path: Path) -> None:
    """A first start is told apart from a loss."""
    agent_id = used(tmp_path)
    (tmp_path / "agent.db").unlink()
    state, notice = open_or_rebuild(str(tmp_path), 5.0)
    assert "was gone" in notice
    assert state.agent_id == agent_id
    state.close()


def test_two_damages_in_one_second_are_both_kept(tmp_path: Path) -> None:
    """No copy takes the place of another."""
    for _ in range(2):
        used(tmp_path)
        (tmp_path / "agent.db").write_bytes(b"rubbish" * 1000)
        open_or_rebuild(str(tmp_path), 7.0)[0].close()
    kept = [p for p in tmp_path.glob("agent.db.damaged-*") if not p.name.endswith(("-wal", "-shm"))]
    assert len(kept) == 2


def test_what_is_foreign_or_newer_is_left_as_it_is(tmp_path: Path) -> None:
    """That is no damage."""
    import sqlite3

    used(tmp_path)
    with sqlite3.connect(tmp_path / "agent.db") as db:
        db.execute("PRAGMA user_version=999")
    db.close()
    with pytest.raises(PermanentError, match="newer version"):
        open_or_rebuild(str(tmp_path), 1.0)
    assert not list(tmp_path.glob("*.damaged-*"))
