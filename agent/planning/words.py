"""One line for each kind of action: what it does and to what."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from agent.model.plan import (
    Action,
    CancelTransfer,
    CreateDestination,
    DeleteDestination,
    DeletePaths,
    ForgetPaths,
    RenamePaths,
    ResumeTransfer,
    RetagDestination,
    SetDefaults,
    SetLanes,
    SetSendRate,
    SetTransferPriority,
    SetTransferRate,
    StartTransfer,
    SuspendTransfer,
    TrashPaths,
)
from agent.model.spec import Lane
from agent.model.units import format_duration, format_rate, format_size


@singledispatch
def describe(action: Action) -> str:
    """One line that says what an action does and to what."""
    raise TypeError(f"no words for {type(action).__name__}")


@describe.register
def _(action: CreateDestination) -> str:
    rate = "" if action.send_rate_max is None else f", at most {format_rate(action.send_rate_max)}"
    place = f"{action.address}:{action.port}" if action.port else action.address
    relay = f" through relay {action.route.relay_address}" if action.route.relay_address else ""
    where = f"{place}{relay} from server {action.server}"
    return f"+ create  destination {action.destination}: {where}, lanes {_lanes(action.lanes)}{rate}"


@describe.register
def _(action: RetagDestination) -> str:
    return f"~ update  destination {action.destination}: mark the applied spec"


@describe.register
def _(action: SetLanes) -> str:
    before = "" if action.before is None else f"{_lanes(action.before)} -> "
    return f"~ update  destination {action.destination}: lanes {before}{_lanes(action.lanes)}"


@describe.register
def _(action: SetSendRate) -> str:
    change = f"{_rate(action.before)} -> {_rate(action.send_rate_max)}"
    return f"~ update  destination {action.destination}: send rate {change}"


@describe.register
def _(action: SetDefaults) -> str:
    defaults = action.defaults
    words = (
        f"lane {defaults.lane}, priority {defaults.priority}, overwrite {defaults.overwrite},"
        f" checkpoint every {format_duration(defaults.checkpoint_interval)}"
    )
    return f"~ update  destination {action.destination}: transfer defaults {words}"


@describe.register
def _(action: DeleteDestination) -> str:
    return f"- delete  destination {action.destination}: {action.reason}"


@describe.register
def _(action: StartTransfer) -> str:
    new = action.created
    kinds = [f"{new} new"] if new else []
    if new < action.paths:
        kinds.append(f"{action.paths - new} changed")
    rate = "" if action.send_rate_max is None else f", at most {format_rate(action.send_rate_max)}"
    return (
        f"{'~' if not new else '+'} {'retry ' if action.retry else 'send  '}  {way(action)}:"
        f" {', '.join(kinds)}, {format_size(action.total_bytes)},"
        f" lane {action.lane}, priority {action.priority}{rate}"
    )


@describe.register
def _(action: ResumeTransfer) -> str:
    return f"~ resume  {way(action)}: transfer {action.transfer_id}"


@describe.register
def _(action: SuspendTransfer) -> str:
    return f"~ suspend {way(action)}: transfer {action.transfer_id}, {action.reason}"


@describe.register
def _(action: CancelTransfer) -> str:
    return f"- cancel  {way(action)}: transfer {action.transfer_id}, {action.reason}"


@describe.register
def _(action: SetTransferPriority) -> str:
    place = f"lane {action.lane}, priority {action.priority}"
    return f"~ update  {way(action)}: transfer {action.transfer_id} to {place}"


@describe.register
def _(action: SetTransferRate) -> str:
    return f"~ update  {way(action)}: transfer {action.transfer_id} to {_rate(action.send_rate_max)}"


@describe.register
def _(action: DeletePaths) -> str:
    parts = [count(len(action.files), "file")] if action.files else []
    if action.directories:
        parts.append(f"{count(len(action.directories), 'directory', 'directories')} if empty")
    return f"- delete  {way(action)}: {', '.join(parts)}"


@describe.register
def _(action: RenamePaths) -> str:
    saved = f"{format_size(action.total_bytes)} not sent again"
    return f"~ rename  {way(action)}: {count(len(action.renames), 'file')}, {saved}"


@describe.register
def _(action: TrashPaths) -> str:
    parts = [count(len(action.moves), "file")] if action.moves else []
    if action.directories:
        parts.append(f"{count(len(action.directories), 'directory', 'directories')} deleted if empty")
    return f"- trash   {way(action)}: {', '.join(parts)}"


@describe.register
def _(action: ForgetPaths) -> str:
    return f"~ forget  {way(action)}: {count(len(action.paths), 'path')} in the ledger only"


def way(action: Any) -> str:
    return f"{action.mapping} -> {action.destination}"


def _lanes(lanes: tuple[Lane, ...]) -> str:
    return " ".join(f"{lane.name} {lane.share * 100:.4g}%" for lane in lanes)


def _rate(rate: float | None) -> str:
    return "unlimited" if rate is None else format_rate(rate)


def count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
