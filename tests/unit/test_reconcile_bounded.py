"""However many files there are, only so many are on their way, and no file is lost or sent twice for it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.engines.memory import MemoryEngine
from agent.engines.port import TransferRequest
from agent.model.observed import ObservedTransfer
from agent.model.spec import Deletions, DesiredState, DestinationSpec
from agent.reconcile import looking
from tests.unit.reconcile_bench import DESTINATION, MAPPING, Bench


class Counting(MemoryEngine):
    """Notes what it is asked to send."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: Counter[str] = Counter()

    def start_transfer(self, request: TransferRequest) -> ObservedTransfer:
        self.sent.update(entry.path for entry in request.entries)
        return super().start_transfer(request)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "HIGH", 20)
    monkeypatch.setattr(looking, "LOW", 10)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    found = Bench(tmp_path, Counting())
    yield found
    found.crash()


def tree(bench: Bench, directories: int, files: int, text: str = "x") -> set[str]:
    paths = set()
    for directory in range(directories):
        folder = bench.source / f"d{directory:02}"
        folder.mkdir(exist_ok=True)
        for number in range(files):
            (folder / f"f{number:03}").write_text(text)
            os.utime(folder / f"f{number:03}", (1e9, 1e9))
            paths.add(f"/d{directory:02}/f{number:03}")
    return paths


def most_in_flight(bench: Bench) -> int:
    """Bring it in sync; the most paths that were ever on their way."""
    most = 0
    for _ in range(300):
        bench.settle()
        most = max(most, bench.agent.context.state.attempts.in_flight_count("m", "d"))
        if bench.status().ready:
            return most
        bench.pass_time(0.2)
    raise AssertionError(f"does not converge: {bench.status()}")


@pytest.mark.parametrize(("directories", "files"), [(30, 5), (1, 150), (3, 50), (150, 1)])
def test_everything_arrives_once_and_little_is_on_its_way_at_a_time(
    bench: Bench, directories: int, files: int
) -> None:
    """Also where a single directory holds more than there is room for."""
    paths = tree(bench, directories, files)
    assert most_in_flight(bench) <= 20
    assert set(bench.at_destination) == paths
    assert set(bench.engine.sent.values()) == {1}  # type: ignore[attr-defined]
    assert bench.status().detail["deliveries"][0]["files"] == len(paths)


def test_deletions_are_decided_when_all_has_been_looked_at(bench: Bench) -> None:
    """Their limit counts all of them, however late in the walk they are found; what is new goes first."""
    bench.change(prune=True, deletions=Deletions(max_count=10, max_percent=1.0))
    tree(bench, 10, 10)
    most_in_flight(bench)
    for number in range(0, 10, 3):
        for name in range(3):
            (bench.source / f"d{number:02}" / f"f{name:03}").unlink()
    tree(bench, 10, 10, "changed content")
    for number in range(0, 10, 3):
        for name in range(3):
            (bench.source / f"d{number:02}" / f"f{name:03}").unlink()
    bench.look()
    for _ in range(100):
        bench.pass_time(0.2)
    assert "DeletionsHeld" in bench.reasons()
    assert "12 deletions exceed" in str(bench.status().stalled)
    assert len(bench.at_destination) == 100


def test_what_is_there_again_when_a_long_walk_ends_is_not_deleted(bench: Bench) -> None:
    """It was found gone long before."""
    bench.change(prune=True)
    tree(bench, 10, 10)
    most_in_flight(bench)
    (bench.source / "d00" / "f000").unlink()
    for number in range(1, 10):
        for name in range(10):
            (bench.source / f"d{number:02}" / f"f{name:03}").write_text("changed")
            os.utime(bench.source / f"d{number:02}" / f"f{name:03}", (1e9 + 1, 1e9 + 1))
    bench.look()
    assert bench.agent.mappings.memories["m", "d"].walk is not None
    (bench.source / "d00" / "f000").write_text("again")
    os.utime(bench.source / "d00" / "f000", (1e9, 1e9))
    most_in_flight(bench)
    assert "/d00/f000" in bench.at_destination
    assert bench.engine.sent["/d00/f000"] == 2, "its content is another, but it was never deleted"  # type: ignore[attr-defined]


def test_a_removed_tree_goes_after_what_is_new_has_arrived(bench: Bench) -> None:
    """Nothing is left behind at the destination."""
    bench.change(prune=True, deletions=Deletions(max_count=1000, max_percent=1.0))
    tree(bench, 6, 10)
    most_in_flight(bench)
    for number in range(3):
        for file in (bench.source / f"d{number:02}").iterdir():
            file.unlink()
        (bench.source / f"d{number:02}").rmdir()
    new = tree(bench, 12, 10)
    for number in range(3):
        for file in (bench.source / f"d{number:02}").iterdir():
            file.unlink()
        (bench.source / f"d{number:02}").rmdir()
    bench.look()
    most_in_flight(bench)
    gone = {path for path in new if path[1:4] in ("d00", "d01", "d02")}
    assert set(bench.at_destination) == new - gone


def test_a_crash_between_two_parts_loses_nothing(bench: Bench) -> None:
    """The next agent begins with a whole look."""
    paths = tree(bench, 30, 5)
    bench.settle()
    bench.pass_time(0.2)
    assert not bench.status().ready
    bench.crash()
    bench.open()
    assert most_in_flight(bench) <= 20
    assert set(bench.at_destination) == paths
    assert set(bench.engine.sent.values()) == {1}  # type: ignore[attr-defined]


def test_a_burst_of_hints_about_a_large_new_tree_is_bounded_too(bench: Bench) -> None:
    """What a look at single places had no room for is found by a whole one."""
    most_in_flight(bench)
    paths = tree(bench, 30, 5)
    bench.touch(*(f"d{number:02}" for number in range(30)))
    assert most_in_flight(bench) <= 20
    assert set(bench.at_destination) == paths


class TwoDestinations(Bench):
    slow = DestinationSpec("slow", "elsewhere", 1, server="s", send_rate_max=0.000001)

    def desired(self) -> DesiredState:
        state = super().desired()
        state.destinations["slow"] = self.slow
        state.mappings["m"] = replace(state.mappings["m"], destinations=("d", "slow"))
        return state


def test_a_destination_that_takes_nothing_does_not_hold_up_the_other(tmp_path: Path) -> None:
    """Once it takes something again it gets all, too."""
    bench = TwoDestinations(tmp_path, Counting())
    paths = tree(bench, 30, 5)
    bench.settle()
    ids = {d.tag.spec: d.id for d in bench.engine.observe(bench.agent.context.state.agent_id).destinations}
    slow, fast = ids["Destination/slow"], ids[str(DESTINATION)]
    for _ in range(200):
        bench.pass_time(0.2)
    assert set(bench.engine.delivered(fast)) == paths
    assert not bench.engine.delivered(slow)
    assert bench.agent.context.state.attempts.in_flight_count("m", "slow") <= 20
    bench.slow = replace(bench.slow, send_rate_max=None)
    bench.change()
    for _ in range(200):
        bench.pass_time(0.2)
    assert set(bench.engine.delivered(slow)) == paths
    assert bench.status(MAPPING).ready
    bench.crash()
