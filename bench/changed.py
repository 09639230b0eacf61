"""A tree of which one file in a hundred was rewritten since the last pass."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench import ours, peers, trees
from bench.measure import Contender, Result, alternate
from bench.workload import Scale

NAME = "changed"
APPLY = "lanesync apply, cold agent"
ASKED = "lanesync reconcile, the agent runs and does not watch"
RSYNC = "rsync daemon"
ONE_IN = 100
LARGEST = 16 << 10


@dataclass
class Tree:
    """A source of somebody's own, with what it holds."""

    source: Path
    wanted: trees.Fingerprint = field(init=False)
    chance: random.Random = field(default_factory=lambda: random.Random(11))

    @classmethod
    def make(cls, source: Path, files: int) -> Tree:
        trees.make_tree(source, files)
        made = cls(source)
        made.wanted = trees.fingerprint(source)
        return made

    def change(self) -> None:
        """Rewrite one file in a hundred, spread at random: other content, often another size."""
        names = sorted(self.wanted)
        for name in self.chance.sample(names, max(1, len(names) // ONE_IN)):
            path = self.source / name
            path.write_bytes(self.chance.randbytes(self.chance.randint(1 << 10, LARGEST)))
            self.wanted[name] = trees.digest(path)


def run(work: Path, scale: Scale) -> Result:
    """Everyone has a source of their own, alike to the last byte, which has been delivered before."""
    files = scale.changed_files
    mine, asked, theirs = (Tree.make(work / who / "tree", files) for who in ("ours", "asked", "theirs"))
    title = f"{max(1, files // ONE_IN):,} of {files:,} files changed"
    result = Result(NAME, title, baseline=APPLY, told_wire=True)
    cold = ours.agent_for(work / "agent", mine.source)
    warm = ours.agent_for(work / "running", asked.source, "  trigger: {watch: false}\n")
    cold.apply()

    def contender(tree: Tree, copy: Path, name: str, deliver: Callable[[], float]) -> Contender:
        return Contender(lambda: {name: deliver()}, tree.change, lambda: trees.check(copy, tree.wanted))

    contenders = [
        contender(mine, cold.target, APPLY, cold.apply),
        contender(asked, warm.target, ASKED, warm.reconcile),
    ]
    with ExitStack() as stack:
        stack.enter_context(warm.running())
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
        "agent that runs for the same. The daemon of rsync runs before, too, and rsync syncs nothing."
    )
    return result
