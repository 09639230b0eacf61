"""Laws of the relay's pure parts: messages, registrations, who is reached by what, tokens, counts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from relays import Key

from agent.server.relay import proof, protocol
from agent.server.relay.limits import Tally
from agent.server.relay.protocol import ProtocolError, RefusedError
from agent.server.relay.rendezvous import Rendezvous
from agent.server.relay.roster import Roster

_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)
_MINE, _OTHER = Key(), Key()
_NONCE, _RELAY = "n" * 64, "relay's key"


# --- messages -----------------------------------------------------------------------------------------


@given(
    st.binary(max_size=400)
    | st.text().map(str.encode)
    | _values.map(lambda value: json.dumps(value).encode())
)
def test_a_line_is_a_message_or_refused(line: bytes) -> None:
    """Nothing but its own error comes out of the parser, whatever goes in."""
    try:
        message = protocol.decode(line)
    except ProtocolError:
        return
    assert isinstance(message["op"], str)


def test_depth_and_length_are_bounded() -> None:
    for line in (b"[" * 10_000, b'{"op":' * 1000, b'{"op":"' + b"x" * protocol.MAX_LINE + b'"}'):
        with pytest.raises(ProtocolError):
            protocol.decode(line)
    with pytest.raises(ValueError, match="bytes, more than"):
        protocol.encode("connect", key="x" * protocol.MAX_LINE)


@given(st.text(max_size=50), st.dictionaries(st.text(max_size=10), _values, max_size=4))
def test_what_is_encoded_is_decoded(op: str, values: dict[str, Any]) -> None:
    """One line, whatever is in it."""
    values.pop("op", None)
    line = protocol.encode("op", said=op, rest=values)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert protocol.decode(line)["said"] == op


@given(_values)
def test_a_peers_words_are_printable_and_short(value: Any) -> None:
    shown = protocol.excerpt({"error": value})
    assert shown.isprintable() and 0 < len(shown) <= protocol.MAX_TEXT


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("Relay.Example.org:8887", "relay.example.org:8887"),
        ("relay.example.org.:1", "relay.example.org:1"),
        ("[2001:DB8::0:1]:8887", "[2001:db8::1]:8887"),
        ("10.0.0.1:65535", "10.0.0.1:65535"),
    ],
)
def test_an_address_has_one_spelling(written: str, expected: str) -> None:
    assert protocol.address(*protocol.parse_address(written)) == expected


@pytest.mark.parametrize(
    "written", ["", ":1", "host", "host:", "host:0", "host:65536", "host:x", "h t:1", "h:1:٣"]
)
def test_what_is_no_address_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="is not HOST:PORT"):
        protocol.parse_address(written)


def test_the_port_of_a_relay_may_be_left_out() -> None:
    assert protocol.parse_address("relay", 8887) == ("relay", 8887)
    assert protocol.parse_address("[::1]", 8887) == ("::1", 8887)
    assert protocol.parse_address("relay:1", 8887) == ("relay", 1)


# --- registration -------------------------------------------------------------------------------------


def _registered(nonce: str = _NONCE, relay: str = _RELAY, **changes: Any) -> proof.Registration:
    message = protocol.decode(proof.register([_MINE, _OTHER], ("a:1",), _NONCE, _RELAY)) | changes
    return proof.check(message, nonce, relay)


def test_a_registration_shows_all_keys_and_addresses() -> None:
    found = _registered()
    assert found.keys == (_MINE.public_key, _OTHER.public_key) and found.addresses == ("a:1",)


@pytest.mark.parametrize("changes", [{"nonce": "m" * 64}, {"relay": "another"}, {"addresses": ["b:1"]}])
def test_a_registration_holds_for_one_link_one_relay_and_what_it_says(changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match="signature is not that of its key"):
        message = protocol.decode(proof.register([_MINE], ("a:1",), _NONCE, _RELAY))
        message |= {key: value for key, value in changes.items() if key == "addresses"}
        proof.check(message, changes.get("nonce", _NONCE), changes.get("relay", _RELAY))


def test_a_key_cannot_be_registered_with_the_signature_of_another() -> None:
    message = protocol.decode(proof.register([_MINE], ("a:1",), _NONCE, _RELAY))
    message["identities"][0]["key"] = _OTHER.public_key
    with pytest.raises(ProtocolError, match="signature is not that of its key"):
        proof.check(message, _NONCE, _RELAY)


@given(st.dictionaries(st.sampled_from(["op", "relay", "identities", "addresses"]), _values))
def test_a_registration_is_refused_by_its_own_error_alone(changes: dict[str, Any]) -> None:
    try:
        _registered(**changes)
    except ProtocolError:
        pass


@given(st.lists(st.dictionaries(st.sampled_from(["key", "signature"]), _values), max_size=3))
def test_identities_are_read_strictly(identities: list[Any]) -> None:
    with pytest.raises(ProtocolError):
        _registered(identities=identities)


# --- the roster ----------------------------------------------------------------------------------------

_names = st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True)


@given(st.lists(st.tuples(st.booleans(), _names, _names), max_size=20))
def test_a_key_or_address_leads_to_the_last_who_took_it_and_may(steps: list[tuple[bool, Any, Any]]) -> None:
    """Against a model: links come and go, and names never lead to one that left."""
    roster: Roster[int] = Roster((), 100)
    alive: dict[int, tuple[set[str], set[str]]] = {}
    for number, (leaves, keys, addresses) in enumerate(steps):
        if leaves and alive:
            link = min(alive)
            roster.leave(link)
            del alive[link]
            continue
        replaced = {link for link, (held, _) in alive.items() if held & set(keys)}
        taken = {name for link, (_, held) in alive.items() if link not in replaced for name in held}
        try:
            _, gone = roster.register(tuple(keys), tuple(addresses), number)
        except RefusedError:
            assert taken & set(addresses)
            continue
        assert not taken & set(addresses) and {old.link for old in gone} == replaced
        alive = {link: held for link, held in alive.items() if link not in replaced}
        alive[number] = (set(keys), set(addresses))
    for name in "abcd":
        for found, place in ((roster.by_key(name), 0), (roster.by_address(name), 1)):
            led = set() if found is None else {found.link}
            assert led == {link for link, held in alive.items() if name in held[place]}
    assert len(roster) == len(alive)


def test_a_full_roster_takes_those_who_come_back() -> None:
    roster: Roster[int] = Roster((), 1)
    roster.register(("k",), ("a",), 1)
    with pytest.raises(RefusedError, match="at most 1"):
        roster.register(("l",), ("b",), 2)
    roster.register(("k",), ("a",), 3)
    assert [receiver.link for receiver in roster.all()] == [3]


def test_of_several_keys_those_count_that_are_accepted() -> None:
    roster: Roster[int] = Roster(("new",), 9)
    made, _ = roster.register(("new", "old"), (), 1)
    assert made.keys == ("new",) and roster.by_key("old") is None


# --- tokens and counts ---------------------------------------------------------------------------------


def test_a_token_is_good_once_in_time_and_for_its_item() -> None:
    waiting: Rendezvous[str] = Rendezvous(10, 10, 5.0)
    one, two, three = (waiting.issue("r", item, 100.0) for item in ("one", "two", "three"))
    assert len({one, two, three}) == 3 and len(one) >= 64
    assert waiting.redeem(one, 104.9) == "one" and waiting.redeem(one, 104.9) is None
    assert waiting.redeem(two, 105.0) is None
    waiting.withdraw(three)
    assert waiting.redeem(three, 100.0) is None and len(waiting) == 0


@given(st.lists(st.tuples(st.sampled_from(["issue", "redeem", "withdraw", "wait"]), st.sampled_from("ab"))))
def test_those_who_wait_are_bounded_in_all_and_for_each(steps: list[tuple[str, str]]) -> None:
    waiting: Rendezvous[int] = Rendezvous(3, 2, 5.0)
    tokens: list[str] = []
    now = 0.0
    for step, receiver in steps:
        if step == "wait":
            now += 3.0
        elif step == "issue":
            try:
                tokens.append(waiting.issue(receiver, 1, now))
            except RefusedError:
                assert len(waiting) == 3 or len(waiting) >= 2
        elif tokens:
            token = tokens.pop(0)
            waiting.redeem(token, now) if step == "redeem" else waiting.withdraw(token)
        assert len(waiting) <= 3
    assert waiting.issue("a", 1, now + 100.0)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("ab"))))
def test_a_tally_never_exceeds_its_limits(steps: list[tuple[bool, str]]) -> None:
    tally, inside = Tally(3, 2), []
    for enters, owner in steps:
        if enters:
            room = len(inside) < 3 and inside.count(owner) < 2
            assert tally.enter(owner) == room
            if room:
                inside.append(owner)
        elif owner in inside:
            inside.remove(owner)
            tally.leave(owner)
        assert tally.total == len(inside)
