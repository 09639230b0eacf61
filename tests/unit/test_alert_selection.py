"""An alert that selects by labels tells of those objects and of no other."""

from __future__ import annotations

from dataclasses import replace

import pytest
from unit.test_alerts import Alerting, bench, fire, hook
from webhooks import Receiver

from agent.model.spec import Key, Kind

__all__ = ["bench", "hook"]


@pytest.mark.parametrize(("select", "told"), [("site=paris", 1), ("site=rome", 0), ("", 1)])
def test_only_what_is_selected_is_told(bench: Alerting, hook: Receiver, select: str, told: int) -> None:
    """By the labels that the object's spec has."""
    labels, seen = {Key(Kind.MAPPING, "x"): {"site": "paris"}}, bench.agent.alerts._look
    bench.agent.alerts._look = lambda: replace(seen(), labels=labels)
    bench.set_alert(select=select)
    fire(bench)
    assert [message.message["status"] for message in hook.taken] == ["firing"] * told
