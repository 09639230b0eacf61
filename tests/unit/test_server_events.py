"""The event log behind lanesync.waitEvents."""

from __future__ import annotations

import asyncio

from agent.server import events
from agent.server.events import EventLog


def test_a_waiter_is_woken_by_the_next_event() -> None:
    """Long poll: nothing now, then the event at once."""

    async def scenario() -> dict[str, object]:
        log = EventLog(first=100)
        waiting = asyncio.create_task(log.wait(100, 60, 10))
        await asyncio.sleep(0)
        log.post("transfer", 7)
        return await asyncio.wait_for(waiting, 60)

    assert asyncio.run(scenario()) == {"events": [{"seq": 101, "kind": "transfer", "id": "7"}], "next": 101}


def test_repeats_collapse_into_the_latest() -> None:
    """An object appears once, at its latest number, however often it changed."""

    async def scenario() -> dict[str, object]:
        log = EventLog(first=0)
        for object_id in (1, 2, 1, 1):
            log.post("transfer", object_id)
        return await log.wait(0, 0, 10)

    found = asyncio.run(scenario())
    assert found["events"] == [
        {"seq": 2, "kind": "transfer", "id": "2"},
        {"seq": 4, "kind": "transfer", "id": "1"},
    ]


def test_limit_pages_without_loss() -> None:
    """`next` of a short page leads to the rest."""

    async def scenario() -> list[object]:
        log, after, ids = EventLog(first=0), 0, []
        for object_id in range(5):
            log.post("transfer", object_id)
        while True:
            page = await log.wait(after, 0, 2)
            if not page["events"]:
                return ids
            ids += [event["id"] for event in page["events"]]  # type: ignore[attr-defined]
            after = page["next"]  # type: ignore[assignment]

    assert asyncio.run(scenario()) == ["0", "1", "2", "3", "4"]


def test_a_cursor_of_another_launch_is_told_to_start_anew() -> None:
    """Too old, too new, and zero: reset, with the number to go on from."""

    async def scenario() -> list[dict[str, object]]:
        log = EventLog(first=1000)
        log.post("manifest", 1)
        return [await log.wait(after, 0, 10) for after in (0, 999, 1002)]

    for answer in asyncio.run(scenario()):
        assert answer == {"reset": True, "events": [], "next": 1001}


def test_memory_is_bounded_and_forgotten_events_are_admitted() -> None:
    """Beyond the bound the oldest go, and a cursor before them is reset instead of missing them."""

    async def scenario() -> tuple[dict[str, object], dict[str, object]]:
        log = EventLog(first=0)
        for object_id in range(events.MAX_EVENTS + 10):
            log.post("transfer", object_id)
        return await log.wait(5, 0, 10), await log.wait(10, 0, 10**6)

    lost, kept = asyncio.run(scenario())
    assert lost["reset"] is True
    assert len(kept["events"]) == events.MAX_EVENTS  # type: ignore[arg-type]


def test_what_is_of_no_interest_wakes_nobody_and_is_not_missed() -> None:
    """Whoever waits for transfers sleeps while manifests come and go, however many, and hears of the
    transfer after them."""

    async def scenario() -> tuple[bool, dict[str, object]]:
        log = EventLog(first=0)
        waiting = asyncio.create_task(log.wait(0, 60, 10, kinds=frozenset({"transfer"})))
        await asyncio.sleep(0)
        for object_id in range(events.MAX_EVENTS + 5):
            log.post("manifest", object_id)
        for _ in range(5):
            await asyncio.sleep(0)
        slept = not waiting.done()
        log.post("transfer", 7)
        return slept, await asyncio.wait_for(waiting, 60)

    slept, answer = asyncio.run(scenario())
    number = events.MAX_EVENTS + 6
    assert slept
    assert answer == {"events": [{"seq": number, "kind": "transfer", "id": "7"}], "next": number}


def test_who_comes_late_is_told_of_the_kinds_it_asks_for_alone() -> None:
    """What is there already is filtered likewise; `next` passes what was left out."""

    async def scenario() -> dict[str, object]:
        log = EventLog(first=0)
        log.post("transfer", 1)
        log.post("manifest", 2)
        return await log.wait(0, 0, 10, kinds=frozenset({"transfer"}))

    assert asyncio.run(scenario()) == {"events": [{"seq": 1, "kind": "transfer", "id": "1"}], "next": 2}
