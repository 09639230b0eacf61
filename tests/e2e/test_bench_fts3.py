"""The benchmark of FTS3 measures a delivery that really happened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench import fts3
from bench.workload import QUICK

pytestmark = pytest.mark.e2e


def test_every_file_is_submitted_ended_and_recorded(tmp_path: Path) -> None:
    """A small run: its shape, a series for each phase, and no file more or less (which it checks itself)."""
    result = fts3.run(tmp_path, replace(QUICK, fts3_files=420, fts3_links=4, fts3_still=0.2))
    assert result.title.startswith("420 files over 4 links")
    assert set(result.series) == {fts3.BARE, fts3.PLANNED, fts3.SUBMITTED, fts3.DONE}
    assert result.median(fts3.DONE) > result.median(fts3.PLANNED) > 0
    assert any("MiB of memory" in note for note in result.notes)


@pytest.mark.parametrize(
    ("files", "links", "expected"),
    [(1_000_000, 200, (20, 10, 5_000, 400_000)), (20_000, 20, (20, 1, 1_000, 20_000)), (7, 2, (2, 1, 3, 6))],
)
def test_files_are_spread_evenly_over_links(files: int, links: int, expected: tuple[int, ...]) -> None:
    """Sources, destinations, files of a link, and how many are under way at once."""
    shape = fts3.Shape(files, links)
    assert (shape.sources, shape.destinations, shape.each, shape.window) == expected
    assert shape.total == shape.each * shape.sources * shape.destinations <= files
