"""A pass over a tree in which nothing changed."""

from __future__ import annotations

from pathlib import Path

from bench import memory, ours, peers, processes, trees
from bench.measure import Contender, Result, alternate
from bench.workload import Scale

NAME = "nochange"
LARGEST = 4 << 10  # of a file, which nobody reads in such a pass
APPLY = "lanesync apply, cold agent"
FIXED = "lanesync apply, one file (fixed cost)"
START = "lanesync --version (start alone)"


def run(work: Path, scale: Scale, files: int) -> Result:
    """Everything has been delivered before; the inodes of the source are in memory."""
    source, log = work / "source" / "tree", work / "peers.log"
    trees.make_tree(source, files, largest=LARGEST)
    one = work / "one"
    trees.make_tree(one, 1)
    wanted = trees.fingerprint(source)
    result = Result(f"{NAME}-{files}", f"No-change pass over {files:,} files", baseline=APPLY)
    agent, small = ours.agent_for(work / "agent", source), ours.agent_for(work / "small", one)
    with memory.watched() as peaks:
        result.notes.append(f"The first delivery by `lanesync apply` took {agent.apply():.2f} s.")
    result.facts.update(peaks.facts)
    most = (f"{what.removesuffix(' (MB)')} {megabytes:.0f} MB" for what, megabytes in peaks.facts.items())
    result.notes.append(f"In the first delivery: {', '.join(most)}.")
    result.notes.append(
        "The fixed cost is what `apply` takes for a tree of one file: it starts the agent and two embedded "
        "transfer servers, compares specs with what the servers report, and ends them again."
    )
    small.apply()

    contenders = [
        Contender(lambda: {APPLY: agent.apply()}),
        Contender(lambda: {FIXED: small.apply()}),
        Contender(lambda: {START: processes.run([*ours.LANESYNC, "--version"], log)}),
    ]
    with peers.rsync_daemon(work / "rsync", work / "received") as daemon:
        if daemon is None:
            result.missing.append("rsync")
        else:
            daemon.send(f"{source}/", "tree")
            contenders.append(Contender(lambda: {"rsync daemon": daemon.send(f"{source}/", "tree")}))
        alternate(result, contenders, scale.rounds)
    trees.check(agent.target, wanted)
    return result
