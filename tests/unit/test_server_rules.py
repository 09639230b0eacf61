"""Pure rules of the transfer server: states, lanes, flags, options."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.jetstream import keys
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


@pytest.mark.parametrize("flags", [-1, 256, 2**30])
def test_unknown_transfer_flags_are_refused(flags: int) -> None:
    """Never ignored; every combination of the known ones is carried out."""
    with pytest.raises(CommandError, match="unknown bits"):
        checks.transfer_flags(flags)
    for known in range(256):
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


@pytest.mark.parametrize(
    ("asked", "least", "message"),
    [(4, 0, "minCipher 4 is unknown"), (-1, 0, "unknown"), (0, 3, "0 is below 3"), (2, 3, "2 is below 3")],
)
def test_a_cipher_below_the_servers_own_is_refused_with_both_values(
    asked: int, least: int, message: str
) -> None:
    """As is one that is unknown; the minimum itself is taken, and so is saying nothing."""
    checks.min_cipher(None, least)
    checks.min_cipher(least, least)
    with pytest.raises(CommandError, match=message):
        checks.min_cipher(asked, least)


def test_a_key_is_checked_unless_that_is_refused_in_so_many_words() -> None:
    """One spelling of a key whatever its line breaks; no authentication without a key."""
    key = keys.encode(Ed25519PrivateKey.generate().public_key())
    pem = f"-----BEGIN PUBLIC KEY-----\n{key[:40]}\n{key[40:]}\n-----END PUBLIC KEY-----\n"
    assert checks.destination_key(pem, None) == (key, True)
    assert checks.destination_key(key, False) == (key, False)
    assert checks.destination_key(None, None) == (None, False)
    with pytest.raises(CommandError, match="needs destinationPublicKey"):
        checks.destination_key(None, True)
    with pytest.raises(CommandError, match="destinationPublicKey must be a public key"):
        checks.destination_key("AAAA", None)


_KEY = keys.encode(Ed25519PrivateKey.generate().public_key())


@pytest.mark.parametrize("listen", ["0.0.0.0:8886", "[::]:8886", ":8886", "192.0.2.1:8886"])
def test_binding_beyond_loopback_needs_to_know_who_may_write(listen: str, tmp_path: Path) -> None:
    """Accounts or authorized senders; the message names both."""
    host, port = parse_listen(listen) if "192" not in listen else ("192.0.2.1", 8886)
    open_to_all = ServeOptions(tmp_path, host, port)
    with pytest.raises(StartError, match=r"--accounts FILE.*--only-authorized-clients"):
        options.check(open_to_all)
    options.check(replace(open_to_all, accounts=tmp_path / "accounts"))
    options.check(replace(open_to_all, only_authorized_clients=True, authorized_clients=(_KEY,)))
    assert open_to_all.least_cipher == 3 and replace(open_to_all, min_cipher=0).least_cipher == 0


def test_remote_control_needs_accounts(tmp_path: Path) -> None:
    """Whoever comes from elsewhere has to log in."""
    with pytest.raises(StartError, match="--allow-remote-control needs --accounts"):
        options.check(ServeOptions(tmp_path, allow_remote_control=True))
    with pytest.raises(StartError, match="--authorized-client 'nonsense'"):
        options.check(ServeOptions(tmp_path, authorized_clients=("nonsense",)))


@pytest.mark.parametrize("listen", ["8886", "localhost", "localhost:http", "localhost:70000"])
def test_a_malformed_address_is_refused_with_an_example(listen: str) -> None:
    """The message shows the right form."""
    with pytest.raises(StartError, match=r"127\.0\.0\.1:8886"):
        parse_listen(listen)


def test_loopback_addresses_are_accepted() -> None:
    """By name or number; port 0 is any free one."""
    assert parse_listen("localhost:0") == ("127.0.0.1", 0)
    assert parse_listen("[::1]:5") == ("::1", 5)


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
