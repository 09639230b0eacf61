"""What people ask a running agent to do, each with an id that its objects echo once they have acted on it."""

from __future__ import annotations

from collections.abc import Iterable

from agent.model.outcome import LaneSyncError, NeedsPersonError, NotFoundError
from agent.model.spec import Key, Kind, MappingSpec
from agent.reconcile.agent import REVISION_KEY, Agent
from agent.reconcile.audit import note_asked
from agent.reconcile.deciding import suspect_digest
from agent.reconcile.document import Document
from agent.reconcile.preview import preview
from agent.reconcile.queue import WHOLE


class Asked:
    """The verbs. LaneSyncError with a message for whoever asked."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def reconcile(self, name: str, author: str) -> Document:
        """Look at one object, or with an empty name at all and at the specs."""
        context = self._agent.context
        if not name:
            if self._agent.git is not None:
                self._agent.git.look_soon()
            self._agent.reload()
            return self._ask("reconcile", None, context.desired.all_keys(), author)
        key = self._agent.find(name)
        status = context.board.get(key)
        if status is not None and status.suspended:
            raise NeedsPersonError(f"{key} is suspended, so nothing is done; {self._how_to_resume(key)}")
        return self._ask("reconcile", key, (key,), author)

    def retry(self, name: str, author: str) -> Document:
        """Forget how often it failed, and try what failed now: of a destination or a server also what uses
        it."""
        key = self._agent.find(name)
        keys = (key, *self._users(key))
        for each in keys:
            self._agent.loop.forgive(each)
            spec = self._agent.context.desired.get(each)
            if isinstance(spec, MappingSpec):
                for destination in spec.destinations:
                    self._agent.context.state.attempts.reset_failures(spec.name, destination)
        return self._ask("retry", key, keys, author)

    def suspend(self, name: str, reason: str, author: str, seconds: float | None) -> Document:
        key = self._agent.find(name)
        if key.kind not in (Kind.MAPPING, Kind.DESTINATION):
            raise LaneSyncError(f"{key} cannot be suspended; mappings and destinations can")
        now = self._agent.context.clock.time()
        until = now + seconds if seconds is not None else None
        self._agent.context.state.overrides.set(key, reason, author or "unknown", now, until)
        found = self._ask("suspend", key, (key, *self._users(key)), author, reason)
        if seconds is not None:
            for each in (key, *self._users(key)):
                self._agent.context.queue.add(each, delay=seconds + 0.1, hints=WHOLE)
        return {**found, "suspended": str(key), "until": until}

    def resume(self, name: str, author: str) -> Document:
        key = self._agent.find(name)
        if not self._agent.context.state.overrides.clear(key):
            raise LaneSyncError(f"{key} is not suspended here; if it is in its spec, edit the spec")
        return {**self._ask("resume", key, (key, *self._users(key)), author), "resumed": str(key)}

    def approve(self, name: str, author: str) -> Document:
        """Let through what is held now: this set, and no later one."""
        context, now = self._agent.context, self._agent.context.clock.time()
        if name == "revision":
            approved = self._approve_revision(author, now)
            return {**self._ask("approve", None, (), author, f"revision {approved}"), "approved": [approved]}
        key = self._agent.find(name)
        plan = preview(context, context.desired, self._agent.mappings.recent_deletions)
        digests = [held.digest for held in plan.held if held.mapping == key.name]
        digests += [suspect_digest(s) for s in plan.suspects if self._concerns(key, s.path)]
        if not digests:
            raise LaneSyncError(f"nothing is held for {key}")
        for digest in digests:
            context.state.approvals.add(key, digest, author, now)
        return {**self._ask("approve", key, (key,), author, ", ".join(digests)), "approved": digests}

    def request(self, name: str) -> Document:
        """How far a request is."""
        pending = self._agent.context.requests.open(name)
        if pending is None:
            raise NotFoundError(f"there is no request {name}; those of an agent end with it")
        return {"request": name, "handled": not pending, "pending": [str(key) for key in pending[:100]]}

    # -- how

    def _ask(
        self, action: str, key: Key | None, keys: Iterable[Key], author: str, reason: str = ""
    ) -> Document:
        """Write it down and wake the objects; what is asked for is in the state already."""
        context, keys = self._agent.context, tuple(keys)
        request = context.requests.new(keys)
        note_asked(context, action, key, author, request, reason)
        for each in keys:
            context.queue.add(each, hints=WHOLE, urgent=key is not None)
        return {"request": request, "enqueued": [str(each) for each in keys]}

    def _users(self, key: Key) -> tuple[Key, ...]:
        """The objects that work through this one."""
        context = self._agent.context
        match key.kind:
            case Kind.DESTINATION:
                return tuple(context.mappings_of(key.name))
            case Kind.SERVER:
                found = context.destinations_of(key.name)
                mappings = (mapping for each in found for mapping in context.mappings_of(each.name))
                return tuple(dict.fromkeys((*found, *mappings)))
            case _:
                return ()

    def _how_to_resume(self, key: Key) -> str:
        state, now = self._agent.context.state, self._agent.context.clock.time()
        keys = [key]
        spec = self._agent.context.desired.get(key)
        if isinstance(spec, MappingSpec):
            keys += [Key(Kind.DESTINATION, name) for name in spec.destinations]
        local = next((each for each in keys if state.overrides.get(each, now) is not None), None)
        if local is not None:
            return f"`lanesync resume {local}` first"
        return "its spec says so, or a window: `lanesync describe` tells which"

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
