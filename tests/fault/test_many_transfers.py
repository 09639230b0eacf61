"""Thousands of transfers wait at one destination: waiting costs next to nothing, and nobody is forgotten."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rawclient import Lines
from rounds import FACTOR, limit
from servers import eventually, start_server

pytestmark = [pytest.mark.fault, limit(240)]

COUNT = min(10_000, round(300 * FACTOR))
LANES = ("High", "Normal", "Low", "Idle")
SLOW = 100.0  # kbit/s
AT_ONCE = 200  # requests of one line


def batch(client: Lines, calls: list[tuple[str, dict[str, Any]]]) -> list[Any]:
    """The results, in order."""
    found: list[Any] = []
    for start in range(0, len(calls), AT_ONCE):
        part = enumerate(calls[start : start + AT_ONCE])
        said = [{"jsonrpc": "2.0", "id": at, "method": name, "params": given} for at, (name, given) in part]
        client.say(json.dumps(said).encode() + b"\n")
        answers = sorted(client.hear(), key=lambda answer: int(answer["id"]))
        assert all("result" in answer for answer in answers), answers[0]
        found += [answer["result"] for answer in answers]
    return found


def descriptors(pid: int | None) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def memory(pid: int | None) -> int:
    """Resident bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS"))


def create(client: Lines, destination: str, files: list[Path], lanes: list[str]) -> list[str]:
    made = batch(
        client,
        [
            ("send.createManifest", {"mappings": {f"/{file.name}": {"src": str(file), "size": 4096}}})
            for file in files
        ],
    )
    manifests = [one["manifestId"] for one in made]
    batch(client, [("send.waitForManifest", {"manifestId": one}) for one in manifests])
    made = batch(
        client,
        [
            ("send.createTransfer", {"destinationId": destination, "manifestId": one, "priorityLane": lane})
            for one, lane in zip(manifests, lanes, strict=True)
        ],
    )
    return [str(one["transferId"]) for one in made]


def status(client: Lines, transfer: str) -> str:
    return str(client.call("send.getTransfer", transferId=transfer)["result"]["status"])


def test_who_waits_costs_little_and_nobody_is_forgotten(tmp_path: Path) -> None:
    """Descriptors of the sender do not grow with the transfers, memory hardly; who is urgent goes first, who
    is called off goes at once, and all others arrive."""
    source = tmp_path / "source"
    source.mkdir()
    files = [source / f"f{number}" for number in range(COUNT + 1)]
    for file in files:
        file.write_bytes(b"x" * 4096)
    with start_server(tmp_path / "a") as a, start_server(tmp_path / "b") as b, Lines(a.port) as client:
        client.sock.settimeout(240)
        made = client.call(
            "send.createDestination",
            destinationAddress="127.0.0.1",
            destinationPort=b.port,
            permanent=True,
            sendRateMax=SLOW,
        )
        destination = str(made["result"]["destinationId"])
        first = create(client, destination, files[:1], ["Normal"])
        eventually(lambda: status(client, first[0]) == "complete", what="the first one")
        before = memory(a.worker("sender"))
        lanes = [LANES[number % 3 + 1] for number in range(COUNT - 1)]
        waiting = create(client, destination, files[1:COUNT], lanes)
        assert descriptors(a.worker("sender")) < 60
        assert memory(a.worker("sender")) - before < (32 << 20) + COUNT * 16_000
        off = waiting[-1]
        if status(client, off) != "complete":
            assert "result" in client.call("send.failTransfer", transferId=off)
            assert status(client, off) == "error"
        (urgent,) = create(client, destination, files[COUNT:], ["High"])
        eventually(lambda: status(client, urgent) == "complete", seconds=60, what="the urgent one")
        assert any(status(client, one) == "pending" for one in reversed(waiting)), "before those that wait"
        client.call("send.setSendRateMax", destinationId=destination, sendRateMax=-1)
        left = set(waiting) - {off}
        eventually(
            lambda: (
                not left.difference_update(one for one in list(left) if status(client, one) == "complete")
                and not left
            ),
            seconds=200,
            what="all of them",
        )
        arrived = {path.name for path in b.receive_root.iterdir() if path.is_file()}
        assert arrived >= {file.name for file in files} - {files[COUNT - 1].name}
