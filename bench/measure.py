"""Rounds in which every contender has its turn, and what they make of the seconds."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bench import processes


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Contender:
    """Someone who does the work. `run` returns series name -> seconds; the rest is outside the timing.

    `verify` raises when the result is not what the source holds.
    """

    run: Callable[[], Mapping[str, float]]
    prepare: Callable[[], None] = _nothing
    verify: Callable[[], None] = _nothing


@dataclass
class Result:
    """Raw seconds of one workload. `baseline` names the series that all others are divided by."""

    name: str
    title: str
    baseline: str
    series: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)  # processor seconds of all who took part
    notes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    percentiles: bool = False  # many samples: told as p50 and p95, not as every number

    def add(self, measured: Mapping[str, float]) -> None:
        for name, seconds in measured.items():
            self.series.setdefault(name, []).append(seconds)

    def median(self, name: str) -> float:
        return statistics.median(self.series[name])

    def ratio(self, name: str) -> float | None:
        """How many times the baseline's time; None while there is no baseline."""
        base = self.median(self.baseline) if self.series.get(self.baseline) else 0.0
        return self.median(name) / base if base else None


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent of `values` do not exceed (nearest rank)."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]


def order(count: int, turn: int) -> list[int]:
    """Whose turn it is in a round: everyone once, a different one first each time."""
    return [(position + turn) % count for position in range(count)]


def alternate(result: Result, contenders: Sequence[Contender], rounds: int) -> Result:
    """Run all contenders `rounds` times in turn, each verified after its run."""
    for turn in range(rounds):
        for index in order(len(contenders), turn):
            contender = contenders[index]
            contender.prepare()
            used = processes.cpu_seconds()
            measured = contender.run()
            result.cpu.setdefault(next(iter(measured)), []).append(processes.cpu_seconds() - used)
            contender.verify()
            result.add(measured)
            say(f"  {result.name} {turn + 1}/{rounds}: {_words(measured)}")
    return result


def _words(measured: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {seconds:.3f} s" for name, seconds in measured.items())


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
