"""What a log shows of an error on a terminal: where it happened, never what variables held."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

import pytest
import structlog

from agent.cli import logs
from agent.server import log


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("configure", [log.configure, logs.configure], ids=["server", "agent"])
def test_an_exception_shows_no_variables(
    configure: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Passwords and tokens are in local variables of what fails."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    try:
        configure()
        fail()
    finally:
        structlog.reset_defaults()
    shown = terminal.getvalue()
    assert "it failed" in shown and "ValueError" in shown and "in fail" in shown
    assert "correct-horse" not in shown


def fail() -> None:
    password = "-".join(("correct", "horse"))
    try:
        raise ValueError(len(password))
    except ValueError:
        structlog.get_logger("test").exception("it failed")
