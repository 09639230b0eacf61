"""`lanesync init DIR`: a commented starter repository."""

from __future__ import annotations

import os

import click

from agent.cli.problems import FailedError
from agent.specs.starter import starter_files


@click.command("init")
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False))
def command(directory: str) -> None:
    """Write a commented starter repository to DIR: one destination, one mapping, all else as comments.

    Beside the specs: a schema for editors, a pre-commit hook, and workflows for GitHub and GitLab that check
    each change and post its plan. Nothing that exists is written over.

    \b
    Example: lanesync init my-specs
    """
    files = starter_files()
    taken = [name for name in files if os.path.lexists(os.path.join(directory, name))]
    if taken:
        raise FailedError(
            f"{directory} already has {', '.join(taken)}, and nothing was written; name another directory"
        )
    try:
        for name, content in files.items():
            path = os.path.join(directory, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "x", encoding="utf-8") as file:
                file.write(content)
    except OSError as error:
        raise FailedError(f"cannot write {error.filename}: {error.strerror}") from error
    click.echo(f"wrote {len(files)} files to {directory}")
    click.echo(f"next: edit {directory}/specs/*.yaml, then run `lanesync validate {directory}`")
