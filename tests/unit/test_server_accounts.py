"""The accounts file, its commands, and the control token."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.cli.user import command
from agent.server import access, accounts, passwords
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


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"accounts": 5}'])
def test_a_damaged_file_is_refused_with_what_to_do(tmp_path: Path, content: str) -> None:
    """Never taken for an empty one, and never written over."""
    file = tmp_path / "accounts.json"
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(AccountsError, match="again"):
        Accounts(file)
    for change in (lambda: accounts.add(file, "anna", "secret"), lambda: accounts.remove(file, "anna")):
        with pytest.raises(AccountsError, match="damaged"):
            change()
    assert file.read_text() == content


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('"salt"', "salt", "line 12"),
        ('"salt"', '"sal"', "line 10: account 'bert' is damaged"),
        ('"n": 16384', '"n": 16383', "line 10: account 'bert' .*n=16383"),
        ('"n": 16384', '"n": 1073741824', "out of bounds"),
        ('"p": 1', '"p": true', "not a scrypt hash"),
        ('"r": 8', '"r": -8', "not a scrypt hash"),
        ('"p": 1', '"p": 1, "superuser": "yes"', "superuser must be true or false"),
        ('"bert"', '"be rt"', "line 10: account 'be rt' .*not a user name"),
    ],
)
def test_a_damaged_entry_is_named_with_its_line(tmp_path: Path, before: str, after: str, said: str) -> None:
    """And nothing of the file is lost by trying to change it."""
    file = tmp_path / "accounts.json"
    accounts.add(file, "anna", "secret")
    accounts.add(file, "bert", "secret")
    head, mark, tail = file.read_text().partition('"bert"')
    broken = head + (mark + tail).replace(before, after, 1)
    file.write_text(broken)
    with pytest.raises(AccountsError, match=said):
        Accounts(file)
    with pytest.raises(AccountsError, match=said):
        accounts.add(file, "carl", "secret")
    assert file.read_text() == broken


def test_what_was_read_stays_while_the_file_is_damaged(tmp_path: Path) -> None:
    """Until it is repaired nothing changes, and nobody logs in."""
    file = tmp_path / "accounts.json"
    accounts.add(file, "anna", "secret")
    found = Accounts(file)
    file.write_text("{")
    with pytest.raises(AccountsError):
        found.verify("anna", "secret")
    assert found.get("anna") is not None


def test_concurrent_editors_lose_nothing(tmp_path: Path) -> None:
    """Each change is made to what the one before it left."""
    file = tmp_path / "accounts.json"
    names = [f"user{number}" for number in range(12)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: accounts.add(file, name, "secret"), names))
    assert sorted(accounts.read(file)) == sorted(names)
    assert [found.name for found in tmp_path.iterdir()] == ["accounts.json"]


def test_a_change_keeps_the_mode_of_the_file(tmp_path: Path) -> None:
    """A group that the server reads it by still can; more than that is refused."""
    file = tmp_path / "accounts.json"
    accounts.add(file, "anna", "secret")
    file.chmod(0o640)
    accounts.add(file, "bert", "secret")
    assert file.stat().st_mode & 0o777 == 0o640
    file.chmod(0o660)
    with pytest.raises(AccountsError, match="chmod 600"):
        Accounts(file)


def test_a_hash_keeps_the_cost_it_was_made_with(tmp_path: Path) -> None:
    """So the cost of new ones can be raised; an unknown name then takes as long as a known one."""
    file = tmp_path / "accounts.json"
    salt = b"0123456789abcdef"
    digest = hashlib.scrypt(b"secret", salt=salt, n=1024, r=4, p=2)
    entry = {"scrypt": digest.hex(), "salt": salt.hex(), "n": 1024, "r": 4, "p": 2}
    file.write_text(json.dumps({"accounts": {"anna": entry}}))
    file.chmod(0o600)
    found = Accounts(file)
    assert found.verify("anna", "secret") and not found.verify("anna", "other")
    assert passwords.nobody(accounts.read(file)["anna"].password).cost == (1024, 4, 2)
    accounts.add(file, "bert", "secret")
    assert found.verify("anna", "secret") and found.verify("bert", "secret")


@given(st.text(min_size=1, max_size=40))
@settings(max_examples=5, deadline=None)
def test_any_text_can_be_a_password(password: str) -> None:
    """Also text that is no valid Unicode; and it comes back from the stored form."""
    made = passwords.from_object(json.loads(json.dumps(passwords.make(password).as_object())))
    assert made.matches(password) and not made.matches(password + "x")


def test_a_file_that_everybody_can_read_is_refused(tmp_path: Path) -> None:
    """The message has the command that helps."""
    file = tmp_path / "accounts.json"
    accounts.add(file, "anna", "correct horse")
    file.chmod(0o644)
    with pytest.raises(AccountsError, match="chmod 600"):
        Accounts(file)


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("", "long enough"),
        ("a b", "long enough"),
        ("../a", "long enough"),
        ("anna", ""),
        ("anna", "x" * 2000),
    ],
)
def test_bad_names_and_impossible_passwords_are_refused(tmp_path: Path, name: str, password: str) -> None:
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


def test_accounts_are_listed_changed_and_removed(tmp_path: Path) -> None:
    """passwd, list and rm, with the password from a file; a short one is taken with a warning."""
    file, secret = tmp_path / "accounts.json", tmp_path / "password"
    secret.write_text("secret\nnot this\n")
    runner = CliRunner()

    def user(*arguments: str) -> Result:
        return runner.invoke(command, [arguments[0], "--accounts", str(file), *arguments[1:]])

    added = user("add", "anna", "--superuser", "--password-file", str(secret))
    assert added.exit_code == 0 and "fewer than 8 characters" in added.stderr
    assert user("add", "bert", "--password-file", str(secret)).exit_code == 0
    assert user("list").stdout == "anna  superuser\nbert\n"
    secret.write_text("another one")
    assert user("passwd", "anna", "--password-file", str(secret)).stdout == "password of anna changed\n"
    assert Accounts(file).verify("anna", "another one") == accounts.read(file)["anna"]
    assert accounts.read(file)["anna"].superuser
    assert user("add", "anna", "--no-superuser", "--password-file", str(secret)).stdout == (
        "account anna changed\n"
    )
    assert user("rm", "bert").stdout == "account bert removed\n"
    assert user("list").stdout == "anna\n"
    for arguments in (("rm", "bert"), ("passwd", "bert", "--password-file", str(secret))):
        refused = user(*arguments)
        assert refused.exit_code == 1 and "there is no account 'bert'" in refused.stderr
    missing = user("passwd", "anna", "--password-file", str(tmp_path / "nowhere"))
    assert missing.exit_code == 1 and "nowhere" in missing.stderr


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
