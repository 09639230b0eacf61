"""Logs of transfers: complete where they can be written, and never in the way of a transfer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from agent.server import states, transferlog
from agent.server.counters import BLOCK_SIZE, Counters, blocks
from agent.server.errors import StartError
from agent.server.store.transfers import Transfer
from agent.server.transferlog import TransferLogs

TRANSFER = Transfer(
    id=7,
    uid="ab" * 16,
    destination_id=1,
    manifest_id=2,
    status=states.PENDING,
    owner="me",
    destination_path="/",
    lane="Normal",
    priority=100,
    rate_max=None,
    flags=7,
    overwrite=4,
    checkpoint_seconds=30,
    time_resolution_us=0,
    timeout_seconds=0,
    total_files=1,
    total_size=5,
    request_us=10,
    request_clock_us=0,
    transfer_log=True,
    password="never-shown",
)
NAME = "transfer-7-abababab.jsonl"


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / NAME).read_text().splitlines()]


def test_events_are_appended_in_order_for_those_who_ask(tmp_path: Path) -> None:
    """Over restarts too; nothing secret; only the owner may read it."""
    for status in (states.SUSPENDED, states.COMPLETE):
        logs = TransferLogs(tmp_path)
        logs.created(TRANSFER)
        logs.status(replace(TRANSFER, status=status), 20)
        logs.add(replace(TRANSFER, transfer_log=False), 30, "not wanted")
        logs.stop()
    assert [line["event"] for line in lines(tmp_path)] == ["created", "suspended", "created", "ended"]
    assert all(line["transferId"] == "7" for line in lines(tmp_path))
    assert "never-shown" not in (tmp_path / NAME).read_text()
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600


def test_a_full_log_keeps_what_happens_to_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are left out beyond the bound, said once, and the end is there."""
    monkeypatch.setattr(transferlog, "MAX_BYTES", 1000)
    logs = TransferLogs(tmp_path)
    for _ in range(3):
        logs.add(TRANSFER, 1, "checkpoint", [{"event": "file", "path": "x" * 600}])
    logs.status(replace(TRANSFER, status=states.ERROR, error="enough"), 20)
    logs.stop()
    assert [line["event"] for line in lines(tmp_path)] == ["file", "checkpoint", "lost", "ended"]
    assert lines(tmp_path)[-1]["errorMessage"] == "enough"


def test_a_folder_that_cannot_be_written_hurts_nobody(tmp_path: Path) -> None:
    """Lines are lost, and the log says so as soon as it can be written again."""
    folder = tmp_path / "logs"
    folder.mkdir()
    logs = TransferLogs(folder)
    (folder / NAME).mkdir()  # in the way
    logs.created(TRANSFER)
    logs.stop()
    (folder / NAME).rmdir()
    again = TransferLogs(folder)
    again._lost |= logs._lost
    again.status(replace(TRANSFER, status=states.COMPLETE), 20)
    again.stop()
    assert [line["event"] for line in lines(folder)] == ["lost", "ended"]


def test_a_writer_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adding never blocks and memory stays bounded, however much is added."""
    monkeypatch.setattr(TransferLogs, "_run", lambda *_: None)
    monkeypatch.setattr(transferlog, "STOP_SECONDS", 0.01)
    logs = TransferLogs(tmp_path)
    for _ in range(1000):
        logs.created(TRANSFER)
    assert logs._waiting.qsize() == transferlog.MAX_WAITING and logs._lost == {NAME}
    logs.stop()


def test_a_folder_that_cannot_be_made_is_a_start_error(tmp_path: Path) -> None:
    """At start, naming the option."""
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match="--log-transfer-dir"):
        transferlog.prepare(tmp_path / "file" / "logs")
    transferlog.prepare(tmp_path / "new" / "logs")
    assert (tmp_path / "new" / "logs").is_dir()


def test_counters_survive_messages_and_rows() -> None:
    """Names in messages are the API's; what is missing is 0."""
    counters = Counters(1, 2, 3, 4, 5, 6, 7, 8)
    assert Counters.parse(counters.told()) == counters == Counters.of_row(counters.row())
    assert counters.told().keys() >= {"bytesSent", "packetsRecv", "blocksResent"}
    assert Counters.parse({"bytesSent": 9}) == Counters(bytes_sent=9)
    assert [blocks(size) for size in (0, 1, BLOCK_SIZE, BLOCK_SIZE + 1)] == [0, 1, 1, 2]
