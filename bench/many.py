"""Thousands of mappings: reading them, planning with nothing to do, standing still, and one edit."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from bench import processes
from bench.measure import Result, say
from bench.memory import AGENT
from bench.ours import LANESYNC
from bench.workload import Scale

NAME = "many"
VALIDATE, PLAN = "lanesync validate", "lanesync plan, nothing to do"
STILL = "processor seconds of the agent in 10 s, nothing to do"
EDIT = "one mapping edited → everything looked at again"
PER_FILE, STILL_SECONDS = 100, 10.0

_SERVERS = """\
apiVersion: lanesync/v1
kind: Server
metadata: {{name: sender}}
spec: {{engine: embedded, listen: "127.0.0.1:0"}}
---
apiVersion: lanesync/v1
kind: Server
metadata: {{name: receiver}}
spec: {{engine: embedded, listen: "127.0.0.1:{port}", receiveRoot: {received}}}
"""
_DESTINATION = """\
---
apiVersion: lanesync/v1
kind: Destination
metadata: {{name: d{number:03}}}
spec: {{server: sender, address: 127.0.0.1, port: {port}}}
"""
_MAPPING = """\
---
apiVersion: lanesync/v1
kind: Mapping
metadata: {{name: m{number:05}, labels: {{site: s{site}}}}}
spec:
  destination: d{destination:03}
  destinationPath: /in/m{number:05}
  paths:
    /a: {{source: {source}, exclude: ["*.tmp"]}}
  priority: {priority}
"""


def run(work: Path, scale: Scale) -> Result:
    """Each mapping has one small file, which has been delivered before."""
    title = f"{scale.mappings:,} mappings on {scale.destinations} destinations"
    result = Result(NAME, title, baseline=VALIDATE)
    specs, state, log = work / "specs", work / "state", work / "agent.log"
    write_specs(work, scale)
    options = ["--state-dir", str(state)]
    first = processes.run([*LANESYNC, "run", str(specs), "--once", *options], log)
    say(f"  {NAME}: first delivery {first:.1f} s")
    for _ in range(scale.rounds):
        result.add({VALIDATE: processes.run([*LANESYNC, "validate", str(specs)], log)})
        result.add({PLAN: processes.run([*LANESYNC, "plan", str(specs), "--exit-code", *options], log)})
    command = [*LANESYNC, "run", str(specs), *options, "--listen", "127.0.0.1:0", "--log-level", "warning"]
    with processes.running(command, log) as agent:
        processes.wait_until((state / "agent.sock").exists, "the agent answers")
        _wait(options, log)
        memory, threads = _status(agent, "VmHWM"), _status(agent, "Threads")
        for _ in range(scale.rounds):
            before = _cpu(agent)
            time.sleep(STILL_SECONDS)
            result.add({STILL: _cpu(agent) - before})
        result.add({EDIT: _edit(work, scale, options, log)})
    result.facts[AGENT] = memory / 1024
    result.notes.append(
        f"The first delivery of all took {first:.0f} s. In sync, the agent had taken {memory // 1024} MB of "
        f"memory at most, and had {threads} threads."
    )
    return result


def write_specs(work: Path, scale: Scale) -> None:
    """Sources, and specs a hundred mappings a file."""
    port = processes.free_port()
    (work / "specs").mkdir(parents=True)
    places = (_DESTINATION.format(number=n, port=port) for n in range(scale.destinations))
    text = _SERVERS.format(port=port, received=work / "received") + "".join(places)
    (work / "specs" / "destinations.yaml").write_text(text, encoding="utf-8")
    for start in range(0, scale.mappings, PER_FILE):
        for number in range(start, min(start + PER_FILE, scale.mappings)):
            (work / "source" / f"{number:05}").mkdir(parents=True)
            (work / "source" / f"{number:05}" / "a.txt").write_text(str(number), encoding="utf-8")
        _write_file(work, scale, start, 100)


def _write_file(work: Path, scale: Scale, start: int, priority: int) -> None:
    """The file of the mappings from `start`; the first of them gets this priority."""
    parts = [
        _MAPPING.format(
            number=number,
            site=number % 7,
            destination=number % scale.destinations,
            source=work / "source" / f"{number:05}",
            priority=priority if number == start else 100,
        )
        for number in range(start, min(start + PER_FILE, scale.mappings))
    ]
    new = work / f"m{start:05}.new"
    new.write_text("".join(parts), encoding="utf-8")
    os.replace(new, work / "specs" / f"m{start:05}.yaml")


def _edit(work: Path, scale: Scale, options: list[str], log: Path) -> float:
    begun = time.monotonic()
    _write_file(work, scale, 0, 50)
    processes.run([*LANESYNC, "reconcile", "--wait", *options], log)
    return time.monotonic() - begun


def _wait(options: list[str], log: Path) -> None:
    processes.run([*LANESYNC, "status", "--wait", "--timeout", "1h", *options], log)


def _cpu(process: subprocess.Popen[bytes]) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _status(process: subprocess.Popen[bytes], name: str) -> int:
    """A number of /proc/PID/status: kilobytes, or a count."""
    text = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    return int(text.split(f"{name}:")[1].split()[0])
