"""A tree of which one file in a hundred was rewritten since the last pass."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench import ours, peers, processes, trees
from bench.measure import Contender, Result, alternate
from bench.workload import Scale

NAME = "changed"
APPLY = "lanesync apply, cold agent"
ASKED = "lanesync reconcile, the agent runs and does not watch"
WATCHED = "lanesync run, which watches (the writing included)"
RSYNC = "rsync daemon"
ONE_IN = 100
LARGEST = 16 << 10


@dataclass
class Tree:
    """A source of somebody's own, with what it holds."""

    source: Path
    wanted: trees.Fingerprint = field(init=False)
    chance: random.Random = field(default_factory=lambda: random.Random(11))
    content: dict[str, bytes] = field(default_factory=dict)  # of the files that are rewritten next

    @classmethod
    def make(cls, source: Path, files: int) -> Tree:
        trees.make_tree(source, files)
        made = cls(source)
        made.wanted = trees.fingerprint(source)
        return made

    def choose(self) -> None:
        """One file in a hundred, spread at random, is to have other content, often of another size."""
        names = self.chance.sample(sorted(self.wanted), max(1, len(self.wanted) // ONE_IN))
        self.content = {n: self.chance.randbytes(self.chance.randint(1 << 10, LARGEST)) for n in names}
        self.wanted |= {name: trees.digest_of(content) for name, content in self.content.items()}

    def write(self) -> None:
        for name, content in self.content.items():
            (self.source / name).write_bytes(content)

    def change(self) -> None:
        self.choose()
        self.write()

    def write_watched(self, copy: Path) -> float:
        """Rewrite them and wait; seconds from before the first until the last has its name at the copy."""
        clock = time.time()
        self.write()
        for name in self.content:  # each is looked at only until it is there, which costs others little
            processes.wait_until(partial(self._arrived, copy, name), name)
        return max(os.stat(copy / name).st_ctime_ns for name in self.content) / 1e9 - clock

    def _arrived(self, copy: Path, name: str) -> bool:
        return trees.digest(copy / name) == self.wanted[name]


def run(work: Path, scale: Scale) -> Result:
    """Everyone has a source of their own, alike to the last byte, which has been delivered before."""
    files = scale.changed_files
    mine, asked, watched, theirs = (
        Tree.make(work / who / "tree", files) for who in ("ours", "asked", "watched", "theirs")
    )
    title = f"{max(1, files // ONE_IN):,} of {files:,} files changed"
    result = Result(NAME, title, baseline=APPLY, told_wire=True)
    cold = ours.agent_for(work / "agent", mine.source)
    warm = ours.agent_for(work / "running", asked.source, "  trigger: {watch: false}\n")
    watching = ours.agent_for(work / "watching", watched.source)
    cold.apply()

    def contender(tree: Tree, copy: Path, name: str, deliver: Callable[[], float]) -> Contender:
        return Contender(lambda: {name: deliver()}, tree.change, lambda: trees.check(copy, tree.wanted))

    contenders = [
        contender(mine, cold.target, APPLY, cold.apply),
        contender(asked, warm.target, ASKED, warm.reconcile),
        Contender(
            lambda: {WATCHED: watched.write_watched(watching.target)},
            watched.choose,
            lambda: trees.check(watching.target, watched.wanted),
        ),
    ]
    with ExitStack() as stack:
        stack.enter_context(warm.running())
        stack.enter_context(watching.running())
        daemon = stack.enter_context(peers.rsync_daemon(work / "rsync", work / "received"))
        if daemon is None:
            result.missing.append("rsync")
        else:
            send = partial(daemon.send, f"{theirs.source}/", "tree")
            send()
            contenders.append(contender(theirs, work / "received" / "tree", RSYNC, send))
        alternate(result, contenders, scale.rounds)
    result.notes.append(
        "`lanesync apply` starts the agent and two transfer servers, finds the changes by looking at every "
        "file, delivers, waits until all is synced and recorded, and ends them again; `reconcile` asks an "
        "agent that runs for the same. Where the agent watches, the time begins before the first file is "
        "rewritten and ends when the last has its name at the destination. The daemon of rsync runs before, "
        "too, and rsync syncs nothing."
    )
    return result
