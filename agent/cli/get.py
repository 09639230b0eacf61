"""`lanesync get`: the applied specs, and where they come from."""

from __future__ import annotations

import json
from typing import Any

import click
import yaml

from agent.cli import names
from agent.cli.lines import moment
from agent.cli.options import state_dir
from agent.cli.verbs import tell
from agent.model.printable import printable

Document = dict[str, Any]


@click.command()
@click.argument("name", metavar="[KIND[/NAME]]", shell_complete=names.objects, default="")
@click.option("--output", type=click.Choice(["text", "yaml", "json"]), default="text", show_default=True)
@state_dir
def command(name: str, output: str, state_dir: str) -> int:
    """The specs that are in force: of one object, of a kind, or of all, and the file and line of each.

    `--output yaml` shows every field with its default filled in; durations are seconds, rates kbit/s.

    \b
    Example: lanesync get mappings
    Example: lanesync get Mapping/dailies --output yaml
    """
    found = tell(state_dir, f"specs/{name}" if name else "specs", lambda service: service.get(name))
    whole = found["specs"][0] if "/" in name else found
    if output == "json":
        click.echo(json.dumps(whole, ensure_ascii=True, indent=2))
    elif output == "yaml":
        click.echo(yaml_text(whole), nl=False)
    else:
        click.echo("\n".join(_lines(found["specs"])))
    return 0


def yaml_text(document: Any) -> str:
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=False, width=100))


def _lines(specs: list[Document]) -> list[str]:
    names = [f"{spec['kind']}/{spec['name']}" for spec in specs]
    column = max((len(name) for name in names), default=0)
    return [
        printable(f"{name:<{column}}  {where(spec)}") for name, spec in zip(names, specs, strict=True)
    ] or ["no specs are in force"]


def where(spec: Document) -> str:
    """Where a spec comes from, and since when it is applied."""
    place = spec["from"] or "made by the agent"
    if spec["revision"] is None:
        return f"{place}, not applied yet"
    state = f"applied {moment(spec['appliedAt'])}, {spec['revision']}"
    return f"{place}, {state}" + ("" if spec["applied"] else "; a newer version is not applied yet")
