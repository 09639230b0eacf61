"""A long line between two hosts: 100 ms round trip, 1 Gbit/s, with and without loss.

Two network namespaces stand for the hosts, see `bench.link`. Every contender moves the same file; who is not
through within the time is measured by what has arrived.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

from bench.link import Shape
from bench.measure import RATE, Result, order, say
from bench.wan_peers import CONTENDERS, LANESYNC, SMALL_FILES, Contender, hosts, missing, only_cubic, usable
from bench.workload import Scale

NAME = "wan"
BBR, CUBIC, SMALL = "bbr", "cubic", "small"
SMALL_BYTES = 8192
BEFORE = "100 ms round trip, 1 Gbit/s"


def table(kind: str, loss: float) -> str:
    """The name of a table."""
    return f"{NAME}-{kind}-{loss:g}"


def lost(loss: float) -> str:
    """In words."""
    return f"{loss * 100:g} % lost" if loss else "nothing lost"


@dataclass(frozen=True)
class Course:
    """A line, what is moved over it, and how."""

    shape: Shape
    work: Path
    source: Path
    seconds: float
    kind: str

    @property
    def cubic(self) -> bool:
        return self.kind == CUBIC

    def measure(self, name: str) -> float:
        """Mbit/s of one contender, on a line of its own of the same seed."""
        work = Path(tempfile.mkdtemp(prefix="turn-", dir=self.work))
        try:
            with ExitStack() as stack:
                world = stack.enter_context(
                    hosts(self.shape, work, self.source, self.seconds, cubic=self.cubic)
                )
                rate = _movers(self.kind)[name](world, stack)()
        finally:
            shutil.rmtree(work, ignore_errors=True)
        say(f"  {NAME}: {self.kind}, {lost(self.shape.loss)}: {name} {rate:.1f} Mbit/s")
        return rate


def run(work: Path, scale: Scale, kind: str) -> list[Result]:
    """One large file with BBR or with cubic alone, or small files with BBR, each with every loss."""
    if reason := missing():
        raise RuntimeError(f"a long line cannot be made here: {reason}")
    movers = _movers(kind)
    names = [name for name in movers if usable(name)]
    source = _small(work / "small", scale.wan_files) if kind == SMALL else _large(work, scale.wan_bytes)
    found = []
    with only_cubic() if kind == CUBIC else nullcontext():
        for loss in scale.wan_losses:
            course = Course(Shape(loss=loss), work, source, scale.wan_seconds, kind)
            if kind == SMALL:
                found.append(_small_files(course, names, scale))
            else:
                found.append(_large_file(course, names))
    found[0].missing = [name for name in movers if name not in names]
    found[0].notes += NOTES[kind]
    return found


def _movers(kind: str) -> Mapping[str, Contender]:
    return SMALL_FILES if kind == SMALL else CONTENDERS


def _large_file(course: Course, names: Sequence[str]) -> Result:
    """Once each, one after the other; those whom a loss leaves with next to nothing at the same time, each on
    a line of its own."""
    loss, kind = course.shape.loss, course.kind
    size = course.source.stat().st_size / (1 << 30)
    control = "cubic alone" if course.cubic else "BBR"
    title = f"One file of {size:.2g} GiB, {BEFORE}, {control}, {lost(loss)}"
    result = Result(table(kind, loss), title, LANESYNC, unit=RATE)
    crowd = len(names) if course.cubic and loss else 1
    result.add({LANESYNC: course.measure(LANESYNC)})
    peers = [name for name in names if name != LANESYNC]
    with ThreadPoolExecutor(crowd) as pool:
        result.add(dict(zip(peers, pool.map(course.measure, peers), strict=True)))
    return result


def _small_files(course: Course, names: Sequence[str], scale: Scale) -> Result:
    loss, files = course.shape.loss, scale.wan_files
    title = f"{files:,} files of {SMALL_BYTES >> 10} KiB, {BEFORE}, BBR, {lost(loss)}"
    result = Result(table(SMALL, loss), title, LANESYNC, unit=RATE)
    for turn in range(scale.slow_rounds + 1):
        for index in order(len(names), turn):
            result.add({names[index]: course.measure(names[index])})
    return result


_FAIR = (
    "Mbit/s of content, from the order to the last sync and record; iperf3 has no content. LaneSync "
    "encrypts, checks and keeps accounts; its session stood before, the others open theirs within the time.",
    "Everyone has the same congestion control, the default of both hosts; with cubic alone nobody may "
    "choose another. Loss is random, both ways; the queue before the line holds one bandwidth-delay product.",
)
NOTES = {
    BBR: _FAIR,
    CUBIC: (
        *_FAIR,
        "Where cubic loses, the peers were measured at the same time, each on a line of its own: together "
        "they leave the machine idle.",
    ),
    SMALL: (
        *_FAIR,
        "So few bytes are through before a connection has found out how fast the line is: iperf3 with as "
        "many bytes shows what that leaves.",
    ),
}


def _large(work: Path, size: int) -> Path:
    path, block = work / "large" / "large.bin", os.urandom(1 << 20)
    path.parent.mkdir()
    with open(path, "wb") as file:
        for _ in range(size >> 20):
            file.write(block)
    return path


def _small(folder: Path, files: int) -> Path:
    folder.mkdir()
    for number in range(files):
        (folder / f"f{number:05}").write_bytes(os.urandom(SMALL_BYTES))
    return folder
