"""Stands in for the sender worker: writes down what it is told; a transfer's priority says how it behaves.

1: one of two files arrives, then it finishes with an error · 2: it stays active · 3: it completes at the
moment it is told to stop · 4: the worker dies at the first start
"""

from __future__ import annotations

import base64
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from agent.server.ipc import Channel
from agent.server.results import Outcome, Record, pack


def main() -> None:
    channel = Channel(socket.socket(fileno=int(sys.argv[sys.argv.index("--ipc-fd") + 1])))
    folder = Path(sys.argv[sys.argv.index("--state-dir") + 1])
    priorities: dict[str, int] = {}
    channel.send({"op": "ready"})
    while (received := channel.receive()) is not None:
        message, _ = received
        with open(folder / "told.jsonl", "a", encoding="ascii") as file:
            file.write(json.dumps(message) + "\n")
        if message["op"] == "start":
            priorities[message["id"]] = message["priority"]
            _start(channel, message, folder)
        elif message["op"] == "stop":
            if priorities.get(message["id"]) == 3:
                channel.send(_finished(message["id"], "complete", [Record(0, Outcome.DELIVERED)]))
            channel.send({"op": "stopped", "id": message["id"]})


def _start(channel: Channel, message: dict[str, Any], folder: Path) -> None:
    transfer, priority = message["id"], message["priority"]
    if priority == 4 and not (folder / "died").exists():
        (folder / "died").touch()
        os._exit(1)
    if priority != 1:
        return
    channel.send({"op": "sending", "id": transfer})
    channel.send({"op": "progress", "transfers": [[transfer, 5, 0, 0]]})
    record = Record(0, Outcome.DELIVERED, 5, 111, 222, 0xABC)
    results = base64.b64encode(pack([record])).decode()
    counters = {"bytesSent": 5, "bytesDone": 5, "filesDone": 1}
    channel.send({"op": "checkpoint", "id": transfer, "results": results, "errors": [], **counters})
    failed = _finished(transfer, "error", [Record(1, Outcome.FAILED)])
    channel.send({**failed, "message": "1 file failed: /d/1", "errors": [[1, "permission denied"]]})


def _finished(transfer: str, status: str, records: list[Record]) -> dict[str, Any]:
    results = base64.b64encode(pack(records)).decode()
    counters = {"bytesSent": 7, "bytesDone": 7, "filesDone": 1}
    return {"op": "finished", "id": transfer, "status": status, "message": "", "results": results, **counters}


if __name__ == "__main__":
    main()
