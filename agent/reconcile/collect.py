"""Take in what became of the attempts in flight: per-file results into the ledger, ended attempts closed.

An attempt without an id is one whose creation was cut off. It is looked for by its tag: found, it is
adopted; not found, nothing was created.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import structlog

from agent.model.observed import FileOutcome, FileResult, ObservedTransfer, TransferState
from agent.model.outcome import NotFoundError
from agent.model.paths import is_below, parent
from agent.model.plan import Action, DeletePaths, TrashPaths
from agent.model.spec import Key, Kind
from agent.planning.pruning import mapping_roots
from agent.reconcile.audit import attempt_over, note_deletions, note_results
from agent.reconcile.context import Connected, Context
from agent.reconcile.kept import record
from agent.reconcile.renames import collect_renaming
from agent.reconcile.trash import collect_trashing
from agent.source.scan import EMPTY
from agent.state.attempts import Attempt

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Collected:
    """What came in for one mapping at one destination."""

    active: list[ObservedTransfer] = field(default_factory=list)
    delivered: int = 0
    failures: list[str] = field(default_factory=list)  # "path: why", or why a whole attempt ended
    ended: bool = False  # an attempt ended; what it did not deliver must be looked at again
    lost: bool = False  # the server forgot one: what it did and did not do, only a whole look can tell
    deleting: int = 0  # deletions on their way
    emptied: list[str] = field(default_factory=list)  # directories that deletions left empty and in place,
    # and what a renaming did not do: to be looked at again
    follow_up: tuple[Action, ...] = ()  # what renamings leave to be done at once


def collect(context: Context, connected: Connected, mapping: str, destination: str) -> Collected:
    """Raises UnreachableError when the server cannot be asked; then nothing is assumed."""
    found = Collected()
    attempts = context.state.attempts.of(mapping, destination)
    for attempt in _adopt(context, connected, list(attempts)):
        if attempt.operation == "delete":
            _collect_deletion(context, connected, attempt, found)
        elif attempt.operation in ("rename", "trash"):
            _collect_renaming(context, connected, attempt, found)
        else:
            _collect_transfer(context, connected, attempt, found)
    return found


def _adopt(context: Context, connected: Connected, attempts: list[Attempt]) -> list[Attempt]:
    """Attempts with an id; those without are found by their tag or closed."""
    unknown = [a for a in attempts if a.transfer_id is None]
    known = [a for a in attempts if a.transfer_id is not None]
    if not unknown:
        return known
    tagged = {
        t.tag.attempt: t
        for t in connected.engine.observe(context.state.agent_id).transfers
        if t.tag is not None
    }
    for attempt in unknown:
        transfer = tagged.get(attempt.number)
        if transfer is None or attempt.operation != "transfer":
            context.state.attempts.finish(attempt.number, "notCreated", "", context.clock.time())
            continue
        context.state.attempts.created(attempt.number, transfer.id, transfer.manifest_id)
        known.append(replace(attempt, transfer_id=transfer.id, manifest_id=transfer.manifest_id))
        log.info("transfer adopted", transfer=transfer.id, attempt=attempt.number, mapping=attempt.mapping)
    return known


def _collect_transfer(context: Context, connected: Connected, attempt: Attempt, found: Collected) -> None:
    transfer_id = attempt.transfer_id or ""
    # The state is read before the results: a transfer that is finished has all of its results.
    transfer = connected.engine.transfer(transfer_id)
    if connected.capabilities.file_results and transfer.state is not TransferState.LOST:
        try:
            _take_results(context, connected, attempt, found)
        except NotFoundError as error:  # removed between the two questions, with its destination
            transfer = replace(transfer, state=TransferState.LOST, error=str(error))
    elif transfer.state is TransferState.COMPLETE:
        _take_all(context, attempt, found)
    if not transfer.state.finished:
        found.active.append(_heirs(transfer, attempt))
        return
    _close(context, connected, attempt, transfer, found)


def _heirs(transfer: ObservedTransfer, attempt: Attempt) -> ObservedTransfer:
    """Whose it is our record says; the tag on the server says whose it was when it began."""
    key = str(Key(Kind.MAPPING, attempt.mapping))
    if transfer.tag is None or transfer.tag.spec == key or transfer.tag.attempt != attempt.number:
        return transfer
    return replace(transfer, tag=replace(transfer.tag, spec=key))


def _take_results(context: Context, connected: Connected, attempt: Attempt, found: Collected) -> None:
    cursor = attempt.cursor
    while True:
        results, after = connected.engine.results(attempt.transfer_id or "", cursor)
        if not results:
            return
        _settle(context, attempt, results, after, found)
        cursor = after


def _settle(
    context: Context, attempt: Attempt, results: tuple[FileResult, ...], cursor: int, found: Collected
) -> None:
    delivered = {r.path: r for r in results if r.outcome in (FileOutcome.DELIVERED, FileOutcome.SKIPPED)}
    vanished = [r.path for r in results if r.outcome is FileOutcome.VANISHED]
    with context.state.transaction():
        attempt = context.state.attempts.get(attempt.number) or attempt  # it may have been handed over
        context.state.uncertain.note(attempt.number, vanished, context.clock.time())
        planned = context.state.attempts.settle(
            attempt.number, [(r.path, r.path in delivered) for r in results], cursor
        )
        note_results(context, attempt, results, planned)
        record(context, attempt, planned, delivered)
        sizes = [
            (p, delivered[p].size or (s.size if s else 0)) for p, (s, _) in planned.items() if p in delivered
        ]
        sent = [(p, size) for p, size in sizes if delivered[p].outcome is FileOutcome.DELIVERED]
        _tell_later(context, attempt, sent)
    context.delivered.add(attempt.mapping, attempt.destination, sizes, context.clock.time())
    found.delivered += len(sizes)
    found.failures += _failures(results)


def _failures(results: tuple[FileResult, ...]) -> list[str]:
    """Each with its path, which some servers say themselves."""
    failed = ((r.path, r.error) for r in results if r.outcome is FileOutcome.FAILED)
    return [error if error.startswith(path + ":") else f"{path}: {error}" for path, error in failed]


def _tell_later(context: Context, attempt: Attempt, files: list[tuple[str, int]]) -> None:
    """In the transaction that records the delivery, so that no hook misses one."""
    spec = context.desired.mappings.get(attempt.mapping)
    if files and spec is not None and spec.hooks.on_delivered is not None:
        now = context.clock.time()
        context.state.hooks.gather(attempt.mapping, attempt.destination, attempt.revision, files, now)


def _take_all(context: Context, attempt: Attempt, found: Collected) -> None:
    """An engine without per-file results said `complete`: every file of the attempt was delivered."""
    left = context.state.attempts.left(attempt.number)
    results = tuple(FileResult(path, FileOutcome.DELIVERED) for path in left)
    _settle(context, attempt, results, attempt.cursor, found)


def _close(
    context: Context, connected: Connected, attempt: Attempt, transfer: ObservedTransfer, found: Collected
) -> None:
    found.ended = True
    if transfer.state is TransferState.ERROR and not found.failures:
        found.failures.append(transfer.error or "the transfer failed and gave no reason")
    if transfer.state is TransferState.LOST:
        found.lost = True
        log.warning("transfer lost", transfer=transfer.id, mapping=attempt.mapping)
    context.state.attempts.finish(attempt.number, str(transfer.state), transfer.error, context.clock.time())
    attempt_over(context, attempt, str(transfer.state), transfer.error)
    connected.engine.forget(transfer.id, attempt.manifest_id or transfer.manifest_id)
    log.info(
        "transfer ended",
        mapping=attempt.mapping,
        destination=attempt.destination,
        transfer=transfer.id,
        attempt=attempt.number,
        state=str(transfer.state),
        error=transfer.error or None,
        revision=attempt.revision,
    )


def _note_emptied(context: Context, attempt: Attempt, gone: list[str], kept: list[str]) -> list[str]:
    """A directory whose last file was deleted while the source still had it is now an empty one of ours:
    the ledger says so, and it goes when the source's goes."""
    spec = context.desired.mappings.get(attempt.mapping)
    roots = mapping_roots(spec) if spec is not None else ("/",)
    passed, emptied = {*gone, *kept, *roots}, []
    for path in gone:
        above = parent(path)
        if above in passed or not any(is_below(above, root) for root in roots):
            continue
        passed.add(above)
        if not context.state.ledger.has_under(attempt.mapping, attempt.destination, above):
            emptied.append(above)
    rows = [(path, EMPTY, "", attempt.number) for path in emptied]
    context.state.ledger.record(attempt.mapping, attempt.destination, rows, context.clock.time())
    return emptied


