"""A server vouches for its users towards itself, and towards nobody else."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from agent.server.vouching import Vouchers


@dataclass(frozen=True)
class Target:
    address: str
    port: int
    relay_address: str = ""


def _vouchers(host: str) -> Vouchers:
    made = Vouchers(host)
    made.port = 8886
    return made


@pytest.mark.parametrize(
    ("host", "target"),
    [
        ("127.0.0.1", Target("127.0.0.1", 8886)),
        ("127.0.0.1", Target("localhost", 8886)),
        ("0.0.0.0", Target("127.0.0.1", 8886)),
        ("192.0.2.1", Target("192.0.2.1", 8886)),
        ("::1", Target("::1", 8886)),
    ],
)
def test_a_user_is_known_by_the_voucher(host: str, target: Target) -> None:
    vouchers = _vouchers(host)
    token = vouchers.token("anna", target)
    assert token is not None and len(token) >= 32
    assert vouchers.token("anna", target) == token != vouchers.token("bert", target)
    assert vouchers.user(token) == "anna"
    assert vouchers.user(token[:-1]) is None and _vouchers(host).user(token) is None


@pytest.mark.parametrize(
    ("host", "target"),
    [
        ("127.0.0.1", Target("127.0.0.1", 8887)),
        ("127.0.0.1", Target("127.0.0.2", 8886)),
        ("127.0.0.1", Target("192.0.2.1", 8886)),
        ("192.0.2.1", Target("127.0.0.1", 8886)),
        ("127.0.0.1", Target("receiver.example", 8886)),
        ("127.0.0.1", Target("127.0.0.1", 8886, "relay.example")),
        ("0.0.0.0", Target("192.0.2.1", 8886)),
        ("0.0.0.0", Target("::1", 8886)),  # there somebody else may listen
        ("::", Target("127.0.0.1", 8886)),
    ],
)
def test_nobody_else_is_shown_a_voucher(host: str, target: Target) -> None:
    assert _vouchers(host).token("anna", target) is None
