"""What the status page is told: everything once, then what changed; lanes as rates; and by which names."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.api.hosts import is_ours, own_names
from agent.api.live import FORGOTTEN, HEAD, Live
from agent.api.traffic import KEPT_SECONDS, Traffic
from agent.reconcile.measures import LaneBytes


class Agent:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.mappings: dict[str, dict[str, Any]] = {}
        self.asked = 0
        self.told: list[dict[str, Any]] = []

    def put(self, name: str, **fields: Any) -> None:
        self.mappings[name] = {"kind": "Mapping", "name": name, **fields}

    def status(self) -> dict[str, Any]:
        self.asked += 1
        return {**dict.fromkeys(HEAD), "time": self.asked, "objects": list(self.mappings.values())}

    def events(self, after: int | None, limit: int, name: str = "", since: float = 0.0) -> dict[str, Any]:
        found = [event for event in self.told if after is None or event["seq"] > after]
        return {"events": found[-limit:], "next": max([after or 0, *(e["seq"] for e in self.told)])}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def source() -> Agent:
    found = Agent()
    found.put("a", ready=True)
    found.put("b", ready=False)
    return found


@pytest.fixture
def live(source: Agent, clock: Clock) -> Live:
    return Live(source, Traffic(list, clock), clock)


def look(live: Live, since: str = "") -> dict[str, Any]:
    return dict(json.loads(live.look(since)))


def names(answer: dict[str, Any]) -> list[str]:
    return [each["name"] for each in answer["objects"]]


def test_the_first_look_is_everything_and_the_next_what_changed(
    live: Live, source: Agent, clock: Clock
) -> None:
    """What stands still is not told again; what went is told by name."""
    first = look(live)
    assert (first["full"], names(first)) == (True, ["a", "b"])
    clock.now += 2
    second = look(live, first["next"])
    assert (second["full"], second["objects"], second["gone"]) == (False, [], [])
    source.put("b", ready=True)
    source.put("c")
    del source.mappings["a"]
    clock.now += 2
    third = look(live, second["next"])
    assert (names(third), third["gone"]) == (["b", "c"], ["Mapping/a"])
    assert names(look(live, first["next"])) == ["b", "c"], "who comes late gets all that changed since"


def test_however_many_look_the_status_is_made_once_a_second(live: Live, source: Agent, clock: Clock) -> None:
    """And never while nobody looks."""
    for _ in range(50):
        look(live)
    assert source.asked == 1
    clock.now += 0.9
    look(live)
    assert source.asked == 1
    clock.now += 0.2
    look(live)
    assert source.asked == 2


def test_a_status_that_takes_long_serves_for_ten_times_as_long(source: Agent, clock: Clock) -> None:
    """A tenth of a processor is what the page may cost."""

    class Slow(Agent):
        def status(self) -> dict[str, Any]:
            clock.now += 0.5
            return super().status()

    slow = Slow()
    live = Live(slow, Traffic(list, clock), clock)
    look(live)
    clock.now += 4.9
    look(live)
    assert slow.asked == 1
    clock.now += 0.2
    look(live)
    assert slow.asked == 2


@pytest.mark.parametrize("since", ["x", "1:2:3", "::::", "a:b:c:d", "zzz:1:0:0", "é:1:nan:-1", ":" * 5000])
def test_a_point_that_is_not_of_this_agents_life_gives_everything(live: Live, since: str) -> None:
    """The page of an agent that was started again, or something made up."""
    look(live)
    assert look(live, since)["full"] is True


def test_who_missed_more_than_is_remembered_gets_everything(live: Live, source: Agent, clock: Clock) -> None:
    """Otherwise an object that went would stay on the page."""
    first = look(live)
    for number in range(FORGOTTEN + 10):
        source.put(f"n{number}")
    clock.now += 2
    look(live)
    for number in range(FORGOTTEN + 10):
        del source.mappings[f"n{number}"]
        if number % 100 == 0:
            clock.now += 2
            look(live)
    clock.now += 2
    look(live)
    assert look(live, first["next"])["full"] is True


def test_events_are_told_once(live: Live, source: Agent) -> None:
    """From the newest on."""
    source.told = [{"seq": 1}, {"seq": 2}]
    first = look(live)
    assert [e["seq"] for e in first["events"]] == [1, 2]
    source.told.append({"seq": 3})
    assert [e["seq"] for e in look(live, first["next"])["events"]] == [3]


def lanes(**sent: int) -> list[LaneBytes]:
    return [LaneBytes("archive", name, 0.5, count) for name, count in sent.items()]


def test_counters_of_lanes_become_rates(clock: Clock) -> None:
    """kbit/s between two samples; a server that was started again counts from zero."""
    counted = lanes(High=1000, Low=0)
    traffic = Traffic(lambda: counted, clock)
    traffic.sample()
    for high, low in ((126_000, 0), (376_000, 25_000), (125_000, 0)):
        clock.now += 1
        counted = lanes(High=high, Low=low)
        traffic.sample()
    found = traffic.since(0)["archive"]
    assert [lane["name"] for lane in found["lanes"]] == ["High", "Low"]
    assert found["points"] == [(1001.0, 1000.0, 0.0), (1002.0, 2000.0, 200.0), (1003.0, 1000.0, 0.0)]
    assert traffic.since(1002.0)["archive"]["points"] == [(1003.0, 1000.0, 0.0)]


def test_rates_go_on_when_the_clock_was_set_back(clock: Clock) -> None:
    """What was seen in a time that is still to come is forgotten."""
    counted = lanes(High=0)
    traffic = Traffic(lambda: counted, clock)
    traffic.sample()
    clock.now -= 500
    for sent in (1000, 126_000):
        counted = lanes(High=sent)
        traffic.sample()
        clock.now += 1
    assert traffic.since(0)["archive"]["points"] == [(501.0, 1000.0)]


def test_ten_minutes_of_traffic_are_kept(clock: Clock) -> None:
    """Of a destination that is no more, too; and other lanes begin anew."""
    counted = lanes(High=0)
    traffic = Traffic(lambda: counted, clock)
    for _ in range(1000):
        clock.now += 1
        traffic.sample()
    assert len(traffic.since(0)["archive"]["points"]) == KEPT_SECONDS + 1
    counted = lanes(Urgent=0)
    traffic.sample()
    assert traffic.since(0)["archive"] == {"lanes": [{"name": "Urgent", "share": 0.5}], "points": []}
    counted = []
    clock.now += KEPT_SECONDS + 1
    traffic.sample()
    assert traffic.since(0) == {}


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1:8890", True),
        ("[::1]:8890", True),
        ("192.0.2.7", True),
        ("localhost:8890", True),
        ("LOCALHOST.", True),
        ("status.example.org", True),
        ("", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example:8890", False),
        ("localhost.evil.example", False),
        ("xstatus.example.org", False),
        ("[evil]", False),
    ],
)
def test_names_of_others_are_told_from_ours(host: str, ours: bool) -> None:
    """An address cannot be pointed elsewhere; a name can, unless it is ours."""
    assert is_ours(host, own_names(["Status.example.org"])) is ours
