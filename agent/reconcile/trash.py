"""`deletions.trash`: what would be deleted is moved below `.lanesync-trash` at the destination instead."""

from __future__ import annotations

import hashlib

import structlog

from agent.engines.port import Engine, ReceiverCredentials
from agent.model.change import FileStat
from agent.model.observed import FileOutcome
from agent.model.outcome import NotFoundError
from agent.model.plan import DeletePaths, TrashPaths
from agent.model.spec import TRASH
from agent.reconcile.context import Connected, Context
from agent.reconcile.renames import Renamed, note_left_empty
from agent.state.attempts import Attempt
from agent.state.audit import FileAct

log = structlog.get_logger(__name__)

MOST_NAMES = 100
"""Numbered days that are tried for one path."""


def start_trashing(
    context: Context,
    engine: Engine,
    destination_id: str,
    action: TrashPaths,
    credentials: ReceiverCredentials | None,
) -> None:
    """The paths are in flight from here on. PermanentError when the server refuses: nothing is deleted."""
    paths: list[tuple[str, str, FileStat | None]] = [(path, place, None) for path, place in action.moves]
    paths += [(directory, "", None) for directory in action.directories]
    attempt = context.state.attempts.open(
        action.mapping,
        action.destination,
        "trash",
        hashlib.sha256(repr(paths).encode("utf-8", "surrogateescape")).hexdigest()[:16],
        context.desired.revision,
        paths,
        context.clock.time(),
    )
    started = engine.start_renaming(destination_id, action.moves, credentials)
    context.state.attempts.created(attempt.number, started, "")
    log.info(
        "moving to the trash started",
        mapping=action.mapping,
        destination=action.destination,
        attempt=attempt.number,
        files=len(action.moves),
        revision=context.desired.revision,
    )


def collect_trashing(context: Context, connected: Connected, attempt: Attempt) -> Renamed:
    """Raises UnreachableError when the server cannot be asked."""
    left = context.state.attempts.left(attempt.number)
    names = (attempt.mapping, attempt.destination)
    try:
        state = connected.engine.renaming(attempt.transfer_id or "")
    except NotFoundError:
        # What is in the trash already will be found vanished when it is asked for again.
        context.state.attempts.finish(attempt.number, "lost", "", context.clock.time())
        return Renamed(look=tuple(left), known=False)
    if not state.done:
        return Renamed(done=False)
    path_of = {place: path for path, (_, place) in left.items() if place}
    directories = tuple(path for path, (_, place) in left.items() if not place)
    outcomes = {result.path: result for result in state.results}
    gone: list[str] = []
    again: list[tuple[str, str]] = []
    failures = [state.error] if state.error else []
    acts: list[FileAct] = []
    for place, path in path_of.items():
        result = outcomes.get(place)
        outcome = result.outcome if result is not None else FileOutcome.FAILED
        error = result.error if result is not None else state.error
        if outcome in (FileOutcome.DELIVERED, FileOutcome.VANISHED):
            gone.append(path)
            acts.append(FileAct("delete", path, detail=place))
        elif outcome is FileOutcome.SKIPPED and (next_place := _next(path, place)):
            again.append((path, next_place))
        else:
            failures.append(f"{path}: {error or 'there is something at its place in the trash'}")
            acts.append(FileAct("fail", path, error=error, detail=place))
    with context.state.transaction():
        context.state.audit.add_files(*names, attempt.number, attempt.revision, acts, context.clock.time())
        context.state.ledger.forget(*names, gone)
        context.state.tombstones.drop(*names, gone)
        context.state.attempts.finish(attempt.number, "done", state.error, context.clock.time())
        emptied = () if again else note_left_empty(context, attempt, directories)
    log.info("moved to the trash", mapping=names[0], destination=names[1], files=len(gone))
    look = () if not failures else tuple(path_of.values())
    return Renamed(
        gone=tuple(gone),
        look=look,
        emptied=emptied,
        directories=directories,
        again=tuple(again),
        failures=tuple(failures),
    )


def _next(path: str, place: str) -> str:
    """The same day with the next number; empty when there were enough."""
    day = place.removeprefix(f"/{TRASH}/").removesuffix(path)
    date, _, number = day.partition(".")
    following = int(number or 1) + 1
    return f"/{TRASH}/{date}.{following}{path}" if following <= MOST_NAMES else ""


def deleted_files(action: DeletePaths | TrashPaths) -> int:
    return len(action.moves) if isinstance(action, TrashPaths) else len(action.files)
