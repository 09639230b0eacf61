"""Lanes in the live view: places in line, and what each lane gets of what it should."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from agent.cli.lanes import LaneShare, places, shares
from agent.cli.screen import Rates, render


def transfer(number: int, lane: str, priority: int = 100, done: int = 0) -> dict[str, Any]:
    sizes = {"doneBytes": done, "totalBytes": 1000, "doneFiles": 0, "totalFiles": 1}
    return {"id": str(number), "state": "sending", "lane": lane, "priority": priority, **sizes}


def document(*transfers: dict[str, Any]) -> dict[str, Any]:
    lanes = [{"name": "High", "share": 0.7}, {"name": "Low", "share": 0.3}]
    ready = {"ready": True, "conditions": []}
    return {
        "inSync": False,
        "state": "converging",
        "message": "",
        "time": 0.0,
        "invalid": {},
        "objects": [
            {"kind": "Destination", "name": "archive", "lanes": lanes, **ready},
            {
                "kind": "Mapping",
                "name": "dailies",
                "deliveries": [{"destination": "archive", "transfers": list(transfers)}],
                **ready,
            },
        ],
    }


def test_the_lowest_priority_value_goes_first_then_the_oldest() -> None:
    found = places(
        document(transfer(10, "High"), transfer(9, "High"), transfer(11, "High", 5), transfer(2, "Low"))
    )
    assert found == {"11": (1, 3), "9": (2, 3), "10": (3, 3), "2": (1, 1)}


def test_each_lane_s_part_of_what_moves_stands_beside_what_was_asked() -> None:
    found = shares(
        document(transfer(1, "High"), transfer(2, "High"), transfer(3, "Low")), {"1": 50, "2": 25, "3": 25}
    )
    assert found == {"archive": [LaneShare("High", 0.7, 0.75, 75), LaneShare("Low", 0.3, 0.25, 25)]}
    assert shares(document(transfer(1, "High")), {}) == {}, "nothing moves, so nothing is shared"


def test_the_view_shows_places_and_shares_in_eighty_columns() -> None:
    rates = Rates()
    first = document(transfer(1, "High"), transfer(2, "High", 200), transfer(3, "Low"))
    render(first, rates, 0.0)
    then = document(transfer(1, "High", done=600), transfer(2, "High", 200), transfer(3, "Low", done=200))
    console = Console(width=80, record=True, force_terminal=False)
    console.print(render(then, rates, 1.0))
    text = console.export_text()
    assert "High 1/2" in text
    assert "High 2/2" in text
    assert "archive: High 75% of 70%, Low 25% of 30%" in text
    assert all(len(line) <= 80 for line in text.splitlines())
