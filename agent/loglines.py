"""Logs of all processes: to stderr, for people on a terminal, as JSON lines elsewhere, and where that is the
journal of systemd as its entries, each value in a field of its own.

SIGUSR1 adds what is worth a look when something is wrong, SIGUSR2 goes back to the level of the start.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import logging
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO


@contextmanager
def _without_rich() -> Iterator[None]:
    """structlog takes what it would show tracebacks with, values of variables among it. We never do, and it
    is a quarter of the start of a worker."""
    modules: dict[str, Any] = sys.modules
    hidden = "rich" not in modules
    if hidden:
        modules["rich"] = None
    try:
        yield
    finally:
        if hidden:
            del modules["rich"]


with _without_rich():
    import structlog
    from structlog.typing import EventDict, WrappedLogger

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

SOCKET = "/run/systemd/journal/socket"
MAX_VALUE = 16_384
"""Bytes of one field. Entries of many such ones do not fit a datagram and go the other way."""

_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "exception": 3, "critical": 2}  # syslog's


class _Level:
    """What is logged now. A signal may change it at any moment."""

    def __init__(self) -> None:
        self.started = self.now = logging.INFO

    def filter(self, _logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
        if LEVELS.get(name, logging.ERROR) < self.now:
            raise structlog.DropEvent
        return event


_level = _Level()


def configure(level: str = "info", stream: TextIO | None = None) -> None:
    """`stream`: a file, where the terminal is used for a live view."""
    out = stream or sys.stderr
    # What watchdog has to say unasked is told in this agent's own words, by conditions.
    logging.getLogger("watchdog").addHandler(logging.NullHandler())
    with contextlib.suppress(OSError, ValueError, AttributeError):  # not a file: nobody can end us like that
        faulthandler.enable(out)  # a service manager ends what hangs with SIGABRT: say where every thread is
    _level.started = _level.now = LEVELS[level]
    _listen()
    human = stream is None and out.isatty()
    journal = stream is None and is_journal(os.environ, sys.stderr)
    # Tracebacks in the plain form: others print local variables, secrets among them.
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    lines: Any = plain if human else structlog.processors.JSONRenderer(ensure_ascii=True)
    structlog.configure(
        processors=[
            _level.filter,
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=not human),
            structlog.processors.StackInfoRenderer(),
            *([] if human else [structlog.processors.format_exc_info]),
            *([Journal(SOCKET).processor] if journal else []),
            lines,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )


def _listen() -> None:
    """Nothing is logged in the handler: it may run in the middle of a line."""
    if threading.current_thread() is not threading.main_thread():
        return

    def more(_number: int, _frame: object) -> None:
        _level.now = logging.DEBUG

    def back(_number: int, _frame: object) -> None:
        _level.now = _level.started

    signal.signal(signal.SIGUSR1, more)
    signal.signal(signal.SIGUSR2, back)


# -- the journal


def is_journal(environ: Mapping[str, str], stream: TextIO) -> bool:
    """systemd tells which file is the journal's; ours may have been redirected since."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino))


class Journal:
    """Entries by the journal's own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def processor(self, _logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
        """An entry that cannot be sent goes on as a line of stderr, which the journal has, too."""
        try:
            self._socket.sendto(datagram(fields(name, event)), self._path)
        except OSError:
            return event
        raise structlog.DropEvent


def fields(level: str, event: Mapping[str, Any]) -> dict[str, str]:
    """Of an entry. MESSAGE is for people; what it names is in LANESYNC_… fields for filters. An object that
    is named by kind is found by it, too: LANESYNC_MAPPING=dailies."""
    values = {name: value for name, value in event.items() if name not in _TOLD and value is not None}
    words = [str(event.get("event", "")), *(f"{name}={_word(value)}" for name, value in values.items())]
    found = {
        "MESSAGE": "\n".join(filter(None, [" ".join(words), event.get("exception"), event.get("stack")])),
        "PRIORITY": str(_PRIORITIES.get(level, 6)),
        "SYSLOG_IDENTIFIER": "lanesync",
    }
    kind, _, name = str(values.get("key", "")).partition("/")
    if name and kind.isascii() and kind.isalpha():
        found[f"LANESYNC_{kind.upper()}"] = name
    return found | {f"LANESYNC_{name.upper()}": _text(value) for name, value in values.items()}


_TOLD = ("event", "level", "timestamp", "exception", "stack")


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _word(value: object) -> str:
    text = _text(value)
    plain = text.isprintable() and not any(mark in text for mark in ' "=')
    return text if plain or not isinstance(value, str) else json.dumps(text, ensure_ascii=False)


def datagram(found: Mapping[str, str]) -> bytes:
    """A value with a line break is told by its length, any other by its end of line."""
    parts = []
    for name, value in found.items():
        data = value.encode("utf-8", "backslashreplace")[:MAX_VALUE]
        if b"\n" in data:
            parts.append(name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n")
        else:
            parts.append(name.encode() + b"=" + data + b"\n")
    return b"".join(parts)
