"""Times, and lines of JSON, as the verbs that tell something print them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import click


def moment(seconds: float | None) -> str:
    """Local time, to the second; of today without the date."""
    if not seconds:
        return "never"
    there = datetime.fromtimestamp(seconds).astimezone()
    today = datetime.fromtimestamp(time.time()).astimezone().date()
    return there.strftime("%H:%M:%S" if there.date() == today else "%Y-%m-%d %H:%M:%S")


def json_lines(entries: Iterable[Any]) -> None:
    for entry in entries:
        click.echo(json.dumps(entry, ensure_ascii=True))


def bounded_note(shown: int, limit: int) -> None:
    """That there may be more, on stderr."""
    if shown >= limit:
        click.echo(f"only the newest {limit:,} are shown; more with --limit", err=True)
