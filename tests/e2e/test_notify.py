"""What a service manager hears from the agent and from a transfer server, and from whom."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from manager import Manager
from manager import service as started
from servers import eventually

pytestmark = pytest.mark.e2e

SPECS = """\
apiVersion: lanesync/v1
kind: Destination
metadata: {{name: away}}
spec: {{address: 127.0.0.1, port: 9}}
---
apiVersion: lanesync/v1
kind: Mapping
metadata: {{name: tree}}
spec: {{destination: away, paths: {{/tree: {source}}}}}
"""


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    yield made
    made.close()


@contextmanager
def service(manager: Manager, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """`lanesync ARGUMENTS` as a service."""
    with started(manager, "-m", "agent.cli.main", *arguments) as process:
        yield process


def _life(manager: Manager, process: subprocess.Popen[bytes]) -> list[str]:
    """See it become ready and report three times, end it, and return all that it said."""
    eventually(lambda: "READY=1" in manager.lines(process.pid), what="it says that it is ready")
    eventually(lambda: manager.lines(process.pid).count("WATCHDOG=1") >= 3, what="it feeds the watchdog")
    assert "STOPPING=1" not in manager.lines(process.pid)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    return manager.lines(process.pid)


def test_the_agent_is_ready_alive_and_stopping(manager: Manager, tmp_path: Path) -> None:
    """`lanesync run` says READY once, feeds the watchdog, says how it is, and STOPPING on SIGTERM; its
    embedded servers say nothing to the manager."""
    (tmp_path / "source").mkdir()
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "all.yaml").write_text(SPECS.format(source=tmp_path / "source"))
    state = tmp_path / "state"
    command = ("run", str(tmp_path / "specs"), "--state-dir", str(state), "--listen", "127.0.0.1:0")
    with service(manager, *command) as process:
        address = state / "servers"
        eventually(lambda: list(address.glob("*/address.json")), what="the embedded server runs")
        lines = _life(manager, process)
    assert lines.count("READY=1") == 1
    assert lines.count("STOPPING=1") == 1
    assert lines.index("READY=1") < lines.index("WATCHDOG=1") < lines.index("STOPPING=1")
    assert any(line.startswith("STATUS=") and len(line) > len("STATUS=") for line in lines)
    assert {pid for pid, _ in manager.listen()} == {process.pid}


def test_a_server_is_ready_alive_and_stopping(manager: Manager, tmp_path: Path) -> None:
    """`lanesync serve` says READY when it listens, feeds the watchdog, and says STOPPING on SIGTERM."""
    with service(
        manager, "serve", "--listen", "127.0.0.1:0", "--state-dir", str(tmp_path / "state")
    ) as process:
        lines = _life(manager, process)
    assert lines.count("READY=1") == 1
    assert lines.count("STOPPING=1") == 1
    assert {pid for pid, _ in manager.listen()} == {process.pid}
