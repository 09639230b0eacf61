"""The data path over TLS: what holds for plain streams holds for encrypted ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from data_world import contents, wait_for, world

pytestmark = pytest.mark.fault

MIB = 1 << 20


@pytest.mark.parametrize("victim", ["sender", "receiver"])
def test_a_worker_that_is_killed_costs_an_encrypted_transfer_time_alone(tmp_path: Path, victim: str) -> None:
    """kill -9 in the middle of a large file among small ones; what arrives is identical."""
    with world(tmp_path, min_cipher=3, rate=160_000) as w:
        (w.source / "large").write_bytes(os.urandom(24 * MIB))
        for number in range(300):
            (w.source / f"small {number}").write_bytes(os.urandom(number * 17))
        w.start("1")
        wait_for(lambda: w.bytes_sent.get("1", 0) > 4 * MIB, "some of it was sent")
        worker = w.sender if victim == "sender" else w.receiver
        assert worker is not None
        worker.kill()
        w.start_sender() if victim == "sender" else w.start_receiver()
        w.destination(rate=None)
        assert w.finish("1")["status"] == "complete"
        assert all(state["encrypted"] for state in w.states if state["state"] == "connected")
        assert contents(w.root / "in") == contents(w.source)
