"""What all parts of the control process share."""

from __future__ import annotations

import os
import pwd
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from agent.jetstream.constants import ERROR_COMMAND
from agent.server import clock as clocks
from agent.server.clock import Clock
from agent.server.errors import CommandError
from agent.server.events import EventLog
from agent.server.identity import Identities
from agent.server.live import Live
from agent.server.options import ServeOptions
from agent.server.reach import Reach
from agent.server.sealing import Seal
from agent.server.store import manifests, meta, requests, sandboxes, transfers
from agent.server.store.database import Database
from agent.server.transferlog import TransferLogs
from agent.server.triggers import Triggers
from agent.server.vouching import Vouchers

IO_THREADS = 4
IO_THREAD_NAME = "io-worker"


@dataclass(slots=True)
class Core:
    options: ServeOptions
    database: Database
    clock: Clock
    server_id: str  # of this launch
    server_uid: str  # for ever
    events: EventLog
    reach: Reach
    identities: Identities
    vouchers: Vouchers
    live: Live = field(default_factory=Live)
    walks: set[int] = field(default_factory=set)  # manifests whose sources are being walked
    port: int = 0
    triggers: Triggers = field(default_factory=Triggers)
    logs: TransferLogs = field(init=False)
    seal: Seal = field(init=False)
    end: Callable[[str], None] = lambda _reason: None
    """Ends the server in an orderly way, for the reason given; set as soon as it listens."""
    forget_grants: Callable[[], None] = lambda: None
    """Has the receiver ask anew whose files a sender may write; set by whoever runs it."""
    # threads for what may hang on a file system or a name server
    io: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(max_workers=IO_THREADS, thread_name_prefix=IO_THREAD_NAME)
    )

    def __post_init__(self) -> None:
        self.logs = TransferLogs(self.options.log_transfer_dir)
        self.seal = Seal(self.options.state_dir)


async def open_core(options: ServeOptions, database: Database, clock: Clock) -> Core:
    """Bring the store up to date after whatever ended the last launch."""
    now, steady = clock.wall_us(), clock.steady_us()
    boot = clocks.boot_id()
    interrupted = CommandError(
        "the server was restarted before the request finished; send it again", ERROR_COMMAND
    )
    server_uid = await database.run(meta.get_or_put, "serverUid", uuid.uuid4().hex)
    if await database.run(meta.get, "boot") != boot:
        await database.run(transfers.rebase_clock, now, steady)
        await database.run(meta.put, "boot", boot)
    await database.run(requests.interrupt, interrupted.as_object(), now)
    await database.run(
        manifests.fail_unfinished,
        "the server was restarted before the manifest was complete; create it again",
    )
    await database.run(transfers.restart)
    identities = Identities(options.state_dir)
    reach = Reach(options, await database.run(sandboxes.get_all))
    server_id, events = uuid.uuid4().hex, EventLog(first=now)
    vouchers = Vouchers(options.host)
    return Core(options, database, clock, server_id, server_uid, events, reach, identities, vouchers)


def process_owner() -> str:
    """Name of the user whom the process runs as, who owns what it creates."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
