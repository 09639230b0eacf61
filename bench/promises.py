"""What the project promises itself to be, and whether the records say so."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from bench import burst, changed, delta, lanes, large, memory, ours, reaction, small
from bench.chart import told
from bench.measure import SECONDS, Result, percentile
from bench.record import Record, Records
from bench.wan import BBR, CUBIC, SMALL, lost
from bench.wan import table as wan_table
from bench.wan_peers import COPIES, IPERF, IPERF_8, LANESYNC, LANESYNC_LONG

MET, NOT_MET, UNKNOWN = "✓ met", "✗ **not met**", "not measured"
ACT_SECONDS = 0.2
Tables = Mapping[str, Result]
"""The tables of all workloads, by name."""


@dataclass(frozen=True)
class Seen:
    figures: str
    met: bool


@dataclass(frozen=True)
class Promise:
    """`look` finds None in tables that do not have what it looks for."""

    workload: str
    work: str
    target: str
    look: Callable[[Tables], Seen | None]


def table(records: Records) -> list[str]:
    """All promises, each met or not, as far as it was measured."""
    tables = {result.name: result for record in records.values() for result in record.results}
    rows = [_row(promise, records, tables) for promise in PROMISES]
    met, missed = (sum(mark in row for row in rows) for mark in (MET, NOT_MET))
    return [
        "## What we promise ourselves",
        "",
        f"Of {met + missed} promises that were measured {met} are met, and {missed} not.",
        "",
        "| work | target | seen | |",
        "|---|---|---|---|",
        *rows,
    ]


def _row(promise: Promise, records: Records, tables: Tables) -> str:
    seen, mark, work = "", UNKNOWN, promise.work
    if record := records.get(promise.workload):
        work = f"[{work}](#{promise.workload})"
        if found := promise.look(tables):
            seen, mark = found.figures, _mark(found, record)
    return f"| {work} | {promise.target} | {seen} | {mark} |"


def _mark(seen: Seen, record: Record) -> str:
    mark = MET if seen.met else NOT_MET
    return mark if record.scale == "record" else f"{mark}, at {record.scale} sizes"


# -- what is looked at


def _ahead(name: str, own: str, others: Sequence[str], times: float) -> Callable[[Tables], Seen | None]:
    """The row `own` is so many times as fast as the best of the others, by the medians."""

    def look(tables: Tables) -> Seen | None:
        result = tables.get(name)
        there = [other for other in others if result and result.series.get(other)]
        if result is None or not result.series.get(own) or not there:
            return None
        best = min if result.unit == SECONDS else max
        rival = best(there, key=result.median)
        mine, its = result.median(own), result.median(rival)
        ratio = its / mine if result.unit == SECONDS else mine / its
        figures = f"{ratio:.2f} ×: {told(mine, result.unit)}, {rival} {told(its, result.unit)}"
        return Seen(figures, ratio >= times)

    return look


def _at_most(
    name: str, value: Callable[[Result], float | None], limit: float, form: str
) -> Callable[[Tables], Seen | None]:
    """A figure of a table is not above a limit."""

    def look(tables: Tables) -> Seen | None:
        result = tables.get(name)
        found = None if result is None else value(result)
        return None if found is None else Seen(form.format(found), found <= limit)

    return look


def _percent(row: str, percent: float) -> Callable[[Result], float | None]:
    """In milliseconds."""
    return lambda result: percentile(result.series[row], percent) * 1000 if result.series.get(row) else None


def _fact(name: str) -> Callable[[Result], float | None]:
    return lambda result: result.facts.get(name)


def _middle(row: str, part: float = 1.0) -> Callable[[Result], float | None]:
    """The median of a row that begins so, divided by `part`."""

    def value(result: Result) -> float | None:
        found = [values for name, values in result.series.items() if name.startswith(row)]
        return statistics.median(found[0]) / part if found else None

    return value


def _wire_part(result: Result) -> float | None:
    """Bytes on the wire over the bytes of the file, in percent."""
    sent = result.wire.get(ours.PUBLISHED)
    return 100 * statistics.median(sent) / result.facts[delta.SIZE] if sent else None


def _cheaper(name: str, own: str, other: str, size: str, each: float) -> Callable[[Tables], Seen | None]:
    """Fewer processor seconds than the other, both ends together, told for so many of `size`."""

    def look(tables: Tables) -> Seen | None:
        result = tables.get(name)
        if result is None or not (result.cpu.get(own) and result.cpu.get(other)):
            return None
        part = result.facts[size] / each
        mine, its = (statistics.median(result.cpu[row]) / part for row in (own, other))
        return Seen(f"{its / (mine or 1e-9):.2f} ×: {mine:.2f} s, {other} {its:.2f} s", mine <= its)

    return look


def _flip(name: str) -> Callable[[Tables], Seen | None]:
    """A change acts in time; it is seen when it is told, which comes on top."""

    def look(tables: Tables) -> Seen | None:
        result = tables.get(name)
        if result is None or lanes.FLIP not in result.facts:
            return None
        seen, trip = result.facts[lanes.FLIP], result.facts[lanes.TRIP]
        figures = (
            f"seen after {seen * 1000:.0f} ms, up to {lanes.TOLD_SECONDS * 1000:.0f} ms of it the telling"
        )
        return Seen(figures, seen <= ACT_SECONDS + trip + lanes.TOLD_SECONDS)

    return look


def _small_over_line(loss: float, row: str) -> Callable[[Tables], Seen | None]:
    """Small files against what iperf3 gets from the same line for as long as it likes."""

    def look(tables: Tables) -> Seen | None:
        small_files, large_file = tables.get(wan_table(SMALL, loss)), tables.get(wan_table(BBR, loss))
        if small_files is None or large_file is None:
            return None
        best = max(
            (large_file.median(row) for row in (IPERF, IPERF_8) if row in large_file.series), default=0
        )
        mine = small_files.median(row) if row in small_files.series else 0.0
        if not best or not mine:
            return None
        return Seen(f"{mine / best:.2f} ×: {mine:,.0f} Mbit/s, iperf3 {best:,.0f}", mine >= 0.5 * best)

    return look


def _peers_over_line(loss: float) -> Callable[[Tables], Seen | None]:
    """Against the best of those who may choose cubic alone, whoever was measured."""

    def look(tables: Tables) -> Seen | None:
        name = wan_table(CUBIC, loss)
        rows = [row for row in tables[name].series if row != LANESYNC] if name in tables else []
        return _ahead(name, LANESYNC, rows, 3.0)(tables)

    return look


# -- the promises

_SECRET = ours.PUBLISHED + ours.ENCRYPTED
_LOSSES = (0.0, 0.001, 0.01)
_MANY, _NOCHANGE = "many", "nochange-1000000"


def _large() -> list[Promise]:
    one = "4 GiB file, cold"
    found: list[tuple[str, str, Sequence[str], float]] = [
        ("ahead of every file peer", ours.PUBLISHED, large.PEERS, 1.0),
        ("≥ 1 × a bare sendfile loop", ours.PUBLISHED, [large.SENDFILE], 1.0),
        ("≥ 1 × the loop, both with the final sync", ours.COMPLETE, [f"{large.SENDFILE} + sync"], 1.0),
        ("encrypted: ≥ 2 × scp", _SECRET, [large.SCP], 2.0),
        ("encrypted: ≥ 2 × rsync over ssh", _SECRET, [large.RSYNC_SSH], 2.0),
    ]
    promises = [
        Promise("large", one, target, _ahead("large", own, rows, n)) for target, own, rows, n in found
    ]
    cost = _cheaper("large", ours.PUBLISHED, large.RSYNC, large.GIB, 1.0)
    return [*promises, Promise("large", "processor seconds per GiB", "fewer than rsync, both ends", cost)]


def _small(name: str, where: str, rsync: float) -> list[Promise]:
    one = f"100,000 files of 1–16 KiB, {where}"
    found = [
        (f"≥ {rsync:g} × rsync daemon", ours.PUBLISHED, small.RSYNC, rsync),
        ("within 10 % of tar through a socket", ours.PUBLISHED, small.TAR, 1 / 1.1),
        ("encrypted ≥ 0.7 × plain", _SECRET, ours.PUBLISHED, 0.7),
    ]
    if name == "small-memory":
        found.append(("≥ 15 × rclone", ours.PUBLISHED, small.RCLONE, 15.0))
    promises = [Promise(name, one, target, _ahead(name, own, [row], n)) for target, own, row, n in found]
    cost = _cheaper(name, ours.PUBLISHED, small.RSYNC, small.FILES, 100_000)
    work = f"processor seconds per 100,000 files, {where}"
    return [*promises, Promise(name, work, "fewer than rsync, both ends", cost)]


def _wan() -> list[Promise]:
    found = []
    for loss in _LOSSES:
        line = f"1 Gbit/s, 100 ms, {lost(loss)}"
        look = _ahead(wan_table(BBR, loss), LANESYNC, [IPERF, IPERF_8], 0.95)
        found.append(Promise(f"wan-{BBR}", f"{line}, BBR", "≥ 0.95 × the best iperf3", look))
    few, many = "5,000 files of 8 KiB on that line", f"{COPIES} times as many at once"
    for loss, (work, row) in product(_LOSSES, ((few, LANESYNC), (many, LANESYNC_LONG))):
        look = _small_over_line(loss, row)
        found.append(Promise(f"wan-{SMALL}", f"{work}, {lost(loss)}", "≥ 0.5 × the best iperf3", look))
    for loss in _LOSSES[1:]:
        work = f"1 Gbit/s, 100 ms, {lost(loss)}, cubic alone"
        found.append(Promise(f"wan-{CUBIC}", work, "≥ 3 × the best peer", _peers_over_line(loss)))
    return found


def _lanes() -> list[Promise]:
    found = []
    for name, line in ((lanes.FAST, "unlimited"), (lanes.LIMITED, "500 Mbit/s"), (lanes.WAN, "long line")):
        work = f"all lanes full, {line}"
        for target, look in (
            ("shares within 2 points over any 5 s", _at_most(name, _fact(lanes.WORST), 2.0, "{:.2f} points")),
            ("together ≥ 97 % of one lane alone", _ahead(name, lanes.TOGETHER, [lanes.ALONE], 0.97)),
            ("a change acts within 200 ms and a round trip", _flip(name)),
        ):
            found.append(Promise("lanes", work, target, look))
    look = _at_most(lanes.MANY, _fact(lanes.FROM_SHARE), 2.0, "{:.2f} points")
    return [*found, Promise("lanes", "many small transfers in lanes", "shares within 2 points", look)]


def _million() -> list[Promise]:
    apply = _ahead(_NOCHANGE, "lanesync apply, cold agent", ["rsync daemon"], 1.0)
    server, agent = _fact(memory.LARGEST), _fact(memory.AGENT)
    work = "memory with 1,000,000 files"
    return [
        Promise("nochange", "no-change pass over 1,000,000 files, cold agent", "faster than rsync", apply),
        Promise(
            "nochange", work, "a server's process ≤ 100 MB", _at_most(_NOCHANGE, server, 100, "{:.0f} MB")
        ),
        Promise("nochange", work, "agent ≤ 150 MB", _at_most(_NOCHANGE, agent, 150, "{:.0f} MB")),
    ]


def _many() -> list[Promise]:
    work, limits = "10,000 mappings, 100 destinations", []
    for target, value, limit, form in (
        ("validate ≤ 10 s", _middle("lanesync validate"), 10.0, "{:.1f} s"),
        ("plan with nothing to do ≤ 5 s", _middle("lanesync plan"), 5.0, "{:.1f} s"),
        ("agent ≤ 300 MB", _fact(memory.AGENT), 300.0, "{:.0f} MB"),
        ("≤ 2 % of a core at rest", _middle("processor seconds of the agent", 0.1), 2.0, "{:.1f} %"),
    ):
        limits.append(Promise(_MANY, work, target, _at_most(_MANY, value, limit, form)))
    return limits


def _reactions() -> list[Promise]:
    p50, p95 = (_percent(reaction.AGENT, percent) for percent in (50, 95))
    work, form = "one closed file in a tree of 100,000", "{:.1f} ms"
    return [
        Promise("reaction", work, "p50 ≤ 10 ms", _at_most(reaction.NAME, p50, 10.0, form)),
        Promise("reaction", work, "p95 ≤ 30 ms", _at_most(reaction.NAME, p95, 30.0, form)),
    ]


PROMISES: tuple[Promise, ...] = (
    *_large(),
    *_small("small-memory", "tmpfs", 1.5),
    *_small("small-disk", "disk", 1.3),
    *_million(),
    *(
        Promise(
            "changed",
            f"1 % of 100,000 files changed, {how}",
            "faster than rsync",
            _ahead(changed.NAME, row, [changed.RSYNC], 1.0),
        )
        for how, row in (
            ("the agent watches", changed.WATCHED),
            ("the agent runs and is asked", changed.ASKED),
            ("cold agent", changed.APPLY),
        )
    ),
    Promise(
        "delta",
        "1 GiB file, 1 % of its blocks changed",
        "≤ 3 % of the bytes on the wire",
        _at_most(delta.NAME, _wire_part, 3.0, "{:.2f} % of them"),
    ),
    Promise(
        "delta",
        "1 GiB file, 1 % of its blocks changed",
        "faster than rsync",
        _ahead(delta.NAME, ours.PUBLISHED, [delta.RSYNC], 1.0),
    ),
    *_reactions(),
    Promise(
        "burst",
        "10,000 new files under watch",
        "ahead of lsyncd with rsync",
        _ahead(burst.NAME, burst.AGENT, [burst.LSYNCD], 1.0),
    ),
    *_lanes(),
    *_wan(),
    *_many(),
)
