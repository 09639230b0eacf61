"""Before the first delivery: what the destination has already, and is like the source, is not sent again.

The ledger may have been lost, the agent or the mapping may be new. A file is taken over only when it is
surely the source's: size and time are equal (and the content, where `verify.mode: checksum` asks for it) and
the time is not of just now, when it could be written once more without showing. What is taken over by size
and time alone has no digest in the ledger. A link is taken over when it says the same.
"""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field

import structlog

from agent.model.change import FileKind, FileStat
from agent.model.condition import Reason
from agent.model.known import Known, Origin
from agent.model.observed import Capabilities, FarFile
from agent.model.outcome import LaneSyncError, RetryableError, UnreachableError
from agent.model.paths import destination_prefixes
from agent.model.spec import DestinationSpec, Key, Kind, MappingSpec, VerifyMode
from agent.model.units import format_size
from agent.planning.drift import Rules, difference, rules_of
from agent.planning.words import count
from agent.reconcile.act import Scene
from agent.reconcile.context import Context
from agent.reconcile.listing import Listing
from agent.reconcile.origins import Reader, look_up
from agent.source.links import link_digest
from agent.state.audit import Act, FileAct

log = structlog.get_logger(__name__)

RACY_SECONDS = 2.0
"""A file that is younger may change once more and keep its size and time."""

TURN_SECONDS = 0.5
MAX_REFUSALS = 5
"""So often in a row a destination may fail to tell what it has before everything is sent instead."""


@dataclass(slots=True)
class Adoption:
    listing: Listing
    reader: Reader
    files: int = 0
    links: int = 0
    bytes: int = 0
    refusals: int = 0
    pending: deque[tuple[str, FileStat, FarFile]] = field(default_factory=deque)
    """Source path, version and what is there: contents that are still to be compared."""


def left_to_adopt(context: Context, spec: MappingSpec, destination: str) -> tuple[str, ...]:
    """The paths of the mapping below which nothing is known of what is there: all at first, if nothing is on
    its way; then those whose sources were not there to be compared with."""
    state, names = context.state, (spec.name, destination)
    if state.looks.adopted(*names):
        return ()
    begun = state.looks.get(*names, "adopt")
    if begun is not None:
        return tuple(prefix for prefix in destination_prefixes(spec) if prefix in begun["left"])
    if state.ledger.count(*names) or state.attempts.of(*names):
        return ()
    return destination_prefixes(spec)


def comparable(spec: MappingSpec, prefixes: tuple[str, ...]) -> tuple[str, ...]:
    """Those whose source is there. An empty directory may be a disk that is not mounted yet: it waits."""
    sources = dict(zip(destination_prefixes(spec), spec.paths, strict=True))
    return tuple(prefix for prefix in prefixes if _holds_something(sources[prefix].source))


def _holds_something(source: str) -> bool:
    try:
        with os.scandir(source) as entries:
            return any(True for _ in entries)
    except NotADirectoryError:
        return True
    except OSError:
        return False


def begin(context: Context, spec: MappingSpec, can: Capabilities, prefixes: tuple[str, ...]) -> Adoption:
    """Where a server tells no digests, size and time decide; the mapping's conditions say so."""
    checksum = spec.verify.mode is VerifyMode.CHECKSUM and can.digests
    return Adoption(Listing(prefixes, checksum), Reader(context.clock))


def adopt(scene: Scene, spec: MappingSpec, adoption: Adoption) -> bool:
    """One turn; True when all that is there has been looked at. Raises what asking the destination raises."""
    until = scene.context.clock.monotonic() + TURN_SECONDS
    rules = rules_of(spec, scene.destination)
    while True:
        if not _compare_contents(scene, spec, adoption, until):
            return False
        if adoption.listing.done:
            return True
        if scene.context.clock.monotonic() >= until:
            return False
        page = adoption.listing.page(scene)
        if page is None:
            return False
        adoption.refusals = 0
        _take(scene, spec, adoption, rules, page.files)


def _take(
    scene: Scene, spec: MappingSpec, adoption: Adoption, rules: Rules, files: tuple[FarFile, ...]
) -> None:
    """Record what is surely the source's; what only its content can tell is left pending."""
    sources = look_up(scene.context, spec, (far.path for far in files))
    rows: list[tuple[str, FileStat, str, int]] = []
    for far in files:
        source, found = sources.get(far.path, ("", None))
        if found is None or found.stat is None:
            continue
        if far.kind is FileKind.SYMLINK:
            rows += _link(source, found.stat, far)
            continue
        if not _alike(found.stat, far, rules, scene.context):
            continue
        if far.kind is FileKind.FILE and adoption.listing.checksum:
            adoption.pending.append((source, found.stat, far))
        elif rules.times or far.kind is not FileKind.FILE:
            rows.append((far.path, found.stat, "", 0))
    _record(scene, spec, adoption, rows)


