"""Pure rules of the transfer server: states, lanes, flags, options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.server import options, states
from agent.server.errors import CommandError, StartError
from agent.server.methods import checks
from agent.server.options import ServeOptions, parse_listen
from agent.server.structures import join_destination


@pytest.mark.parametrize("status", ["suspended", "complete", "error"])
def test_only_active_transfers_can_be_suspended_or_failed(status: str) -> None:
    """The refusal says what the transfer is instead."""
    for rule in (states.require_suspendable, states.require_failable):
        with pytest.raises(CommandError, match="cannot be"):
            rule(7, status)


@pytest.mark.parametrize("status", ["pending", "sending", "resuming", "complete", "error"])
def test_only_suspended_transfers_can_be_resumed(status: str) -> None:
    """As documented: complete or failed ones cannot."""
    with pytest.raises(CommandError, match="only suspended"):
        states.require_resumable(7, status)


def test_an_active_transfer_is_not_deleted() -> None:
    """It must be suspended first, and the message says so."""
    with pytest.raises(CommandError, match="suspendTransfer first"):
        states.require_deletable(7, "sending")


@pytest.mark.parametrize(
    ("lanes", "message"),
    [
        ({}, "at least one lane"),
        ({" ": 1.0}, "must not be blank"),
        ({"A": 0.5, "B": 0.4}, "must add up to 100%, these add up to 90%"),
        ({"A": 1.0, "B": 0.0, "C": 0}, "at most one lane may have a share of 0"),
        ({"A": "1.0"}, "must be a number"),
        ({"A": 1.5, "B": -0.5}, "must not be negative"),
        ({"A": True}, "must be a number"),
    ],
)
def test_each_broken_lane_rule_names_itself(lanes: dict[str, Any], message: str) -> None:
    """A person sees which rule was broken."""
    with pytest.raises(CommandError, match=message):
        checks.lanes(lanes)


def test_lanes_keep_their_order_and_thirds_are_good_enough() -> None:
    """Proportions sum to one within rounding."""
    assert [name for name, _ in checks.lanes({"C": 1 / 3, "A": 1 / 3, "B": 1 / 3})] == ["C", "A", "B"]


def test_lanes_in_use_keep_their_names_and_number() -> None:
    """Rates may change while transfers are in progress; number and used names may not."""
    old = (("A", 0.5), ("B", 0.5))
    checks.lanes_change(old, (("A", 0.9), ("C", 0.1)), {"A"})
    checks.lanes_change(old, (("X", 1.0),), set())
    with pytest.raises(CommandError, match="number of lanes"):
        checks.lanes_change(old, (("A", 1.0),), {"A"})
    with pytest.raises(CommandError, match="lane 'B' has a transfer"):
        checks.lanes_change(old, (("A", 0.9), ("C", 0.1)), {"A", "B"})


@pytest.mark.parametrize("flags", [-1, 32, 2**30])
def test_unknown_transfer_flags_are_refused(flags: int) -> None:
    """Never ignored; every combination of the known ones is carried out."""
    with pytest.raises(CommandError, match="unknown bits"):
        checks.transfer_flags(flags)
    for known in range(32):
        checks.transfer_flags(known)


@pytest.mark.parametrize("mode", [-1, 6])
def test_unknown_overwrite_modes_are_refused(mode: int) -> None:
    """All documented ones are carried out."""
    with pytest.raises(CommandError, match=r"OVERWRITE_\*"):
        checks.overwrite_mode(mode)
    for known in range(6):
        checks.overwrite_mode(known)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("jsmith", "secret", "token"), "exclude each other"),
        ((None, "secret", None), "needs the userName or token"),
        (("", "secret", None), "userName must not be empty"),
        ((None, None, ""), "token must not be empty"),
    ],
)
def test_credentials_that_make_no_sense_are_refused(
    given: tuple[str | None, str | None, str | None], message: str
) -> None:
    """One of user name and token, a password only with one of them; the message quotes nothing of it."""
    with pytest.raises(CommandError, match=message) as refused:
        checks.credentials(*given)
    assert "secret" not in str(refused.value) and "jsmith" not in str(refused.value)


def test_unsupported_parameters_are_named() -> None:
    """createTransfer(userName=…) is refused, not ignored."""
    checks.refuse(relayAddress=None)
    with pytest.raises(CommandError, match="relayAddress is not supported yet"):
        checks.refuse(relayAddress="x")
    with pytest.raises(CommandError, match="minCipher 3"):
        checks.min_cipher(3)


@pytest.mark.parametrize("listen", ["0.0.0.0:8886", "[::]:8886", ":8886", "192.0.2.1:8886"])
def test_binding_beyond_loopback_says_what_is_missing(listen: str) -> None:
    """TLS and accounts come first."""
    with pytest.raises(StartError, match=r"TLS and accounts.*tunnel"):
        parse_listen(listen)


@pytest.mark.parametrize("listen", ["8886", "localhost", "localhost:http", "localhost:70000"])
def test_a_malformed_address_is_refused_with_an_example(listen: str) -> None:
    """The message shows the right form."""
    with pytest.raises(StartError, match=r"127\.0\.0\.1:8886"):
        parse_listen(listen)


def test_loopback_addresses_are_accepted() -> None:
    """By name or number; port 0 is any free one."""
    assert parse_listen("localhost:0") == ("127.0.0.1", 0)
    assert parse_listen("[::1]:5") == ("::1", 5)


def test_remote_control_is_refused_now(tmp_path: Path) -> None:
    """The option exists, and says that it does not work yet."""
    with pytest.raises(StartError, match="remote-control"):
        options.check(ServeOptions(tmp_path, allow_remote_control=True))


@pytest.mark.parametrize(
    ("parent", "path", "joined"),
    [
        ("/", "/a", "/a"),
        ("", "a/b", "/a/b"),
        ("/x", "/a", "/x/a"),
        ("//x//", "//a", "/x/a"),
        ("/x", "/", "/x"),
    ],
)
def test_destination_path_is_the_parent_of_all(parent: str, path: str, joined: str) -> None:
    """Full paths are normalised."""
    assert join_destination(parent, path) == joined
