"""Logs of the server's processes."""

from __future__ import annotations

from agent.loglines import configure

__all__ = ["configure"]
