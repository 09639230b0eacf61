"""An agent that hands very many files to FTS3: planning, submitting, waiting, settling, and what it costs.

The service is the double of the tests in its mode without copying, so that no storage is measured.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import requests

from agent.engines.fts3.settings import Settings
from agent.fts3 import Client, Context, new_job, new_transfer
from bench import ours, processes
from bench.measure import Result, say
from bench.workload import Scale
from tests.fts3_double.run import Double, start_double

T = TypeVar("T")

NAME = "fts3"
BARE = "bare client, same jobs"
PLANNED = "lanesync run, until the first job"
SUBMITTED = "lanesync run, submitting"
DONE = "lanesync run, until all is recorded"
SOURCES = 20
LATEST_SECONDS = 3600.0
FILES_PER_DIRECTORY = 1000
THREADS = 4

_SERVER = """\
apiVersion: lanesync/v1
kind: Server
metadata: {{name: fts3}}
spec:
  engine: fts3
  endpoint: {endpoint}
  ca: {ca}
  auth: {{certificate: {{cert: {cert}, key: {key}}}}}
  storage:
"""
_STORAGE = "    - {{path: {path}, url: davs://se{number:02}.example.org/data}}\n"
_DESTINATION = """\
---
apiVersion: lanesync/v1
kind: Destination
metadata: {{name: d{number:02}}}
spec: {{server: fts3, url: davs://d{number:02}.example.org/farm}}
---
apiVersion: lanesync/v1
kind: Mapping
metadata: {{name: m{number:02}}}
spec:
  destination: d{number:02}
  paths:
"""


@dataclass(frozen=True)
class Shape:
    """files: copies to make, over sources × destinations links."""

    files: int
    links: int

    @property
    def sources(self) -> int:
        return min(SOURCES, self.links)

    @property
    def destinations(self) -> int:
        return self.links // self.sources

    @property
    def each(self) -> int:
        """Files of one link."""
        return self.files // (self.sources * self.destinations)

    @property
    def total(self) -> int:
        return self.each * self.sources * self.destinations

    @property
    def window(self) -> int:
        """Files that are under way at once at most."""
        return min(self.each, Settings().window) * self.sources * self.destinations


def run(work: Path, scale: Scale) -> Result:
    """Once: the first delivery of so many files cannot be repeated with a warm agent."""
    shape = Shape(scale.fts3_files, scale.fts3_links)
    title = f"{shape.total:,} files over {shape.sources * shape.destinations} links of FTS3, nothing copied"
    result = Result(NAME, title, baseline=SUBMITTED)
    folders = list(_sources(work / "data", shape))
    options: dict[str, Any] = {
        "copy": False,
        "default_active": 10 * shape.total,
        "max_copies": 10 * shape.total,
    }
    with start_double(work / "double", **options) as double:
        double.settings(engine_paused=True)
        result.add({BARE: _bare(double, shape)})
        double.reset()
        double.settings(engine_paused=True)
        _write_specs(work / "specs", double, folders, shape)
        with _agent(work) as agent:
            _measure(result, double, agent, shape, scale.fts3_still)
    return result


def _measure(result: Result, double: Double, agent: Agent, shape: Shape, still: float) -> None:
    """The service starts nothing until its queues are full; then nothing moves; then all runs to the end."""
    _until(lambda: _count(double) >= shape.window, "the windows are full", agent)
    posts = sorted(
        one["at"] for one in double.requests() if one["method"] == "POST" and one["path"] == "/jobs"
    )
    submitting = posts[-1] - posts[0]
    result.add({PLANNED: posts[0] - agent.started, SUBMITTED: submitting})
    full = agent.usage()
    say(f"  {NAME}: {shape.window:,} files submitted in {submitting:.1f} s; {full}")

    time.sleep(still / 2)  # so that the pauses of polling have grown
    _patiently(lambda: double.admin("DELETE", "/requests"))
    before = agent.usage()
    time.sleep(still)
    waited, looks = agent.usage() - before, len(_patiently(double.requests))

    resumed = time.time()
    _patiently(lambda: double.settings(engine_paused=False))
    _until(lambda: _count(double, "FINISHED") >= shape.total, "all files are finished", agent)
    finished = time.time() - resumed
    processes.run([*agent.status, "--wait", "--timeout", f"{LATEST_SECONDS:.0f}s"], agent.log)
    recorded = time.time() - resumed
    result.add({DONE: posts[-1] - agent.started + recorded})
    jobs = double.state()["jobs"]
    if _count(double) != shape.total or set(jobs) != {"FINISHED"}:
        raise RuntimeError(
            f"{_count(double):,} files were submitted, {shape.total:,} were wanted; jobs: {jobs}"
        )
    end = agent.usage()
    result.notes += [
        f"Submitting: {shape.window / submitting:,.0f} files/s, {Settings().batch} in a job; the bare client "
        f"does nothing else, in {THREADS} threads: {shape.window / result.median(BARE):,.0f} files/s.",
        f"Waiting while {shape.window:,} files are under way and none moves: "
        f"{looks / still:.1f} requests/s, {100 * waited.cpu / still:.1f} % of a core.",
        f"From the first copy to the last record: {shape.total / recorded:,.0f} files/s (the service was "
        f"through after {finished:.0f} s of {recorded:.0f} s).",
        f"The agent took {end.cpu:.0f} s of CPU, {1e6 * end.cpu / shape.total:.0f} µs a file, and at most "
        f"{end.memory >> 20} MiB of memory ({full.memory >> 20} MiB when the windows were full).",
        "Service and agent share the machine's cores; the service copies nothing and ends files at once.",
    ]


# -- the agent


@dataclass(frozen=True)
class Usage:
    """cpu: seconds of user and system. memory: most bytes resident so far."""

    cpu: float
    memory: int

    def __sub__(self, other: Usage) -> Usage:
        return Usage(self.cpu - other.cpu, self.memory)

    def __str__(self) -> str:
        return f"agent: {self.cpu:.1f} s of CPU, {self.memory >> 20} MiB at most"


@dataclass(frozen=True)
class Agent:
    pid: int
    started: float  # Unix seconds
    log: Path
    status: list[str]

    def usage(self) -> Usage:
        with open(f"/proc/{self.pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        with open(f"/proc/{self.pid}/status", encoding="utf-8") as file:
            peak = next(line for line in file if line.startswith("VmHWM:"))
        ticks = int(fields[11]) + int(fields[12])
        return Usage(ticks / os.sysconf("SC_CLK_TCK"), int(peak.split()[1]) * 1024)


@contextmanager
def _agent(work: Path) -> Iterator[Agent]:
    state, log = ["--state-dir", str(work / "state")], work / "agent.log"
    command = [*ours.LANESYNC, "run", str(work / "specs"), *state]
    started = time.time()
    with processes.running([*command, "--listen", "127.0.0.1:0", "--log-level", "warning"], log) as process:
        yield Agent(process.pid, started, log, [*ours.LANESYNC, "status", *state])


def _until(true: Callable[[], bool], what: str, agent: Agent) -> None:
    """RuntimeError when the agent ended instead."""
    deadline, pause = time.monotonic() + LATEST_SECONDS, 0.2
    while not true():
        if time.monotonic() > deadline or not os.path.exists(f"/proc/{agent.pid}/stat"):
            raise RuntimeError(f"not within {LATEST_SECONDS:g} s: {what}\n{processes.tail(agent.log)}")
        time.sleep(pause)
        pause = min(pause * 1.2, 5.0)  # counting a million rows costs the service something, too


def _patiently(ask: Callable[[], T]) -> T:
    """The double answers nobody while it writes down the end of hundreds of thousands of files."""
    deadline = time.monotonic() + LATEST_SECONDS
    while True:
        try:
            return ask()
        except requests.Timeout:
            if time.monotonic() > deadline:
                raise


def _count(double: Double, state: str = "") -> int:
    files: dict[str, int] = _patiently(double.state)["files"]
    return files.get(state, 0) if state else sum(files.values())


# -- what it works on


def _sources(root: Path, shape: Shape) -> Iterator[Path]:
    """A folder of small files for each storage that is read."""
    for number in range(shape.sources):
        folder = root / f"se{number:02}"
        for at in range(shape.each):
            if at % FILES_PER_DIRECTORY == 0:
                below = folder / f"run{at // FILES_PER_DIRECTORY:04}"
                below.mkdir(parents=True)
            (below / f"event{at:07}.root").write_bytes(b"%d" % at)
        yield folder


def _write_specs(specs: Path, double: Double, folders: list[Path], shape: Shape) -> None:
    text = _SERVER.format(endpoint=double.url, ca=double.ca, cert=double.user_cert, key=double.user_key)
    for number, folder in enumerate(folders):
        text += _STORAGE.format(path=folder, number=number)
    for number in range(shape.destinations):
        text += _DESTINATION.format(number=number)
        text += "".join(f"    /{folder.name}: {folder}\n" for folder in folders)
    specs.mkdir(parents=True)
    (specs / "bench.yaml").write_text(text, encoding="utf-8")


def _bare(double: Double, shape: Shape) -> float:
    """Seconds in which a client that does nothing else submits what the agent's windows hold."""
    batch = Settings().batch
    with Client(
        Context(double.url, str(double.user_cert), str(double.user_key), capath=str(double.ca))
    ) as client:
        client.delegation.delegate()

        def submit(number: int) -> None:
            files = range(number * batch, min((number + 1) * batch, shape.window))
            link = number % (shape.sources * shape.destinations)
            source, target = link % shape.sources, link // shape.sources
            pairs = [
                new_transfer(
                    f"davs://se{source:02}.example.org/data/run0000/event{at:07}.root",
                    f"davs://d{target:02}.example.org/farm/se{source:02}/run0000/event{at:07}.root",
                    filesize=len(str(at)),
                )
                for at in files
            ]
            client.jobs.submit(new_job(pairs, metadata={"bench": str(uuid.uuid4())}), fresh=False)

        start = time.monotonic()
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(submit, range(-(-shape.window // batch))))
        seconds = time.monotonic() - start
    say(f"  {NAME}: the bare client submitted {shape.window:,} files in {seconds:.1f} s")
    return seconds
