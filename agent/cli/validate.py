"""`lanesync validate PATH…`: every error of every file at once."""

from __future__ import annotations

import json
from typing import Any

import click

from agent.cli.gitoptions import checked_out, spec_source
from agent.cli.options import policy
from agent.cli.problems import DONE, INVALID
from agent.specs.errors import SpecError
from agent.specs.git.options import GitOptions
from agent.specs.load import Loaded, load
from agent.specs.policy import load_policy


@click.command("validate")
@spec_source
@policy
@click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.pass_context
def command(
    ctx: click.Context, paths: tuple[str, ...], git: GitOptions | None, policy: str, output: str
) -> None:
    """Check specs: files, and directories with everything below, or the newest commit of a repository.

    Errors go to standard output as FILE:LINE:COLUMN: PATH: MESSAGE, one a line; the summary goes to standard
    error. Nothing is contacted, and no source directory is looked at.

    Exit codes: 0 valid, 2 usage, 5 invalid.

    \b
    Example: lanesync validate specs
    Example: lanesync validate --git https://git.example.org/site.git --ref main
    """
    with checked_out(git) as checkout:
        paths = (checkout.specs,) if checkout is not None else paths
        loaded = load(paths, load_policy(policy, paths) if policy else None, checkout=checkout)
    invalid = bool(loaded.errors) or not loaded.positions
    if output == "json":
        click.echo(json.dumps(_document(loaded, invalid), indent=2))
    else:
        _print(loaded, paths)
    ctx.exit(INVALID if invalid else DONE)


def _print(loaded: Loaded, paths: tuple[str, ...]) -> None:
    for error in loaded.errors:
        click.echo(str(error))
    if loaded.omitted:
        click.echo(f"… and {loaded.omitted:,} more")
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    files = _count(len(loaded.files), "file")
    if loaded.errors:
        count = len(loaded.errors) + loaded.omitted
        click.echo(f"{_count(count, 'error')} in {files}", err=True)
    elif not loaded.positions:
        place = ", ".join(_shown(path) for path in paths)
        click.echo(
            f"no specs in {place}: a spec is a *.yaml or *.yml file; `lanesync init DIR` writes some",
            err=True,
        )
    else:
        click.echo(
            f"valid: {_count(len(loaded.positions), 'object')} in {files}, {loaded.revision}", err=True
        )


def _document(loaded: Loaded, invalid: bool) -> dict[str, Any]:
    return {
        "valid": not invalid,
        "revision": loaded.revision,
        "files": [_shown(name) for name in loaded.files],
        "objects": [
            {"object": str(key), "position": _shown(at)} for key, at in sorted(loaded.positions.items())
        ],
        "errors": [_error(error) for error in loaded.errors],
        "omittedErrors": loaded.omitted,
        "warnings": [_error(warning) for warning in loaded.warnings],
    }


def _error(error: SpecError) -> dict[str, Any]:
    return {
        "file": _shown(error.file),
        "line": error.line,
        "column": error.column,
        "path": error.path,
        "message": error.message,
    }


def _shown(name: str) -> str:
    """A file name as text: bytes that are not UTF-8 as escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
