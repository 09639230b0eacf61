"""Peers over SSH: a server of our own on a high port, with keys made for this run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import processes
from bench.peers import present

_SBIN = Path("/usr/sbin/sshd")


@dataclass(frozen=True)
class Ssh:
    """A server on loopback that writes below `folder`."""

    folder: Path
    port: int
    work: Path
    log: Path

    @property
    def _options(self) -> list[str]:
        """Of ssh and scp; hosts are known by the key that was made for the run."""
        settings = [f"UserKnownHostsFile={self.work}/known", "StrictHostKeyChecking=yes", "BatchMode=yes"]
        options = [part for one in settings for part in ("-o", one)]
        return ["-F", "none", "-i", str(self.work / "user"), *options]

    def scp(self, source: str, name: str) -> float:
        """`scp -r SOURCE` into the directory `name`; seconds."""
        target = f"{processes.user()}@127.0.0.1:{self.folder / name}/"
        command = ["scp", "-q", "-r", "-P", str(self.port), *self._options, source, target]
        return processes.run(command, self.log)

    def rsync(self, source: str, name: str) -> float:
        """`rsync -a -e ssh`, likewise."""
        shell = " ".join(["ssh", "-p", str(self.port), *self._options])
        target = f"{processes.user()}@127.0.0.1:{self.folder / name}/"
        return processes.run(["rsync", "-a", "-e", shell, source, target], self.log)

    def rclone(self, source: str, name: str) -> float:
        """`rclone copy` over SFTP, likewise."""
        config = self.work / "rclone.conf"
        config.write_text(
            f"[bench]\ntype = sftp\nhost = 127.0.0.1\nport = {self.port}\nuser = {processes.user()}\n"
            f"key_file = {self.work}/user\nknown_hosts_file = {self.work}/known\ndisable_hashcheck = true\n",
            encoding="ascii",
        )
        target = f"bench:{self.folder / name}"
        options = ["--config", str(config), "--log-level", "ERROR"]
        return processes.run(["rclone", "copy", source, target, *options], self.log)


@contextmanager
def ssh_server(work: Path, folder: Path) -> Iterator[Ssh | None]:
    """None when there is no sshd or no scp."""
    daemon = shutil.which("sshd") or (str(_SBIN) if _SBIN.exists() else None)
    if daemon is None or not present("scp"):
        yield None
        return
    work.mkdir(parents=True, exist_ok=True)
    work.chmod(0o700)
    folder.mkdir(parents=True, exist_ok=True)
    port, log = processes.free_port(), work / "sshd.log"
    for name in ("host", "user"):
        key = str(work / name)
        processes.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], log)
    shutil.copyfile(work / "user.pub", work / "authorized")
    kind, key = (work / "host.pub").read_text(encoding="ascii").split()[:2]
    (work / "known").write_text(f"[127.0.0.1]:{port} {kind} {key}\n", encoding="ascii")
    (work / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {work}/host\nPidFile none\n"
        f"AuthorizedKeysFile {work}/authorized\nStrictModes no\nPasswordAuthentication no\n"
        "PermitRootLogin prohibit-password\nUsePAM no\nSubsystem sftp internal-sftp\n",
        encoding="ascii",
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where it keeps the part that has no rights
    with processes.running([daemon, "-D", "-e", "-f", str(work / "config")], log):
        processes.wait_until(lambda: processes.listens(port), "the SSH server listens")
        yield Ssh(folder, port, work, log)
