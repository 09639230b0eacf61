"""Whatever is in an accounts file: it is read, or refused by its one error; never anything in between."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.server import accounts, passwords
from agent.server.accounts import AccountsError

_SOUND = passwords.make("secret").as_object()
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
_VALUES = _JSON | st.sampled_from([2**31, 2**14 + 1, 0, -8, "00", "zz", "0" * 129, 1.0, True])
_ENTRY = st.dictionaries(st.sampled_from([*_SOUND, "superuser", "x"]), _VALUES, max_size=3).map(
    lambda changes: _SOUND | changes
)
_FILES = st.dictionaries(st.text(max_size=5) | st.sampled_from(["anna", "../x", "a\n"]), _ENTRY | _JSON)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("accounts") / "accounts.json"
    made.touch(0o600)
    return made


def _read(path: Path, content: bytes) -> dict[str, Any] | None:
    path.write_bytes(content)
    try:
        return accounts.read(path)
    except AccountsError as error:
        assert str(path) in str(error)
        return None


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entries=_FILES)
def test_entries_of_any_kind_are_accounts_or_named(path: Path, entries: dict[str, Any]) -> None:
    """What is accepted has a sound name and a hash whose cost is bounded."""
    for name, account in (_read(path, json.dumps({"accounts": entries}).encode()) or {}).items():
        assert name.isascii() and "/" not in name and not name.startswith(".")
        n, r, p = account.password.cost
        assert 128 * n * r <= 256 << 20 and p <= 16


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200) | _JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_read_or_refused(path: Path, content: bytes) -> None:
    _read(path, content)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_and_never_opens_more(path: Path, data: st.DataObject) -> None:
    """Bytes flipped, dropped and doubled: nobody becomes a superuser by that."""
    damaged = bytearray(json.dumps({"accounts": {"anna": _SOUND}}).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    for account in (_read(path, bytes(damaged)) or {}).values():
        assert not account.superuser


@pytest.mark.parametrize("depth", [500, 100_000])
def test_a_deep_file_is_refused(path: Path, depth: int) -> None:
    assert _read(path, b'{"accounts":' + b"[" * depth + b"]" * depth + b"}") is None