def _link(source: str, stat: FileStat, far: FarFile) -> list[tuple[str, FileStat, str, int]]:
    """Servers of an older version do not tell what a link says: it is cheap to send."""
    if stat.kind is not FileKind.SYMLINK or not far.digest or stat.size != far.size:
        return []
    same = link_digest(source, stat) == far.digest
    return [(far.path, stat, far.digest, 0)] if same else []


def _alike(stat: FileStat, far: FarFile, rules: Rules, context: Context) -> bool:
    settled = context.clock.time() - max(RACY_SECONDS, rules.tolerance_ns / 1e9)
    if far.kind is FileKind.FILE and stat.mtime_ns / 1e9 > settled:
        return False
    return not difference(Known(far.path, stat), far, rules)


def _compare_contents(scene: Scene, spec: MappingSpec, adoption: Adoption, until: float) -> bool:
    """False when the turn is over first."""
    rows = []
    while adoption.pending:
        source, stat, far = adoption.pending[0]
        ours = adoption.reader.digest(source, stat, until)
        if ours is None:
            break
        adoption.pending.popleft()
        if ours and ours == far.digest:
            rows.append((far.path, stat, ours, 0))
    _record(scene, spec, adoption, rows)
    return not adoption.pending


def _record(
    scene: Scene, spec: MappingSpec, adoption: Adoption, rows: list[tuple[str, FileStat, str, int]]
) -> None:
    if not rows:
        return
    now = scene.context.clock.time()
    acts = [FileAct("adopt", path, stat.size, digest) for path, stat, digest, _ in rows]
    state, names = scene.context.state, (spec.name, scene.destination.name)
    with state.transaction():
        state.audit.add_files(*names, None, scene.context.desired.revision, acts, now)
        state.ledger.record(*names, rows, now, Origin.ADOPTED)
    adoption.files += sum(stat.kind is FileKind.FILE for _, stat, _, _ in rows)
    adoption.links += sum(stat.kind is FileKind.SYMLINK for _, stat, _, _ in rows)
    adoption.bytes += sum(stat.size for _, stat, _, _ in rows if stat.kind is FileKind.FILE)


def finish(context: Context, spec: MappingSpec, destination: DestinationSpec, adoption: Adoption) -> bool:
    """Remembered, so that it is not done again; told when there was something. True when nothing is left."""
    adoption.reader.close()
    now, looks, names = context.clock.time(), context.state.looks, (spec.name, destination.name)
    before = left_to_adopt(context, spec, destination.name) or destination_prefixes(spec)
    left = [prefix for prefix in before if prefix not in adoption.listing.directories]
    with context.state.transaction():
        if left:
            looks.put(*names, "adopt", {"left": left}, now)
        else:
            looks.set_adopted(*names, now)
            looks.drop(*names, "adopt")
    if adoption.files or adoption.links:
        _tell(context, spec, destination, adoption, now)
    return not left


def _tell(
    context: Context, spec: MappingSpec, destination: DestinationSpec, adoption: Adoption, now: float
) -> None:
    key, revision = Key(Kind.MAPPING, spec.name), context.desired.revision
    files, links = f"{count(adoption.files, 'file')} ({format_size(adoption.bytes)})", adoption.links
    found = " and ".join([files] * bool(adoption.files) + [count(links, "link")] * bool(links))
    text = f"adopted {found} that {destination.name} had already and that are like the source"
    log.info("adopted", mapping=spec.name, destination=destination.name, files=adoption.files, links=links)
    context.state.events.tell(now, key, "Normal", "Adopted", text, revision)
    context.state.audit.add(
        Act(
            now,
            str(key),
            "adopt",
            revision,
            destination.name,
            files=adoption.files,
            bytes=adoption.bytes,
            reason=text,
        )
    )


def give_up(context: Context, spec: MappingSpec, destination: DestinationSpec, error: LaneSyncError) -> None:
    """It will not tell what it has: everything is sent, as to an empty one."""
    now, key = context.clock.time(), Key(Kind.MAPPING, spec.name)
    text = f"{error}; so everything is sent to {destination.name}, also what it may have"
    log.warning("not adopted", mapping=spec.name, destination=destination.name, why=str(error))
    context.state.events.tell(now, key, "Warning", str(Reason.NOT_LISTED), text, context.desired.revision)
    context.state.looks.set_adopted(spec.name, destination.name, now)


def refused(error: LaneSyncError, adoption: Adoption) -> bool:
    """Whether it is of no use to ask once more. A destination that does not answer at all is waited for."""
    if isinstance(error, UnreachableError) or "did not answer" in str(error):
        return False
    adoption.refusals += 1
    return not isinstance(error, RetryableError) or adoption.refusals >= MAX_REFUSALS


def progress(adoption: Adoption, destination: str) -> str:
    seen = f" ({count(adoption.listing.seen, 'path')} so far)" if adoption.listing.seen else ""
    return f"looks at what {destination} has already{seen}"
