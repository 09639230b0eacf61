"""Results as a page: what was measured where, tables, ratios, raw numbers, charts."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench import chart
from bench.chart import duration
from bench.measure import Result, percentile

INTRODUCTION = """\
# Benchmarks

LaneSync and its peers, on one machine, in one run, in turn: every contender does the work once per round, a
different one first each time. Each result is compared with the source, byte by byte, outside the timing.
*Ratio* is a row's median divided by the median of the row marked 1.00: more than 1 is slower than LaneSync.
*Processor* is the median of the processor seconds of all processes that took part, at both ends.
Absolute figures vary from machine to machine and from run to run; the ratios hold better.

This page is written by `make bench`.
"""


def page(machine: Mapping[str, str], command: str, results: Sequence[Result], remark: str = "") -> str:
    """The whole page as Markdown."""
    lines = [INTRODUCTION]
    if remark:
        lines.append(f"> {remark}\n")
    lines += ["## Where", "", "| | |", "|---|---|", f"| command | `{command}` |"]
    lines += [f"| {name} | {text} |" for name, text in machine.items()]
    for result in results:
        lines += ["", *section(result)]
    return "\n".join(lines) + "\n"


def section(result: Result) -> list[str]:
    """One workload: table, chart, notes, raw numbers."""
    lines = [f"## {result.title}", ""]
    lines += _percentiles(result) if result.percentiles else _medians(result)
    lines += ["", f"![{result.title}](images/{image_name(result)})"]
    if result.missing:
        lines += ["", f"**Missing on this machine, not measured: {', '.join(result.missing)}.**"]
    if result.notes:
        lines += ["", *(f"- {note}" for note in result.notes)]
    if result.percentiles:
        lines += ["", "<details><summary>Raw numbers (ms)</summary>", ""]
        for name, values in result.series.items():
            lines += [f"{name}: " + " ".join(f"{seconds * 1000:.1f}" for seconds in values), ""]
        lines.append("</details>")
    return lines


def _medians(result: Result) -> list[str]:
    lines = ["| | median | ratio | processor | all rounds (s) |", "|---|---:|---:|---:|---|"]
    for name, values in result.series.items():
        raw = " ".join(f"{seconds:.3f}" for seconds in values)
        told = f"{duration(result.median(name))} | {_ratio(result, name)} | {_processor(result, name)}"
        lines.append(f"| {name} | {told} | {raw} |")
    return lines


def _processor(result: Result, name: str) -> str:
    """The median of the processor seconds of all who took part, in both roles."""
    used = result.cpu.get(name)
    return f"{statistics.median(used):.2f} s" if used else ""


def _percentiles(result: Result) -> list[str]:
    lines = ["| | p50 | p95 | slowest | ratio of p50 | changes |", "|---|---:|---:|---:|---:|---:|"]
    for name, values in result.series.items():
        p50, p95 = percentile(values, 50), percentile(values, 95)
        told = f"{duration(p50)} | {duration(p95)} | {duration(max(values))}"
        lines.append(f"| {name} | {told} | {_ratio(result, name)} | {len(values)} |")
    return lines


def _ratio(result: Result, name: str) -> str:
    ratio = result.ratio(name)
    return "-" if ratio is None else f"{ratio:.2f}"


def image_name(result: Result) -> str:
    return f"bench-{result.name}.svg"


def write(target: Path, text: str, results: Sequence[Result]) -> None:
    """The page at `target`, its charts in images/ beside it."""
    images = target.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    for result in results:
        (images / image_name(result)).write_text(chart.bars(result.title, result.series), encoding="utf-8")
    target.write_text(text, encoding="utf-8")
