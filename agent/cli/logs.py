"""Logs of the command line. Results go to stdout."""

from __future__ import annotations

from agent.loglines import LEVELS, configure

__all__ = ["LEVELS", "configure"]
