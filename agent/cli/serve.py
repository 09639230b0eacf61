"""`lanesync serve`: the transfer server alone."""

from __future__ import annotations

from agent.server.command import command

__all__ = ["command"]
