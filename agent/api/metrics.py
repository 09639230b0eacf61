"""What `/metrics` promises: names, types, labels and meanings; docs/metrics.md is made from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from agent.model.condition import ConditionType
from agent.model.spec import Kind
from agent.reconcile.measures import Measures

Samples = Iterable[tuple[Sequence[str], float]]
"""(label values in the order of the labels, value)."""


class Family(NamedTuple):
    name: str
    type: str  # gauge | counter | info | histogram
    labels: tuple[str, ...]
    help: str
    samples: Callable[[Measures], Samples] | None = None  # None: see agent/api/exposition.py

    @property
    def suffix(self) -> str:
        """What the text format adds to the name."""
        return {"counter": "_total", "info": "_info"}.get(self.type, "")


def _conditions(m: Measures) -> Samples:
    for status in m.statuses:
        true = {condition.type for condition in status.conditions if condition.status}
        for kind in ConditionType:
            yield (status.key.kind, status.key.name, kind), float(kind in true)


def _reasons(m: Measures) -> Samples:
    for status in m.statuses:
        told = {
            (c.type, c.reason) for c in status.conditions if c.status and c.type is not ConditionType.READY
        }
        for kind, reason in told:
            yield (status.key.kind, status.key.name, kind, reason), 1.0


def _details(kind: Kind, field: str) -> Callable[[Measures], Samples]:
    """One number of each object of a kind; only where there is one."""

    def samples(m: Measures) -> Samples:
        for status in m.statuses:
            if status.key.kind is kind and (value := status.detail.get(field)) is not None:
                yield (status.key.name,), float(value)

    return samples


def _stalled(m: Measures) -> Samples:
    for status in m.statuses:
        if status.stalled is not None:
            yield (status.key.kind, status.key.name, status.stalled.reason), 1.0


def _deliveries(field: str) -> Callable[[Measures], Samples]:
    """One number of each delivery of the status document."""

    def samples(m: Measures) -> Samples:
        for status in m.statuses:
            if status.key.kind is Kind.MAPPING:
                for delivery in status.detail.get("deliveries", ()):
                    yield (status.key.name, delivery["destination"]), float(delivery.get(field) or 0)

    return samples


_DELIVERY = ("mapping", "destination")

CONTRACT: tuple[Family, ...] = (
    Family(
        "lanesync_build",
        "info",
        ("version",),
        "Version of the agent.",
        lambda m: [((m.version,), 1.0)],
    ),
    Family(
        "lanesync_revision",
        "info",
        ("attempted", "applied"),
        "Revision of the specs that was read last, and the one that is carried out everywhere.",
        lambda m: [((m.revisions["attempted"], m.revisions["applied"]), 1.0)],
    ),
    Family(
        "lanesync_revision_held",
        "gauge",
        (),
        "1 while a revision waits for approval because it would remove most of what there is.",
        lambda m: [((), float(bool(m.revisions["held"])))],
    ),
    Family(
        "lanesync_git_last_fetch_timestamp_seconds",
        "gauge",
        (),
        "When the repository of the specs was last fetched; only with specs from git.",
        lambda m: [((), float(m.source["lastFetch"]))] if m.source.get("lastFetch") else [],
    ),
    Family(
        "lanesync_git_failures_in_a_row",
        "gauge",
        (),
        "How often fetching the specs has failed since it last went well; only with specs from git.",
        lambda m: [((), float(m.source["failuresInARow"]))] if "failuresInARow" in m.source else [],
    ),
    Family(
        "lanesync_in_sync",
        "gauge",
        (),
        "1 when everything is in sync, as `lanesync status` says.",
        lambda m: [((), float(m.in_sync))],
    ),
    Family(
        "lanesync_condition",
        "gauge",
        ("kind", "name", "type"),
        "Each condition of each object, 1 = true. Every type is always there.",
        _conditions,
    ),
    Family(
        "lanesync_stalled_reason",
        "gauge",
        ("kind", "name", "reason"),
        "Why an object needs a person; only for those that do.",
        _stalled,
    ),
    Family(
        "lanesync_condition_reason",
        "gauge",
        ("kind", "name", "type", "reason"),
        "Why an object is not simply in sync: the reason of each condition but Ready while it is true.",
        _reasons,
    ),
    Family(
        "lanesync_last_success_timestamp_seconds",
        "gauge",
        ("kind", "name"),
        "When the object was last found in sync.",
        lambda m: [((s.key.kind, s.key.name), s.last_success) for s in m.statuses if s.last_success],
    ),
    Family(
        "lanesync_suspended_seconds",
        "gauge",
        ("kind", "name"),
        "For how long the object has been suspended; only for those that are.",
        lambda m: [((key.kind, key.name), seconds) for key, seconds in m.suspended.items()],
    ),
    Family(
        "lanesync_pending_files",
        "gauge",
        _DELIVERY,
        "Files that a server was given and that are not done yet, deletions and renamings among them.",
        lambda m: [((load.mapping, load.destination), float(load.files)) for load in m.load],
    ),
    Family(
        "lanesync_pending_bytes",
        "gauge",
        _DELIVERY,
        "Size of the pending files.",
        lambda m: [((load.mapping, load.destination), float(load.bytes)) for load in m.load],
    ),
    Family(
        "lanesync_oldest_pending_seconds",
        "gauge",
        _DELIVERY,
        "Age of the oldest attempt with pending files.",
        lambda m: [
            ((load.mapping, load.destination), max(0.0, m.now - load.oldest))
            for load in m.load
            if load.oldest is not None
        ],
    ),
    Family(
        "lanesync_settling_files",
        "gauge",
        _DELIVERY,
        "Files that are being written and are not sent yet.",
        _deliveries("settling"),
    ),
    Family(
        "lanesync_held_deletions",
        "gauge",
        _DELIVERY,
        "Deletions that wait for approval.",
        _deliveries("heldDeletions"),
    ),
    Family(
        "lanesync_failures_in_a_row",
        "gauge",
        _DELIVERY,
        "How often the delivery has failed since it last went well.",
        _deliveries("failuresInARow"),
    ),
    Family(
        "lanesync_destination_files",
        "gauge",
        _DELIVERY,
        "Files of the mapping that are at the destination.",
        _deliveries("files"),
    ),
    Family(
        "lanesync_destination_bytes",
        "gauge",
        _DELIVERY,
        "Size of the files that are at the destination.",
        _deliveries("bytes"),
    ),
    Family(
        "lanesync_delivered_files",
        "counter",
        _DELIVERY,
        "Files delivered since the agent started.",
        lambda m: [(key, float(tally.files)) for key, tally in m.delivered.items()],
    ),
    Family(
        "lanesync_delivered_bytes",
        "counter",
        _DELIVERY,
        "Bytes delivered since the agent started.",
        lambda m: [(key, float(tally.bytes)) for key, tally in m.delivered.items()],
    ),
    Family(
        "lanesync_deleted_files",
        "counter",
        _DELIVERY,
        "Files and directories deleted at the destination since the agent started.",
        lambda m: [(key, float(tally.deleted)) for key, tally in m.delivered.items()],
    ),
    Family(
        "lanesync_attempts",
        "counter",
        ("operation", "result"),
        "Transfers, deletions and renamings that ended since the agent started, by how.",
        lambda m: [(key, float(count)) for key, count in m.ended.items()],
    ),
    Family(
        "lanesync_lane_bytes",
        "counter",
        ("destination", "lane"),
        "Bytes that the lane has sent since its server started, headers included.",
        lambda m: [((lane.destination, lane.lane), float(lane.sent)) for lane in m.lanes],
    ),
    Family(
        "lanesync_lane_share",
        "gauge",
        ("destination", "lane"),
        "Share of the destination's rate that the specs give to the lane, 0 to 1.",
        lambda m: [((lane.destination, lane.lane), lane.share) for lane in m.lanes],
    ),
    Family(
        "lanesync_watched_directories",
        "gauge",
        ("mapping",),
        "Directories whose changes are told at once; a condition says when some are not.",
        lambda m: [((name,), float(count)) for name, count in m.watched.items()],
    ),
    Family(
        "lanesync_watch_poll_seconds",
        "gauge",
        ("mapping",),
        "Time between scans of sources whose changes are not told; only of mappings with such a source.",
        lambda m: [((name,), seconds) for name, seconds in m.polled.items()],
    ),
    Family(
        "lanesync_alert_firing",
        "gauge",
        ("alert",),
        "Conditions for which the alert fires.",
        _details(Kind.ALERT, "firing"),
    ),
    Family(
        "lanesync_alert_last_sent_timestamp_seconds",
        "gauge",
        ("alert",),
        "When the alert's receiver last took a message; only after the first.",
        _details(Kind.ALERT, "lastSent"),
    ),
    Family(
        "lanesync_share_downloads",
        "gauge",
        ("share",),
        "Downloads of the share so far.",
        _details(Kind.SHARE, "downloads"),
    ),
    Family(
        "lanesync_share_expires_timestamp_seconds",
        "gauge",
        ("share",),
        "When the share ends; only of those that do.",
        _details(Kind.SHARE, "expiresAt"),
    ),
    Family(
        "lanesync_reconcile_seconds",
        "histogram",
        ("kind",),
        "How long reconciles took.",
    ),
    Family(
        "lanesync_reconciles",
        "counter",
        ("kind", "result"),
        "Reconciles by how they ended: done, wait, retry, stalled.",
        lambda m: [(key, float(count)) for key, count in m.results.items()],
    ),
    Family(
        "lanesync_reconcile_queue_depth",
        "gauge",
        (),
        "Objects that are due and wait for a worker.",
        lambda m: [((), float(m.queue_depth))],
    ),
    Family(
        "lanesync_reconcile_longest_running_seconds",
        "gauge",
        (),
        "For how long the oldest of the reconciles that run now has been running.",
        lambda m: [((), m.longest_running)],
    ),
    Family(
        "lanesync_stuck_threads",
        "gauge",
        (),
        "Threads that hang: they have not moved for `--stuck-after`. The watchdog is not fed then.",
        lambda m: [((), float(m.stuck))],
    ),
    Family(
        "lanesync_metrics_seconds",
        "gauge",
        (),
        "How long it took to make this answer.",
    ),
)


def table() -> str:
    """The contract as a Markdown table."""
    rows = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for family in CONTRACT:
        name = family.name + family.suffix
        labels = ", ".join(f"`{label}`" for label in family.labels)
        rows.append(f"| `{name}` | {family.type} | {labels} | {family.help} |")
    return "\n".join(rows) + "\n"
