"""One large file to a cold destination."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench import ours, peers, trees
from bench.machine import sync_file_system
from bench.measure import Contender, Result, alternate
from bench.workload import Scale, Target

NAME = "large"


def run(work: Path, scale: Scale) -> Result:
    """The source is in the page cache; the file at the destination does not exist."""
    source, received, log = work / "source" / "large.bin", work / "received", work / "peers.log"
    target = Target(received, keep=False)
    trees.make_file(source, scale.large_bytes)
    wanted = trees.fingerprint(source.parent)  # reads it: the page cache is warm
    result = Result(
        NAME,
        f"One file of {scale.large_bytes / (1 << 30):g} GiB, cold destination, checksums on",
        baseline=ours.PUBLISHED,
    )

    def check() -> None:
        trees.check(target.current, wanted)

    def contender(name: str, send: Callable[[], float]) -> Contender:
        return Contender(target.timed(name, send), target.renew, check)

    with (
        ours.server_pair(work / "servers", received) as pair,
        peers.rsync_daemon(work / "rsync", received) as daemon,
    ):
        contenders = [
            Contender(lambda: pair.send(source, f"{target.name}/{source.name}"), target.renew, check),
            contender("cp", lambda: peers.copy(str(source), target.current, log)),
            contender(
                "sendfile loop", lambda: peers.sendfile_loop(source, target.current / source.name, log)
            ),
        ]
        if daemon is None:
            result.missing.append("rsync")
        else:
            contenders.append(contender("rsync daemon", lambda: daemon.send(str(source), target.name)))
        sync_file_system(work)
        alternate(result, contenders, scale.rounds)
    result.notes += [
        "LaneSync's times begin at `createManifest` and include it; `complete` includes the final sync and "
        "its record. The rows with `+ sync` are the peer's time plus a `syncfs` after it.",
        "The sendfile loop is one stream between two Python processes that stand ready: no checksum, no "
        "publication, no resume. rsync and cp include the start of their process (about 10 ms).",
    ]
    return result
