"""The agent: one process that owns a state directory, drives its servers and keeps mappings in sync."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import structlog

import agent
from agent.model.condition import Reason
from agent.model.outcome import LaneSyncError, PolicyError
from agent.model.spec import DesiredState, EngineKind, Key, Kind
from agent.model.units import format_duration
from agent.reconcile.alerts import AlertRunner, Seen
from agent.reconcile.audit import note_revision
from agent.reconcile.context import Clock, Context, SystemClock
from agent.reconcile.delivered import Delivered
from agent.reconcile.document import Document, Facts, status_document, with_invalid
from agent.reconcile.engines import EngineFactory, make_engine
from agent.reconcile.finding import find
from agent.reconcile.gitspecs import GitSpecs
from agent.reconcile.hooks import HookRunner
from agent.reconcile.liveness import STUCK_SECONDS, Liveness
from agent.reconcile.loop import Loop
from agent.reconcile.mapping import Mappings
from agent.reconcile.progress import refreshed
from agent.reconcile.queue import WorkQueue
from agent.reconcile.removal import hand_over
from agent.reconcile.revision import difference, held, state_of
from agent.reconcile.servers import Servers
from agent.reconcile.sources import Sources
from agent.reconcile.status import Board, ObjectStatus, Overall, State, overall
from agent.reconcile.wake import wake
from agent.specs.errors import SpecError
from agent.specs.git.checkout import Checkout
from agent.specs.git.options import GitOptions
from agent.specs.load import Loaded, load
from agent.specs.policy import Policy, load_policy
from agent.specs.select import EVERYTHING, Selector
from agent.state.audit import Retention
from agent.state.lock import StateLock
from agent.state.rebuild import open_or_rebuild

log = structlog.get_logger(__name__)

DRAIN_SECONDS = 3.0
ENDLESS_SECONDS = 86_400.0
"""No look at a source takes a day, however large it is: a reconcile that does runs in circles."""

LOCK_WAIT_SECONDS = 10.0
"""Granted to the children of an agent that was killed, which still hold the lock for a moment."""

REVISION_KEY = Key(Kind.SERVER, "<revision>")
"""Under this name, which no object can have, approvals of held revisions are kept."""


@dataclass(frozen=True, slots=True)
class Options:
    paths: tuple[str, ...]
    state_dir: str
    watch: bool = True  # react to changes; without it one pass is made
    policy: str = ""  # file; empty = none
    select: Selector = EVERYTHING
    git: GitOptions | None = None  # instead of paths
    history: Retention = Retention()  # how much of the audit trail is kept
    stuck_after: float = STUCK_SECONDS  # seconds in which a thread that everything depends on has to move


class Agent:
    """Start, reload, ask, stop. The verbs may be called from any thread."""

    def __init__(
        self,
        options: Options,
        clock: Clock | None = None,
        factory: EngineFactory = make_engine,
        on_status: Callable[[ObjectStatus], None] = lambda _status: None,
    ) -> None:
        self.options = options
        policy = self._read_policy()  # an agent with one that cannot be used does not start
        self._clock = clock or SystemClock()
        self._lock_file = StateLock(options.state_dir, wait=LOCK_WAIT_SECONDS)
        self._state, self._notice = open_or_rebuild(options.state_dir, self._clock.time())
        self._state.audit.retention = options.history
        self.context = Context(
            state=self._state,
            state_dir=options.state_dir,
            queue=WorkQueue(self._clock.monotonic),
            board=Board(on_status),
            clock=self._clock,
            delivered=Delivered(),
            policy=policy,
            from_git=options.git is not None,
        )
        self.servers = Servers(self.context, factory, self._lock_file.fileno())
        self.sources = Sources(self.context, self.reload)
        self.mappings = Mappings(self.context, self.sources, once=not options.watch)
        self.loop = Loop(self.context, self.servers, self.mappings)
        self.hooks = HookRunner(self.context)
        self.alerts = AlertRunner(self.context, self._seen)
        self.git = GitSpecs(options.git, options.state_dir, self._clock, self._event) if options.git else None
        self.liveness = Liveness(self._vital, self._clock.monotonic, options.stuck_after)
        self.http_address: tuple[str, int] | None = None
        self._loaded: Loaded | None = None
        self._held = ""
        self._policy_error = ""
        self._judged_by: Policy | None = None  # the policy when the specs were last taken
        self._applied = ""
        self._reloading = threading.Lock()
        self._started_at = self._clock.time()
        if self._notice:
            log.warning("state rebuilt", why=self._notice)
            self._event("Warning", Reason.STATE_REBUILT, self._notice)

    # -- life

    def start(self) -> None:
        self.context.desired = self.last_applied()
        if self.options.watch:
            policy = (self.options.policy,) if self.options.policy else ()
            self.sources.watch_specs((*self.options.paths, *policy))
        if self.git is not None and not self.options.watch:
            self.git.first()
        self.reload()
        if self.git is not None and self.options.watch:
            self.git.start(self.reload)
        self.loop.start()
        self.hooks.start()
        self.alerts.start()

    def _vital(self) -> tuple[threading.Thread, ...]:
        """The threads without which something would not be kept in sync, and nobody would be told."""
        return (*self.loop.threads, *self.sources.threads, *self.hooks.threads, *self.alerts.threads)

    def stuck(self) -> dict[str, str]:
        """What hangs, and since when; empty when all is well. To be asked every few seconds."""
        found = self.liveness.look()
        running = self.context.meters.longest_running(self._clock.monotonic())
        if running is not None and running[1] > ENDLESS_SECONDS:
            found[str(running[0])] = f"has been reconciled for {format_duration(running[1])}"
        return found

    @contextlib.contextmanager
    def preparing_plan(self, checkout: Checkout | None = None) -> Iterator[Loaded]:
        """Only look: read the specs, and connect to the servers that exist already, while what needs none of
        them is done within. No key is reconciled."""
        loaded = self.load(self.options.paths, checkout)
        self.context.desired = wanted = loaded.desired or DesiredState("")
        names = [
            name
            for name, spec in wanted.servers.items()
            if spec.engine is not EngineKind.EMBEDDED or self.servers.has_run(spec)
        ]
        with self.servers.starting(names):
            yield loaded
        self.context.desired = state_of(self.context.removing())  # of those before, all that a plan is about

    def stop(self) -> None:
        """Stop taking work, end the children, keep what is known. Transfers go on when it starts again."""
        if self.git is not None:
            self.git.stop()
        self.sources.stop()
        self.loop.stop(DRAIN_SECONDS)
        self.hooks.stop()
        self.alerts.stop()
        if self._loaded is not None:
            try:
                self.save_status()
            except LaneSyncError as error:
                log.warning("the status was not saved", why=str(error))
        self.servers.stop_all()
        self._state.close()
        self._lock_file.release()

    def last_applied(self) -> DesiredState:
        """What was in force when the agent last ran: what left the specs meanwhile is still removed."""
        return state_of(applied.spec for applied in self._state.specs.all())

    def reload(self) -> None:
        """Read the specs again; what is valid takes effect, object by object."""
        with self._reloading:
            if not self._take_policy():
                return
            loaded = self._read()
            before = self.context.desired
            if loaded is None:  # nothing was ever fetched: what was in force goes on
                self._take(before, before)
                return
            after = loaded.effective(before)
            if self._loaded is None or loaded.revision != self._loaded.revision:
                log.info("specs read", revision=loaded.revision, errors=len(loaded.errors) + loaded.omitted)
                for error in loaded.errors[:20]:
                    log.warning("invalid spec", error=str(error))
                for warning in loaded.warnings[:20]:
                    log.warning("spec warning", warning=str(warning))
            self._loaded = loaded
            approved = loaded.revision in self._state.approvals.approved(REVISION_KEY)
            self._held = "" if approved else held(before, after)
            if self._held:
                log.warning("revision held", why=self._held)
                now = self._clock.time()
                self._state.events.tell(now, None, "Warning", "RevisionHeld", self._held, loaded.revision)
            self._take(before, before if self._held else after)

    def load(self, paths: Sequence[str], checkout: Checkout | None = None) -> Loaded:
        """Specs as this agent sees them: within its policy, and what it selects."""
        return load(list(paths), self.context.policy, self.options.select, checkout)

    def _read_policy(self) -> Policy | None:
        return load_policy(self.options.policy, self.options.paths) if self.options.policy else None

    def _take_policy(self) -> bool:
        """False when it cannot be used: the one before it and the specs in force stay until it can."""
        try:
            self.context.policy, error = self._read_policy(), ""
        except PolicyError as problem:
            error = f"{problem}; what was in force stays"
        if error and error != self._policy_error:
            log.warning("the policy cannot be used", why=error)
            now, reason = self._clock.time(), str(Reason.POLICY_UNUSABLE)
            self._state.events.append(now, None, "Warning", reason, error, self.context.desired.revision)
        self._policy_error = error
        return not error

    def reload_soon(self) -> None:
        """Look for new specs, from another thread."""
        self.sources.reload_soon()
        if self.git is not None:
            self.git.look_soon()

    def _read(self) -> Loaded | None:
        """None: no commit was ever fetched."""
        if self.git is None:
            return self.load(self.options.paths)
        with self.git.reading() as checkout:
            return None if checkout is None else self.load([checkout.specs], checkout)

    def _event(self, kind: str, reason: Reason, message: str) -> None:
        """One about the specs themselves."""
        now = self._clock.time()
        self._state.events.append(now, None, kind, str(reason), message, self.context.desired.revision)

    def _take(self, before: DesiredState, after: DesiredState) -> None:
        found = difference(before, after)
        hand_over(self.context, before, after)
        self.context.desired = after
        if found.removed or found.changed or found.added:
            log.info(
                "revision in force",
                revision=after.revision,
                added=[str(key) for key in found.added],
                changed=[str(key) for key in found.changed],
                removed=[str(key) for key in found.removed],
            )
            note_revision(
                self.context, after.revision, len(found.added), len(found.changed), len(found.removed)
            )
        wake(self.context, before, after, found, everything=self._judged_by != self.context.policy)
        self._judged_by = self.context.policy
        self.context.alerts_changed.set()
        self._make_receive_roots()
        if self.options.watch:
            self.sources.follow(after)

    def _make_receive_roots(self) -> None:
        """They must be there to be told apart from sources that contain them."""
        for server in self.context.desired.servers.values():
            if server.engine is EngineKind.EMBEDDED and not self.context.refusal(server):
                with contextlib.suppress(OSError):  # the server will say what is wrong with it
                    os.makedirs(self.context.receive_root(server), exist_ok=True)

    # -- what it says

    @property
    def ready(self) -> bool:
        return self.context.desired.revision != "" or bool(self._held)

    @property
    def attempted_revision(self) -> str:
        return self._loaded.revision if self._loaded is not None else ""

    def overall(self) -> Overall:
        """The plain answer."""
        return self.answer(self.unseen(), self._notable())

    def unseen(self) -> Key | None:
        """One not looked at under this revision. To be asked before the statuses are read."""
        desired = self.context.desired
        return self.context.board.first_unseen(desired, self._state.specs.other_than(desired))

    def answer(self, unseen: Key | None, statuses: list[ObjectStatus]) -> Overall:
        """The plain answer by statuses that were read after `unseen`."""
        if self.git is not None and (waiting := self.git.waiting()):
            return Overall(State.BLOCKED if self.git.problems() else State.CONVERGING, waiting)
        return overall(statuses, self._problems(), unseen)

    def _notable(self) -> list[ObjectStatus]:
        invalid = self._invalid_keys()
        return with_invalid(self.context.board.notable(invalid), invalid, self._clock.time())

    def statuses(self) -> list[ObjectStatus]:
        found = self.context.board.all()
        return with_invalid(found, self._invalid_keys(), self._clock.time())

    def _invalid_keys(self) -> dict[Key, str]:
        invalid = self._invalid()
        return {key: str(errors[0]) for key, errors in invalid.items() if isinstance(key, Key) and errors}

    def _invalid(self) -> Mapping[Key | str, list[SpecError]]:
        """By object, or by file where no object can be told."""
        return {} if self._loaded is None else self._loaded.stalled(self.context.desired)

    def _problems(self) -> tuple[str, ...]:
        broken = tuple(str(error) for error in self._loaded.errors) if self._loaded is not None else ()
        return self._troubles() + broken

    def _troubles(self) -> tuple[str, ...]:
        """What is wrong with the specs beside their errors."""
        refused = self.git.problems() if self.git is not None else ()
        return tuple(text for text in (self._policy_error, self._held, *refused) if text)

    def _seen(self) -> Seen:
        """What alerts are about."""
        statuses = self.statuses()
        known = {status.key for status in statuses}
        invalid = self._invalid().items()
        files = tuple(str(errors[0]) for name, errors in invalid if isinstance(name, str) and errors)
        return Seen(
            tuple(statuses),
            self._loaded.labels if self._loaded is not None else {},
            frozenset(key for key in self.context.desired.all_keys() if key not in known),
            (*self._troubles(), *files),
        )

    def status(self) -> Document:
        desired, unseen = self.context.desired, self.unseen()
        statuses = refreshed(self.context, self.statuses())
        applied = all(s.revision == desired.revision for s in statuses if desired.get(s.key) is not None)
        if applied and not self._held:
            self._applied = desired.revision
        facts = Facts(
            overall=self.answer(unseen, statuses),
            attempted_revision=self.attempted_revision,
            applied_revision=self._applied,
            held_revision=self._held,
            source=self.source(),
            invalid={str(name): [str(error) for error in errors] for name, errors in self._invalid().items()},
            agent={
                "running": True,
                "pid": os.getpid(),
                "version": agent.__version__,
                "startedAt": self._started_at,
                "stateDir": self.options.state_dir,
                "specs": [str(self.options.git)] if self.options.git else list(self.options.paths),
                "select": self.options.select.text or None,
                "policy": self.options.policy or None,
                "policyError": self._policy_error or None,
                "notice": self._notice or None,
                "http": ":".join(str(part) for part in self.http_address) if self.http_address else None,
            },
            now=self._clock.time(),
            labels=self._loaded.labels if self._loaded is not None else {},
            positions=self._loaded.positions if self._loaded is not None else {},
            overrides={o.key: o for o in self._state.overrides.all(self._clock.time())},
            desired=desired,
            oldest=self._state.attempts.oldest(),
        )
        return status_document(statuses, facts, self.context.delivered)

    def source(self) -> Document:
        """Where the specs come from, and how reading them goes."""
        if self.git is not None:
            return self.git.document(self._applied)
        return {"type": "files", "paths": list(self.options.paths), "conditions": []}

    def revisions(self) -> dict[str, str]:
        return {"attempted": self.attempted_revision, "applied": self._applied, "held": self._held}

    def position(self, key: Key) -> str | None:
        """Where an object is declared, as file:line; without a running agent as the last one knew."""
        if self._loaded is not None:
            return self._loaded.positions.get(key)
        objects = (self._state.status.agent() or {}).get("objects", ())
        return next((o.get("from") for o in objects if (o["kind"], o["name"]) == key), None)

    def save_status(self) -> None:
        """For `status` without a running agent. LaneSyncError when the state cannot be written."""
        document = self.status()
        document["agent"]["running"] = False
        self._state.status.put_agent(document, self._clock.time())

    # -- what it does when asked

    def find(self, name: str) -> Key:
        """`Mapping/dailies`, checked. Raises LaneSyncError."""
        return find(self.context.desired, name)
