"""One large file to a cold destination."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench import others, ours, overssh, peers, trees
from bench.machine import sync_file_system
from bench.measure import Contender, Result, alternate
from bench.workload import Scale, Target

NAME = "large"
SENDFILE = "sendfile loop"
RSYNC, RSYNC_SSH, SCP, RCLONE = "rsync daemon", "rsync over ssh", "scp", "rclone, WebDAV"
XRDCP, GRIDFTP = "xrdcp", "GridFTP, two streams"
PEERS = (RSYNC, RSYNC_SSH, SCP, RCLONE, XRDCP, GRIDFTP)
SLOW = (RSYNC_SSH, SCP, RCLONE, XRDCP)


def _peers(stack: ExitStack, work: Path, received: Path) -> dict[str, others.Send | None]:
    """Those that transfer over the network, by name; None for what is not installed."""
    daemon = stack.enter_context(peers.rsync_daemon(work / "rsync", received))
    ssh = stack.enter_context(overssh.ssh_server(work / "ssh", received))
    return {
        RSYNC: daemon.send if daemon else None,
        RSYNC_SSH: ssh.rsync if ssh else None,
        SCP: ssh.scp if ssh else None,
        RCLONE: stack.enter_context(others.rclone(work / "rclone", received)),
        XRDCP: stack.enter_context(others.xrootd(work / "xrootd", received)),
        GRIDFTP: stack.enter_context(others.gridftp(work / "gridftp", received)),
    }


def _send(send: others.Send, source: Path, target: Target) -> float:
    return send(str(source), target.name)


def run(work: Path, scale: Scale) -> Result:
    """The source is in the page cache; the file at the destination does not exist."""
    source, received, log = work / "source" / "large.bin", work / "received", work / "peers.log"
    target = Target(received, keep=False)
    trees.make_file(source, scale.large_bytes)
    wanted = trees.fingerprint(source.parent)  # reads it: the page cache is warm
    title = f"One file of {scale.large_bytes / (1 << 30):g} GiB, cold destination, checksums on"
    result = Result(NAME, title, baseline=ours.PUBLISHED)
    result.facts[GIB] = scale.large_bytes / (1 << 30)

    def contender(run: Callable[[], dict[str, float]], rounds: int | None = None) -> Contender:
        return Contender(run, target.renew, lambda: trees.check(target.current, wanted), rounds)

    def theirs(name: str, send: Callable[[], float]) -> Contender:
        return contender(target.timed(name, send), scale.slow_rounds if name in SLOW else None)

    with ExitStack() as stack:
        pair = stack.enter_context(ours.server_pair(work / "servers", received))
        secret = pair.encrypted
        contenders = [
            contender(lambda: pair.send(source, f"{target.name}/{source.name}")),
            contender(lambda: secret.send(source, f"{target.name}/{source.name}")),
            theirs("cp", lambda: peers.copy(str(source), target.current, log)),
            theirs(SENDFILE, lambda: peers.sendfile_loop(source, target.current / source.name, log)),
        ]
        for name, send in _peers(stack, work, received).items():
            if send is None:
                result.missing.append(name)
            else:
                contenders.append(theirs(name, partial(_send, send, source, target)))
        sync_file_system(work)
        alternate(result, contenders, scale.rounds)
    result.notes += NOTES
    return result


GIB = "size (GiB)"
NOTES = (
    "LaneSync's times begin at `createManifest` and include it; `complete` includes the final sync and its "
    "record. The rows with `+ sync` are the peer's time plus a `syncfs` after it.",
    "The sendfile loop is one stream between two Python processes that stand ready: no checksum, no "
    "publication, no resume. rsync and cp include the start of their process (about 10 ms).",
)
