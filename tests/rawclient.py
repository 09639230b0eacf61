"""A raw JSON-RPC client for tests of the control port, and what several of them need."""

from __future__ import annotations

import json
import socket
from typing import Any


class Lines:
    """A raw client: bytes out, parsed lines in."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.file = self.sock.makefile("rb")

    def say(self, data: bytes) -> None:
        self.sock.sendall(data)

    def hear(self) -> Any:
        line = self.file.readline()
        return json.loads(line) if line else None

    def call(self, method: str, request_id: object = 1, **params: Any) -> Any:
        request = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
        self.say(json.dumps(request).encode() + b"\n")
        return self.hear()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.sock.close()


def explicit(count: int) -> dict[str, Any]:
    return {f"/d/{number}": {"src": "/nowhere", "size": 1} for number in range(count)}
