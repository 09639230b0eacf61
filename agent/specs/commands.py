"""Running a program that the policy lists: no shell, a clean environment, a time limit, bounded output."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.model.outcome import RetryableError
from agent.specs.policy import Command

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEPT = ("HOME", "USER", "LANG")
_CHUNK = 65536


class CommandError(RetryableError):
    """It could not be started, or did not end in time. The message holds nothing that it printed."""


@dataclass(frozen=True, slots=True)
class Ended:
    """`returncode` is negative for a signal. Output beyond the limit is read and dropped, and counted."""

    returncode: int
    output: bytes
    errors: bytes
    dropped: int


def run(
    command: Command,
    data: bytes,
    environ: Mapping[str, str],
    *,
    limit: int,
    keep_open: Sequence[int] = (),
    stop: int | None = None,
) -> Ended:
    """Run it to its end, with `data` as its input. Raises CommandError.

    It has a process group of its own, which is ended as a whole when the time is over. `keep_open`:
    descriptors that it inherits. `stop`: a descriptor; the program is ended when it becomes readable.
    """
    try:
        process = subprocess.Popen(
            command.argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(command, environ),
            cwd="/",
            start_new_session=True,
            pass_fds=tuple(keep_open),
        )
    except OSError as error:
        raise CommandError(f"{command.argv[0]} cannot be run: {error.strerror}") from None
    with process:
        return _Running(process, data, limit, stop).finish(command)


def environment(command: Command, environ: Mapping[str, str]) -> dict[str, str]:
    names = (*_KEPT, *command.environment)
    return {"PATH": _PATH, **{name: environ[name] for name in names if name in environ}}


class _Running:
    def __init__(self, process: subprocess.Popen[bytes], data: bytes, limit: int, stop: int | None) -> None:
        self._process = process
        self._data = memoryview(data)
        self._limit = limit
        self._stop = stop
        self._read: dict[int, bytearray] = {}
        self._dropped = 0

    def finish(self, command: Command) -> Ended:
        process = self._process
        assert process.stdin and process.stdout and process.stderr  # noqa: S101 - all three are pipes
        out, err = process.stdout.fileno(), process.stderr.fileno()
        ended = os.pidfd_open(process.pid)
        try:
            with selectors.DefaultSelector() as selector:
                for awaited in (ended, self._stop):
                    if awaited is not None:
                        selector.register(awaited, selectors.EVENT_READ)
                selector.register(process.stdin.fileno(), selectors.EVENT_WRITE)
                for stream in (out, err):
                    os.set_blocking(stream, False)
                    self._read[stream] = bytearray()
                    selector.register(stream, selectors.EVENT_READ)
                os.set_blocking(process.stdin.fileno(), False)
                self._serve(selector, ended, command)
        finally:
            os.close(ended)
            self._end_group()  # not waited for yet, so that the number is still its own
            self._data = self._data[:0]
            with contextlib.suppress(OSError):
                process.stdin.close()
        return Ended(process.wait(), bytes(self._read[out]), bytes(self._read[err]), self._dropped)

    def _serve(self, selector: selectors.BaseSelector, ended: int, command: Command) -> None:
        """Until the program has ended; what it left running in the background is not waited for."""
        deadline = time.monotonic() + command.timeout
        while True:
            ready = [key.fd for key, _ in selector.select(max(0.0, deadline - time.monotonic()))]
            for stream in ready:
                if stream in self._read:
                    self._take(selector, stream)
                elif stream not in (ended, self._stop):
                    self._give(selector, stream)
            if ended in ready:
                for stream in self._read:
                    while stream in selector.get_map() and self._take(selector, stream):
                        pass
                return
            if self._stop in ready:
                raise CommandError(f"{command.argv[0]} was ended, because the agent is")
            if time.monotonic() >= deadline:
                raise CommandError(
                    f"{command.argv[0]} did not end within {command.timeout:g} s and was ended"
                )

    def _take(self, selector: selectors.BaseSelector, stream: int) -> bool:
        """Whether there was something."""
        try:
            found = os.read(stream, _CHUNK)
        except BlockingIOError:
            return False
        if not found:
            selector.unregister(stream)
            return False
        kept = found[: max(0, self._limit - len(self._read[stream]))]
        self._read[stream] += kept
        self._dropped += len(found) - len(kept)
        return self._dropped <= self._limit  # one that prints for ever is not listened to for ever

    def _give(self, selector: selectors.BaseSelector, stream: int) -> None:
        try:
            written = os.write(stream, self._data[:_CHUNK]) if self._data else 0
        except BlockingIOError:
            return
        except OSError:  # it does not want to know
            written = len(self._data)
        self._data = self._data[written:]
        if not self._data:
            selector.unregister(stream)
            assert self._process.stdin  # noqa: S101
            self._process.stdin.close()

    def _end_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
