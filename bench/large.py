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


def _peers(stack: ExitStack, work: Path, received: Path) -> dict[str, others.Send | None]:
    """Those that transfer over the network, by name; None for what is not installed."""
    daemon = stack.enter_context(peers.rsync_daemon(work / "rsync", received))
    ssh = stack.enter_context(overssh.ssh_server(work / "ssh", received))
    return {
        "rsync daemon": daemon and daemon.send,
        "rsync over ssh": ssh and ssh.rsync,
        "scp": ssh and ssh.scp,
        "rclone, WebDAV": stack.enter_context(others.rclone(work / "rclone", received)),
        "xrdcp": stack.enter_context(others.xrootd(work / "xrootd", received)),
        "GridFTP, two streams": stack.enter_context(others.gridftp(work / "gridftp", received)),
    }


def _send(send: others.Send, source: Path, target: Target) -> float:
    return send(str(source), target.name)


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

    with ExitStack() as stack:
        pair = stack.enter_context(ours.server_pair(work / "servers", received))
        secret = pair.encrypted
        contenders = [
            Contender(lambda: pair.send(source, f"{target.name}/{source.name}"), target.renew, check),
            Contender(lambda: secret.send(source, f"{target.name}/{source.name}"), target.renew, check),
            contender("cp", lambda: peers.copy(str(source), target.current, log)),
            contender(
                "sendfile loop", lambda: peers.sendfile_loop(source, target.current / source.name, log)
            ),
        ]
        sends = _peers(stack, work, received)
        result.missing += [name for name, send in sends.items() if send is None]
        for name, send in sends.items():
            if send is not None:
                contenders.append(contender(name, partial(_send, send, source, target)))
        sync_file_system(work)
        alternate(result, contenders, scale.rounds)
    result.notes += [
        "LaneSync's times begin at `createManifest` and include it; `complete` includes the final sync and "
        "its record. The rows with `+ sync` are the peer's time plus a `syncfs` after it.",
        "The sendfile loop is one stream between two Python processes that stand ready: no checksum, no "
        "publication, no resume. rsync and cp include the start of their process (about 10 ms).",
    ]
    return result
