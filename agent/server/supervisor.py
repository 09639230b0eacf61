"""Data workers as child processes: started when first needed, restarted when they die, ended with us."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from agent.server import ipc

_log = structlog.get_logger(__name__)

FIRST_RETRY, LAST_RETRY = 0.1, 5.0  # seconds between restarts
HEALTHY_AFTER = 10.0  # seconds alive after which the next restart is immediate again
STOP_SECONDS = 2.0
BEAT_SECONDS = 2.0  # between looks whether something was heard of it; it says something as often
SILENT_SECONDS = 60.0  # after which a worker is taken to hang
_COMMAND = (sys.executable, "-m", "agent.server.worker")


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What the owner of a worker does. All are awaited one at a time, in order."""

    ready: Callable[[], Awaitable[None]]
    message: Callable[[ipc.Message], Awaitable[None]]
    gone: Callable[[], Awaitable[None]]


class Worker:
    """One worker process. Event loop only; the loop must run in the main thread, because the worker asks
    the kernel to end it with the thread that started it."""

    def __init__(
        self, role: str, arguments: Sequence[str], keep_fds: Sequence[int], callbacks: Callbacks
    ) -> None:
        self._role = role
        self._arguments = list(arguments)
        self._keep_fds = tuple(keep_fds)
        self._callbacks = callbacks
        self._outgoing: asyncio.Queue[tuple[ipc.Message, list[int]]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self._heard = True  # something came since the last look
        self._handling = False  # what came is being dealt with, and the rest waits unread
        self.ready = False

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def queued(self) -> int:
        """Messages that wait to be sent."""
        return self._outgoing.qsize()

    def ensure(self) -> None:
        """Start the worker if it does not run; returns at once."""
        if self._task is None and not self._stopping:
            self._task = asyncio.create_task(self._supervise(), name=f"{self._role} worker")

    def post(self, message: ipc.Message, fds: Sequence[int] = ()) -> None:
        """Queue a message; the descriptors become ours and are closed once sent. Messages that a dying
        worker did not read are lost: `Callbacks.ready` tells the next one all that matters."""
        self._outgoing.put_nowait((message, list(fds)))

    async def stop(self) -> None:
        """End of stream to the worker; killed when it does not end."""
        self._stopping = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _supervise(self) -> None:
        delay = FIRST_RETRY
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            try:
                await self._live()
            except OSError as error:
                _log.error("worker cannot be started", worker=self._role, error=str(error))
            if loop.time() - started > HEALTHY_AFTER:
                delay = FIRST_RETRY
            await asyncio.sleep(delay)
            delay = min(delay * 2, LAST_RETRY)

    async def _live(self) -> None:
        """One life of the process, from start to end."""
        process, channel = self._start()
        self._process = process
        self._heard, self._handling = True, False
        writer = asyncio.create_task(self._write(channel), name=f"{self._role} writer")
        watch = asyncio.create_task(self._watch(process), name=f"{self._role} watch")
        try:
            await self._read(channel)
        finally:
            self.ready = False
            writer.cancel()
            watch.cancel()
            await asyncio.gather(writer, watch, return_exceptions=True)
            channel.close()
            await asyncio.shield(asyncio.create_task(_end(process)))
            self._process = None
            self._drain()
            if not self._stopping:
                _log.error("worker ended, restarting it", worker=self._role, status=process.returncode)
                await self._callbacks.gone()

    async def _watch(self, process: subprocess.Popen[bytes]) -> None:
        """Kill a worker that says nothing. Looks are counted, not time: while this process or the machine
        stands still, nothing can be heard."""
        silent = 0.0
        while silent < SILENT_SECONDS:
            await asyncio.sleep(BEAT_SECONDS)
            silent = 0.0 if self._heard or self._handling else silent + BEAT_SECONDS
            self._heard = False
        _log.error("worker hangs, killing it", worker=self._role, worker_pid=process.pid, silent=silent)
        process.kill()

    def _start(self) -> tuple[subprocess.Popen[bytes], ipc.AsyncChannel]:
        ours, theirs = ipc.socketpair()
        try:
            process = subprocess.Popen(
                [*_COMMAND, self._role, "--ipc-fd", str(theirs.fileno()), *self._arguments],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), *self._keep_fds),
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        _log.info("worker started", worker=self._role, worker_pid=process.pid)
        return process, ipc.AsyncChannel(ours)

    async def _read(self, channel: ipc.AsyncChannel) -> None:
        while True:
            try:
                received = await channel.receive()
            except (OSError, ipc.IpcError) as error:
                _log.error("worker sent nonsense", worker=self._role, error=str(error))
                return
            if received is None:
                return
            self._heard = True
            message, fds = received
            for fd in fds:
                os.close(fd)
            self._handling = True
            try:
                await self._handle(message)
            except Exception:  # noqa: BLE001 - the next worker starts from what is stored: nothing is lost
                _log.exception("worker message failed", worker=self._role, op=str(message.get("op"))[:40])
                return
            finally:
                self._handling = False

    async def _handle(self, message: ipc.Message) -> None:
        if message.get("op") == "ready":
            self.ready = True
            await self._callbacks.ready()
        elif message.get("op") != "beat":
            await self._callbacks.message(message)

    async def _write(self, channel: ipc.AsyncChannel) -> None:
        while True:
            message, fds = await self._outgoing.get()
            try:
                await channel.send(message, fds)
            except OSError:
                return  # the reader sees the end of the stream
            except ValueError as error:
                _log.error("message not sent to worker", worker=self._role, error=str(error))
            finally:
                for fd in fds:
                    os.close(fd)

    def _drain(self) -> None:
        """Nothing queued for a dead worker concerns the next one."""
        while not self._outgoing.empty():
            _, fds = self._outgoing.get_nowait()
            for fd in fds:
                os.close(fd)


async def _end(process: subprocess.Popen[bytes]) -> None:
    """Reap the process, killing it when it lingers after the end of its stream."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + STOP_SECONDS
    while process.poll() is None:
        if loop.time() > deadline:
            process.kill()
            await loop.run_in_executor(None, process.wait)
            return
        await asyncio.sleep(0.01)
