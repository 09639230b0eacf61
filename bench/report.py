"""Records as a page: what is promised and what was seen, where; tables, ratios, charts, raw numbers."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from html import escape
from pathlib import Path

from bench import chart, promises
from bench.chart import told
from bench.measure import RATE, Result, percentile
from bench.record import Record, Records

INTRODUCTION = """\
# Benchmarks

LaneSync and its peers, on one machine, in one run, in turn: every contender does the work once per round, a
different one first each time. Each result is compared with the source, byte by byte, outside the timing.

- *Ratio* says how many times faster LaneSync's marked row (1.00) is than this one, by the medians: below 1
  the other one is faster.
- *Processor* is the median of the processor seconds of all processes that took part, at both ends, daemons
  and what they started included.
- Peers that take many times as long have fewer rounds; the column says how many.

Absolute figures vary from machine to machine and from run to run; the ratios hold better. `make bench` does
all of this at small sizes within ten minutes and writes nothing. This page is written by
`python -m bench --record`, a single section of it by `python -m bench NAME --record`.
"""
_WHERE = """\
## Where

Two hosts are two processes on one machine, joined by its loopback device, and for the long line two network
namespaces joined by a program that delays, limits and loses packets. Disks are this machine's.
"""


def page(records: Records) -> str:
    """The whole page as Markdown."""
    lines = [INTRODUCTION]
    if records:
        lines += [*promises.table(records), "", _WHERE, *_where(records)]
    for record in records.values():
        lines += ["", *section(record)]
    return "\n".join(lines) + "\n"


def _where(records: Records) -> list[str]:
    """Of the latest run, and of others where they differ."""
    latest = max(records.values(), key=lambda record: record.machine["date"]).machine
    lines = ["| | |", "|---|---|"]
    for name, text in latest.items():
        if name != "load":
            lines.append(f"| {name} | {text} |")
    return lines


def section(record: Record) -> list[str]:
    """One workload: its tables, one chart, how it came about, raw numbers."""
    first = record.results[0]
    lines = [f'<a id="{record.workload}"></a>', "", f"## {first.title}", ""]
    for number, result in enumerate(record.results):
        if number:
            lines += ["", f"### {result.title}", ""]
        lines += _table(result)
        if number == 0:
            lines += ["", f"![{first.title}](images/{image_name(record)})"]
        if result.missing:
            lines += ["", f"**Missing on this machine, not measured: {', '.join(result.missing)}.**"]
        if result.notes:
            lines += ["", *(f"- {note}" for note in result.notes)]
    small = "" if record.scale == "record" else f" Sizes: {record.scale}; not the figures of record."
    lines += [
        "",
        f"Measured {record.machine['date']} by `{record.command}` in {record.seconds / 60:.1f} min, load "
        f"before it {record.machine['load']}, Python {record.machine['Python']}.{small} "
        f"Repeat: `python -m bench {record.workload} --record`. "
        f"[Raw data](benchmarks/{record.workload}.json).",
    ]
    return [*lines, "", *_raw(record.results)]


def _table(result: Result) -> list[str]:
    if not result.series:
        return [f"{name}: {value:,.4g}  " for name, value in result.facts.items()]
    return _percentiles(result) if result.percentiles else _medians(result)


def _medians(result: Result) -> list[str]:
    columns = ["", "median", "ratio", "smallest", "largest", "rounds"]
    columns += ["processor"] if result.cpu else []
    columns += ["on the wire"] if result.told_wire else []
    lines = [_row(columns), _row(["---", *["---:"] * (len(columns) - 1)])]
    for name, values in result.series.items():
        unit = result.unit
        cells = [name, told(result.median(name), unit), _ratio(result, name)]
        cells += [told(min(values), unit), told(max(values), unit), str(len(values))]
        cells += [_middle(result.cpu.get(name), "{:.2f} s", 1.0)] if result.cpu else []
        cells += [_middle(result.wire.get(name), "{:,.1f} MB", 1e-6)] if result.told_wire else []
        lines.append(_row(cells))
    return lines


def _percentiles(result: Result) -> list[str]:
    lines = ["| | p50 | p95 | slowest | ratio of p50 | changes |", "|---|---:|---:|---:|---:|---:|"]
    for name, values in result.series.items():
        found = (percentile(values, 50), percentile(values, 95), max(values))
        cells = [name, *(told(value, result.unit) for value in found), _ratio(result, name), str(len(values))]
        lines.append(_row(cells))
    return lines


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _middle(values: Sequence[float] | None, form: str, factor: float) -> str:
    return form.format(statistics.median(values) * factor) if values else ""


def _ratio(result: Result, name: str) -> str:
    ratio = result.ratio(name)
    return "-" if ratio is None else f"{ratio:.2f}"


def _raw(results: Sequence[Result]) -> list[str]:
    """As HTML: what is between its tags is not read as Markdown."""
    lines = ["<details><summary>Raw numbers</summary><pre>"]
    for result in results:
        lines += [f"{escape(result.title)} ({result.unit})"]
        for name, values in result.series.items():
            lines.append(f"  {escape(name)}: " + " ".join(_number(value, result.unit) for value in values))
        for name, values in result.cpu.items():
            lines.append(f"  {escape(name)}, processor: " + " ".join(f"{value:.2f}" for value in values))
        for name, values in result.wire.items() if result.told_wire else ():
            lines.append(
                f"  {escape(name)}, bytes on the wire: " + " ".join(f"{value:.0f}" for value in values)
            )
        for name, value in result.facts.items():
            lines.append(f"  {escape(name)}: {value:,.4g}")
    return [*lines, "</pre></details>"]


def _number(value: float, unit: str) -> str:
    return f"{value:.1f}" if unit == RATE else f"{value:.4g}" if value < 0.1 else f"{value:.3f}"


def image_name(record: Record) -> str:
    return f"bench-{record.workload}.svg"


def data(target: Path) -> Path:
    """Where the records of a page are."""
    return target.parent / "benchmarks"


def write(target: Path, records: Records) -> None:
    """The page at `target`, its charts in images/ beside it; charts of sections that are gone go, too."""
    images = target.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    for path in set(images.glob("bench-*.svg")) - {images / image_name(one) for one in records.values()}:
        path.unlink()
    for record in records.values():
        (images / image_name(record)).write_text(chart.draw(record.results), encoding="utf-8")
    target.write_text(page(records), encoding="utf-8")
