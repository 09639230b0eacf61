"""Workers that take keys from the queue and reconcile them. A worker never dies: what it did not expect
becomes a counted, throttled retry of that key alone.
"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field

import structlog

from agent.model.condition import Reason
from agent.model.outcome import (
    Done,
    Outcome,
    PermanentError,
    Retry,
    RetryableError,
    Stalled,
    UnreachableError,
    Wait,
)
from agent.model.spec import DestinationSpec, Key, Kind, Spec, digest, key_of
from agent.planning.backoff import delay
from agent.reconcile.alerts import reconcile_alert
from agent.reconcile.context import Context
from agent.reconcile.dependencies import tell
from agent.reconcile.destination import reconcile_destination
from agent.reconcile.mapping import Mappings
from agent.reconcile.queue import Hints
from agent.reconcile.report import Report
from agent.reconcile.servers import Servers
from agent.reconcile.shares import reconcile_share

log = structlog.get_logger(__name__)

WORKERS, QUICK_WORKERS = 4, 1
"""So many of the workers leave alone what takes long: however many large sources are walked, small ones are
not waited for."""

RETRY_INTERVAL, RETRY_MAX = 0.5, 60.0
STALLED_INTERVAL = 300.0


@dataclass(slots=True)
class Loop:
    context: Context
    servers: Servers
    mappings: Mappings
    _threads: list[threading.Thread] = field(default_factory=list)
    _failures: dict[Key, int] = field(default_factory=dict)

    def start(self) -> None:
        for number in range(WORKERS):
            quick = number < QUICK_WORKERS
            thread = threading.Thread(
                target=self._work, args=(quick,), name=f"reconcile-{number}", daemon=True
            )
            thread.start()
            self._threads.append(thread)

    @property
    def threads(self) -> tuple[threading.Thread, ...]:
        return tuple(self._threads)

    def stop(self, timeout: float) -> None:
        """Stop taking work and let what runs come to its end."""
        self.context.queue.stop()
        deadline = self.context.clock.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - self.context.clock.monotonic()))

    def _work(self, quick: bool) -> None:
        while (found := self.context.queue.get(quick=quick)) is not None:
            key, hints = found
            try:
                self.run(key, hints)
            finally:
                self.finished(key)

    def finished(self, key: Key) -> None:
        """It may be taken again; those who wait for it look whether they may go on."""
        self.context.queue.done(key)
        tell(self.context, key)

    def run(self, key: Key, hints: Hints) -> Outcome:
        """Reconcile one key, write its status, and enqueue it for when it is due again."""
        report = Report(key, self.context.desired.revision)
        self.context.meters.begun(key, self.context.clock.monotonic())
        asked = self.context.requests.take(key)
        report.asked = bool(asked)
        outcome = self._guarded(key, hints, report)
        self.context.meters.ended(key, outcome, self.context.clock.monotonic())
        spec = self.context.desired.get(key)
        if spec is None and isinstance(outcome, Done):
            self._forget(key)
            self.context.requests.handled(key, asked)
            return outcome
        if spec is not None and isinstance(outcome, Done | Wait):
            self._remember(spec)
        report.request = asked[-1] if asked else self.context.requests.last(key)
        report.write(self.context, outcome)
        self.context.requests.handled(key, asked)
        if report.revision != self.context.desired.revision:
            self.context.queue.add(key)  # what was found may not be so under the one in force by now
        after = self._next(key, outcome)
        if after is not None:
            self.context.queue.add(key, delay=after)
        return outcome

    def forgive(self, key: Key) -> None:
        """What failed before no longer counts: the next failure waits as the first does."""
        self._failures.pop(key, None)

    def _forget(self, key: Key) -> None:
        """Its removal has been carried out."""
        self.context.state.specs.remove(key)
        self.context.board.remove(key)
        self.context.requests.forget(key)
        self.context.queue.forget(key)
        self.context.alerts_changed.set()
        log.info("removed", key=str(key))
        for spec in self.context.removing():
            self.context.queue.add(key_of(spec))  # it may have waited for this one

    def _remember(self, spec: Spec) -> None:
        """Keep the version that is applied: its `onRemove` is needed when it leaves the specs."""
        if self.context.state.specs.digest(key_of(spec)) != digest(spec):
            self.context.state.specs.put(spec, self.context.desired.revision, self.context.clock.time())

    def _guarded(self, key: Key, hints: Hints, report: Report) -> Outcome:
        try:
            return self._reconcile(key, hints, report)
        except UnreachableError as error:
            if isinstance(spec := self.context.desired.get(key), DestinationSpec):
                self.context.doubt(spec.server)
            return Retry(str(error), Reason.SERVER_UNREACHABLE)
        except RetryableError as error:
            return Retry(str(error))
        except PermanentError as error:
            log.warning("needs a person", key=str(key), error=str(error))
            return Stalled(Reason.SERVER_FAILED, str(error), STALLED_INTERVAL)
        except Exception as error:  # one bad object must not end the agent
            log.exception("unexpected error", key=str(key))
            return Retry(f"internal error: {type(error).__name__}: {error}", Reason.INTERNAL_ERROR)

    def _reconcile(self, key: Key, hints: Hints, report: Report) -> Outcome:
        match key.kind:
            case Kind.SERVER:
                return self.servers.reconcile(key.name, report)
            case Kind.DESTINATION:
                return reconcile_destination(self.context, key.name, report)
            case Kind.MAPPING:
                return self.mappings.reconcile(key.name, hints, report)
            case Kind.PRIORITY_LANES:
                report.message = "used as specified"
                return Done()
            case Kind.ALERT:
                return reconcile_alert(self.context, key.name, report)
            case Kind.SHARE:
                return reconcile_share(self.context, key.name, report)

    def _next(self, key: Key, outcome: Outcome) -> float | None:
        if not isinstance(outcome, Retry):
            self._failures.pop(key, None)
        match outcome:
            case Done(next_in=after) | Wait(next_in=after):
                return after
            case Stalled(next_in=after):
                return STALLED_INTERVAL if after is None else after
            case Retry():
                self._failures[key] = count = self._failures.get(key, 0) + 1
                return delay(count, RETRY_INTERVAL, RETRY_MAX, random.random())  # noqa: S311
