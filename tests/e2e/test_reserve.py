"""A receiver takes nothing that would leave less free than its reserve."""

from __future__ import annotations

from pathlib import Path

import pytest
from agents import fill, world
from servers import eventually

pytestmark = pytest.mark.e2e

RESERVE = 'receiveRoot: received, reserve: "{}"'


def test_a_receiver_waits_for_more_room_than_its_reserve(tmp_path: Path) -> None:
    """The status says which destination waits, for what, and how much is to stay free; a spec that asks for
    less lets the same transfer go on."""
    with world(tmp_path) as w:
        fill(w.source, 20)
        w.write(w.mapping())
        specs = w.specs / "specs.yaml"
        text = specs.read_text()
        specs.write_text(text.replace("receiveRoot: received", RESERVE.format("1000TiB")))  # all there is
        w.start()

        def waits() -> bool:
            conditions = w.object("Mapping", "dailies").get("conditions", [])
            return any(one["type"] == "Reconciling" and one["reason"] == "NoSpace" for one in conditions)

        eventually(waits, what="it waits for room")
        assert not w.target().exists() or not any(path.is_file() for path in w.target().rglob("*"))

        def told() -> bool:
            conditions = w.object("Destination", "archive").get("conditions", [])
            return any("have to stay free there" in one["message"] for one in conditions)

        eventually(told, what="the destination says why")
        specs.write_text(text.replace("receiveRoot: received", RESERVE.format("0%")))
        w.eventually_same()
        w.in_sync()
