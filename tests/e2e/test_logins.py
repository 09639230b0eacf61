"""Logging in to a real server: how long that holds, and what failing at it brings."""

from __future__ import annotations

from pathlib import Path

import pytest
from rawclient import Lines, explicit
from servers import eventually, start_server

from agent.jetstream import AuthenticationError, CommandError, ServerFaultError, constants
from agent.server import accounts

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("what", ["password", "account", "superuser"])
def test_a_login_holds_as_long_as_its_account(tmp_path: Path, what: str) -> None:
    """Removed, with another password, or no superuser any more: that counts at the next call."""
    file = tmp_path / "accounts.json"
    accounts.add(file, "anna", "secret", superuser=True)
    accounts.add(file, "bert", "battery staple")
    with start_server(tmp_path / "s", accounts=file) as server, server.api() as api, server.api() as other:
        api.server.auth("anna", "secret")
        api.server.superuser()
        other.server.auth("bert", "battery staple")
        other.send.createManifest(mappings=explicit(1))
        assert len(api.send.getManifests()) == 1
        if what == "account":
            accounts.remove(file, "anna")
        elif what == "password":
            accounts.change_password(file, "anna", "a new one")
        else:
            file.write_text(file.read_text().replace("true", "false"))
            assert api.send.getManifests() == []
            with pytest.raises(CommandError, match="no superuser"):
                api.server.superuser()
            return
        with pytest.raises(AuthenticationError, match="log in again"):
            api.send.getManifests()
        with pytest.raises(AuthenticationError, match="needs a login"):
            api.send.getManifests()
        assert api.server.echo("still connected") == "still connected"
        assert len(other.send.getManifests()) == 1


def test_a_call_that_waits_answers_nothing_once_the_account_is_gone(tmp_path: Path) -> None:
    """What happens later is not told to who has no account any more."""
    file = tmp_path / "accounts.json"
    accounts.add(file, "anna", "secret")
    accounts.add(file, "chief", "correct horse", superuser=True)
    with start_server(tmp_path / "s", accounts=file) as server, Lines(server.port) as lines:
        assert lines.call("server.auth", user="anna", password="secret")["result"] is None
        lines.say(b'{"jsonrpc":"2.0","id":7,"method":"server.sleep","params":[700]}\n')
        accounts.remove(file, "anna")
        assert "was removed" in lines.hear()["error"]["message"]


def test_an_accounts_file_that_breaks_lets_nobody_in_and_sends_nobody_away(tmp_path: Path) -> None:
    """Who is logged in works on; the log says what is wrong; repaired, it counts again."""
    file = tmp_path / "accounts.json"
    accounts.add(file, "anna", "secret")
    good = file.read_text()
    with start_server(tmp_path / "s", accounts=file) as server, server.api() as api, server.api() as late:
        api.server.auth("anna", "secret")
        file.write_text(good.replace('"n"', "n"))
        with pytest.raises(ServerFaultError, match="cannot read its accounts"):
            late.server.auth("anna", "secret")
        assert api.send.getManifests() == []
        assert "damaged at line 6" in server.log()
        file.write_text(good)
        late.server.auth("anna", "secret")


def test_failed_logins_wait_longer_and_hold_up_nobody_else(tmp_path: Path) -> None:
    """Who guesses a password waits; another user, and every other call, is answered meanwhile."""
    file = tmp_path / "accounts.json"
    accounts.add(file, "anna", "secret")
    accounts.add(file, "bert", "battery staple")
    with start_server(tmp_path / "s", accounts=file) as server, Lines(server.port) as lines:
        for number in range(3):
            lines.say(
                b'{"jsonrpc":"2.0","id":%d,"method":"server.auth","params":["anna","guess%d"]}\n'
                % (number, number)
            )
        for _ in range(3):
            assert "wrong" in lines.hear()["error"]["message"]
        lines.say(b'{"jsonrpc":"2.0","id":"slow","method":"server.auth","params":["anna","guess"]}\n')
        with server.api() as api:
            api.server.auth("bert", "battery staple")
            assert api.send.getManifests() == []
        assert lines.hear()["id"] == "slow"
        assert lines.call("server.auth", user="anna", password="secret")["result"] is None
        eventually(lambda: server.log().count("login failed") == 4)
        log = server.log()
        assert "guess" not in log and '"user": "anna"' in log and '"peer": "127.0.0.1"' in log


def test_too_many_guesses_of_one_host_are_refused_at_once(tmp_path: Path) -> None:
    """They do not queue up without end, whatever names they are for."""
    file = tmp_path / "accounts.json"
    accounts.add(file, "anna", "secret")
    with start_server(tmp_path / "s", accounts=file) as server, Lines(server.port) as lines:
        for number in range(120):
            lines.say(
                b'{"jsonrpc":"2.0","id":%d,"method":"server.auth","params":["user%d","guess"]}\n'
                % (number, number)
            )
        errors = (lines.hear()["error"] for _ in range(60))
        refused = next(error for error in errors if "too many logins" in error["message"])
        assert refused["code"] == constants.ERROR_INTERNAL  # the credentials were not looked at
        assert lines.call("server.echo", "now", text="x")


def test_requests_of_strangers_are_bounded(tmp_path: Path) -> None:
    """A connection cannot fill the store before anybody logged in on it."""
    file = tmp_path / "accounts.json"
    accounts.add(file, "anna", "secret")
    with start_server(tmp_path / "s", accounts=file) as server, Lines(server.port) as lines:
        outcomes = [lines.call("server.authAsync", user=f"u{n}", password="x") for n in range(101)]
        assert "result" in outcomes[99] and "without a login" in outcomes[100]["error"]["message"]


def test_a_request_from_before_the_login_can_be_asked_for_after_it(tmp_path: Path) -> None:
    """By the connection that made it, and by no other."""
    file = tmp_path / "accounts.json"
    for user in ("anna", "bert"):
        accounts.add(file, user, "secret")
    with (
        start_server(tmp_path / "s", accounts=file) as server,
        Lines(server.port) as lines,
        Lines(server.port) as other,
    ):
        request = lines.call("server.authAsync", user="anna", password="secret")["result"]
        assert lines.call("server.getRequestResult", requestId=request)["result"] is None
        assert lines.call("server.getRequestStatus", requestId=request)["result"]["status"] == "complete"
        for user in ("bert", "anna"):
            assert other.call("server.auth", user=user, password="secret")["result"] is None
            error = other.call("server.getRequestStatus", requestId=request)["error"]
            assert "was not found" in error["message"]
