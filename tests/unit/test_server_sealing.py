"""Secrets that the server keeps for a receiver that is away."""

from __future__ import annotations

from pathlib import Path

from agent.server.sealing import KEY_FILE, Seal


def test_what_was_sealed_is_opened_after_a_restart(tmp_path: Path) -> None:
    sealed = Seal(tmp_path).seal("geheim: ß")
    assert sealed is not None
    assert "geheim" not in sealed
    assert Seal(tmp_path).open(sealed) == "geheim: ß"
    assert (Seal(tmp_path).seal(None), Seal(tmp_path).open(None)) == (None, None)


def test_the_key_is_for_the_server_alone(tmp_path: Path) -> None:
    Seal(tmp_path).seal("x")
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o077 == 0


def test_without_the_key_nothing_can_be_read(tmp_path: Path) -> None:
    """A database that was copied alone holds no password, and is no reason to fall over."""
    sealed = Seal(tmp_path).seal("x")
    (tmp_path / KEY_FILE).unlink()
    assert Seal(tmp_path).open(sealed) is None
