"""Two real servers for tests of what arrives: a sender that logs transfers, and a receiver."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from servers import Server, eventually, start_server

from agent.jetstream import APIInterface


class World:
    """Both, and a folder of its own for each test."""

    def __init__(self, sender: Server, receiver: Server, api: APIInterface, home: Path) -> None:
        self.sender, self.receiver, self.api = sender, receiver, api
        self.home = home
        self.name = home.name
        self.root = receiver.receive_root / self.name
        self.destination = api.send.createDestination(
            "127.0.0.1", destinationPort=receiver.port, exclusive=True, permanent=True
        )

    def source(self, name: str, content: bytes) -> Path:
        path = self.home / name
        path.write_bytes(content)
        return path

    def existing(self, name: str, content: bytes) -> Path:
        self.root.mkdir(parents=True, exist_ok=True)
        path = self.root / name
        path.write_bytes(content)
        return path

    def start(self, mappings: dict[str, Any], **params: Any) -> dict[str, Any]:
        manifest = self.api.send.waitForManifest(self.api.send.createManifest(mappings=mappings))
        assert manifest["status"] == "complete", manifest
        return dict(self.api.send.createTransfer(self.destination, manifest, f"/{self.name}", **params))

    def send(self, mappings: dict[str, Any], **params: Any) -> dict[str, Any]:
        return dict(self.api.send.waitForTransfer(self.start(mappings, **params)))

    def outcomes(self, transfer: dict[str, Any]) -> dict[str, str]:
        found = self.api.lanesync.getTransferResults(transfer["transferId"])["files"]
        return {os.path.basename(file["path"]): file["outcome"] for file in found}

    def log(self, transfer: dict[str, Any]) -> list[dict[str, Any]]:
        """The lines of the transfer's log once it says how it ended."""
        folder = self.sender.state_dir.parent / "logs"

        def ended() -> list[dict[str, Any]]:
            for path in folder.glob(f"transfer-{transfer['transferId']}-*.jsonl"):
                lines = [json.loads(line) for line in path.read_text().splitlines()]
                if lines[-1]["event"] == "ended":
                    return lines
            return []

        return eventually(ended, what="the log ends")


@contextmanager
def two_servers(folder: Path) -> Iterator[tuple[Server, Server]]:
    """A sender and a receiver below `folder`."""
    with start_server(folder / "sender", log_transfer_dir=folder / "logs") as sender:
        with start_server(folder / "receiver") as receiver:
            yield sender, receiver
