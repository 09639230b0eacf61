"""Following a git ref while the agent runs: when to look, what is in force, and how it is going.

A look happens on the interval, when somebody asks (the push hook, SIGHUP, `lanesync reconcile`), and after a
failure with growing pauses. Whatever fails, the last good commit stays in force.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog

from agent.model.condition import Condition, ConditionType, Reason, merge
from agent.model.outcome import LaneSyncError, PermanentError
from agent.planning.backoff import delay
from agent.reconcile.context import Clock
from agent.reconcile.document import condition_document
from agent.specs.git.checkout import Checkout
from agent.specs.git.export import CommitRefusedError
from agent.specs.git.follow import Follower
from agent.specs.git.options import GitOptions
from agent.specs.git.program import StoppedError
from agent.specs.git.repository import AccessError, Commit, RefNotFoundError
from agent.specs.git.signatures import UnsignedError

log = structlog.get_logger(__name__)

Document = dict[str, Any]
Record = Callable[[str, Reason, str], None]
"""Called with (type, reason, message) for the audit trail."""

FIRST_RETRY, MAX_RETRY = 5.0, 600.0
MIN_PAUSE = 2.0
"""However often somebody asks."""
STOP_SECONDS = 3.0
KNOWN = 16


@dataclass(frozen=True, slots=True)
class Trouble:
    reason: Reason
    message: str
    needs_person: bool


def trouble_of(error: Exception) -> Trouble:
    """What an error of a look means for people."""
    match error:
        case UnsignedError():
            return Trouble(Reason.SIGNATURE_NOT_VERIFIED, str(error), True)
        case CommitRefusedError():
            return Trouble(Reason.COMMIT_REFUSED, str(error), True)
        case PermanentError():
            return Trouble(Reason.SIGNATURE_NOT_VERIFIED, str(error), True)
        case RefNotFoundError():
            return Trouble(Reason.REF_NOT_FOUND, str(error), True)
        case AccessError():
            return Trouble(Reason.AUTHENTICATION_FAILED, str(error), True)
        case OSError():
            message = f"the commit cannot be stored: {error.strerror or error}; is the disk full?"
            return Trouble(Reason.FETCH_FAILED, message, False)
        case LaneSyncError():
            return Trouble(Reason.FETCH_FAILED, str(error), False)
    return Trouble(Reason.INTERNAL_ERROR, f"internal error: {type(error).__name__}: {error}", False)


def pause(failures: int, interval: float, chance: float) -> float:
    """Seconds until the next look. `chance` in [0, 1): agents that started together do not stay together."""
    if failures:
        return delay(failures, min(FIRST_RETRY, interval), max(MAX_RETRY, interval), chance)
    return interval * (0.9 + 0.2 * chance)


class GitSpecs:
    """One followed ref. `reload` is called, from the follower's thread, when another commit is in force."""

    def __init__(self, options: GitOptions, state_dir: str, clock: Clock, record: Record) -> None:
        self.options = options
        self._clock = clock
        self._record = record
        self._follower = Follower(options, os.path.join(state_dir, "git"))
        self._reading = threading.Lock()
        self._asked = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._checkout = self._follower.checkout
        self._known: dict[str, Commit] = {}
        self._trouble: Trouble | None = None
        self._failures = 0
        self._last_fetch = self._next_look = 0.0
        self._conditions: tuple[Condition, ...] = ()
        self._conclude(None)

    # -- life

    def first(self) -> None:
        """One look, for a run that has an end. LaneSyncError when there is nothing to go on with."""
        self._look()
        if self._trouble is not None:
            raise PermanentError(f"no specs from {self.options}: {self._trouble.message}")

    def start(self, reload: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=self._follow, args=(reload,), name="git", daemon=True)
        self._thread.start()

    def look_soon(self) -> None:
        self._asked.set()

    def stop(self) -> None:
        self._stopping.set()
        self._asked.set()
        self._follower.stop()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)

    @contextmanager
    def reading(self) -> Iterator[Checkout | None]:
        """What is in force, kept until the block ends; None while nothing was ever fetched."""
        with self._reading:
            yield self._checkout

    def _follow(self, reload: Callable[[], None]) -> None:
        while not self._stopping.is_set():
            self._asked.clear()
            changed = self._look()
            wait = pause(self._failures, self.options.interval, random.random())  # noqa: S311
            self._next_look = self._clock.time() + wait
            if changed:
                self._reload(reload)
            self._stopping.wait(min(MIN_PAUSE, wait))
            self._asked.wait(max(0.0, wait - MIN_PAUSE))

    def _reload(self, reload: Callable[[], None]) -> None:
        try:
            reload()
            with self._reading:
                self._follower.remove_others()
            self._follower.tidy()
        except Exception:
            log.exception("reading the specs failed")

    # -- one look

    def _look(self) -> bool:
        """Whether other specs are in force now. Raises nothing: a worker never dies."""
        try:
            changed = self._follower.look()
        except StoppedError:
            return False
        except Exception as error:
            if trouble_of(error).reason is Reason.INTERNAL_ERROR:
                log.exception("unexpected error", source=str(self.options))
            self._conclude(error)
            return False
        with self._reading:
            self._checkout = self._follower.checkout
        self._conclude(None, looked=True)
        return changed

    def _conclude(self, error: Exception | None, *, looked: bool = False) -> None:
        """Status, log and audit trail; a failure that repeats is told once."""
        before, now = self._trouble, self._clock.time()
        self._trouble = None if error is None else trouble_of(error)
        refused = isinstance(error, CommitRefusedError)
        self._failures = self._failures + 1 if error is not None and not refused else 0
        if looked or refused:
            self._last_fetch = now
        self._conditions = merge(self._conditions, self._found_conditions(now))
        self._note_commit(self._follower.attempted, told=looked or refused)
        if self._trouble is not None and self._trouble != before:
            log.warning(
                "specs not taken",
                source=str(self.options),
                why=self._trouble.message,
                in_force=self._in_force(),
            )
            self._record("Warning", self._trouble.reason, self._trouble.message)
        elif before is not None and self._trouble is None:
            log.info("specs are fetched again", source=str(self.options), commit=self._in_force())
            self._record("Normal", Reason.IN_SYNC, f"fetched again: {self._in_force()}")

    def _note_commit(self, commit: Commit | None, *, told: bool) -> None:
        """Remember the newest few, so that one can be named while an older one is still applied."""
        if commit is None or commit.id in self._known:
            return
        self._known[commit.id] = commit
        for oldest in list(self._known)[:-KNOWN]:
            del self._known[oldest]
        if not told:
            return
        log.info("commit fetched", source=str(self.options), commit=commit.id, subject=commit.subject)
        self._record("Normal", Reason.PROGRESSING, f"fetched commit {commit.id}: {commit.subject}")

    def _in_force(self) -> str:
        return self._checkout.commit.id if self._checkout is not None else ""

    # -- what it says

    def problems(self) -> tuple[str, ...]:
        """What stands in the way and needs a person."""
        trouble = self._trouble
        return (trouble.message,) if trouble is not None and trouble.needs_person else ()

    def waiting(self) -> str:
        """Why there are no specs yet; empty when there are."""
        if self._checkout is not None:
            return ""
        why = f": {self._trouble.message}" if self._trouble is not None else ""
        return f"no specs have been fetched yet from {self.options}{why}"

    def document(self, applied_revision: str) -> Document:
        """The `source` of the status document."""
        checkout, attempted = self._checkout, self._follower.attempted
        return {
            "type": "git",
            "url": self.options.url,
            "ref": self.options.ref,
            "subdir": self.options.subdir,
            "signatures": "required" if self.options.keyring is not None else "notChecked",
            "attempted": _commit(attempted),
            "inForce": _commit(checkout.commit if checkout else None),
            "applied": _commit(self._known.get(applied_revision.removeprefix("git:"))),
            "lastFetch": self._last_fetch or None,
            "nextLook": self._next_look or None,
            "failuresInARow": self._failures,
            "lastError": self._trouble.message if self._trouble is not None else "",
            "conditions": [condition_document(condition) for condition in self._conditions],
        }

    def _found_conditions(self, now: float) -> tuple[Condition, ...]:
        trouble = self._trouble
        if trouble is None:
            reason = Reason.IN_SYNC if self._last_fetch else Reason.PROGRESSING
            message = f"commit {self._in_force()}" if self._checkout else "not looked at yet"
            return (Condition(ConditionType.READY, bool(self._last_fetch), reason, message, now),)
        kept = f"; commit {self._in_force()[:12]} stays in force" if self._checkout else ""
        message = trouble.message + kept
        kind = ConditionType.STALLED if trouble.needs_person else ConditionType.RECONCILING
        ready = Condition(ConditionType.READY, False, trouble.reason, message, now)
        return (ready, Condition(kind, True, trouble.reason, message, now))


def _commit(commit: Commit | None) -> Document | None:
    if commit is None:
        return None
    return {"commit": commit.id, "subject": commit.subject, "time": commit.time}
