"""A wedged worker or watcher, or a dead one, ends the reports to the service manager."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from freeports import free_port
from manager import Manager, service
from servers import eventually

pytestmark = pytest.mark.e2e

DRIVER = '''
"""`lanesync`, made to go wrong on command: each wedge is a file that appears. Idle threads wake oftener, so
that one second is a long time."""
import os, sys, threading
from agent.cli import main, run
from agent.reconcile import alerts, hooks, queue, sources
from agent.reconcile.mapping import Mappings
from agent.source import watch

for module in (alerts, hooks, queue, watch):
    module.IDLE_SECONDS = 0.1
sources.CLOCK_CHECK = 0.1
run.STUCK_MIN = 1.0
folder = sys.argv.pop(1)

def hang():
    threading.Event().wait()

def fail():
    raise SystemExit

def wedge(owner, name, flag, how):
    original = getattr(owner, name)
    def wedged(*arguments, **named):
        if os.path.exists(os.path.join(folder, flag)):
            how()
        return original(*arguments, **named)
    setattr(owner, name, wedged)

wedge(Mappings, "reconcile", "worker", hang)
wedge(watch.Watcher, "_care", "watcher", hang)
wedge(watch.Watcher, "_collect", "teller", fail)
main.main()
'''

SPECS = """\
apiVersion: lanesync/v1
kind: Server
metadata: {{name: none}}
spec: {{engine: jetstream, address: 127.0.0.1, port: 9}}
---
apiVersion: lanesync/v1
kind: Destination
metadata: {{name: away}}
spec: {{server: none, address: 127.0.0.1, port: 9}}
---
apiVersion: lanesync/v1
kind: Mapping
metadata: {{name: tree}}
spec: {{destination: away, paths: {{/tree: {source}}}}}
"""


class Wedged:
    """The service, and what its manager heard of it."""

    def __init__(self, folder: Path, manager: Manager, process: subprocess.Popen[bytes], port: int) -> None:
        self.folder, self.manager, self.process, self._port = folder, manager, process, port

    def lines(self) -> list[str]:
        return self.manager.lines(self.process.pid)

    def pings(self) -> int:
        return self.lines().count("WATCHDOG=1")

    def state(self) -> str:
        return next((line for line in reversed(self.lines()) if line.startswith("STATUS=")), "")

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def health(self) -> tuple[int, dict[str, Any]]:
        session = requests.Session()
        session.trust_env = False
        answer = session.get(f"http://127.0.0.1:{self._port}/healthz", timeout=60)
        return answer.status_code, answer.json()

    def falls_silent(self, thread: str) -> None:
        """The reports end, and the status says which thread it is."""
        eventually(lambda: self.state().startswith(f"STATUS=stuck: {thread}"), what=f"{thread} is stuck")
        count, said = self.pings(), len(self.lines())
        eventually(lambda: len(self.lines()) >= said + 5, what="it goes on to say so")
        assert self.pings() == count


@pytest.fixture
def wedged(tmp_path: Path) -> Iterator[Wedged]:
    """An agent that reports, and can be made to hang."""
    for name in ("source", "specs"):
        (tmp_path / name).mkdir()
    (tmp_path / "specs" / "all.yaml").write_text(SPECS.format(source=tmp_path / "source"))
    (tmp_path / "driver.py").write_text(DRIVER)
    port, manager = free_port(), Manager(tmp_path / "notify")
    options = ("--state-dir", str(tmp_path / "state"), "--listen", f"127.0.0.1:{port}", "--stuck-after", "1s")
    command = (str(tmp_path / "driver.py"), str(tmp_path), "run", str(tmp_path / "specs"), *options)
    with service(manager, *command, stderr=tmp_path / "log") as process:
        made = Wedged(tmp_path, manager, process, port)
        eventually(lambda: made.pings() >= 10, what="it reports for longer than a thread may hang")
        yield made
    manager.close()


def test_a_wedged_worker_ends_the_reports_and_where_it_hangs_is_told(wedged: Wedged) -> None:
    """The other workers go on, which does not make it alive. When the manager ends it, as systemd does with
    SIGABRT, the log says where every thread was."""
    assert wedged.health() == (200, {"ok": True})
    (wedged.folder / "worker").touch()
    (wedged.folder / "source" / "new").write_text("x")
    wedged.falls_silent("reconcile-")
    code, health = wedged.health()
    assert (code, health["ok"]) == (503, False)
    assert next(iter(health["stuck"])).startswith("reconcile-")
    told = next(json.loads(line) for line in wedged.log().splitlines() if "a thread is stuck" in line)
    assert told["level"] == "error"
    assert "in hang" in told["where"]
    assert not wedged.log().count("Thread 0x")
    wedged.process.send_signal(signal.SIGABRT)
    assert wedged.process.wait(60) == -signal.SIGABRT
    assert wedged.log().count("Thread 0x") > 4


def test_a_wedged_watcher_ends_the_reports(wedged: Wedged) -> None:
    (wedged.folder / "watcher").touch()
    wedged.falls_silent("watch-care has not moved")


def test_a_watcher_that_died_ends_the_reports(wedged: Wedged) -> None:
    (wedged.folder / "teller").touch()
    (wedged.folder / "source" / "new").write_text("x")
    wedged.falls_silent("watch-tell ended")
