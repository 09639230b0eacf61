"""Logs: to stderr, for people when it is a terminal, as JSON lines otherwise. Results go to stdout."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import sys
from typing import Any, TextIO

import structlog

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(level: str = "info", stream: TextIO | None = None) -> None:
    """`stream`: a file, where the terminal is used for a live view."""
    out = stream or sys.stderr
    # What watchdog has to say unasked is told in this agent's own words, by conditions.
    logging.getLogger("watchdog").addHandler(logging.NullHandler())
    human = stream is None and out.isatty()
    with contextlib.suppress(OSError, ValueError, AttributeError):  # not a file: nobody can end us like that
        faulthandler.enable(out)  # a service manager ends what hangs with SIGABRT: say where every thread is
    # Tracebacks in the plain form: others print local variables, secrets among them.
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    renderer: Any = plain if human else structlog.processors.JSONRenderer(ensure_ascii=True)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=not human),
            structlog.processors.StackInfoRenderer(),
            *([] if human else [structlog.processors.format_exc_info]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
