"""Many small files to a cold destination, on disk and in memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from bench import ours, overssh, peers, trees
from bench.machine import file_system
from bench.measure import Contender, Result, alternate
from bench.workload import Scale, Target

NAME = "small"


def run(work: Path, scale: Scale, name: str = NAME) -> Result:
    """A tree of small files, a hundred in a directory; the source is in the page cache."""
    source, received, log = work / "source", work / "received", work / "peers.log"
    target = Target(received, keep=True)
    trees.make_tree(source, scale.small_files)
    wanted = trees.fingerprint(source)
    title = f"{scale.small_files:,} files of 1 to 16 KiB, cold destination, on {file_system(work)}"
    result = Result(name, title, baseline=ours.PUBLISHED)

    def check() -> None:
        trees.check(target.current, wanted)

    def contender(who: str, send: Callable[[], float]) -> Contender:
        return Contender(target.timed(who, send), target.renew, check)

    with ExitStack() as stack:
        pair = stack.enter_context(ours.server_pair(work / "servers", received))
        secret = pair.encrypted
        contenders = [
            Contender(lambda: pair.send(source, target.name), target.renew, check),
            Contender(lambda: secret.send(source, target.name), target.renew, check),
            contender("cp -r", lambda: peers.copy(f"{source}/.", target.current, log)),
            contender(
                "tar through a socket", lambda: peers.tar_through_a_socket(source, target.current, log)
            ),
        ]
        daemon = stack.enter_context(peers.rsync_daemon(work / "rsync", received))
        if daemon is None:
            result.missing.append("rsync")
        else:
            contenders.append(contender("rsync daemon", lambda: daemon.send(f"{source}/", target.name)))
        ssh = stack.enter_context(overssh.ssh_server(work / "ssh", received))
        if ssh is None:
            result.missing.append("sshd")
        else:
            contenders.append(contender("rsync over ssh", lambda: ssh.rsync(f"{source}/", target.name)))
            if peers.present("rclone") and scale.full:
                contenders.append(contender("rclone, SFTP", lambda: ssh.rclone(str(source), target.name)))
        alternate(result, contenders, scale.rounds)
    result.notes += [
        "LaneSync's times begin at `createManifest` of the directory, so that everyone walks the source. "
        "`All published` is the change time of the file or directory that got its final name last.",
        "On ext4, creating files is several times slower for everyone in the minutes after many were "
        "deleted; this run deletes nothing until its end, and is best started five minutes after what did.",
    ]
    return result
