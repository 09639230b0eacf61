"""A sending server with accounts and the receiver of somebody else, for tests of tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servers import Server, start_server

from agent.jetstream import APIInterface
from agent.server import accounts

CONTENT = b"what is shared\n" * 1000


@dataclass
class World:
    """A sending server with accounts, and the receiver of somebody who has none of them."""

    sender: Server
    receiver: Server
    folder: Path
    accounts: Path

    def user(self, name: str = "anna") -> APIInterface:
        api = self.sender.api()
        api.server.auth(name, "secret")
        return api

    def holder(self, token: str, password: str | None = None) -> APIInterface:
        api = self.sender.api()
        api.server.authToken(token, password)
        return api

    def manifest(self, api: APIInterface) -> dict[str, Any]:
        source = self.folder / "shared.txt"
        source.write_bytes(CONTENT)
        return dict(
            api.send.waitForManifest(api.send.createManifest(mappings={"/s/shared.txt": str(source)}))
        )

    def destination(self, api: APIInterface) -> dict[str, Any]:
        return dict(api.send.createDestination("127.0.0.1", destinationPort=self.receiver.port))


@contextmanager
def token_world(folder: Path) -> Iterator[World]:
    """anna, who may be superuser, and bert; both with the password `secret`."""
    file = folder / "accounts.json"
    accounts.add(file, "anna", "secret", superuser=True)
    accounts.add(file, "bert", "secret")
    with (
        start_server(folder / "sender", accounts=file) as sender,
        start_server(folder / "receiver") as receiver,
    ):
        yield World(sender, receiver, folder, file)
