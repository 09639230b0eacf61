"""Alerts tell of transitions, together, once, and again only as a reminder."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model.spec import AlertOn, AlertSpec, SecretRef, SecretSource, Webhook
from agent.planning.alerts import (
    NAMED,
    Fact,
    Id,
    Instance,
    Message,
    document,
    due,
    fingerprint,
    observe,
    told,
)

HOOK = Webhook(SecretRef(SecretSource.ENV, "HOOK"))
NOTHING: frozenset[str] = frozenset()
FACT = Fact("FilesFailed", "f: no space")


def alert(**fields: float) -> AlertSpec:
    return AlertSpec("ops", (AlertOn.STALLED,), HOOK, **{"group_wait": 10.0, "repeat": 0.0, **fields})  # type: ignore[arg-type]


def stalled(*names: str, fact: Fact = FACT) -> dict[Id, Fact]:
    return {Id(f"Mapping/{name}", AlertOn.STALLED): fact for name in names}


class Receiver:
    """Plays an alert: looks, and takes what is due."""

    def __init__(self, spec: AlertSpec) -> None:
        self.spec = spec
        self.instances: dict[Id, Instance] = {}
        self.sent: list[tuple[float, Message]] = []
        self.last = 0.0

    def look(self, now: float, facts: dict[Id, Fact], unknown: frozenset[str] = NOTHING) -> Message | None:
        self.instances = observe(self.instances, facts, unknown, now)
        message, at = due(self.spec, self.instances.values(), self.last, now)
        assert at is None or at > now
        if message is not None:
            self.instances = told(self.instances, message, now)
            self.sent.append((now, message))
            self.last = now
        return message

    def names(self, found: tuple[Instance, ...]) -> list[str]:
        return sorted(instance.id.object.removeprefix("Mapping/") for instance in found)


def test_what_comes_within_the_group_wait_goes_into_one_message() -> None:
    """And what ends goes into another, with nothing that was told already."""
    r = Receiver(alert())
    assert r.look(100, stalled("a")) is None
    assert r.look(105, stalled("a", "b")) is None
    message = r.look(110, stalled("a", "b"))
    assert message is not None
    assert (r.names(message.new), message.firing) == (["a", "b"], 2)
    assert r.look(130, stalled("a", "b")) is None
    assert r.look(131, stalled("a")) is None
    message = r.look(141, stalled("a"))
    assert message is not None
    assert (r.names(message.new), r.names(message.resolved), message.firing) == ([], ["b"], 1)
    assert r.look(10_000, stalled("a")) is None


def test_a_condition_has_to_last() -> None:
    """One that ends before is never told, and begins anew."""
    r = Receiver(alert(holds=60.0, group_wait=1.0))
    r.look(0, stalled("a"))
    r.look(50, {})
    for now in (55, 100, 114):
        assert r.look(now, stalled("a")) is None
    message = r.look(116, stalled("a"))
    assert message is not None
    assert message.new[0].since == 55


def test_its_text_may_change_without_being_told_again() -> None:
    """The same condition of the same object has one fingerprint."""
    r = Receiver(alert(group_wait=0.0))
    assert r.look(1, stalled("a")) is not None
    assert r.look(2, stalled("a", fact=Fact("FilesFailed", "g: no space"))) is None
    assert r.look(3, stalled("a", fact=Fact("ServerFailed", "gone"))) is None


def test_a_message_comes_at_most_once_in_the_group_wait() -> None:
    """Something that flaps makes no storm."""
    r = Receiver(alert(group_wait=10.0))
    for tick in range(600):
        r.look(tick, stalled("a") if tick % 7 < 3 else {})
    times = [now for now, _ in r.sent]
    assert len(times) <= 60
    assert all(b - a >= 10 for a, b in pairwise(times))


def test_reminders_list_everything_that_fires_at_their_cadence() -> None:
    r = Receiver(alert(group_wait=0.0, repeat=100.0))
    r.look(0, stalled("a"))
    r.look(50, stalled("a", "b"))
    assert r.look(99, stalled("a", "b")) is None
    message = r.look(100, stalled("a", "b"))
    assert message is not None
    assert (r.names(message.reminded), message.new, message.firing) == (["a", "b"], (), 2)
    assert r.look(199, stalled("a", "b")) is None
    assert r.look(200, stalled("a", "b")) is not None


def test_what_was_not_looked_at_yet_stays_as_it_was() -> None:
    """A restart resolves nothing and fires nothing again."""
    r = Receiver(alert(group_wait=0.0))
    r.look(0, stalled("a"))
    assert r.look(1, {}, unknown=frozenset({"Mapping/a"})) is None
    assert r.look(2, stalled("a")) is None
    message = r.look(3, {})
    assert message is not None
    assert r.names(message.resolved) == ["a"]


def test_a_clock_that_is_set_back_does_not_silence_it() -> None:
    r = Receiver(alert(group_wait=5.0, repeat=100.0))
    r.look(10_000, stalled("a"))
    assert r.look(10_005, stalled("a")) is not None
    assert r.look(50, stalled("a", "b")) is None
    assert r.look(55, stalled("a", "b")) is not None
    assert r.look(160, stalled("a", "b")) is not None


def test_when_everything_fails_there_is_one_message_that_counts() -> None:
    r = Receiver(alert(group_wait=0.0))
    message = r.look(1, stalled(*(f"m{number}" for number in range(10_000))))
    assert message is not None
    body = document(r.spec, message, "agent", "rev", "id", 1.0)
    assert (len(body["objects"]), body["objectsOmitted"]) == (NAMED, 10_000 - NAMED)
    assert body["counts"] == {"firing": 10_000, "new": 10_000, "resolved": 0}
    assert len(json.dumps(body)) < 100_000
    assert r.look(2, stalled(*(f"m{number}" for number in range(10_000)))) is None


def test_fingerprints_tell_objects_conditions_and_alerts_apart() -> None:
    ids = [Id(name, on) for name in ("Mapping/a", "Mapping/b") for on in AlertOn]
    found = {fingerprint(agent, name, id_) for agent in "xy" for name in ("a", "b") for id_ in ids}
    assert len(found) == 4 * len(ids)


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sets(st.sampled_from("abc")), st.sets(st.sampled_from("abc")))),
    st.sampled_from([0.0, 5.0, 20.0]),
    st.sampled_from([0.0, 10.0]),
    st.sampled_from([0.0, 50.0]),
)
def test_the_receiver_knows_what_fires(
    steps: list[tuple[int, set[str], set[str]]], holds: float, group_wait: float, repeat: float
) -> None:
    """Whatever happens: it hears of nothing twice but by reminders, of no end without a beginning, and when
    all is quiet it knows exactly what fires."""
    r = Receiver(alert(holds=holds, group_wait=group_wait, repeat=repeat))
    now, known = 0.0, set[str]()
    true: set[str] = set()
    for wait, names, hidden in [*steps, (100, None, set()), (100, None, set())]:
        now += wait
        true = true if names is None else names
        seen = stalled(*(true - hidden))
        message = r.look(now, seen, frozenset(f"Mapping/{name}" for name in hidden))
        if message is None:
            continue
        new, ended = set(r.names(message.new)), set(r.names(message.resolved))
        assert not new & known
        assert ended <= known
        assert set(r.names(message.reminded)) <= known
        known = (known | new) - ended
        assert len(known) == message.firing
    assert known == true


@pytest.mark.parametrize("firing", [True, False])
def test_the_status_of_a_message_says_whether_anything_fires(firing: bool) -> None:
    body = document(alert(), Message(firing=int(firing)), "agent", "rev", "id", 1.0)
    assert body["status"] == ("firing" if firing else "resolved")
