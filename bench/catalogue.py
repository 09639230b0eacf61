"""Which workloads there are: where each works, what measures it, and about how long it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from bench.measure import Result
from bench.workload import Scale

MEMORY = Path("/dev/shm")
Run = Callable[[Path, Scale], list[Result]]


@dataclass(frozen=True)
class Workload:
    """`seconds` are estimates by the name of the scale, which say what comes and bind nobody."""

    name: str
    run: Run
    seconds: dict[str, float]
    memory: bool = False  # its files are in memory, not on disk
    leaves: bool = False  # its many files stay on disk to the end of the run, see `Target`


def _one(module: str, **options: str | bool) -> Run:
    """A module that gives one table. It is imported late: what it wants may not be installed."""

    def run(work: Path, scale: Scale) -> list[Result]:
        return [import_module(f"bench.{module}").run(work, scale, **options)]

    return run


def _several(module: str, **options: str) -> Run:
    def run(work: Path, scale: Scale) -> list[Result]:
        found: list[Result] = import_module(f"bench.{module}").run(work, scale, **options)
        return found

    return run


def _nochange(work: Path, scale: Scale) -> list[Result]:
    measure = import_module("bench.nochange").run
    found = []
    for files in scale.unchanged_files:
        (work / str(files)).mkdir()
        found.append(measure(work / str(files), scale, files))
    return found


def _estimate(quick: float, record: float) -> dict[str, float]:
    return {"tiny": 10.0, "quick": quick, "record": record}


WORKLOADS: tuple[Workload, ...] = (
    Workload("large", _one("large"), _estimate(40, 330)),
    Workload("delta", _one("delta"), _estimate(20, 70)),
    Workload("small-memory", _one("small", name="small-memory"), _estimate(45, 330), memory=True),
    Workload("nochange", _nochange, _estimate(35, 480), leaves=True),
    Workload("changed", _one("changed"), _estimate(30, 100), leaves=True),
    Workload("reaction", _one("reaction"), _estimate(45, 130), leaves=True),
    Workload("burst", _one("burst"), _estimate(60, 100), leaves=True),
    Workload("small-disk", _one("small", name="small-disk", slowest=False), _estimate(45, 240), leaves=True),
    Workload("lanes", _several("lanes"), _estimate(145, 330), memory=True),
    Workload("wan-bbr", _several("wan", kind="bbr"), _estimate(70, 580), memory=True),
    Workload("wan-cubic", _several("wan", kind="cubic"), _estimate(55, 300), memory=True),
    Workload("wan-small", _several("wan", kind="small"), _estimate(20, 60), memory=True),
    Workload("many", _one("many"), _estimate(60, 300), leaves=True),
    Workload("fts3", _one("fts3"), _estimate(30, 50), memory=True),
)


def chosen(names: Sequence[str]) -> list[Workload]:
    """Those that are named, or begin with a name that is given; all when none is. ValueError for a name that
    nobody has."""
    for name in names:
        if not any(workload.name.startswith(name) for workload in WORKLOADS):
            there = ", ".join(workload.name for workload in WORKLOADS)
            raise ValueError(f"no workload is named {name}; there are {there}")
    wanted = tuple(names) or ("",)
    return [workload for workload in WORKLOADS if workload.name.startswith(wanted)]
