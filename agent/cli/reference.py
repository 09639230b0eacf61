"""The help of every command as one page: `python -m agent.cli.reference > docs/cli-reference.md`."""

from __future__ import annotations

import click

from agent.cli.main import VERBS, lanesync

WIDTH = 96
HEAD = """\
# Every command's help

Made from the commands themselves; `lanesync VERB --help` prints the same. What the verbs are for, exit codes
and the documents that they print: [cli.md](cli.md).
"""


def command_reference() -> str:
    """Markdown: a section for each verb, and for each command below it."""
    settings = {**lanesync.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    root = click.Context(lanesync, info_name="lanesync", **settings)
    parts = [HEAD]
    for verb in VERBS:
        parts += _sections(lanesync, verb, root, 2)
    return "\n".join(parts)


def _sections(group: click.Group, name: str, parent: click.Context, level: int) -> list[str]:
    command = group.get_command(parent, name)
    if command is None:
        return []
    context = click.Context(
        command, info_name=name, parent=parent, terminal_width=WIDTH, max_content_width=WIDTH
    )
    parts = [
        f"{'#' * level} `{context.command_path}`\n\n```text\n{command.get_help(context).rstrip()}\n```\n"
    ]
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            parts += _sections(command, below, context, level + 1)
    return parts


if __name__ == "__main__":
    click.echo(command_reference(), nl=False)
