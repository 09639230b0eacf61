"""What a service manager hears."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from agent.server.notify import notify, watchdog_seconds


def test_the_manager_hears_the_state(tmp_path: Path) -> None:
    """One datagram to its socket; nothing without one, and no error when it is gone."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(10)
        notify("READY=1", {"NOTIFY_SOCKET": path})
        assert manager.recv(64) == b"READY=1"
    notify("STOPPING=1", {"NOTIFY_SOCKET": path})
    notify("READY=1", {})


def test_the_watchdog_is_fed_at_half_its_limit_and_only_by_its_process() -> None:
    """Another process's watchdog is not ours."""
    assert watchdog_seconds({"WATCHDOG_USEC": "30000000"}) == 15.0
    assert watchdog_seconds({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}) == 15.0
    assert watchdog_seconds({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}) is None
    assert watchdog_seconds({}) is None
