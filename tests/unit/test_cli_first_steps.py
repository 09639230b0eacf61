"""What somebody meets who does not know the command line yet."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.cli import main


@pytest.mark.parametrize(
    "verb",
    [["status"], ["get"], ["events"], ["history"], ["explain", "x"], ["suspend", "Mapping/x"], ["verify"]],
    ids=lambda verb: verb[0],
)
def test_asking_about_a_directory_that_no_agent_knows_makes_nothing(
    verb: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A misspelt --state-dir is named, and does not come into being."""
    missing = tmp_path / "mispelt" / "state"
    assert main.run([*verb, "--state-dir", str(missing)]) == 1
    assert f"no agent has run on {missing}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_state_directory_of_somebody_else_names_its_owner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to type instead. Root may read everything, so the answer of the system is put here."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert main.run(["status", "--state-dir", str(tmp_path)]) == 2
    assert "sudo -u " in capsys.readouterr().err


def test_a_password_that_nobody_can_be_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a script it says how to give one, rather than nothing."""
    monkeypatch.delenv("LANESYNC_USER_PASSWORD", raising=False)
    nobody = os.open("/dev/null", os.O_RDONLY)
    try:
        with os.fdopen(nobody) as closed:
            monkeypatch.setattr("sys.stdin", closed)
            monkeypatch.setattr("getpass.getpass", _end)
            assert main.run(["user", "add", "joe", "--accounts", str(tmp_path / "accounts")]) == 1
    finally:
        assert not (tmp_path / "accounts").exists()
    assert "--password-file" in capsys.readouterr().err


def _end(*_arguments: object, **_options: object) -> str:
    raise EOFError
