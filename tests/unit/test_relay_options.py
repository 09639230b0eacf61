"""What `lanesync relay`, --recv-relay and --trigger-dir take and refuse at start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from relays import Key

from agent.server import options
from agent.server.errors import StartError
from agent.server.options import ServeOptions
from agent.server.relay import options as relay_options
from agent.server.relay.way import Way, parse_way

_KEY = Key().public_key


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("relay.example.org:9000", ("relay.example.org", 9000)),
        ("relay.example.org", ("relay.example.org", 8887)),
        ("[2001:db8::1]:9000", ("2001:db8::1", 9000)),
        ("[2001:db8::1]", ("2001:db8::1", 8887)),
    ],
)
def test_the_way_to_a_relay(written: str, expected: tuple[str, int]) -> None:
    assert parse_way(written, _KEY) == Way(*expected, _KEY)
    assert parse_way(written, "").key == ""


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"recv_relay": "relay"}, "--accounts FILE or --only-authorized-clients"),
        (
            {"recv_relay": "relay", "authorized_clients": (_KEY,)},
            "--accounts FILE or --only-authorized-clients",
        ),
        ({"recv_relay": "no relay"}, "is not HOST:PORT"),
        ({"recv_relay": "relay:0"}, "is not HOST:PORT"),
        ({"recv_relay": "relay", "recv_relay_key": "abc"}, "--recv-relay-key must be a public key"),
        ({"recv_relay_key": _KEY}, "--recv-relay-key needs --recv-relay"),
        ({"external_address": "files.example.org"}, "--external-address: .* is not HOST:PORT"),
        ({"trigger_dir": Path("/nowhere")}, "is not a directory"),
    ],
)
def test_options_that_make_no_sense_or_open_a_server_are_refused(
    given: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(StartError, match=message):
        options.check(ServeOptions(tmp_path, **given))


def test_a_relay_with_accounts_or_known_senders_is_taken(tmp_path: Path) -> None:
    way = {"recv_relay": "relay", "recv_relay_key": _KEY}
    options.check(ServeOptions(tmp_path, accounts=tmp_path / "accounts", **way))  # type: ignore[arg-type]
    known = {"only_authorized_clients": True, "authorized_clients": (_KEY,)}
    options.check(ServeOptions(tmp_path, **known, **way))  # type: ignore[arg-type]


def test_keys_are_taken_as_people_copy_them() -> None:
    pem = f"-----BEGIN PUBLIC KEY-----\n{_KEY}\n-----END PUBLIC KEY-----\n"
    assert relay_options.parse_keys([pem, f" {_KEY}\n"]) == (_KEY, _KEY)
    with pytest.raises(StartError, match="--accept-key must be a public key"):
        relay_options.parse_keys(["abc"])


@pytest.mark.parametrize("written", ["8887", "host:", "host:x", "host:70000", "no.such.host.invalid:1"])
def test_a_listen_address_must_be_of_this_machine(written: str) -> None:
    with pytest.raises(StartError, match="--listen"):
        relay_options.parse_listen(written)


def test_a_relay_may_listen_on_every_address() -> None:
    """That is what it is for."""
    assert relay_options.parse_listen("0.0.0.0:8887") == ("0.0.0.0", 8887)
    assert relay_options.parse_listen(":8887") == ("0.0.0.0", 8887)
