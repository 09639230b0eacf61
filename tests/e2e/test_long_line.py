"""A session over a long line that loses packets, without BBR: two hosts are two network namespaces."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from servers import eventually

from agent.server import accounts
from agent.server.identity import Identities
from bench import link, processes
from bench.link import FAR, Shape

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(bool(link.missing()), reason=link.missing() or "a line can be made"),
]

SERVE = [sys.executable, "-m", "agent.cli.main", "serve", "--state-dir"]
SEND = """
import sys
from agent.jetstream import Jetstream
from agent.jetstream.constants import RATE_CONTROL_CUBIC
with Jetstream().api("127.0.0.1", 9001) as api:
    made = api.send.createDestination(
        sys.argv[1], destinationPort=9000, destinationPublicKey=sys.argv[2], authenticateDestination=True)
    api.send.updateConnectionParams(made["connectionId"], rateControlMethod=RATE_CONTROL_CUBIC)
    manifest = api.send.createManifest(mappings={"/large": sys.argv[3]})["manifestId"]
    api.send.waitForManifest(manifest)
    transfer = api.send.createTransfer(made["destinationId"], manifest, userName="u", password="p p p p p")
    ended = api.send.waitForTransfer(transfer["transferId"])
    sys.exit(0 if ended["status"] == "complete" else str(ended))
"""


def test_a_session_that_loses_packets_gets_more_streams(tmp_path: Path) -> None:
    """2, then 16 and more; what arrives is whole."""
    source = tmp_path / "large"
    source.write_bytes(os.urandom(24 << 20))
    accounts.add(tmp_path / "accounts", "u", "p p p p p")
    with ExitStack() as stack:
        line = stack.enter_context(link.line(Shape(delay=0.02, loss=0.02, seed=7)))
        far = [*SERVE, str(tmp_path / "far"), "--listen", f"{FAR}:9000"]
        far += ["--accounts", str(tmp_path / "accounts"), "--receive-root", str(tmp_path / "received")]
        near = [*SERVE, str(tmp_path / "near"), "--listen", "127.0.0.1:9001"]
        logs = (tmp_path / "far.log", tmp_path / "near.log")
        stack.enter_context(processes.running(line.inside(line.far, far), logs[0]))
        stack.enter_context(processes.running(line.inside(line.near, near), logs[1]))
        eventually(lambda: all("listening" in log.read_text() for log in logs), what="two servers")
        key = Identities(tmp_path / "far").current().public_key
        command = [sys.executable, "-c", SEND, FAR, key, str(source)]
        subprocess.run(line.inside(line.near, command), check=True, timeout=120)
    grown = [int(found) for found in re.findall(r'"streams": (\d+), "event": "more', logs[1].read_text())]
    assert max(grown) >= 14, "16, unless a look came before the last was connected"
    assert (tmp_path / "received" / "large").read_bytes() == source.read_bytes()