def _collect_deletion(context: Context, connected: Connected, attempt: Attempt, found: Collected) -> None:
    try:
        deletion = connected.engine.deletion(attempt.transfer_id or "")
    except NotFoundError:
        # The server was restarted and forgot: what is still there will be planned again.
        context.state.attempts.finish(attempt.number, "lost", "", context.clock.time())
        found.ended = found.lost = True
        return
    if not deletion.done:
        found.deleting += 1
        return
    gone = [r.path for r in deletion.results if r.outcome is FileOutcome.DELIVERED]
    # A directory that others use too is kept; it is no longer ours to speak of.
    kept = [r.path for r in deletion.results if r.outcome is FileOutcome.SKIPPED]
    with context.state.transaction():
        note_deletions(context, attempt, deletion.results)
        context.state.ledger.forget(attempt.mapping, attempt.destination, gone + kept)
        context.state.tombstones.drop(attempt.mapping, attempt.destination, gone + kept)
        found.emptied += _note_emptied(context, attempt, gone, kept)
        context.state.attempts.finish(attempt.number, "done", deletion.error, context.clock.time())
    attempt_over(context, attempt, "done", deletion.error)
    context.delivered.add_deleted(attempt.mapping, attempt.destination, len(gone))
    found.failures += _failures(deletion.results)
    if deletion.error:
        found.failures.append(deletion.error)
    found.ended = True
    log.info("deletion ended", mapping=attempt.mapping, destination=attempt.destination, deleted=len(gone))


def _collect_renaming(context: Context, connected: Connected, attempt: Attempt, found: Collected) -> None:
    """Files that have another path at the destination now: the new one, or one in the trash."""
    trash = attempt.operation == "trash"
    renamed = (collect_trashing if trash else collect_renaming)(context, connected, attempt)
    if not renamed.done:
        found.deleting += 1
        return
    found.ended = True
    found.failures += renamed.failures
    names = (attempt.mapping, attempt.destination)
    with context.state.transaction():
        found.emptied += _note_emptied(context, attempt, list(renamed.gone), list(renamed.directories))
        _tell_later(context, attempt, list(renamed.new))
    found.emptied += renamed.look
    if renamed.emptied:
        found.follow_up += (DeletePaths(*names, (), renamed.emptied),)
    if renamed.again:
        found.follow_up += (TrashPaths(*names, renamed.again, renamed.directories),)
    if trash:
        context.delivered.add_deleted(*names, len(renamed.gone))
    attempt_over(context, attempt, "done" if renamed.known else "lost", "")
