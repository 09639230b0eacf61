"""What a running agent does when asked through its socket or its HTTP face."""

from __future__ import annotations

import os
from dataclasses import asdict

from agent.model.outcome import LaneSyncError
from agent.model.spec import Key, Kind
from agent.planning.describe import plan_document
from agent.reconcile.agent import REVISION_KEY, Agent
from agent.reconcile.deciding import suspect_digest
from agent.reconcile.document import Document
from agent.reconcile.preview import plan_digest, preview
from agent.reconcile.queue import WHOLE


class InvalidError(LaneSyncError):
    """The specs that were handed in are invalid."""


class AgentService:
    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    @property
    def ready(self) -> bool:
        return self._agent.ready

    def status(self) -> Document:
        return self._agent.status()

    def plan(self, paths: list[str]) -> Document:
        """The plan of the specs at `paths` (empty: those in force)."""
        context = self._agent.context
        desired = context.desired
        if paths:
            loaded = self._agent.load([os.path.abspath(path) for path in paths])
            if loaded.desired is None:
                raise InvalidError("the specs are invalid; run `lanesync validate`")
            desired = loaded.desired
        plan = preview(context, desired, self._agent.mappings.recent_deletions)
        return {**plan_document(plan), "revision": desired.revision, "digest": plan_digest(plan)}

    def apply(self, paths: list[str]) -> Document:
        """Reconcile now; only the specs that this agent runs."""
        git = self._agent.options.git
        if git is not None:
            raise LaneSyncError(
                f"the agent with pid {os.getpid()} runs {git}; push to it, or use another --state-dir"
            )
        mine = [os.path.abspath(path) for path in self._agent.options.paths]
        if [os.path.abspath(path) for path in paths] != mine:
            raise LaneSyncError(
                f"the agent with pid {os.getpid()} runs {', '.join(mine)}; change those specs, "
                "or stop it, or use another --state-dir"
            )
        self._agent.reload()
        self._enqueue_all()
        return self._agent.status()

    def _enqueue_all(self) -> None:
        for key in self._agent.context.desired.all_keys():
            self._agent.context.queue.add(key, hints=WHOLE)

    def events(self, since: int, limit: int) -> Document:
        found = self._agent.context.state.events.since(since, limit)
        events = [{**asdict(event), "key": str(event.key) if event.key else None} for event in found]
        return {"events": events, "next": found[-1].seq if found else since}

    def reconcile(self, name: str) -> Document:
        """Look at one object, or with an empty name at all and at the specs."""
        context = self._agent.context
        if not name:
            if self._agent.git is not None:
                self._agent.git.look_soon()
            self._agent.reload()
            self._enqueue_all()
            return {"enqueued": [str(key) for key in context.desired.all_keys()]}
        key = self._agent.find(name)
        status = context.board.get(key)
        if status is not None and status.suspended:
            raise LaneSyncError(f"{key} is suspended; `lanesync resume {key}` first")
        context.queue.add(key, hints=WHOLE, urgent=True)
        return {"enqueued": [str(key)]}

    def look_for_specs(self) -> None:
        """Soon, from another thread: the push hook only says that there may be something."""
        self._agent.reload_soon()

    def suspend(self, name: str, reason: str, author: str, seconds: float | None) -> Document:
        key = self._agent.find(name)
        if key.kind not in (Kind.MAPPING, Kind.DESTINATION):
            raise LaneSyncError(f"{key} cannot be suspended; mappings and destinations can")
        now = self._agent.context.clock.time()
        until = now + seconds if seconds is not None else None
        self._agent.context.state.overrides.set(key, reason, author, now, until)
        self._wake(key)
        if seconds is not None:
            self._agent.context.queue.add(key, delay=seconds + 0.1, hints=WHOLE)
        return {"suspended": str(key), "until": until}

    def resume(self, name: str) -> Document:
        key = self._agent.find(name)
        if not self._agent.context.state.overrides.clear(key):
            raise LaneSyncError(f"{key} is not suspended here; if it is in its spec, edit the spec")
        self._wake(key)
        return {"resumed": str(key)}

    def _wake(self, key: Key) -> None:
        context = self._agent.context
        context.queue.add(key, hints=WHOLE, urgent=True)
        for mapping in context.mappings_of(key.name) if key.kind is Kind.DESTINATION else ():
            context.queue.add(mapping, hints=WHOLE, urgent=True)

    def approve(self, name: str, author: str) -> Document:
        """Let through what is held now: this set, and no later one."""
        context, now = self._agent.context, self._agent.context.clock.time()
        if name == "revision":
            return {"approved": [self._approve_revision(author, now)]}
        key = self._agent.find(name)
        plan = preview(context, context.desired, self._agent.mappings.recent_deletions)
        digests = [held.digest for held in plan.held if held.mapping == key.name]
        digests += [suspect_digest(s) for s in plan.suspects if self._concerns(key, s.path)]
        if not digests:
            raise LaneSyncError(f"nothing is held for {key}")
        for digest in digests:
            context.state.approvals.add(key, digest, author, now)
        context.queue.add(key, hints=WHOLE, urgent=True)
        return {"approved": digests}

    def _approve_revision(self, author: str, now: float) -> str:
        """The one that is held; when no agent runs, the one that was held when it last did."""
        context, running = self._agent.context, bool(self._agent.attempted_revision)
        last = (self._agent.status() if running else context.state.status.agent() or {}).get("revision", {})
        if not last.get("held"):
            raise LaneSyncError("no revision is held")
        context.state.approvals.add(REVISION_KEY, last["attempted"], author, now)
        if running:
            self._agent.reload()
        return str(last["attempted"])

    def _concerns(self, key: Key, path: str) -> bool:
        spec = self._agent.context.desired.mappings.get(key.name)
        return spec is not None and path.startswith(spec.destination_path.rstrip("/") or "/")
