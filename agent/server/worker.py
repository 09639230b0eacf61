"""A data worker: `python -m agent.server.worker sender|receiver`, started by the control process.

It speaks `agent.server.ipc` over the descriptor it is given and ends with the control process, whichever
way that ends: by the kernel's parent-death signal and by the end of the stream.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from agent.server import log, reserve
from agent.server.data.options import WorkerOptions
from agent.server.ipc import Channel

_PR_SET_PDEATHSIG = 1
BEAT_SECONDS = 2.0
LOOPBACK_STREAMS = max(1, (os.cpu_count() or 1) // 2)
"""Within one machine both ends share the processors, and a stream needs one at each end."""


def parse(arguments: Sequence[str]) -> WorkerOptions:
    parser = argparse.ArgumentParser(prog="agent.server.worker")
    parser.add_argument("role", choices=("sender", "receiver"))
    parser.add_argument("--ipc-fd", type=int, required=True)
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--streams", type=int, default=2)
    parser.add_argument("--loopback-streams", type=int, default=LOOPBACK_STREAMS)
    parser.add_argument("--server-id", default="")
    parser.add_argument("--server-uid", default="")
    parser.add_argument("--reserve", type=reserve.parse, default=reserve.Reserve())
    return WorkerOptions(**vars(parser.parse_args(arguments)))


def die_with_parent(parent: int) -> None:
    """Ask the kernel to end this process when `parent` (its thread that started us) ends; end now when it
    has ended already."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        os._exit(0)


def beat(channel: Channel) -> None:
    """Tell the control process all the time that we run: it ends and replaces a worker that hangs."""
    while True:
        time.sleep(BEAT_SECONDS)
        try:
            channel.send({"op": "beat"})
        except OSError:
            return  # the control process has ended, and so do we


def main(arguments: Sequence[str]) -> int:
    parent = os.getppid()
    options = parse(arguments)
    die_with_parent(parent)
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)  # the control process decides when we end
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    log.configure()
    channel = Channel(socket.socket(fileno=options.ipc_fd))
    threading.Thread(target=beat, args=(channel,), name="beat", daemon=True).start()
    if options.role == "sender":
        from agent.server.data.sender import run_sender

        run_sender(options, channel)
    else:
        from agent.server.data.receiver import run_receiver

        run_receiver(options, channel)
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # threads wait on sockets: nothing is left to be done
