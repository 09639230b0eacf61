"""What a reconcile writes into the audit trail and tells as events, beside what attempts write themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agent.model.change import FileStat
from agent.model.observed import FileOutcome, FileResult
from agent.model.plan import (
    Action,
    CreateDestination,
    DeleteDestination,
    DeletePaths,
    ResumeTransfer,
    RetagDestination,
    SetDefaults,
    SetLanes,
    SetSendRate,
    StartTransfer,
    SuspendTransfer,
)
from agent.model.printable import printable
from agent.model.spec import Key, Kind
from agent.model.units import format_size
from agent.planning.words import count, describe
from agent.reconcile.context import Context
from agent.state.attempts import Attempt
from agent.state.audit import Act, FileAct

_OBJECT_ACTS: dict[type[Action], str] = {
    CreateDestination: "create",
    SetLanes: "update",
    SetSendRate: "update",
    SetDefaults: "update",
    RetagDestination: "update",
    DeleteDestination: "delete",
    SuspendTransfer: "suspend",
    ResumeTransfer: "resume",
}
_FAILED = (FileOutcome.FAILED, FileOutcome.VANISHED)


def action_done(context: Context, action: Action) -> None:
    """After an action was carried out. What an attempt does is written when it ends."""
    verb = _OBJECT_ACTS.get(type(action))
    now, revision = context.clock.time(), context.desired.revision
    mapping: str = getattr(action, "mapping", "")
    destination: str = getattr(action, "destination", "")
    key = Key(Kind.MAPPING, mapping) if mapping else Key(Kind.DESTINATION, destination)
    if verb is not None:
        said = printable(describe(action)).partition(": ")[2]
        context.state.audit.add(
            Act(now, str(key), verb, revision, destination if mapping else "", reason=said)
        )
    if isinstance(action, StartTransfer):
        size = format_size(action.total_bytes)
        text = f"{count(len(action.changes), 'path')} ({size}) to {destination}, lane {action.lane}"
        context.state.events.tell(now, key, "Normal", "TransferStarted", text, revision)
    elif isinstance(action, DeletePaths):
        text = f"{count(len(action.files) + len(action.directories), 'path')} at {destination}"
        context.state.events.tell(now, key, "Normal", "DeletionStarted", text, revision)


def attempt_over(context: Context, attempt: Attempt, outcome: str, error: str) -> None:
    """An event; the audit trail has it already."""
    what = "Transfer" if attempt.operation == "transfer" else attempt.operation.capitalize()
    failed = bool(error) or outcome in ("error", "lost", "refused")
    text = f"attempt {attempt.number} at {attempt.destination}: {outcome}"
    text += f", {error}" if error else f", {count(attempt.files, 'path')}"
    reason = f"{what}{'Failed' if failed else 'Ended'}"
    key = Key(Kind.MAPPING, attempt.mapping)
    now, level = context.clock.time(), "Warning" if failed else "Normal"
    context.state.events.tell(now, key, level, reason, text, attempt.revision)


def note_results(
    context: Context,
    attempt: Attempt,
    results: Iterable[FileResult],
    planned: Mapping[str, tuple[FileStat | None, str]],
) -> None:
    """What became of files, in the transaction that records them and before the ledger has them."""
    results = list(results)
    names = [r.path for r in results if r.path in planned]
    known = context.state.ledger.known(attempt.mapping, attempt.destination, names)
    files = []
    for result in results:
        if result.outcome is FileOutcome.SKIPPED:
            files.append(FileAct("skip", result.path, result.size, "", result.error))
        elif result.outcome in _FAILED:
            why = result.error or "it was gone when its turn came"
            files.append(FileAct("fail", result.path, result.size, "", why))
        elif result.path in planned:
            stat = planned[result.path][0]
            size = result.size or (stat.size if stat is not None else 0)
            action = "update" if result.path in known else "create"
            files.append(FileAct(action, result.path, size, result.digest))
    _add(context, attempt, files)


def note_deletions(context: Context, attempt: Attempt, results: Iterable[FileResult]) -> None:
    """Before the attempt is closed."""
    acts = {FileOutcome.DELIVERED: "delete", FileOutcome.SKIPPED: "skip"}
    _add(context, attempt, [FileAct(acts.get(r.outcome, "fail"), r.path, error=r.error) for r in results])


def _add(context: Context, attempt: Attempt, files: list[FileAct]) -> None:
    now = context.clock.time()
    names = (attempt.mapping, attempt.destination, attempt.number, attempt.revision)
    context.state.audit.add_files(*names, files, now)


def note_asked(
    context: Context, action: str, key: Key | None, who: str, request: str, reason: str = ""
) -> None:
    """Something that a person asked for."""
    context.state.audit.add(
        Act(
            context.clock.time(),
            str(key) if key is not None else "",
            action,
            context.desired.revision,
            who=who or "unknown",
            reason=reason,
            request=request,
        )
    )


def note_revision(context: Context, revision: str, added: int, changed: int, removed: int) -> None:
    """Specs that took force."""
    text = f"{added} added, {changed} changed, {removed} removed"
    now = context.clock.time()
    context.state.audit.add(Act(now, "", "revision", revision, reason=text))
    context.state.events.append(now, None, "Normal", "RevisionInForce", f"{revision}: {text}", revision)
