"""Receipts (ASC MHL) of one mapping at one destination: written once it is in sync, and delivered like files.

A generation is written into the state directory, remembered, and sent as a mapping of its own name, so that
attempts, results and crashes are dealt with as for every file. Manifests go first and the chain that names
them afterwards. Nothing of it is ever deleted.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator
from dataclasses import replace

import structlog

import agent
from agent.model.change import Change, ChangeKind, FileKind, FileStat
from agent.model.condition import ConditionType, Reason
from agent.model.known import Origin
from agent.model.outcome import Done, RetryableError
from agent.model.paths import join, parent
from agent.model.plan import Plan, StartTransfer
from agent.model.spec import MappingSpec, Overwrite
from agent.planning.effective import effective
from agent.planning.receipts import (
    C4,
    CHAIN,
    FOLDER,
    Creator,
    Delivered,
    Generation,
    can_be_listed,
    chain,
    folders,
    manifest,
    manifest_name,
    owner_name,
)
from agent.planning.words import count
from agent.reconcile.act import execute
from agent.reconcile.collect import collect
from agent.reconcile.context import Context
from agent.reconcile.delivery import judge
from agent.reconcile.one_delivery import Delivery
from agent.reconcile.report import Report

log = structlog.get_logger(__name__)

_IGNORED = frozenset({FOLDER, ".DS_Store"})
"""Names that no manifest lists: readers of the format pass them over."""


def keep_receipts(context: Context, spec: MappingSpec, delivery: Delivery) -> None:
    """One step of a mapping's reconcile, after it has acted. What is on its way counts as in flight."""
    if not folders(spec):
        delivery.memory.receipt_limits = ()
    if not folders(spec) or not delivery.surveys:
        return
    if not delivery.live_scene.connected.capabilities.file_results:
        return
    found, memory = delivery.found, delivery.memory
    name, destination = owner_name(spec.name), delivery.destination.name
    collected = collect(context, delivery.live_scene.connected, name, destination)
    if collected.failures:
        raise RetryableError(f"receipt: {collected.failures[0]}")
    if delivery.surveyed is not None or delivery.collected.ended or collected.ended:
        memory.receipt_due = True
    settled = isinstance(judge(found, context.clock.time()), Done)
    if settled and memory.receipt_due and not context.state.attempts.of(name, destination):
        keeper = _Keeper(context, spec, delivery)
        memory.receipt_limits = keeper.keep()
        memory.receipt_due = keeper.sent
    found.active += tuple(collected.active)
    found.in_flight += context.state.attempts.in_flight_count(name, destination)


def report_receipts(deliveries: list[Delivery], report: Report) -> None:
    for text in dict.fromkeys(limit for d in deliveries for limit in d.memory.receipt_limits):
        report.add(ConditionType.LIMITED, Reason.RECEIPT_INCOMPLETE, text)


def hand_over_receipts(context: Context, old: str, new: str, destination: str) -> None:
    """The histories of a mapping that has another name now go on under it."""
    if context.state.receipts.hand_over(old, new, destination):
        context.state.ledger.hand_over(owner_name(old), owner_name(new), destination)
        context.state.attempts.hand_over(owner_name(old), owner_name(new), destination)


