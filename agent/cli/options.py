"""Options that several verbs share."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from agent.model.units import UnitError, parse_duration, parse_size

if TYPE_CHECKING:
    from agent.specs.select import Selector

F = TypeVar("F", bound=Callable[..., Any])


def default_state_dir(environ: Mapping[str, str] | None = None) -> str:
    """$STATE_DIRECTORY (set by systemd), else the XDG state folder."""
    env = os.environ if environ is None else environ
    if env.get("STATE_DIRECTORY"):
        return env["STATE_DIRECTORY"].split(":")[0]
    base = env.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(base, "lanesync")


def _state_dir(_ctx: click.Context, param: click.Parameter, value: str | None) -> str:
    path = os.path.abspath(value or default_state_dir())
    if os.path.isdir(path) and not os.access(path, os.R_OK | os.X_OK):
        raise click.BadParameter(f"{path} is closed to this user; {_as_owner(path)}", param=param)
    return path


def _as_owner(path: str) -> str:
    """What to type instead."""
    try:
        owner = pwd.getpwuid(os.stat(path).st_uid).pw_name
    except (KeyError, OSError):
        return "ask whose agent it is"
    return f"call it as its owner: sudo -u {owner} lanesync …"


def state_dir(function: F) -> F:
    return click.option(
        "--state-dir",
        type=click.Path(file_okay=False, readable=False),
        callback=_state_dir,
        help="Where the agent keeps what it knows. Default: $STATE_DIRECTORY or the XDG state folder.",
    )(function)


def output(function: F) -> F:
    return click.option(
        "--output",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="json is a documented contract.",
    )(function)


def default_policy(environ: Mapping[str, str] | None = None) -> str:
    """policy.yaml in $CONFIGURATION_DIRECTORY (set by systemd), when it is there; empty = none."""
    env = os.environ if environ is None else environ
    for directory in env.get("CONFIGURATION_DIRECTORY", "").split(":"):
        path = os.path.join(directory, "policy.yaml")
        if directory and os.path.lexists(path):  # one that cannot be read is an error, not none
            return path
    return ""


def policy(function: F) -> F:
    return click.option(
        "--policy",
        type=click.Path(dir_okay=False),
        default="",
        callback=lambda _ctx, _param, value: os.path.abspath(value) if value else default_policy(),
        help="File that bounds what the specs may name; see docs/policy.md. "
        "Default: policy.yaml in $CONFIGURATION_DIRECTORY, if there is one.",
    )(function)


def _selector(_ctx: click.Context, param: click.Parameter, value: str) -> Selector:
    from agent.specs.select import EVERYTHING, parse

    if not value:
        return EVERYTHING
    try:
        return parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error), param=param) from error


def select(function: F) -> F:
    return click.option(
        "--select",
        metavar="LABELS",
        default="",
        callback=_selector,
        help="Only objects with these labels, for example site=paris,kind!=test.",
    )(function)


class Duration(click.ParamType[float]):
    """`30s`, `5m`, `2h`: seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        try:
            return parse_duration(value)
        except UnitError as error:
            self.fail(str(error), param, ctx)


class Size(click.ParamType[int]):
    """`64MiB`: bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_size(value)
        except UnitError as error:
            self.fail(str(error), param, ctx)


class HostPort(click.ParamType[tuple[str, int]]):
    """`127.0.0.1:8890` or `[::1]:8890`: (host, port)."""

    name = "host:port"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        host, colon, port = str(value).rpartition(":")
        if not colon or not port.isdigit() or int(port) > 65535:
            self.fail(f"{value!r} is not HOST:PORT, for example 127.0.0.1:8890", param, ctx)
        return host.strip("[]") or "127.0.0.1", int(port)


def specs(function: F) -> F:
    """One or more spec files or directories, made absolute."""
    return click.argument(
        "paths",
        metavar="PATH...",
        nargs=-1,
        required=True,
        type=click.Path(exists=True),
        callback=lambda _ctx, _param, value: tuple(os.path.abspath(path) for path in value),
    )(function)


def kept_history(function: F) -> F:
    """`history_age` (seconds) and `history_size` (bytes): how much of the audit trail is kept."""
    from agent.state.audit import MAX_AGE, MAX_BYTES

    for option in (
        click.option(
            "--history-size",
            type=Size(),
            default=MAX_BYTES,
            help="So much of the audit trail about files is kept. Default 64MiB, about two million files.",
        ),
        click.option(
            "--history-age",
            type=Duration(),
            default=MAX_AGE,
            help="The audit trail is kept for so long. Default 90d.",
        ),
    ):
        function = option(function)
    return function
