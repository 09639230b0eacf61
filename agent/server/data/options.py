"""What a data worker is started with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agent.server.reserve import Reserve


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    role: str  # sender | receiver
    ipc_fd: int
    state_dir: Path
    streams: int  # data connections per destination
    loopback_streams: int  # at most so many within one machine
    server_id: str
    server_uid: str
    reserve: Reserve = Reserve()
