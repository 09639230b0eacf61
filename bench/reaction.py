"""From a writer's close to the file being whole at the destination."""

from __future__ import annotations

import contextlib
import random
import time
from dataclasses import dataclass
from pathlib import Path

from bench import ours, peers, processes, trees
from bench.measure import Contender, Result, alternate
from bench.workload import Scale

NAME = "reaction"
AGENT = "lanesync run"
SIZE = 8 << 10
POLL_SECONDS = 0.0002
PAUSE_SECONDS = 0.2
LATEST_SECONDS = 30.0


@dataclass
class Watched:
    """A tree and its copy that somebody keeps alike."""

    name: str
    source: Path
    copy: Path
    files: list[str]
    chance: random.Random

    def change(self) -> dict[str, float]:
        """Rewrite one file; seconds from the writer's close until the copy has the new content."""
        name, content = self.chance.choice(self.files), self.chance.randbytes(SIZE)
        target = self.copy / name
        with open(self.source / name, "wb") as file:
            file.write(content)
        start = time.monotonic()
        while not _holds(target, content):
            if time.monotonic() > start + LATEST_SECONDS:
                raise TimeoutError(f"{self.name}: {name} did not arrive within {LATEST_SECONDS:g} s")
            time.sleep(POLL_SECONDS)
        return {self.name: time.monotonic() - start}

    def pause(self) -> None:
        """Let everyone come to rest, never in step with somebody's interval."""
        time.sleep(PAUSE_SECONDS + self.chance.random() * 0.1)


def _holds(path: Path, content: bytes) -> bool:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(len(content) + 1) == content
    except FileNotFoundError:
        return False


def run(work: Path, scale: Scale) -> Result:
    """Everyone watches a tree of their own; the changes come in turn, one at a time."""
    title = f"One closed file in a tree of {scale.watched_files:,}, until it is whole at the destination"
    result = Result(NAME, title, baseline=AGENT, percentiles=True)
    with contextlib.ExitStack() as stack:
        watched = [_watched(AGENT, work / "ours", work / "agent" / "received" / "tree", scale)]
        agent = ours.agent_for(work / "agent", watched[0].source)
        stack.enter_context(agent.running())
        watched.append(_watched("bare watchdog + copy loop", work / "loop", work / "loop" / "copy", scale))
        stack.enter_context(peers.copy_loop(watched[1].source, watched[1].copy, work / "loop.log"))
        if peers.present("lsyncd") and peers.present("rsync"):
            watched.append(_watched("lsyncd, delay 0", work / "lsyncd", work / "lsyncd" / "copy", scale))
            stack.enter_context(peers.lsyncd(watched[2].source, watched[2].copy, work / "lsyncd.log"))
            last = watched[2].copy / watched[2].files[-1]
            processes.wait_until(last.exists, "lsyncd made its first copy")
        else:
            result.missing.append("lsyncd")
        for one in watched:
            one.pause()
            one.change()  # the first change starts what starts lazily
        contenders = [Contender(one.change, prepare=one.pause) for one in watched]
        alternate(result, contenders, scale.changes)
        for one in watched[:1]:
            trees.check(one.copy, trees.fingerprint(one.source))
    result.notes.append(
        f"The destination is looked at every {POLL_SECONDS * 1000:g} ms. The bare loop copies on one machine "
        "without connection, record or checksum; lsyncd starts an rsync for every change."
    )
    return result


def _watched(name: str, home: Path, copy: Path, scale: Scale) -> Watched:
    trees.make_tree(home / "source", scale.watched_files)
    return Watched(name, home / "source", copy, sorted(trees.files_of(home / "source")), random.Random(7))