class _Keeper:
    def __init__(self, context: Context, spec: MappingSpec, delivery: Delivery) -> None:
        self._context, self._spec, self._delivery = context, spec, delivery
        self._destination = delivery.destination.name
        self._name = owner_name(spec.name)
        self.sent = False

    def keep(self) -> tuple[str, ...]:
        """Write what is new, send what is not there yet; what cannot be done, in words."""
        limits: list[str] = []
        manifests: list[Change] = []
        chains: list[Change] = []
        for folder in folders(self._spec):
            if self._context.state.ledger.has_under(self._spec.name, self._destination, folder):
                limits.append(f"{folder} is delivered from the source: no receipt is written there")
                continue
            self._write_new(folder)
            if unlisted := self._unlisted(folder):
                limits.append(unlisted)
            some, foreign = self._unsent(folder)
            manifests += [change for change in some if not change.path.endswith(CHAIN)]
            chains += [change for change in some if change.path.endswith(CHAIN)]
            if foreign:
                limits.append(f"{join(folder, CHAIN)} is of a history that is not ours, and stays as it is")
        self._send(manifests or chains)
        return tuple(limits)

    def _unlisted(self, folder: str) -> str:
        number = self._context.state.receipts.unlisted(self._spec.name, self._destination, parent(folder))
        if not number:
            return ""
        return f"{count(number, 'file')} below {parent(folder)} without a known digest: not in the receipt"

    # -- writing

    def _write_new(self, folder: str) -> None:
        """A generation of what no generation lists."""
        store, root = self._context.state.receipts, parent(folder)
        new = store.new(self._spec.name, self._destination, root)
        first = next(new, None)
        if first is None:
            return
        now = self._context.clock.time()
        known = store.generations(self._spec.name, self._destination, root)
        number = known[-1].number + 1 if known else 1
        name = manifest_name(number, self._spec.name, now)
        listing = _Listing(first, new)
        identity = self._write(folder, name, manifest(iter(listing), self._creator(now)))
        generation = Generation(number, name, identity) if listing.listed else None
        if generation is not None:
            self._write(folder, CHAIN, iter([chain((*known, generation))]))
        else:
            os.unlink(os.path.join(self._directory(folder), name))
        store.add(self._spec.name, self._destination, root, generation, now)
        log.info(
            "receipt written",
            mapping=self._spec.name,
            destination=self._destination,
            generation=number,
            files=listing.listed,
            left_out=listing.left_out,
        )

    def _creator(self, now: float) -> Creator:
        return Creator(
            socket.gethostname(), agent.__version__, now, f"delivered by Mapping/{self._spec.name}"
        )

    def _directory(self, folder: str) -> str:
        """Of the files of one history, in the state directory."""
        place = hashlib.sha256(folder.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        return os.path.join(self._context.state_dir, "receipts", self._destination, place)

    def _write(self, folder: str, name: str, pieces: Iterator[str]) -> str:
        """Whole or not at all, and on storage; returns the C4 identity."""
        directory, identity = self._directory(folder), C4()
        path = os.path.join(directory, name)
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            with open(path + ".new", "wb") as file:
                for piece in pieces:
                    data = piece.encode()
                    identity.update(data)
                    file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(path + ".new", path)
        except OSError as error:
            raise RetryableError(f"receipt: cannot write {path}: {error.strerror}") from error
        return identity.text()

    # -- sending

    def _unsent(self, folder: str) -> tuple[list[Change], bool]:
        """What the destination does not have yet, and whether somebody else's chain is there."""
        generations = self._context.state.receipts.generations(
            self._spec.name, self._destination, parent(folder)
        )
        ledger, found = self._context.state.ledger, []
        foreign = False
        for name in (*(generation.name for generation in generations), *([CHAIN] if generations else [])):
            path, source = join(folder, name), os.path.join(self._directory(folder), name)
            row = ledger.row(self._name, self._destination, path)
            if name == CHAIN and row is not None and row.origin is Origin.KEPT:
                foreign = True
                continue
            stat = _stat(source)
            if stat is None and row is None:
                raise RetryableError(f"receipt: {source} is gone, and was not delivered yet")
            known = None if row is None else (row.stat.size, row.stat.mtime_ns)
            if stat is not None and known != (stat.size, stat.mtime_ns):
                kind = ChangeKind.CREATED if row is None else ChangeKind.MODIFIED
                found.append(Change(kind, path, source, stat, "receipt"))
        return found, foreign

    def _send(self, changes: list[Change]) -> None:
        if not changes:
            return
        lanes = self._context.desired.lanes_of(self._delivery.destination)
        how = effective(self._spec, self._delivery.destination, lanes)
        action = StartTransfer(
            mapping=self._name,
            destination=self._destination,
            changes=(),
            lane=how.lane,
            priority=how.priority,
            send_rate_max=how.send_rate_max,
            overwrite=Overwrite.NEVER,
            preserve_mtime=True,
            preserve_executable=False,
        )
        # What is there and was not written by us stays: a history of somebody else, above all.
        for overwrite, kind in (
            (Overwrite.NEVER, ChangeKind.CREATED),
            (Overwrite.ALWAYS, ChangeKind.MODIFIED),
        ):
            some = tuple(change for change in changes if change.kind is kind)
            if some:
                plan = Plan((replace(action, changes=some, overwrite=overwrite),))
                execute(self._delivery.live_scene, plan)
                self.sent = True


class _Listing:
    """The files that a manifest lists, counted as they go by."""

    def __init__(self, first: Delivered, rest: Iterator[Delivered]) -> None:
        self._first, self._rest = first, rest
        self.listed = self.left_out = 0

    def __iter__(self) -> Iterator[Delivered]:
        yield from self._listed(self._first)
        for file in self._rest:
            yield from self._listed(file)

    def _listed(self, file: Delivered) -> Iterator[Delivered]:
        if can_be_listed(file.path) and not _IGNORED.intersection(file.path.split("/")):
            self.listed += 1
            yield file
        else:
            self.left_out += 1


def _stat(path: str) -> FileStat | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return FileStat(
        FileKind.FILE, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, executable=False
    )
