"""Rounds in which every contender has its turn, and what they make of the seconds."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench import processes

SECONDS, RATE = "s", "Mbit/s"


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Contender:
    """Someone who does the work. `run` returns series name -> seconds; the rest is outside the timing.

    `verify` raises when the result is not what the source holds. Who is slow may stand back after `rounds`.
    """

    run: Callable[[], Mapping[str, float]]
    prepare: Callable[[], None] = _nothing
    verify: Callable[[], None] = _nothing
    rounds: int | None = None


@dataclass
class Result:
    """Raw numbers of one table. `baseline` names the series that all others are compared with."""

    name: str
    title: str
    baseline: str
    series: dict[str, list[float]] = field(default_factory=dict)
    unit: str = SECONDS  # seconds, of which fewer are better; or a rate, of which more is
    cpu: dict[str, list[float]] = field(default_factory=dict)  # processor seconds of all who took part
    wire: dict[str, list[float]] = field(default_factory=dict)  # bytes over loopback, headers counted
    facts: dict[str, float] = field(default_factory=dict)  # figures that are no series, by name with unit
    notes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    percentiles: bool = False  # many samples: told as p50 and p95, not as every number
    told_wire: bool = False  # whether the bytes on the wire are to the point
    timeline: list[tuple[float, dict[str, int]]] = field(default_factory=list)  # (s, bytes so far by lane)
    shares: dict[str, float] = field(default_factory=dict)  # what each lane of the timeline should get

    def add(self, measured: Mapping[str, float]) -> None:
        for name, seconds in measured.items():
            self.series.setdefault(name, []).append(seconds)

    def median(self, name: str) -> float:
        return statistics.median(self.series[name])

    def ratio(self, name: str) -> float | None:
        """How many times faster the baseline is; None while there is no baseline."""
        base, own = (self.median(one) if self.series.get(one) else 0.0 for one in (self.baseline, name))
        over, under = (own, base) if self.unit == SECONDS else (base, own)
        return over / under if base and under else None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Result:
        timeline = [(at, moved) for at, moved in found["timeline"]]
        return cls(**{**found, "timeline": timeline})


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
            if contender.rounds is None or turn < contender.rounds:
                say(f"  {result.name} {turn + 1}/{rounds}: {_words(_once(result, contender))}")
    return result


def _once(result: Result, contender: Contender) -> Mapping[str, float]:
    contender.prepare()
    used, sent = processes.cpu_seconds(), processes.loopback_bytes()
    measured = contender.run()
    name = next(iter(measured))
    result.wire.setdefault(name, []).append(processes.loopback_bytes() - sent)
    result.cpu.setdefault(name, []).append(processes.cpu_seconds() - used)
    contender.verify()
    result.add(measured)
    return measured


def _words(measured: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {seconds:.3f} s" for name, seconds in measured.items())


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
