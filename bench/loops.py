"""Bare loops to measure against, each a process: `python -m bench.loops receive|send|tar|untar|watch …`."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

STEP = 1 << 20


def receive(target: str) -> None:
    """Take one connection and splice what it brings into a file."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        connection, _ = listener.accept()
    taken, given = os.pipe()
    fcntl.fcntl(given, fcntl.F_SETPIPE_SZ, STEP)
    with connection, open(target, "wb", buffering=0) as file:
        while count := os.splice(connection.fileno(), given, STEP):
            while count:
                count -= os.splice(taken, file.fileno(), count)
        connection.sendall(b"k")
    print("done", flush=True)


def send(source: str, port: str) -> None:
    """Send one file when told to go; answer when the other side has it all."""
    print("ready", flush=True)
    sys.stdin.readline()
    with socket.create_connection(("127.0.0.1", int(port))) as connection, open(source, "rb") as file:
        offset = 0
        while count := os.sendfile(connection.fileno(), file.fileno(), offset, 64 << 20):
            offset += count
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
    print("done", flush=True)


def tar(source: str, port: str) -> None:
    """Send a directory as tar writes it, when told to go."""
    print("ready", flush=True)
    sys.stdin.readline()
    with socket.create_connection(("127.0.0.1", int(port))) as connection:
        command = ["tar", "-C", source, "-cf", "-", "."]
        subprocess.run(command, stdout=connection.fileno(), check=True)


def untar(target: str) -> None:
    """Take one connection and have tar unpack what it brings."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        connection, _ = listener.accept()
    with connection:
        subprocess.run(["tar", "-C", target, "-xf", "-"], stdin=connection.fileno(), check=True)
    print("done", flush=True)


class _Copier(FileSystemEventHandler):
    def __init__(self, source: str, target: str) -> None:
        self._source, self._target = source, target

    def on_closed(self, event: FileSystemEvent) -> None:
        path = os.fsdecode(event.src_path)
        target = os.path.join(self._target, os.path.relpath(path, self._source))
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copyfile(path, target + ".part")
        os.replace(target + ".part", target)


def watch(source: str, target: str) -> None:
    """Copy every file that a writer closes."""
    observer = Observer()
    observer.schedule(_Copier(source, target), source, recursive=True)
    observer.start()
    print("ready", flush=True)
    threading.Event().wait()


LOOPS: dict[str, Callable[..., None]] = {
    "receive": receive,
    "send": send,
    "tar": tar,
    "untar": untar,
    "watch": watch,
}

if __name__ == "__main__":
    LOOPS[sys.argv[1]](*sys.argv[2:])
