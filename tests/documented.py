"""Two real servers and transfers between them, for tests of what docs/jetstream-api.md says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from servers import Server, eventually, start_server

from agent.jetstream import APIInterface
from agent.server import accounts

SLOW = 60  # kbit/s: half a minute for `tree`
NAME, ADDRESS = "Cutting room", "a.example:1"


class Documented(NamedTuple):
    """anna's sender, and a receiver without accounts."""

    sender: Server
    receiver: Server
    folder: Path

    def anna(self) -> APIInterface:
        """A superuser who has not said so."""
        api = self.sender.api()
        api.server.auth("anna", "secret")
        return api

    def destination(self, api: APIInterface, **options: Any) -> Any:
        port = self.receiver.port
        return api.send.createDestination("127.0.0.1", destinationPort=port, exclusive=True, **options)

    def slow(self, api: APIInterface, source: Path, **options: Any) -> Any:
        """A transfer that is under way, and goes on until the caller speeds it up or ends it."""
        destination = self.destination(api, sendRateMax=SLOW)
        made = api.send.createTransfer(destination, manifest(api, source), **options)
        return eventually(lambda: (t := api.send.getTransfer(made))["bytesSent"] and t)

    def done(self, api: APIInterface, source: Path, **options: Any) -> Any:
        made = api.send.createTransfer(self.destination(api), manifest(api, source), **options)
        ended = api.send.waitForTransfer(made)
        assert ended["status"] == "complete", ended["errorMessage"]
        return ended


@contextmanager
def documented(folder: Path) -> Iterator[Documented]:
    accounts.add(folder / "accounts.json", "anna", "secret", superuser=True)
    options = {"accounts": folder / "accounts.json", "log_transfer_dir": folder / "logs"}
    with start_server(folder / "s", server_name=NAME, external_address=ADDRESS, **options) as sender:
        with start_server(folder / "r") as receiver:
            yield Documented(sender, receiver, folder)


def tree(folder: Path) -> Path:
    """An executable file of 200,001 bytes and an empty directory."""
    path = folder / "source" / "sub" / "large"
    path.parent.mkdir(parents=True)
    path.write_bytes(os.urandom(200_001))
    path.chmod(0o755)
    os.utime(path, ns=(0, 1_234_567_891_000_000_789))
    (folder / "source/empty").mkdir()
    return path.parents[1]


def manifest(api: APIInterface, source: Path) -> Any:
    made = api.send.createManifest(mappings={f"/{source.parent.name}": str(source)})
    return api.send.waitForManifest(made)
