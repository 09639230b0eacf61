"""Lanes under load: does each get its share, and how soon does a change act?

Every lane has more to send than it can. The file is sparse and never ends, so that it is the line between
the servers that is shared.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path

from agent.jetstream import APIInterface
from agent.jetstream.constants import TRANSFER_FLAG_NONE
from agent.server.data.openings import OPEN_IN_LANE
from agent.server.data.work import ENTRY_COST
from bench import link
from bench.link import Shape
from bench.measure import RATE, Result, order, say
from bench.ours import Pair, distant_pair, server_pair
from bench.workload import Scale

NAME = "lanes"
FAST, LIMITED, WAN, MANY = "lanes-fast", "lanes-limited", "lanes-wan", "lanes-many"
SHARES = {"High": 0.70, "Normal": 0.25, "Low": 0.05, "Idle": 0.0}
TOGETHER, ALONE, IDLE_ALONE = "all lanes together", "one lane alone", "the idle lane alone"
WORST = "worst distance of a lane from its share over any window (points)"
FLIP = "a change of priority acts, longest (s)"
TRIP = "round trip (s)"
WINDOW, WARM = 5.0, 1.0  # seconds; the second are left out after a start
TURN, TURN_LOOKS = 4.0, 0.02  # seconds of a turn of those that are compared, and between looks at it
TOLD_SECONDS = 0.2  # between two reports of progress
LIMIT = 500_000.0  # kbit/s
HELD, SMALL = 8.0, 1000  # kbit/s until all transfers are there; bytes of each
TRANSFERS, LEAST = 2000, 200  # in each lane; in all that shares can be told by
PER_SECOND = "transfers/s"
FROM_SHARE = "worst distance of a lane from its share (points)"
LINE = Shape(delay=0.05, rate=1e9, loss=0.001)
FLIPS = 7

Counts = list[tuple[float, dict[str, int]]]
"""(monotonic time, bytes so far by lane)."""


@dataclass(frozen=True)
class Found:
    counts: Counts
    rounds: list[dict[str, float]]  # Mbit/s of all lanes, and of one alone
    idle_alone: float  # Mbit/s of the idle lane alone
    flips: list[float]  # seconds from a change of priority until the other transfer is seen to move

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


def _rate(counts: Counts) -> float:
    """Mbit/s of all lanes, from one report to another: what is between two of them is not seen."""
    told = [later for earlier, later in pairwise(counts) if later[1] != earlier[1]]
    if len(told) < 2:
        raise RuntimeError("the lanes stand still")
    return sum(_between(told[0], told[-1]).values()) * 8e-6 / (told[-1][0] - told[0][0])


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
            minCipher=self._pair.cipher,
            transferFlags=TRANSFER_FLAG_NONE,
            **self._pair.account,
        )
        return str(made["transferId"])

    def end(self, *transfers: str) -> None:
        for transfer in transfers:
            self._api.send.failTransfer(transfer, "measured")
            self._api.send.deleteTransfer(transfer)


def watch(api: APIInterface, destination: str, seconds: float, every: float = 0.1) -> Counts:
    """What each lane has sent, looked at ever so often."""
    found: Counts = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found.append((time.monotonic(), api.lanesync.getLaneBytes(destination)["lanes"]))
        time.sleep(every)
    return found


def turn(pair: Pair, load: Load, *lanes: str) -> float:
    """Mbit/s of these lanes, with nobody else."""
    transfers = [load.begin(lane) for lane in lanes]
    time.sleep(WARM)
    counts = watch(pair.api, pair.destination, TURN, TURN_LOOKS)
    load.end(*transfers)
    return _rate(counts)


def compared(pair: Pair, load: Load, rounds: int) -> list[dict[str, float]]:
    """All lanes together and one alone in turn, another one first each time, so that a machine that changes
    its pace does so for both. A turn that does not count goes before."""
    turns = [(TOGETHER, tuple(SHARES)), (ALONE, ("High",))]
    turn(pair, load, "High")
    found = []
    for number in range(rounds):
        found.append({turns[at][0]: turn(pair, load, *turns[at][1]) for at in order(len(turns), number)})
    return found


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


def measure(pair: Pair, folder: Path, scale: Scale) -> Found:
    pair.api.send.setPriorityLanes(pair.destination, SHARES)
    load = Load(pair, folder)
    rounds = compared(pair, load, scale.lanes_rounds)
    transfers = [load.begin(lane) for lane in SHARES]
    time.sleep(WARM)
    counts = watch(pair.api, pair.destination, scale.lanes_seconds)
    load.end(*transfers)
    idle = turn(pair, load, "Idle")
    return Found(counts, rounds, idle, [flip(pair.api, load) for _ in range(FLIPS)])


def run(work: Path, scale: Scale) -> list[Result]:
    """Unlimited and with a rate on loopback, and on a long line."""
    found = []
    for name, rate in ((FAST, None), (LIMITED, LIMIT)):
        folder = work / name
        with server_pair(folder / "servers", folder / "received") as pair:
            if rate is not None:
                pair.api.send.setSendRateMax(pair.destination, rate)
            line = "as fast as the machine can" if rate is None else f"limited to {rate / 1000:g} Mbit/s"
            found.append(told(name, line, 0.0, measure(pair, folder, scale)))
            say(f"  {NAME}: {line}: done")
    with server_pair(work / MANY / "servers", work / MANY / "received") as pair:
        found.append(many(pair, work / MANY))
        say(f"  {NAME}: many small transfers: done")
    if reason := link.missing():
        found[0].missing.append(f"a long line: {reason}")
        return found
    with _far_away(work / WAN) as pair:
        line = "100 ms round trip, 1 Gbit/s, 0.1 % lost"
        found.append(told(WAN, line, 2 * LINE.delay, measure(pair, work / WAN, scale)))
    return found


def many(pair: Pair, folder: Path) -> Result:
    """TRANSFERS of one small file each in every lane. Those that are open before they may be sent do not
    count; what is measured comes when no lane has any of them left, and every lane has some that wait."""
    api, source = pair.api, folder / "small"
    source.write_bytes(os.urandom(SMALL))
    api.send.setPriorityLanes(pair.destination, SHARES)
    api.send.setSendRateMax(pair.destination, HELD)
    manifest = api.send.createManifest(mappings={"/small": str(source)})["manifestId"]
    api.send.waitForManifest(manifest)
    before, lanes = _of(pair), [lane for lane, share in SHARES.items() if share]
    for number, lane in product(range(TRANSFERS), lanes):
        api.send.createTransfer(
            pair.destination, manifest, destinationPath=f"/{lane}{number}", priorityLane=lane, **pair.account
        )
    api.send.setSendRateMax(pair.destination, -1)
    size = SMALL + ENTRY_COST
    first = _when(pair, before, lambda moved: min(moved[lane] for lane in lanes) >= OPEN_IN_LANE * size)
    left = {lane: TRANSFERS * size - nbytes for lane, nbytes in _between(before, first).items()}
    counted = 0.8 * min(left[lane] / SHARES[lane] for lane in lanes)  # before one runs out
    last = _when(pair, first, lambda moved: sum(moved.values()) >= counted)
    moved = _between(first, last)
    sent = sum(moved.values())
    if counted < LEAST * size or any(moved[lane] >= left[lane] for lane in lanes):
        raise RuntimeError("a lane ran out before enough was seen; take more transfers")
    title = f"{TRANSFERS:,} transfers of {SMALL:,} bytes in each lane"
    result = Result(MANY, title, TOGETHER, unit=PER_SECOND)
    result.add({TOGETHER: sent / size / (last[0] - first[0])})
    result.facts = {FROM_SHARE: max(abs(moved[lane] / sent - share) * 100 for lane, share in SHARES.items())}
    for lane, share in SHARES.items():
        result.notes.append(f"Lane {lane}: {share:.0%} asked, {moved[lane] / sent:.2%} got.")
    return result


def _of(pair: Pair) -> tuple[float, dict[str, int]]:
    return time.monotonic(), pair.api.lanesync.getLaneBytes(pair.destination)["lanes"]


def _when(
    pair: Pair, before: tuple[float, dict[str, int]], enough: Callable[[dict[str, int]], bool]
) -> tuple[float, dict[str, int]]:
    """What the lanes have sent as soon as that is enough since `before`."""
    while not enough(_between(before, now := _of(pair))):
        if now[0] - before[0] > 600:
            raise RuntimeError("many small transfers get on too slowly")
        time.sleep(0.02)
    return now


@contextmanager
def _far_away(folder: Path) -> Iterator[Pair]:
    with ExitStack() as stack:
        line = stack.enter_context(link.line(LINE))
        stack.enter_context(link.entered(line.near))
        yield stack.enter_context(distant_pair(folder, folder / "received", line))


def told(name: str, line: str, trip: float, found: Found) -> Result:
    """As a table of rates; what each lane got as notes; the shares over time as the chart."""
    result = Result(name, f"All lanes have more to send than they can, {line}", ALONE, unit=RATE)
    for measured in found.rounds:
        result.add(measured)
    result.add({IDLE_ALONE: found.idle_alone})
    moved, worst = _between(found.counts[0], found.counts[-1]), found.worst
    total = sum(moved.values()) or 1
    result.facts = {WORST: max(worst.values()), FLIP: max(found.flips), TRIP: trip}
    for lane, share in SHARES.items():
        result.notes.append(
            f"Lane {lane}: {share:.0%} asked, {moved[lane] / total:.2%} got, {worst[lane]:.2f} points off in "
            f"the worst {WINDOW:g} s."
        )
    middle, most = statistics.median(found.flips) * 1000, max(found.flips) * 1000
    result.notes.append(
        f"A change of priority moves the other transfer after {middle:.0f} ms in the middle, {most:.0f} ms "
        f"at most, of {len(found.flips)}; progress is told five times a second, so up to 200 ms are the "
        "telling."
    )
    start = found.counts[0][0]
    result.timeline, result.shares = [(at - start, lanes) for at, lanes in found.counts], dict(SHARES)
    return result
