"""`python -m agent.server` is `lanesync serve`."""

from __future__ import annotations

from agent.server.command import command

if __name__ == "__main__":
    command(prog_name="python -m agent.server")
