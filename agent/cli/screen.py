"""The calm live view on a terminal: the answer, the objects, the transfers with their bars."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from agent.cli.lanes import places, shares
from agent.cli.text import MARKS, NAMED, answer, bar, mark, notes, why
from agent.model.printable import printable
from agent.model.units import format_duration, format_rate, format_size

Document = Mapping[str, Any]
STYLES = {"ready": "green", "busy": "cyan", "stalled": "bold red", "suspended": "yellow"}
FRAMES_PER_SECOND = 5


class Rates:
    """Bytes per second of each transfer, from one look to the next, smoothed."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, int, float]] = {}

    def all(self) -> dict[str, float]:
        """By transfer, as last told."""
        return {transfer: rate for transfer, (_, _, rate) in self._seen.items()}

    def update(self, transfer: str, done: int, now: float) -> float:
        """The rate in bytes/s."""
        before = self._seen.get(transfer)
        if before is None or done < before[1]:
            self._seen[transfer] = (now, done, 0.0)
            return 0.0
        then, bytes_then, rate = before
        if now - then < 0.2:
            return rate
        fresh = (done - bytes_then) / (now - then)
        rate = fresh if rate == 0 else 0.7 * rate + 0.3 * fresh
        self._seen[transfer] = (now, done, rate)
        return rate


def render(document: Document, rates: Rates, now: float, footer: Iterable[str] = ()) -> RenderableType:
    head = Text(answer(document), style="bold green" if document["inSync"] else "bold")
    objects = Table.grid(padding=(0, 2, 0, 0))
    objects.add_column(no_wrap=True)
    objects.add_column(overflow="fold")
    for thing in document["objects"]:
        kind = mark(thing)
        objects.add_row(
            Text(f"{MARKS[kind]} {thing['kind']}/{thing['name']}", style=STYLES[kind]), Text(why(thing))
        )
        for note in notes(thing):
            objects.add_row("", Text(f"! {printable(note['message'])}", style="yellow"))
    parts: list[RenderableType] = [head, Text(), objects]
    transfers = _transfers(document, rates, now)
    if transfers.row_count:
        parts += [Text(), transfers, *_lanes(document, rates)]
    recent = [
        f"{format_duration(max(0.0, document['time'] - entry['time']))} ago  {printable(entry['path'])}"
        for entry in reversed(document.get("lastDelivered", ()))
    ]
    if recent:
        parts += [Text(), Text("delivered", style="bold"), *(Text(f"  {line}") for line in recent)]
    problems = [str(error) for errors in document["invalid"].values() for error in errors]
    if problems:
        parts += [Text(), *(Text(printable(error), style="red") for error in problems[:NAMED])]
    foot = [Text(printable(line), style="dim") for line in footer]
    return Group(*parts, *([Text(), *foot] if foot else []))


def _transfers(document: Document, rates: Rates, now: float) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    line = places(document)
    for thing in document["objects"]:
        for delivery in thing.get("deliveries", ()):
            for transfer in delivery["transfers"][:NAMED]:
                name = f"{thing['name']} → {delivery['destination']}"
                table.add_row(*_transfer(name, transfer, line[str(transfer["id"])], rates, now))
    return table


def _lanes(document: Document, rates: Rates) -> list[RenderableType]:
    """For each destination to which something moves, what its lanes get of what they should."""
    found: list[RenderableType] = []
    for destination, lanes in shares(document, rates.all()).items():
        told = [f"{one.lane} {one.got:.0%} of {one.asked:.0%}" for one in lanes]
        found.append(Text(f"{destination}: {', '.join(told)}", style="dim"))
    return found


def _transfer(name: str, transfer: Document, place: tuple[int, int], rates: Rates, now: float) -> list[str]:
    done, total = int(transfer["doneBytes"]), int(transfer["totalBytes"])
    rate = rates.update(str(transfer["id"]), done, now)
    left = f"{(total - done) / rate:.0f}s left" if rate > 0 and total > done else ""
    return [
        name,
        str(transfer["lane"]) + (f" {place[0]}/{place[1]}" if place[1] > 1 else ""),
        f"{bar(done / total if total else 0.0, 20)} {done / total if total else 0.0:4.0%}",
        f"{format_size(done)} of {format_size(total)}",
        format_rate(rate * 8 / 1000) if rate else str(transfer["state"]),
        left,
    ]


def follow(read: Callable[[], Document]) -> int:
    """Show what `read` gives until Ctrl-C."""
    rates = Rates()
    with Live(console=Console(), auto_refresh=False, transient=False) as live:
        try:
            while True:
                live.update(render(read(), rates, time.monotonic()), refresh=True)
                time.sleep(1 / FRAMES_PER_SECOND)
        except KeyboardInterrupt:
            return 0
