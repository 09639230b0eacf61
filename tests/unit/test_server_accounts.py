"""Accounts, tokens and who may call what."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.cli.user import command
from agent.server import access, accounts
from agent.server.accounts import Accounts, AccountsError
from agent.server.errors import StartError


def test_a_password_opens_its_own_account_only(tmp_path: Path) -> None:
    """And the file holds no password."""
    file = tmp_path / "accounts.json"
    assert accounts.add(file, "anna", "correct horse")
    assert accounts.add(file, "bert", "battery staple")
    found = Accounts(file)
    assert found.verify("anna", "correct horse")
    assert not found.verify("anna", "battery staple")
    assert not found.verify("nobody", "correct horse")
    assert "correct" not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0


def test_a_changed_file_counts_at_the_next_login(tmp_path: Path) -> None:
    """No restart is needed to change a password."""
    file = tmp_path / "accounts.json"
    accounts.add(file, "anna", "correct horse")
    found = Accounts(file)
    assert not accounts.add(file, "anna", "another one")
    assert found.verify("anna", "another one") and not found.verify("anna", "correct horse")


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"accounts": {"a": {"scrypt": "zz"}}}', '{"accounts": 5}']
)
def test_a_damaged_file_is_refused_with_what_to_do(tmp_path: Path, content: str) -> None:
    """Never taken for an empty one."""
    file = tmp_path / "accounts.json"
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(AccountsError, match="again"):
        Accounts(file)


def test_a_file_that_everybody_can_read_is_refused(tmp_path: Path) -> None:
    """The message has the command that helps."""
    file = tmp_path / "accounts.json"
    accounts.add(file, "anna", "correct horse")
    file.chmod(0o644)
    with pytest.raises(AccountsError, match="chmod 600"):
        Accounts(file)


@pytest.mark.parametrize(
    ("name", "password"), [("", "long enough"), ("a b", "long enough"), ("anna", "short")]
)
def test_bad_names_and_short_passwords_are_refused(tmp_path: Path, name: str, password: str) -> None:
    """Before anything is written."""
    with pytest.raises(AccountsError):
        accounts.add(tmp_path / "accounts.json", name, password)
    assert not (tmp_path / "accounts.json").exists()


def test_the_command_adds_an_account(tmp_path: Path) -> None:
    """`lanesync user add` takes the password from a prompt or the environment and never prints it."""
    file = tmp_path / "accounts.json"
    runner = CliRunner()
    asked = runner.invoke(
        command, ["add", "anna", "--accounts", str(file)], input="long enough\nlong enough\n"
    )
    assert asked.exit_code == 0 and "account anna added" in asked.output
    again = runner.invoke(
        command, ["add", "anna", "--accounts", str(file)], env={"LANESYNC_USER_PASSWORD": "even longer"}
    )
    assert again.output == "account anna changed\n"
    assert Accounts(file).verify("anna", "even longer")
    refused = runner.invoke(
        command, ["add", "b d", "--accounts", str(file)], env={"LANESYNC_USER_PASSWORD": "12345678"}
    )
    assert refused.exit_code == 1 and "12345678" not in refused.output
    assert list(json.loads(file.read_text())["accounts"]) == ["anna"]


def test_a_token_file_that_others_can_read_or_is_too_short_is_refused(tmp_path: Path) -> None:
    """A weak token is no token."""
    file = tmp_path / "token"
    file.write_text("x" * 32 + "\n")
    file.chmod(0o640)
    with pytest.raises(StartError, match="chmod 600"):
        access.read_token(file)
    file.chmod(0o600)
    assert access.read_token(file) == "x" * 32
    file.write_text("short")
    with pytest.raises(StartError, match="longer token"):
        access.read_token(file)
