"""Very many new files at once in a tree that somebody watches."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import ours, peers, processes, syncthing, trees
from bench.measure import Contender, Result, alternate
from bench.workload import Scale

NAME = "burst"
AGENT, LSYNCD, SYNCTHING = "LaneSync, lanesync run", "lsyncd with rsync, delay 0", "Syncthing, delay 1 s"
WRITING = "the writer alone"
BEFORE = 1_000  # files that are there already
POLL_SECONDS = 0.02
LATEST_SECONDS = 600.0


@dataclass
class Watched:
    """A tree and its copy that somebody keeps alike."""

    name: str
    source: Path
    copy: Path
    files: int
    turn: int = 0
    place: str = ""

    def burst(self) -> dict[str, float]:
        """Write the files; seconds from the first one's creation until the last is published at the copy."""
        self.turn += 1
        self.place = f"burst-{self.turn:02}"
        clock, begun = time.time(), time.monotonic()
        trees.make_tree(self.source / self.place, self.files, seed=self.turn)
        written = time.monotonic() - begun
        self._wait()
        names = trees.files_of(self.source / self.place)
        last = max(os.stat(self.copy / self.place / name).st_ctime_ns for name in names) / 1e9
        return {self.name: last - clock, **({WRITING: written} if self.name == AGENT else {})}

    def _wait(self) -> None:
        """Until every file is there in its size. Each is looked at again only until it is, which costs
        those who work little."""
        deadline = time.monotonic() + LATEST_SECONDS
        for name in trees.files_of(self.source / self.place):
            size = (self.source / self.place / name).stat().st_size
            while not _has(self.copy / self.place / name, size):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{self.name}: {name} did not arrive within {LATEST_SECONDS:g} s")
                time.sleep(POLL_SECONDS)

    def verify(self) -> None:
        trees.check(self.copy / self.place, trees.fingerprint(self.source / self.place))


def _has(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


def run(work: Path, scale: Scale) -> Result:
    """Everyone watches a tree of their own; the bursts come in turn."""
    result = Result(NAME, f"{scale.burst_files:,} new files of 1 to 16 KiB in a watched tree", baseline=AGENT)

    def watched(name: str, folder: str, copy: Path) -> Watched:
        trees.make_tree(work / folder / "source", BEFORE)
        return Watched(name, work / folder / "source", copy, scale.burst_files)

    with contextlib.ExitStack() as stack:
        mine = watched(AGENT, "ours", work / "agent" / "received" / "tree")
        stack.enter_context(ours.agent_for(work / "agent", mine.source).running())
        contenders = [Contender(mine.burst, verify=mine.verify)]
        for name, keep, programs, rounds in _others(scale):
            if not all(peers.present(program) for program in programs):
                result.missing.append(programs[0])
                continue
            folder = programs[0]
            one = watched(name, folder, work / folder / "copy")
            one.copy.mkdir()
            stack.enter_context(keep(one.source, one.copy, work / folder / "log"))
            _until_alike(one)
            contenders.append(Contender(one.burst, verify=one.verify, rounds=rounds))
        alternate(result, contenders, scale.rounds)
    result.notes.append(
        "Until the last file has its final name at the destination; the writer needs a part of that time. "
        "Between hosts lsyncd would start an rsync over ssh: here it copies from directory to directory. "
        "Syncthing looks at a change after 1 s (10 s by default)."
    )
    return result


Keep = Callable[[Path, Path, Path], contextlib.AbstractContextManager[None]]


def _others(scale: Scale) -> list[tuple[str, Keep, tuple[str, ...], int | None]]:
    return [
        (LSYNCD, peers.lsyncd, ("lsyncd", "rsync"), None),
        (SYNCTHING, syncthing.pair, ("syncthing",), scale.slow_rounds),
    ]


def _until_alike(one: Watched) -> None:
    """The first copy of what is there already has been made."""
    names = list(trees.files_of(one.source))
    processes.wait_until(
        lambda: all((one.copy / name).exists() for name in names), f"{one.name} made its first copy", 120.0
    )
