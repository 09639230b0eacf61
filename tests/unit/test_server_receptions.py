"""What a receiver remembers of what it receives: states, counts and rates, bounded."""

from __future__ import annotations

from typing import Any

from agent.server import receptions
from agent.server.receptions import KEEP_ENDED_US, KEEP_INTERRUPTED_US, MAX_TRANSFERS, Receptions
from agent.server.store.scope import EVERYTHING, Scope

SECOND = 1_000_000
NOW = 1_700_000_000 * SECOND


def _report(ident: str = "a", status: str = "receiving", **more: Any) -> dict[str, Any]:
    told = {"ident": ident, "uid": f"uid-{ident}", "user": "anna", "sourceIP": "192.0.2.1", "sourcePort": 5}
    told |= {"sourceUid": "sender", "publicKey": None, "encrypted": False, "destinationPath": "/in"}
    return told | {"totalSize": 10, "status": status, "interrupted": False} | more


def test_a_transfer_is_told_as_it_was_reported_last() -> None:
    """Complete is announced once, an interruption is an error time and no failure."""
    known = Receptions()
    assert known.note(_report(), NOW) is None
    assert known.note(_report(interrupted=True), NOW + 1) is None
    (row,) = known.transfers(EVERYTHING, NOW + 2)
    assert (row["status"], row["lastErrorTime"], row["transferId"]) == ("receiving", NOW + 1, "uid-a")
    completed = known.note(_report(status="complete"), NOW + 3)
    assert completed is not None and completed["status"] == "complete"
    assert known.note(_report(status="complete"), NOW + 4) is None


def test_sources_count_their_transfers_by_state() -> None:
    known = Receptions()
    states = ("receiving", "receiving", "complete", "complete", "complete", "error")
    for number, status in enumerate(states):
        known.note(_report(str(number), status, interrupted=number == 1), NOW)
    known.note(_report("other", sourceIP="192.0.2.9", sourceUid="other"), NOW)
    first, second = known.sources(EVERYTHING, NOW)
    counts = ("activeTransferCount", "inactiveTransferCount", "completeTransferCount", "errorTransferCount")
    assert [first[name] for name in counts] == [1, 1, 3, 1]
    assert [second[name] for name in counts] == [1, 0, 0, 0]
    assert first["encryptedConnectionState"] == "connected"


def test_two_servers_behind_one_address_are_two_sources() -> None:
    known = Receptions()
    known.note(_report("a", sourceUid="one"), NOW)
    known.note(_report("b", sourceUid="two"), NOW)
    assert len(known.sources(EVERYTHING, NOW)) == 2


def test_rates_are_over_what_came_while_it_came() -> None:
    """A megabyte a second for five seconds, then silence: the average stays, the window empties."""
    known = Receptions()
    known.note(_report(), NOW)
    for second in range(1, 6):
        known.progress([["a", 1_000_000, NOW, NOW]], NOW + second * SECOND)
    (source,) = known.sources(EVERYTHING, NOW + 5 * SECOND)
    assert source["aveRecvRate"] == 8000.0
    assert source["aveRecvRateWindow"] == 4000.0, "five of ten seconds"
    (later,) = known.sources(EVERYTHING, NOW + 60 * SECOND)
    assert (later["aveRecvRate"], later["aveRecvRateWindow"]) == (8000.0, 0.0)


def test_rates_go_on_when_the_clock_was_set_back() -> None:
    """What came in a time that is still to come is no part of the window, and not kept until then."""
    known = Receptions()
    known.note(_report(), NOW)
    for after in (0, -3600, -3599, -3598):
        known.progress([["a", 1_000_000, 0, 0]], NOW + after * SECOND)
    (source,) = known.sources(EVERYTHING, NOW - 3598 * SECOND)
    assert source["aveRecvRateWindow"] == 3 * 1_000_000 * 8000 / (10 * SECOND)
    (peer,) = known._sources.values()
    assert len(peer.recent) == 3


def test_what_came_and_went_between_two_reports_counts() -> None:
    """A transfer that is over before anybody looked brings its bytes with its end."""
    known = Receptions()
    known.note(_report(), NOW)
    known.note(_report(status="complete", received=1000), NOW + SECOND // 100)
    (source,) = known.sources(EVERYTHING, NOW + SECOND)
    assert source["aveRecvRate"] == 800.0


def test_others_see_neither_the_transfer_nor_its_source() -> None:
    known = Receptions()
    known.note(_report(), NOW)
    for scope in (Scope("bert"), Scope("anna", token="t"), Scope(owner="", token="")):
        assert known.transfers(scope, NOW) == [] == known.sources(scope, NOW)
    assert known.transfers(Scope("anna"), NOW)


def test_what_is_over_is_forgotten_after_a_while() -> None:
    known = Receptions()
    known.note(_report("done", "complete"), NOW)
    known.note(_report("lost", interrupted=True), NOW)
    known.note(_report("going"), NOW)

    def left(now: int) -> list[str]:
        return [row["transferId"] for row in known.transfers(EVERYTHING, now)]

    assert left(NOW + KEEP_ENDED_US) == ["uid-done", "uid-lost", "uid-going"]
    assert left(NOW + KEEP_ENDED_US + 1) == ["uid-lost", "uid-going"]
    assert left(NOW + KEEP_INTERRUPTED_US + 1) == ["uid-going"]
    known.interrupted(NOW)
    assert left(NOW + KEEP_INTERRUPTED_US + 1) == [] == known.sources(EVERYTHING, NOW)


def test_memory_is_bounded_and_what_goes_on_is_kept_longest() -> None:
    known = Receptions()
    known.note(_report("going"), NOW)
    for number in range(MAX_TRANSFERS + 5):
        known.note(_report(str(number), "complete"), NOW)
    rows = known.transfers(EVERYTHING, NOW)
    assert len(rows) == receptions.MAX_TRANSFERS and rows[0]["transferId"] == "uid-going"
