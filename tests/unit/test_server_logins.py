"""How long those wait who failed to log in, and what a login may call."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.jetstream import constants
from agent.server import patience, rights
from agent.server.errors import CommandError
from agent.server.patience import Patience
from agent.server.session import Session
from agent.server.store.scope import EVERYTHING, NOTHING, Owner, Scope

# --- waiting -------------------------------------------------------------------------------------------


def test_each_failure_doubles_the_wait_up_to_a_bound() -> None:
    """Who does not fail waits for nothing."""
    waits = Patience()
    found = []
    for _ in range(9):
        found.append(waits.admit("anna", "10.0.0.1", 100.0))
        waits.failed("anna", "10.0.0.1", 100.0)
    assert found == [0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 4.0, 4.0, 4.0]
    assert waits.admit("bert", "10.0.0.1", 100.0) == 0.0
    assert waits.admit("anna", "10.0.0.2", 100.0) == 4.0
    assert waits.admit("anna", "10.0.0.2", 104.5) == 0.0


def test_a_success_forgives_the_user_and_time_everybody() -> None:
    """The right password after a mistake costs nothing later."""
    waits = Patience()
    for _ in range(30):
        waits.admit("anna", "10.0.0.1", 100.0)
        waits.failed("anna", "10.0.0.1", 100.0)
    waits.admit("anna", "10.0.0.2", 100.0)
    waits.succeeded("anna", "10.0.0.2", 100.0)
    assert waits.admit("anna", "10.0.0.2", 100.0) == 0.0
    assert waits.admit("carl", "10.0.0.1", 100.0 + patience.FORGET + 1) == 0.0


def test_a_peer_that_tries_many_names_is_slowed_and_then_refused() -> None:
    """Its attempts follow each other; another peer is not held up by them."""
    waits = Patience()
    for number in range(patience.FREE_FAILURES + 8):
        assert waits.admit(f"user{number}", "10.0.0.1", 5.0 * number) == 0.0
        waits.failed(f"user{number}", "10.0.0.1", 5.0 * number)
    found = [waits.admit("x", "10.0.0.1", 200.0) for _ in range(5)]
    assert found == [0.0, 4.0, 8.0, None, None]
    assert waits.admit("x", "10.0.0.2", 200.0) == 0.0


def test_who_logged_in_before_is_not_held_up_by_the_others_of_a_host() -> None:
    """Their own failures count for them alone, and hold them up as those of a host would."""
    waits = Patience()
    waits.admit("anna", "10.0.0.1", 0.0)
    waits.succeeded("anna", "10.0.0.1", 0.0)
    while waits.admit("x", "10.0.0.1", 1.0) is not None:
        waits.failed("x", "10.0.0.1", 1.0)
    assert waits.admit("bert", "10.0.0.1", 1.0) is None
    assert waits.admit("anna", "10.0.0.1", 1.0) == 0.0
    waits.succeeded("anna", "10.0.0.1", 1.0)
    found = [waits.admit("anna", "10.0.0.1", 2.0) for _ in range(100)]
    assert found[0] == 0.0 and found[-1] is None


def test_many_attempts_at_once_are_counted_before_they_are_decided() -> None:
    """A burst gets no more guesses than a sequence would."""
    waits = Patience()
    found = [waits.admit("anna", "10.0.0.1", 100.0) for _ in range(200)]
    admitted = [wait for wait in found if wait is not None]
    assert len(admitted) < patience.FREE_AT_ONCE + 12
    assert found[-1] is None


def test_an_ipv6_host_is_its_network() -> None:
    """Another address of the same /64 is the same peer."""
    waits = Patience()
    for number in range(patience.FREE_FAILURES + 8):
        peer = f"2001:db8::{number + 1:x}"
        waits.admit(f"u{number}", peer, 5.0 * number)
        waits.failed(f"u{number}", peer, 5.0 * number)
    waits.admit("x", "2001:db8::ffff", 200.0)
    assert waits.admit("x", "2001:db8::fffe", 200.0) == patience.PAUSE
    assert waits.admit("x", "2001:db8:0:1::1", 200.0) == 0.0


def test_the_tables_are_bounded() -> None:
    """However many names are tried from however many places."""
    waits = Patience()
    for number in range(patience.MAX_KEYS + 500):
        waits.admit(f"u{number}", f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1.0)
        waits.failed(f"u{number}", f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1.0)
        waits.succeeded(f"k{number}", "10.0.0.1", 1.0)
    assert len(waits.users) == len(waits.peers) == len(waits.known) == patience.MAX_KEYS


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.booleans(), st.floats(0, 5))))
def test_nobody_waits_longer_than_the_bound(attempts: list[tuple[str, str, bool, float]]) -> None:
    """Whatever happened before, an attempt is looked at soon or refused at once."""
    waits, now = Patience(), 0.0
    for user, peer, right, pause in attempts:
        now += pause
        wait = waits.admit(user, peer, now)
        if wait is not None:
            assert 0.0 <= wait <= max(patience.PAUSE, patience.LONGEST)
            (waits.succeeded if right else waits.failed)(user, peer, now)


# --- what a session sees -------------------------------------------------------------------------------


def _row(owner: str, token: str | None, row_id: int = 5) -> object:
    class Row:
        id = row_id

    Row.owner, Row.owner_token = owner, token  # type: ignore[attr-defined]
    return Row()


def test_a_session_sees_what_it_stands_for() -> None:
    """Nothing before login; with a token that is held to something, what was made with it."""
    assert Session().scope == NOTHING
    assert Session(user="me", everything=True).scope == EVERYTHING
    assert Session(user="anna", superuser=True).scope == EVERYTHING
    assert Session(user="anna").scope == Scope("anna")
    assert Session(user="anna", token="t").scope == Scope("anna")
    assert Session(user="anna", token="t", path="/a").scope == Scope("anna", "t")
    assert Session(user="anna", token="t", manifest=5).scope == Scope("anna", "t", 5)
    assert Session(user="anna", token="t", token_session="s").owner == Owner("anna", "t", "s")


@pytest.mark.parametrize(
    "scope", [NOTHING, Scope("anna"), Scope("anna", "t"), Scope("anna", "t", 5), EVERYTHING]
)
@pytest.mark.parametrize("owner", ["anna", "bert", ""])
@pytest.mark.parametrize("token", [None, "t", "u"])
@pytest.mark.parametrize("row_id", [5, 6])
def test_the_store_and_the_rule_agree_on_what_is_seen(
    scope: Scope, owner: str, token: str | None, row_id: int
) -> None:
    """The SQL condition is the same rule."""
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE TABLE t(id, owner, owner_token)")
        database.execute("INSERT INTO t VALUES (?,?,?)", (row_id, owner, token))
        condition, values = scope.condition()
        found = database.execute(f"SELECT 1 FROM t WHERE {condition}", values).fetchone()
    assert (found is not None) == scope.sees(_row(owner, token, row_id))  # type: ignore[arg-type]


def test_logging_out_leaves_nothing_of_the_login() -> None:
    """But the connection, and the requests that were made before logging in."""
    session = Session("peer", "anna", True, True, "t", "s", 1, "/a", 5, object(), {3})
    session.log_out()
    assert session == Session("peer", requests={3})


# --- what a session may call ---------------------------------------------------------------------------


def test_with_a_control_token_nothing_else_is_answered_first() -> None:
    """Not even echo or getServerInfo."""
    rights.check(Session(), "server.authToken", only_token=True)
    for method in ("server.echo", "server.getServerInfo", "server.auth", "server.getRequestStatus"):
        with pytest.raises(CommandError):
            rights.check(Session(), method, only_token=True)
    rights.check(Session(user="me"), "send.createTransfer", only_token=True)


def test_a_stranger_may_log_in_and_ask_for_that_request_alone() -> None:
    """And learn what is needed for it."""
    for method in (
        "server.auth",
        "server.authAsync",
        "server.authToken",
        "server.echo",
        "server.getServerInfo",
    ):
        rights.check(Session(), method, only_token=False)
    for method in ("server.getRequestStatus", "server.superuser", "send.getTransfers", "lanesync.waitEvents"):
        with pytest.raises(CommandError) as refused:
            rights.check(Session(), method, only_token=False)
        assert refused.value.code == constants.ERROR_AUTHENTICATION
    rights.check(Session(requests={1}), "server.getRequestResult", only_token=False)


@pytest.mark.parametrize(
    ("method", "permission"),
    [
        ("send.createTransfer", constants.PERMISSION_DOWNLOAD),
        ("send.createManifest", constants.PERMISSION_DOWNLOAD),
        ("send.suspendTransferAsync", constants.PERMISSION_DOWNLOAD),
        ("send.getSharedTokens", constants.PERMISSION_SHARE | constants.PERMISSION_DOWNLOAD),
        ("send.createSharedToken", constants.PERMISSION_SHARE | constants.PERMISSION_DOWNLOAD),
        ("recv.getTransfersAsync", constants.PERMISSION_UPLOAD),
        ("server.lsAsync", constants.PERMISSION_DOWNLOAD),
        ("server.rmAsync", constants.PERMISSION_MODIFY),
        ("server.mkdir", constants.PERMISSION_MODIFY),
        ("lanesync.deletePathsAsync", constants.PERMISSION_MODIFY),
        ("lanesync.waitEvents", constants.PERMISSION_DOWNLOAD),
        ("server.getRequestResult", 0),
        ("server.getServerInfo", 0),
        ("server.superuser", None),
        ("server.createAPIToken", None),
        ("server.terminate", None),
        ("server.setSandboxMapping", None),
        ("server.updateBandwidthLimits", None),
        ("server.whatever", None),
        ("other.method", None),
    ],
)
def test_a_token_needs_the_permission_of_the_method(method: str, permission: int | None) -> None:
    """A method that is not known to be for tokens is for none."""
    assert rights.needed(method) == permission
    for held in range(1, constants.PERMISSIONS_ALL + 1):
        session = Session(user="anna", token="t", permissions=held)
        if permission is not None and not permission & ~held:
            rights.check(session, method, only_token=False)
        else:
            with pytest.raises(CommandError):
                rights.check(session, method, only_token=False)
