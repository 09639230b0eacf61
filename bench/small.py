"""Many small files to a cold destination, on disk and in memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from bench import ours, overssh, peers, trees
from bench.machine import file_system
from bench.measure import Contender, Result, alternate
from bench.workload import Scale, Target

TAR, RSYNC, RSYNC_SSH, RCLONE = "tar through a socket", "rsync daemon", "rsync over ssh", "rclone, SFTP"
FILES = "files"


def run(work: Path, scale: Scale, name: str, *, slowest: bool = True) -> Result:
    """A tree of small files, a hundred in a directory; the source is in the page cache. Without `slowest`
    those stay away who take minutes."""
    source, received, log = work / "source", work / "received", work / "peers.log"
    target = Target(received, keep=True)
    trees.make_tree(source, scale.small_files)
    wanted = trees.fingerprint(source)
    title = f"{scale.small_files:,} files of 1 to 16 KiB, cold destination, on {file_system(work)}"
    result = Result(name, title, baseline=ours.PUBLISHED)
    result.facts[FILES] = scale.small_files

    def contender(run: Callable[[], dict[str, float]], rounds: int | None = None) -> Contender:
        return Contender(run, target.renew, lambda: trees.check(target.current, wanted), rounds)

    def theirs(who: str, send: Callable[[], float], rounds: int | None = None) -> Contender:
        return contender(target.timed(who, send), rounds)

    with ExitStack() as stack:
        pair = stack.enter_context(ours.server_pair(work / "servers", received))
        secret = pair.encrypted
        contenders = [
            contender(lambda: pair.send(source, target.name)),
            contender(lambda: secret.send(source, target.name)),
            theirs("cp -r", lambda: peers.copy(f"{source}/.", target.current, log)),
            theirs(TAR, lambda: peers.tar_through_a_socket(source, target.current, log)),
        ]
        daemon = stack.enter_context(peers.rsync_daemon(work / "rsync", received))
        if daemon is not None:
            contenders.append(theirs(RSYNC, lambda: daemon.send(f"{source}/", target.name)))
        ssh = stack.enter_context(overssh.ssh_server(work / "ssh", received))
        if ssh is not None:
            over = theirs(RSYNC_SSH, lambda: ssh.rsync(f"{source}/", target.name), scale.slow_rounds)
            contenders.append(over)
        if ssh is not None and peers.present("rclone") and slowest:
            rclone = theirs(RCLONE, lambda: ssh.rclone(str(source), target.name), scale.slowest_rounds)
            contenders.append(rclone)
        absent = {
            "rsync": daemon is None,
            "sshd": ssh is None,
            "rclone": slowest and not peers.present("rclone"),
        }
        result.missing += [program for program, gone in absent.items() if gone]
        alternate(result, contenders, scale.rounds)
    result.notes += NOTES
    return result


NOTES = (
    "LaneSync's times begin at `createManifest` of the directory, so that everyone walks the source; files "
    "go while it does so (`TRANSFER_FLAG_EARLY`). "
    "`All published` is the change time of the file or directory that got its final name last.",
    "On ext4, creating files is several times slower for everyone in the minutes after many were deleted; "
    "a run deletes none of them until its end, and is best started five minutes after what did.",
)
