"""Whole looks take longer turns where they would cost too much, and only where changes are told anyway."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.model.condition import Reason
from agent.model.spec import Trigger
from agent.planning.pace import LONGEST, WHOLE_SHARE
from agent.reconcile.pace import Pace
from tests.unit.reconcile_bench import MAPPING, Bench


class Dear(Pace):
    """A look takes ten seconds of a processor, whatever this machine measures."""

    def note(self, seconds: float) -> None:
        """Known already."""


@pytest.fixture
def b(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    bench.agent.mappings.once = False
    bench.agent.mappings.pace = Dear(WHOLE_SHARE, 10.0)
    yield bench
    bench.crash()


def _every(bench: Bench) -> Any:
    return bench.status(MAPPING).detail["looks"]["source"]


def test_an_interval_that_nobody_wrote_is_made_longer(b: Bench) -> None:
    b.settle()
    assert _every(b) == 10.0 / WHOLE_SHARE


def test_an_interval_that_somebody_wrote_is_kept(b: Bench) -> None:
    b.change(trigger=Trigger(interval=600.0, interval_written=True))
    b.settle()
    assert _every(b) == 600.0


def test_without_a_watch_the_interval_is_kept(b: Bench) -> None:
    b.change(trigger=Trigger(watch=False))
    b.settle()
    assert _every(b) == 600.0


def test_six_hours_are_the_longest(b: Bench) -> None:
    b.agent.mappings.pace = Dear(WHOLE_SHARE, 1e6)
    b.settle()
    assert _every(b) == LONGEST


def test_a_watch_that_does_not_tell_everything_any_more_brings_the_look_forward(
    b: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    b.settle()
    assert _every(b) == 10.0 / WHOLE_SHARE
    trouble = [(Reason.WATCHER_DIED, "the reader ended")]
    monkeypatch.setattr(type(b.agent.sources), "degraded", lambda *_: trouble)
    b.agent.context.queue.add(MAPPING)
    b.settle()
    assert _every(b) == 600.0
    now = b.clock.monotonic()
    assert all(memory.survey_due <= now + 600.0 for memory in b.agent.mappings.memories.values())
