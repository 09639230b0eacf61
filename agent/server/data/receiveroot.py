"""A directory that takes files: its unfinished ones lie in it, so that publishing is a rename."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from agent.server.data.directio import DirectIO
from agent.server.data.sets import finish_all
from agent.server.data.syncer import Syncer


@dataclass(slots=True)
class ReceiveRoot:
    """`users`: streams and calls that write below it, guarded by the receiver's lock."""

    path: bytes
    users: int = 0
    syncer: Syncer = field(init=False)
    direct: DirectIO = field(default_factory=DirectIO)

    def __post_init__(self) -> None:
        if not os.path.isdir(self.path):
            raise FileNotFoundError("the directory of the root is missing")
        finish_all(self.path)  # before anything else is done below it
        self.syncer = Syncer(self.path)
