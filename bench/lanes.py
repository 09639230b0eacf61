"""Lanes under load: does each get its share, and how soon does a change act?

    python -m bench.lanes [--seconds 30] [--rate KBITS] [--output docs/benchmarks-lanes.md]

Two servers on loopback; every lane has more to send than it can. Files are neither read nor written, so that
it is the line between the servers that is shared. With a rate the destination is limited to it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.jetstream import APIInterface
from agent.jetstream.constants import TRANSFER_FLAG_NONE
from bench import chart
from bench.measure import say
from bench.ours import Pair, server_pair

SHARES = {"High": 0.70, "Normal": 0.25, "Low": 0.05, "Idle": 0.0}
WINDOW = 5.0
WARM = 1.5  # seconds that are left out after a start

Counts = list[tuple[float, dict[str, int]]]
"""(monotonic time, bytes so far by lane)."""


@dataclass(frozen=True)
class Found:
    counts: Counts
    alone: float  # bytes/s of one lane alone
    idle_alone: float  # bytes/s of the idle lane alone
    flips: list[float]  # seconds from a change of priority until the other transfer moves

    @property
    def rate(self) -> float:
        return sum(_between(self.counts[0], self.counts[-1]).values()) / (
            self.counts[-1][0] - self.counts[0][0]
        )

    @property
    def worst(self) -> dict[str, float]:
        """By lane: the largest distance from its share, in points, over any window."""
        found = dict.fromkeys(SHARES, 0.0)
        for at, (begun, _) in enumerate(self.counts):
            end = next((other for other in self.counts[at:] if other[0] - begun >= WINDOW), None)
            if end is None:
                break
            moved = _between(self.counts[at], end)
            total = sum(moved.values()) or 1
            for lane, share in SHARES.items():
                found[lane] = max(found[lane], abs(moved[lane] / total - share) * 100)
        return found


def _between(first: tuple[float, dict[str, int]], last: tuple[float, dict[str, int]]) -> dict[str, int]:
    return {lane: last[1].get(lane, 0) - first[1].get(lane, 0) for lane in SHARES}


class Load:
    """Transfers that never end, until they are taken away."""

    def __init__(self, pair: Pair, folder: Path) -> None:
        self._pair, self._api = pair, pair.api
        source = folder / "endless"
        with open(source, "wb") as file:
            file.truncate(1 << 42)
        self._manifest = self._api.send.createManifest(mappings={"/endless": str(source)})["manifestId"]
        self._api.send.waitForManifest(self._manifest)

    def begin(self, lane: str, priority: int = 100) -> str:
        made = self._api.send.createTransfer(
            self._pair.destination,
            self._manifest,
            priority=priority,
            priorityLane=lane,
            transferFlags=TRANSFER_FLAG_NONE,
        )
        return str(made["transferId"])

    def end(self, *transfers: str) -> None:
        for transfer in transfers:
            self._api.send.failTransfer(transfer, "measured")
            self._api.send.deleteTransfer(transfer)


def watch(api: APIInterface, destination: str, seconds: float) -> Counts:
    """What each lane has sent, looked at ten times a second."""
    found: Counts = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found.append((time.monotonic(), api.lanesync.getLaneBytes(destination)["lanes"]))
        time.sleep(0.1)
    return found


def alone(pair: Pair, load: Load, lane: str, seconds: float) -> float:
    transfer = load.begin(lane)
    time.sleep(WARM)
    counts = watch(pair.api, pair.destination, seconds)
    load.end(transfer)
    return sum(_between(counts[0], counts[-1]).values()) / (counts[-1][0] - counts[0][0])


def flip(api: APIInterface, load: Load) -> float:
    """Two transfers of one lane, the second waiting: how long after it became more urgent does it move?"""
    first, second = load.begin("Normal", 10), load.begin("Normal", 20)
    time.sleep(WARM)
    before = int(api.send.getTransfer(second)["bytesSent"])
    begun = time.monotonic()
    api.send.setTransferPriority(second, 5, "Normal")
    while int(api.send.getTransfer(second)["bytesSent"]) <= before:
        if time.monotonic() - begun > 10:
            raise RuntimeError("the change of priority did not act")
        time.sleep(0.005)
    taken = time.monotonic() - begun
    load.end(first, second)
    return taken


def measure(folder: Path, seconds: float, rate: float | None) -> Found:
    with server_pair(folder / "servers", folder / "received") as pair:
        pair.api.send.setPriorityLanes(pair.destination, SHARES)
        if rate is not None:
            pair.api.send.setSendRateMax(pair.destination, rate)
        load = Load(pair, folder)
        single = statistics.median(alone(pair, load, "High", 5.0) for _ in range(3))
        transfers = [load.begin(lane) for lane in SHARES]
        time.sleep(WARM)
        counts = watch(pair.api, pair.destination, seconds)
        load.end(*transfers)
        say("  all lanes: done")
        idle = alone(pair, load, "Idle", 5.0)
        return Found(counts, single, idle, [flip(pair.api, load) for _ in range(9)])


def page(found: Found, rate: float | None) -> str:
    line = "as fast as the machine can" if rate is None else f"limited to {rate / 1000:g} Mbit/s"
    moved = _between(found.counts[0], found.counts[-1])
    total = sum(moved.values()) or 1
    worst, rows = found.worst, []
    for lane, share in SHARES.items():
        got, far = moved[lane] / total, worst[lane]
        rows.append(f"| {lane} | {share:.0%} | {got:.2%} | {far:.2f} | {moved[lane] / 1e6:,.0f} |")
    together, single, idle = (
        f"{rate * 8e-6:,.0f} Mbit/s" for rate in (found.rate, found.alone, found.idle_alone)
    )
    middle, most = statistics.median(found.flips) * 1000, max(found.flips) * 1000
    return "\n".join(
        [
            f"## All lanes have more to send than they can, {line}",
            "",
            f"| lane | asked | got | worst {WINDOW:g} s, points | MB |",
            "|---|---:|---:|---:|---:|",
            *rows,
            "",
            f"- all lanes together {together}; one lane alone {single}: {found.rate / found.alone:.1%}",
            f"- the idle lane, with nothing else to send, {idle}",
            f"- a change of priority moves the other transfer after {middle:.0f} ms in the middle, "
            f"{most:.0f} ms at most, of {len(found.flips)}; progress is told five times a second, so up to "
            "200 ms of this are the telling",
            "",
        ]
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.lanes", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument(
        "--rate", type=float, action="append", default=[], help="kbit/s; 0 = no limit (repeatable)"
    )
    parser.add_argument("--output", type=Path, help="page to write, its charts in images/ beside it")
    options = parser.parse_args(arguments)
    parts = [
        "# Benchmarks: lanes",
        "",
        (__doc__ or "").split("\n\n")[2].strip(),
        "Written by `python -m bench.lanes`.",
        "",
    ]
    for number, given in enumerate(options.rate or [0.0, 500_000.0]):
        rate = given or None
        with tempfile.TemporaryDirectory(
            prefix="lanesync-lanes-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None
        ) as folder:
            found = measure(Path(folder), options.seconds, rate)
        parts.append(page(found, rate))
        if options.output is not None:
            name = f"bench-lanes-{number + 1}.svg"
            shares = [(at - found.counts[0][0], moved) for at, moved in found.counts]
            image = options.output.parent / "images" / name
            image.parent.mkdir(parents=True, exist_ok=True)
            image.write_text(chart.shares("Share of each lane, by second", shares, SHARES), encoding="utf-8")
            parts.append(f"![Share of each lane over time](images/{name})\n")
    text = "\n".join(parts)
    print(text)
    if options.output is not None:
        options.output.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
