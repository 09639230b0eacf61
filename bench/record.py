"""What was measured, as files: one for each workload, which the page is made of."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.catalogue import WORKLOADS
from bench.measure import Result


@dataclass(frozen=True)
class Record:
    """One workload: its tables, and where, when and how they came about."""

    workload: str
    scale: str
    command: str
    machine: Mapping[str, str]
    seconds: float  # that it took
    results: list[Result]


Records = dict[str, Record]


def save(folder: Path, record: Record) -> None:
    """In place of what the workload had before."""
    folder.mkdir(parents=True, exist_ok=True)
    told = {
        "workload": record.workload,
        "scale": record.scale,
        "command": record.command,
        "machine": dict(record.machine),
        "seconds": round(record.seconds, 1),
        "results": [_rounded(result.as_json()) for result in record.results],
    }
    path = folder / f"{record.workload}.json"
    new = path.with_suffix(".new")
    new.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    os.replace(new, path)


def load(folder: Path) -> Records:
    """All that a folder has, in the order of the workloads."""
    found: Records = {}
    for workload in WORKLOADS:
        path = folder / f"{workload.name}.json"
        if path.exists():
            told = json.loads(path.read_text(encoding="utf-8"))
            results = [Result.from_json(one) for one in told["results"]]
            found[workload.name] = Record(**{**told, "results": results})
    return found


def _rounded(value: object) -> object:
    """Without digits that were never measured."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, Mapping):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return value
