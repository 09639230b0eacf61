"""`lanesync schema [KIND]`: the JSON Schema of a kind, or one for all kinds; or a kind's field reference."""

from __future__ import annotations

import json

import click

from agent.cli import names
from agent.specs.errors import nearest
from agent.specs.reference import field_reference
from agent.specs.schemas import Schema, combined, policy_schema, schemas, supported_kinds


@click.command("schema")
@click.argument("kind", required=False, shell_complete=names.kinds)
@click.option(
    "--output",
    type=click.Choice(["json", "markdown"]),
    default="json",
    show_default=True,
    help="markdown: the fields, as in the documentation.",
)
def command(kind: str | None, output: str) -> None:
    """Print the JSON Schema (draft 2020-12) of KIND, or without KIND one for all kinds. `policy` is the file
    of --policy.

    For completion in an editor:

    \b
    lanesync schema > lanesync.schema.json
    # yaml-language-server: $schema=lanesync.schema.json     (first line of each spec)
    """
    kinds = supported_kinds()
    if kind is None:
        if output == "markdown":
            raise click.UsageError(f"name a kind: {', '.join(kinds)}")
        click.echo(json.dumps(combined(), indent=2, ensure_ascii=False))
        return
    if kind.lower() == "policy":
        _show(policy_schema(), output)
        return
    known = {name.lower(): name for name in kinds}.get(kind.lower())
    if known is None:
        raise click.UsageError(f"there is no kind {kind}; kinds are {', '.join(kinds)}{nearest(kind, kinds)}")
    _show(schemas()[known], output)


def _show(schema: Schema, output: str) -> None:
    if output == "markdown":
        title = "Writing a policy" if schema is policy_schema() else "Writing a spec"
        click.echo(field_reference(schema, title), nl=False)
    else:
        click.echo(json.dumps(schema, indent=2, ensure_ascii=False))
