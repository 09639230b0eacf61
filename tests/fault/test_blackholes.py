"""All packets between two hosts vanish from one moment on, and nobody is told: no reset, no end."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from rounds import FACTOR, limit
from servers import eventually

from agent.jetstream import APIInterface, Jetstream
from agent.server import accounts
from agent.server.identity import Identities
from bench import link, processes
from bench.link import FAR, Line, Shape

pytestmark = [
    pytest.mark.fault,
    limit(200),
    pytest.mark.skipif(bool(link.missing()), reason=link.missing() or "a line can be made"),
    pytest.mark.skipif(FACTOR < 2, reason="takes two minutes; `make soak` has it"),
]

MIB = 1 << 20
SIZE = 24 * MIB
RATE = 8000.0  # kbit/s
SILENT = 30.0  # seconds after which a connection that is silent counts as lost
SERVE = [sys.executable, "-m", "agent.cli.main", "serve", "--state-dir"]


@contextmanager
def two_hosts(folder: Path) -> Iterator[tuple[Line, APIInterface, str]]:
    """A sender that is commanded, and a receiver with its public key, far from it."""
    accounts.add(folder / "accounts", "u", "p p p p p")
    with ExitStack() as stack:
        line = stack.enter_context(link.line(Shape(delay=0.005, rate=1e8)))
        far = [*SERVE, str(folder / "far"), "--listen", f"{FAR}:9000"]
        far += ["--accounts", str(folder / "accounts"), "--receive-root", str(folder / "received")]
        near = [*SERVE, str(folder / "near"), "--listen", "127.0.0.1:9001"]
        logs = (folder / "far.log", folder / "near.log")
        stack.enter_context(processes.running(line.inside(line.far, far), logs[0]))
        stack.enter_context(processes.running(line.inside(line.near, near), logs[1]))
        eventually(lambda: all("listening" in log.read_text() for log in logs), what="two servers")
        with link.entered(line.near):
            api = Jetstream().api("127.0.0.1", 9001)
            api.connect()
        stack.callback(api.disconnect)
        yield line, api, str(Identities(folder / "far").current().public_key)


def carrier() -> int:
    """The program that carries the packets of the line, which is a child of ours."""
    for task in Path("/proc/self/task").iterdir():
        for child in (task / "children").read_text().split():
            if Path(f"/proc/{child}/comm").read_text().strip() == "link":
                return int(child)
    raise AssertionError("no program carries the packets")


def transfer(api: APIInterface, destination: str, source: Path, **more: Any) -> str:
    manifest = api.send.createManifest(mappings={f"/{source.name}": str(source)})["manifestId"]
    api.send.waitForManifest(manifest)
    made = api.send.createTransfer(destination, manifest, userName="u", password="p p p p p", **more)
    return str(made["transferId"])


def sent(api: APIInterface, ident: str) -> int:
    return int(api.send.getTransfer(ident)["bytesSent"])


def test_a_host_that_falls_silent_is_noticed_named_and_gone_on_with(tmp_path: Path) -> None:
    """Within half a minute and a little; what it has by then is not sent again. A transfer that may not wait
    so long fails, and says why."""
    source, other = tmp_path / "large", tmp_path / "other"
    source.write_bytes(os.urandom(SIZE))
    other.write_bytes(os.urandom(SIZE))
    with two_hosts(tmp_path) as (_, api, key):
        made = api.send.createDestination(
            FAR,
            destinationPort=9000,
            destinationPublicKey=key,
            authenticateDestination=True,
            sendRateMax=RATE,
        )
        destination = str(made["destinationId"])
        patient = transfer(api, destination, source, checkpointFrequencySeconds=1)
        hasty = transfer(api, destination, other, timeoutSeconds=5.0, priority=200)
        eventually(lambda: sent(api, patient) > SIZE // 4, what="bytes on their way")
        os.kill(carrier(), signal.SIGSTOP)
        begun = time.monotonic()
        told = eventually(lambda: lost(api, destination), seconds=SILENT + 30, what="it is told")
        assert FAR in told and "9000" in told
        assert time.monotonic() - begun < SILENT + 30
        ended = api.send.waitForTransfer(hasty)
        assert ended["status"] == "error" and "no connection to the destination for 5 s" in str(ended)
        before = sent(api, patient)
        os.kill(carrier(), signal.SIGCONT)
        ended = api.send.waitForTransfer(patient)
        assert ended["status"] == "complete", ended
        assert ended["bytesSent"] < SIZE + 3 * MIB and before < SIZE
    assert (tmp_path / "received" / "large").read_bytes() == source.read_bytes()


def lost(api: APIInterface, destination: str) -> str:
    """What a destination says is wrong with it, with its address."""
    found = api.send.getDestination(destination)
    error = str(found["lastErrorMessage"])
    return error if "cannot be reached" in error else ""
