"""Programs that are run when something happens: an executable file in `--trigger-dir`, named as the event.

They get positional arguments, no shell, no input, few variables of the environment, a process group of their
own and a minute. Their output goes to the log. Nothing waits for them, and their failure is logged alone.
"""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from asyncio.subprocess import DEVNULL, Process, create_subprocess_exec
from pathlib import Path

import structlog

from agent.server.errors import StartError

_log = structlog.get_logger(__name__)

LAUNCH = "launch"  # port
DESTINATION_CREATED = "send.destinationCreated"  # destination's ip:port, sender's ip:port
DESTINATION_DELETED = "send.destinationDeleted"  # likewise
SENT = "send.transferComplete"  # id, status, destination's ip:port, destination path, files, bytes, error
RECEIVED = "recv.transferComplete"  # id, status, source's ip:port, destination path, bytes

MAX_SECONDS = 60.0
TERM_SECONDS = 5.0  # between SIGTERM and SIGKILL
AT_ONCE = 4
MAX_WAITING = 1000
MAX_OUTPUT = 8 * 1024
MAX_ARGUMENT = 8 * 1024
LAST_SECONDS = 1.0  # for those that run when the server ends
_ENVIRONMENT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ")


def check(directory: Path) -> None:
    """StartError when programs cannot be run from there."""
    if not directory.is_dir():
        raise StartError(f"--trigger-dir {directory} is not a directory; make it, or leave the option out")
    flaw = _flaw(os.stat(directory))
    if flaw:
        raise StartError(f"--trigger-dir {directory} {flaw}: others could have their programs run")


def host_port(host: str, port: int | None) -> str:
    """`ip:port` as the arguments of triggers spell it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Triggers:
    """Event loop only. Without a directory nothing is ever run."""

    def __init__(self, directory: Path | None = None, *, seconds: float = MAX_SECONDS) -> None:
        self._directory = directory
        self._seconds = seconds
        self._waiting: asyncio.Queue[tuple[str, tuple[str, ...]]] = asyncio.Queue(MAX_WAITING)
        self._runners: list[asyncio.Task[None]] = []
        self._stopping = False

    def knows(self, event: str) -> bool:
        """Whether there is something to run."""
        return self._directory is not None and os.path.lexists(self._directory / event)

    def fire(self, event: str, *arguments: object) -> None:
        """Have the event's program run, if there is one. Returns at once and never fails."""
        if self._stopping or not self.knows(event):
            return
        try:
            texts = tuple(str(argument)[:MAX_ARGUMENT].replace("\0", "") for argument in arguments)
            self._waiting.put_nowait((event, texts))
        except asyncio.QueueFull:
            _log.warning("trigger left out", trigger=event, reason=f"{MAX_WAITING} wait to be run")
            return
        if sum(not runner.done() for runner in self._runners) < AT_ONCE:
            runner = asyncio.create_task(self._run_all(), name="triggers")
            self._runners.append(runner)
            runner.add_done_callback(self._runners.remove)

    async def stop(self) -> None:
        """Those that run have a moment to end; those that wait are dropped."""
        self._stopping = True
        while not self._waiting.empty():
            event, _ = self._waiting.get_nowait()
            _log.warning("trigger left out", trigger=event, reason="the server ends")
        if self._runners:
            _, running = await asyncio.wait(self._runners, timeout=LAST_SECONDS)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _run_all(self) -> None:
        while not self._waiting.empty():
            event, arguments = self._waiting.get_nowait()
            try:
                await self._run(event, arguments)
            except (OSError, ValueError) as error:
                _log.warning("trigger not run", trigger=event, reason=str(error))

    async def _run(self, event: str, arguments: tuple[str, ...]) -> None:
        assert self._directory is not None  # noqa: S101 - fire() has looked
        path = self._directory / event
        flaw = _unfit(path)
        if flaw:
            _log.warning("trigger not run", trigger=event, reason=f"{path} {flaw}")
            return
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        output = _Output(reading)
        try:
            os.set_blocking(writing, True)
            process = await create_subprocess_exec(
                path,
                *arguments,
                stdin=DEVNULL,
                stdout=writing,
                stderr=writing,
                cwd="/",
                env=_environment(event),
                start_new_session=True,
            )
        except BaseException:
            output.close()
            raise
        finally:
            os.close(writing)
        try:
            status = await self._await_end(event, process)
        finally:
            text = output.close()
        told = _log.info if status == 0 else _log.warning
        told("trigger ended", trigger=event, status=status, output=text or None)

    async def _await_end(self, event: str, process: Process) -> int:
        """Its exit status; negative when a signal ended it."""
        try:
            async with asyncio.timeout(self._seconds):
                return await process.wait()
        except TimeoutError:
            _log.warning("trigger takes too long and is ended", trigger=event, seconds=self._seconds)
            return await _end(process, TERM_SECONDS)
        except asyncio.CancelledError:
            await _end(process, LAST_SECONDS / 2)
            raise


class _Output:
    """The first of what a program writes; the rest is read and dropped, so that it never waits for us."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._kept = bytearray()
        asyncio.get_running_loop().add_reader(fd, self._read)

    def _read(self) -> bool:
        """False when there is nothing (more)."""
        try:
            data = os.read(self._fd, 64 * 1024)
        except BlockingIOError:
            return False
        self._kept += data[: MAX_OUTPUT - len(self._kept)]
        if not data:
            asyncio.get_running_loop().remove_reader(self._fd)
        return bool(data)

    def close(self) -> str:
        """What there is by now: a child that stays behind keeps nobody waiting."""
        for _ in range(16):
            if not self._read():
                break
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)
        return self._kept.decode("utf-8", "replace").strip()


def _environment(event: str) -> dict[str, str]:
    """Nothing of ours that could be a secret."""
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    return kept | {"LANESYNC_TRIGGER": event}


def _unfit(path: Path) -> str:
    """Why a file may not be run, or nothing."""
    try:
        found, folder = os.lstat(path), os.stat(path.parent)
    except OSError as error:
        return f"cannot be looked at: {error.strerror}"
    if not stat.S_ISREG(found.st_mode):
        return "is not a regular file"
    if not os.access(path, os.X_OK):
        return "is not executable; run: chmod +x"
    flaw = _flaw(found)
    return flaw or (f"is in a directory that {_flaw(folder)}" if _flaw(folder) else "")


def _flaw(found: os.stat_result) -> str:
    """Why others than the administrator and ourselves decide what is in there, or nothing."""
    if found.st_uid not in (0, os.geteuid()):
        return "belongs neither to root nor to the server's account; run: chown root"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "can be written by others; run: chmod go-w"
    return ""


async def _end(process: Process, patience: float) -> int:
    """SIGTERM to its process group, then SIGKILL."""
    for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, None)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pass
        try:
            async with asyncio.timeout(seconds):
                await process.wait()
        except TimeoutError:
            continue
        if number == signal.SIGTERM:
            _kill_rest(process.pid)
        break
    return await process.wait()


def _kill_rest(group: int) -> None:
    """Children of a program that has ended already."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass
