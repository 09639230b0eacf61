"""A large file of which a hundredth was changed in place, with the old version at the destination."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

from bench import ours, peers, trees
from bench.measure import Contender, Result, alternate
from bench.workload import Scale, Target

NAME = "delta"
SIZE = "size (bytes)"
RSYNC = "rsync daemon"
BLOCK = 4 << 10
CHANGED = 100  # one block of so many


def run(work: Path, scale: Scale) -> Result:
    """Both versions are in the page cache."""
    source, received, log = work / "source" / "large.bin", work / "received", work / "peers.log"
    before = work / "before" / source.name
    target = Target(received, keep=False)
    trees.make_file(before, scale.delta_bytes)
    source.parent.mkdir()
    shutil.copyfile(before, source)
    change(source)
    wanted = trees.fingerprint(source.parent)
    result = Result(
        NAME,
        f"One file of {scale.delta_bytes / (1 << 30):g} GiB, 1 % of its blocks changed in place",
        baseline=ours.PUBLISHED,
        told_wire=True,
        facts={SIZE: float(scale.delta_bytes)},
    )

    def prepare() -> None:
        target.renew()
        shutil.copyfile(before, target.current / source.name)

    def check() -> None:
        trees.check(target.current, wanted)

    def contender(name: str, send: Callable[[], float]) -> Contender:
        return Contender(target.timed(name, send), prepare, check)

    with (
        ours.server_pair(work / "servers", received) as pair,
        peers.rsync_daemon(work / "rsync", received) as daemon,
    ):
        contenders = [
            Contender(lambda: pair.send(source, f"{target.name}/{source.name}"), prepare, check),
            contender("cp", lambda: peers.copy(str(source), target.current, log)),
        ]
        if daemon is None:
            result.missing.append("rsync")
        else:
            contenders.append(contender(RSYNC, lambda: daemon.send(str(source), target.name)))
        alternate(result, contenders, scale.rounds)
    result.notes.append(
        f"One block of {BLOCK >> 10} KiB in {CHANGED} is new, each somewhere among its hundred. LaneSync "
        "and rsync compare digests of blocks; the bytes on the wire have these, too."
    )
    return result


def change(path: Path) -> None:
    """Write other content over one block of every hundred, wherever it lies among them."""
    chance = random.Random(2)
    with open(path, "r+b") as file:
        for first in range(0, path.stat().st_size // BLOCK, CHANGED):
            block = min(first + chance.randrange(CHANGED), path.stat().st_size // BLOCK - 1)
            file.seek(block * BLOCK)
            file.write(chance.randbytes(BLOCK))
