"""Exit codes, which are a contract, and the errors that carry them to `main`.

0 done, in sync · 1 operation failed · 2 usage · 3 changes pending or still converging
4 blocked, needs a person · 5 invalid specs · 130 interrupted
"""

from __future__ import annotations

import click

DONE, FAILED, USAGE, PENDING, BLOCKED, INVALID, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130


class FailedError(click.ClickException):
    """The operation failed; the message says why and what to do."""

    exit_code = FAILED


def nobody(state_dir: str, verb: str) -> str:
    """What to say when no agent `runs`, or ever `has run`, on a state directory."""
    return (
        f"no agent {verb} on {state_dir}; start one with `lanesync run`, or name its place with --state-dir"
    )


class BlockedError(click.ClickException):
    """What was asked for waits for a person; the message says for what."""

    exit_code = BLOCKED


class InvalidSpecsError(click.ClickException):
    """The specs are invalid; every error has been printed."""

    exit_code = INVALID
