"""Completion of kinds and names: what the agent of the state directory has applied."""

from __future__ import annotations

import click

from agent.cli.options import default_state_dir
from agent.state.names import applied_names


def objects(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """`Mapping/dailies`."""
    return applied_names(ctx.params.get("state_dir") or default_state_dir(), incomplete)


def mappings(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """`dailies`."""
    return _of("Mapping/", ctx, param, incomplete)


def shares(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """`review`."""
    return _of("Share/", ctx, param, incomplete)


def kinds(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """`Mapping`."""
    from agent.specs.schemas import supported_kinds

    return [kind for kind in (*supported_kinds(), "Policy") if kind.lower().startswith(incomplete.lower())]


def _of(kind: str, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [name.removeprefix(kind) for name in objects(ctx, param, kind + incomplete)]
