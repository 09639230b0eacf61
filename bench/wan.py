"""A long line between two hosts: 100 ms round trip, 1 Gbit/s, with and without loss.

    python -m bench.wan [--quick] [--only NAME] [--loss 0.01] [--cubic]

Two network namespaces stand for the hosts, see `bench.link`. Every contender moves the same file; who is not
through within the time is measured by what has arrived. `--cubic` takes BBR away from everyone. Figures are
Mbit/s of content; they count the start of programs and the handshakes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agent.server import accounts
from agent.server.identity import Identities
from bench import link, processes
from bench.link import FAR, Line, Shape
from bench.measure import order, say

MEMORY = Path("/dev/shm")
PORT, CONTROL, RSYNC, XROOTD, SSH = 9000, 9001, 9002, 9003, 9004
USER, PASSWORD = "bench", "a password for the bench"

_SEND = """
import sys
from agent.jetstream import Jetstream
with Jetstream().api("127.0.0.1", int(sys.argv[1])) as api:
    made = api.send.createDestination(
        sys.argv[2], destinationPort=int(sys.argv[3]), destinationPublicKey=sys.argv[4],
        authenticateDestination=True)
    manifest = api.send.createManifest(mappings={"/" + sys.argv[6]: sys.argv[5]})["manifestId"]
    api.send.waitForManifest(manifest)
    transfer = api.send.createTransfer(
        made["destinationId"], manifest, userName=sys.argv[7], password=sys.argv[8])["transferId"]
    ended = api.send.waitForTransfer(transfer)
    sys.exit(0 if ended["status"] == "complete" else str(ended))
