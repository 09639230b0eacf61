"""Whose turn it is, which priority it gets, and under which URL a path is served: laws of pure functions."""

from __future__ import annotations

import os
from collections import Counter
from urllib.parse import unquote_to_bytes, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.engines.fts3 import urls
from agent.engines.fts3.administering import differing, wanted_shares
from agent.engines.fts3.priorities import fts_priority
from agent.engines.fts3.store import Place
from agent.engines.fts3.turns import Queue, Turns
from agent.model.outcome import PermanentError
from agent.model.spec import DEFAULT_LANES, Storage

# priorities


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_what_is_more_urgent_here_is_never_less_urgent_there(one: int, other: int) -> None:
    first, second = fts_priority(min(one, other)), fts_priority(max(one, other))
    assert 5 >= first >= second >= 1


def test_the_default_priority_is_the_services_default() -> None:
    assert fts_priority(100) == 3
    assert {fts_priority(p) for p in (0, 50, 100, 5_000, 2**32 - 1)} == {1, 2, 3, 4, 5}


# turns


def _rounds(
    turns: Turns, queues: list[Queue], shares: dict[tuple[int, str], float], rounds: int
) -> Counter[str]:
    taken: Counter[str] = Counter()
    for _ in range(rounds):
        chosen = turns.choose(queues, shares)
        assert chosen is not None
        turns.took(chosen.lane, 10, shares[chosen.lane])
        taken[chosen.lane[1]] += 10
    return taken


def test_lanes_go_by_their_shares() -> None:
    """Over any long stretch, to within one job of each lane."""
    shares = {(1, "High"): 0.7, (1, "Normal"): 0.25, (1, "Low"): 0.05}
    queues = [Queue(at, lane, 100, 10_000) for at, lane in enumerate(shares)]
    taken = _rounds(Turns(), queues, shares, 1000)
    for (_, name), share in shares.items():
        assert abs(taken[name] - 10_000 * share) <= 10 * len(shares)


def test_an_idle_lane_goes_when_no_other_wants_to() -> None:
    shares = {(1, "A"): 1.0, (1, "Idle"): 0.0}
    turns, idle, busy = Turns(), Queue(1, (1, "Idle"), 0, 5), Queue(2, (1, "A"), 100, 5)
    assert turns.choose([idle, busy], shares) == busy
    assert turns.choose([idle], shares) == idle


def test_a_lane_that_comes_back_has_no_credit() -> None:
    """It does not make up for the time in which it wanted nothing."""
    shares = {(1, "A"): 0.5, (1, "B"): 0.5}
    turns, a, b = Turns(), Queue(1, (1, "A"), 100, 5), Queue(2, (1, "B"), 100, 5)
    _rounds(turns, [a], shares, 100)
    assert _rounds(turns, [a, b], shares, 20) == {"A": 100, "B": 100}


@given(
    st.lists(st.tuples(st.integers(0, 10), st.integers(1, 50)), min_size=1, unique_by=lambda pair: pair[1])
)
def test_within_a_lane_priority_goes_before_age(waiting: list[tuple[int, int]]) -> None:
    queues = [Queue(transfer, (1, "A"), priority, 1) for priority, transfer in waiting]
    chosen = Turns().choose(queues, {(1, "A"): 1.0})
    assert chosen is not None
    assert (chosen.priority, chosen.transfer) == min(waiting)


def test_nothing_waits() -> None:
    assert Turns().choose([], {}) is None


# URLs

_NAMES = st.binary(min_size=1, max_size=20).filter(lambda n: b"/" not in n and b"\0" not in n)


@given(st.lists(_NAMES, min_size=1, max_size=4))
def test_any_name_survives_the_way_into_a_url_and_back(parts: list[bytes]) -> None:
    path = "/" + os.fsdecode(b"/".join(parts))
    url = urls.join("davs://se.example.org:443/data", path)
    split = urlsplit(url)
    assert url.isascii()
    assert (split.query, split.fragment) == ("", "")
    assert unquote_to_bytes(split.path) == b"/data" + os.fsencode(path).rstrip(b"/")


def test_of_several_storages_the_longest_path_counts() -> None:
    sources = urls.Sources(
        [Storage("/data", "davs://a.example.org/x"), Storage("/data/fast", "https://b.example.org:8443/y")]
    )
    assert sources.url("/data/one two") == "davs://a.example.org/x/one%20two"
    assert sources.url("/data/fast/f") == "https://b.example.org:8443/y/f"
    assert sources.url("/data/faster/f") == "davs://a.example.org/x/faster/f"
    assert sources.element("/data/fast/f") == "https://b.example.org"


def test_a_storage_may_serve_the_whole_machine() -> None:
    assert (
        urls.Sources([Storage("/", "davs://a.example.org/top")]).url("/etc/x")
        == "davs://a.example.org/top/etc/x"
    )


def test_a_source_outside_of_every_storage_names_the_field_and_the_path() -> None:
    with pytest.raises(
        PermanentError, match="/other/f is below no path of the server's `storage` \\(/data\\)"
    ):
        urls.Sources([Storage("/data", "davs://a.example.org/x")]).url("/other/f")


def test_a_name_that_a_plain_scheme_cannot_carry_is_refused() -> None:
    """XRootD takes a path as it is written: `?` begins something else there, and bytes have no text."""
    assert urls.join("root://se.example.org/", "/a/b.root") == "root://se.example.org/a/b.root"
    for name in ("a?b", "a#b", "a b", os.fsdecode(b"\xff")):
        with pytest.raises(PermanentError, match="cannot be written as a root URL"):
            urls.join("root://se.example.org/", "/" + name)


# activity shares


def test_the_weight_of_a_name_is_the_highest_of_all_destinations() -> None:
    places = [
        Place(1, "a", "davs://a", False, {"High": 0.7, "Idle": 0.0}),
        Place(2, "b", "davs://b", False, {"High": 0.5, "Low": 0.5}),
    ]
    wanted = wanted_shares(places)
    assert wanted == {"High": 0.7, "Low": 0.5, "Idle": 0.001}
    assert not differing(wanted, {**wanted, "of others": 3.0})
    assert differing(wanted, {"High": 0.7})


def test_lanes_that_nobody_set_touch_nothing_that_a_vo_shares() -> None:
    usual = {lane.name: lane.share for lane in DEFAULT_LANES}
    assert wanted_shares([Place(1, "a", "davs://a", False, usual)]) == {}