"""


@dataclass
class World:
    """The two hosts, what is to be moved, and where it arrives."""

    line: Line
    work: Path
    source: Path
    seconds: float
    cubic: bool
    turn: int = 0
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.work / "programs.log"

    @property
    def size(self) -> int:
        if self.source.is_file():
            return self.source.stat().st_size
        return sum(path.stat().st_size for path in self.source.iterdir())

    def near(self, command: Sequence[str]) -> list[str]:
        return self.line.inside(self.line.near, [*self._weak, *command])

    def far(self, command: Sequence[str]) -> list[str]:
        return self.line.inside(self.line.far, [*self._weak, *command])

    @property
    def _weak(self) -> list[str]:
        """Who may not administer the network may only choose what is allowed."""
        return ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"] if self.cubic else []

    def timed(self, command: Sequence[str], arrived: Path) -> float:
        """Mbit/s of a command that brings the source to `arrived`, for at most the time there is."""
        begun = time.monotonic()
        with open(self.log, "ab") as out, open(os.devnull, "rb") as empty:
            process = subprocess.Popen(command, stdin=empty, stdout=out, stderr=out)
            try:
                code = process.wait(self.seconds)
            except subprocess.TimeoutExpired:
                moved = _here(arrived)
                taken = time.monotonic() - begun
                process.terminate()
                process.wait(20)
                return moved * 8e-6 / taken
        taken = time.monotonic() - begun
        if code != 0:
            raise RuntimeError(f"{' '.join(command[:9])} … ended with {code}:\n{processes.tail(self.log)}")
        if _size(arrived) != self.size:
            raise RuntimeError(f"{arrived} is not whole")
        return self.size * 8e-6 / taken


def _here(path: Path) -> int:
    """Bytes that take up room below the folder of `path`: what has arrived, whole or not."""
    return sum(entry.stat().st_blocks * 512 for entry in path.parent.rglob("*") if entry.is_file())


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())


Contender = Callable[[World, ExitStack], Callable[[], float]]
"""Sets up in the world; what it returns does the work once and says how fast, in Mbit/s."""


def lanesync(world: World, stack: ExitStack) -> Callable[[], float]:
    """Encrypted and with an account, as between any two hosts."""
    received, state = world.work / "ours" / "received", world.work / "ours"
    state.mkdir()
    accounts.add(state / "accounts", USER, PASSWORD)
    serve = [sys.executable, "-m", "agent.cli.main", "serve", "--state-dir"]
    far = [*serve, str(state / "far"), "--listen", f"{FAR}:{PORT}", "--accounts", str(state / "accounts")]
    near = [*serve, str(state / "near"), "--listen", f"127.0.0.1:{CONTROL}"]
    logs = (state / "far.log", state / "near.log")
    stack.enter_context(processes.running(world.far([*far, "--receive-root", str(received)]), logs[0]))
    stack.enter_context(processes.running(world.near(near), logs[1]))

    def listening() -> bool:
        return all("listening" in log.read_text() for log in logs)

    processes.wait_until(listening, "the servers listen")
    key = Identities(state / "far").current().public_key

    def run() -> float:
        name = f"turn-{world.turn}"
        script = [sys.executable, "-c", _SEND, str(CONTROL), FAR, str(PORT), key]
        return world.timed(world.near([*script, str(world.source), name, USER, PASSWORD]), received / name)

    return run


def rsync(world: World, stack: ExitStack) -> Callable[[], float]:
    folder, config = world.work / "rsync", world.work / "rsyncd.conf"
    folder.mkdir()
    config.write_text(
        f"use chroot = no\nreverse lookup = no\nuid = 0\ngid = 0\n[bench]\npath = {folder}\nread only = no\n"
    )
    command = [
        "rsync",
        "--daemon",
        "--no-detach",
        f"--config={config}",
        f"--port={RSYNC}",
        f"--address={FAR}",
    ]
    stack.enter_context(processes.running(world.far(command), world.log))
    time.sleep(1.0)  # nobody can ask from here whether it listens there

    def run() -> float:
        target = folder / f"turn-{world.turn}"
        target.mkdir()
        source = str(world.source) if world.source.is_file() else f"{world.source}/"
        where = f"rsync://{FAR}:{RSYNC}/bench/{target.name}/"
        arrived = target / world.source.name if world.source.is_file() else target
        return world.timed(world.near(["rsync", "-a", source, where]), arrived)

    return run


def scp(world: World, stack: ExitStack) -> Callable[[], float]:
    folder = world.work / "ssh"
    folder.mkdir(mode=0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    Path("/run/sshd").mkdir(exist_ok=True)
    options = [f"HostKey={folder / 'host'}", f"AuthorizedKeysFile={folder / 'authorized'}", "StrictModes=no"]
    options += [f"ListenAddress={FAR}", f"Port={SSH}", "PidFile=none", "PermitRootLogin=yes", "UsePAM=no"]
    command = ["/usr/sbin/sshd", "-D", "-f", "/dev/null", *(f"-o{option}" for option in options)]
    stack.enter_context(processes.running(world.far([*command, "-oSubsystem=sftp internal-sftp"]), world.log))
    time.sleep(1.0)

    def run() -> float:
        target = folder / f"turn-{world.turn}"
        target.mkdir()
        known = ["-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oBatchMode=yes"]
        command = ["scp", "-q", "-r", *known, "-i", str(folder / "user"), "-P", str(SSH), str(world.source)]
        command.append(f"root@{FAR}:{target}/")
        return world.timed(world.near(command), target / world.source.name)

    return run


def xrdcp(world: World, stack: ExitStack) -> Callable[[], float]:
    folder = world.work / "xrootd"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    config = world.work / "xrootd.cfg"
    config.write_text(
        f"all.export /\noss.localroot {folder}\nxrd.port {XROOTD}\nall.adminpath {world.work}/xrd\n"
        f"all.pidpath {world.work}/xrd\n"
    )
    command = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "xrootd", "-c", str(config)]
    (world.work / "xrd").mkdir(mode=0o777)
    (world.work / "xrd").chmod(0o777)
    stack.enter_context(processes.running(world.far(command), world.work / "xrootd.log"))
    time.sleep(2.0)

    def run() -> float:
        name = f"turn-{world.turn}"
        where = f"root://{FAR}:{XROOTD}//{name}/{world.source.name}"
        command = ["xrdcp", "-s", "-p", "-f", str(world.source), where]
        return world.timed(world.near(command), folder / name / world.source.name)

    return run


def iperf(streams: int) -> Contender:
    """What the line gives to a program that only sends: no file, no checksum."""

    def contender(world: World, stack: ExitStack) -> Callable[[], float]:
        stack.enter_context(processes.running(world.far(["iperf3", "-s"]), world.log))
        time.sleep(0.5)

        def run() -> float:
            command = ["iperf3", "-c", FAR, "-t", f"{world.seconds:.0f}", "-P", str(streams), "-J"]
            done = subprocess.run(world.near(command), capture_output=True, text=True, check=True)
            return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]) / 1e6

        return run

    return contender


CONTENDERS: dict[str, Contender] = {
    "LaneSync": lanesync,
    "iperf3": iperf(1),
    "iperf3, 8 streams": iperf(8),
    "rsync daemon": rsync,
    "scp": scp,
    "xrdcp": xrdcp,
}
_PROGRAMS = {"rsync daemon": "rsync", "scp": "/usr/sbin/sshd", "xrdcp": "xrootd"}


def usable(name: str) -> bool:
    program = "iperf3" if name.startswith("iperf3") else _PROGRAMS.get(name)
    return program is None or shutil.which(program) is not None


@contextmanager
def hosts(shape: Shape, work: Path, source: Path, seconds: float, *, cubic: bool) -> Iterator[World]:
    with ExitStack() as stack:
        line = stack.enter_context(link.line(shape))
        if cubic:
            stack.enter_context(_without_bbr())
            for name in (line.near, line.far):
                _sysctl("net.ipv4.tcp_congestion_control", "cubic", line.inside(name, ()))
        yield World(line, work, source, seconds, cubic)


@contextmanager
def _without_bbr() -> Iterator[None]:
    """What an unprivileged program may choose is one setting of the whole machine; it is put back."""
    name = "net.ipv4.tcp_allowed_congestion_control"
    before = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=True).stdout.strip()
    _sysctl(name, "reno cubic")
    try:
        yield
    finally:
        _sysctl(name, before)


def _sysctl(name: str, value: str, inside: Sequence[str] = ()) -> None:
    subprocess.run([*inside, "sysctl", "-qw", f"{name}={value}"], check=True)


def measure(shape: Shape, names: Sequence[str], scale: Scale, source: Path, *, cubic: bool) -> Table:
    """Rounds in turn, everyone on a line of the same seed."""
    found: Table = {name: [] for name in names}
    for turn in range(scale.rounds):
        for index in order(len(names), turn):
            work = Path(tempfile.mkdtemp(prefix="lanesync-wan-", dir=MEMORY))
            try:
                with ExitStack() as stack:
                    world = stack.enter_context(hosts(shape, work, source, scale.seconds, cubic=cubic))
                    rate = CONTENDERS[names[index]](world, stack)()
            finally:
                shutil.rmtree(work, ignore_errors=True)
            found[names[index]].append(rate)
            say(f"  loss {shape.loss:.1%} {turn + 1}/{scale.rounds}: {names[index]} {rate:.1f} Mbit/s")
    return found


Table = dict[str, list[float]]


@dataclass(frozen=True)
class Scale:
    seconds: float = 40.0
    megabytes: int = 3 << 10
    files: int = 5000
    rounds: int = 3


def page(tables: dict[str, Table]) -> str:
    lines = ["# Benchmarks: a long line", "", (__doc__ or "").split("\n\n")[2].strip(), ""]
    lines += ["100 ms round trip, 1 Gbit/s, queue of one bandwidth-delay product, random loss both ways."]
    lines += ["Written by `python -m bench.wan`.", ""]
    for title, table in tables.items():
        lines += [f"## {title}", "", "| | median Mbit/s | LaneSync is | rounds |", "|---|---:|---:|---|"]
        ours = statistics.median(table["LaneSync"]) if table.get("LaneSync") else 0.0
        for name, rates in table.items():
            middle = statistics.median(rates)
            ratio = f"{ours / middle:.2f} ×" if middle and ours else "-"
            lines.append(f"| {name} | {middle:.1f} | {ratio} | {' '.join(f'{rate:.1f}' for rate in rates)} |")
        lines.append("")
    return "\n".join(lines)


def _source(folder: Path, scale: Scale, *, small: bool) -> Path:
    if small:
        (folder / "small").mkdir()
        for number in range(scale.files):
            (folder / "small" / f"f{number:05}").write_bytes(os.urandom(8192))
        return folder / "small"
    block = os.urandom(1 << 20)
    with open(folder / "large.bin", "wb") as file:
        for _ in range(scale.megabytes):
            file.write(block)
    return folder / "large.bin"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.wan", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="10 s, one round")
    parser.add_argument("--only", action="append", default=[], choices=list(CONTENDERS))
    parser.add_argument("--loss", action="append", default=[], type=float)
    parser.add_argument("--cubic", action="store_true", help="take BBR away from everyone")
    parser.add_argument("--small", action="store_true", help="5,000 files of 8 KiB instead of a large one")
    parser.add_argument("--output", type=Path, help="page to write")
    options = parser.parse_args(arguments)
    if reason := link.missing():
        say(f"cannot be measured here: {reason}")
        return 1
    scale = Scale(seconds=20.0, megabytes=600, rounds=1) if options.quick else Scale()
    names = [name for name in options.only or CONTENDERS if usable(name)]
    folder = Path(tempfile.mkdtemp(prefix="lanesync-wan-source-", dir=MEMORY))
    tables: dict[str, Table] = {}
    try:
        source = _source(folder, scale, small=options.small)
        for loss in options.loss or (0.0, 0.001, 0.01):
            what = "5,000 files of 8 KiB" if options.small else "one large file"
            control = "cubic only" if options.cubic else "BBR allowed"
            title = f"{what}, loss {loss:.1%}, {control}"
            tables[title] = measure(Shape(loss=loss), names, scale, source, cubic=options.cubic)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    text = page(tables)
    print(text)
    if options.output is not None:
        options.output.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
