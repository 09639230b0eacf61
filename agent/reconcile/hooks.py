"""Hooks of mappings: programs of the policy that are told what was delivered, or that a mapping is stalled.

A call is in the state database before it is made and leaves it when the program ended with 0, so that it is
made at least once. A mapping's calls are made in order and never at the same time, also not beside one that
outlived an agent: it holds the mapping's lock file. Nothing that is delivered waits for a hook.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import structlog

from agent.model.condition import Reason
from agent.model.outcome import LaneSyncError, RetryableError
from agent.model.printable import printable
from agent.model.spec import Key, Kind, MappingSpec
from agent.planning.backoff import delay
from agent.reconcile.context import Context
from agent.specs.commands import run
from agent.state.hooks import Call

log = structlog.get_logger(__name__)

LATEST = 60.0
"""Seconds after which a hook is told what has been delivered so far, although more is on its way."""

IDLE_SECONDS = 30.0
"""The thread without work looks up at least so often: so idle is told from stuck."""

WORKERS = 4
RETRY_INTERVAL, RETRY_MAX = 5.0, 600.0
MAX_OUTPUT = 8192


def hook_of(spec: MappingSpec, event: str) -> str | None:
    return spec.hooks.on_delivered if event == "delivered" else spec.hooks.on_stalled


def settled(context: Context, spec: MappingSpec, destination: str, in_flight: int) -> None:
    """Have the hook told what was delivered here, once nothing more is on its way."""
    if spec.hooks.on_delivered is None:
        return
    if context.state.hooks.seal(spec.name, destination, not in_flight, context.clock.time(), LATEST):
        context.hooks_changed.set()


class HookRunner:
    """Makes the calls that are due, in threads of its own."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="hook")
        self._running: set[str] = set()
        self._idle = threading.Condition()
        self._stopping = False
        self._stop_read, self._stop_write = os.pipe()
        self._thread: threading.Thread | None = None

    @property
    def threads(self) -> tuple[threading.Thread, ...]:
        return () if self._thread is None else (self._thread,)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._work, name="hooks", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End what runs; it is called again when the agent starts. Idempotent."""
        if self._stopping:
            return
        self._stopping = True
        os.close(self._stop_write)
        self._context.hooks_changed.set()
        if self._thread is not None:
            self._thread.join()
        self._pool.shutdown()
        os.close(self._stop_read)

    def drain(self) -> None:
        """Wait until nothing is due and nothing runs. Each program has a time limit, and what failed is due
        later."""
        with self._idle:
            self._idle.wait_for(lambda: not self._running and not self._due()[0])

    def _work(self) -> None:
        while not self._stopping:
            self._context.hooks_changed.clear()
            pause: float | None = 1.0
            try:
                pause = self.start_due()
            except LaneSyncError as error:
                log.warning("hooks cannot be looked up", why=str(error))
            self._context.hooks_changed.wait(IDLE_SECONDS if pause is None else min(pause, IDLE_SECONDS))

    def start_due(self) -> float | None:
        """Seconds until the next call is due; None when none is known."""
        with self._idle:
            due, later = self._due()
            for call in due:
                self._running.add(call.mapping)
                self._pool.submit(self._make, call)
        return later

    def _due(self) -> tuple[list[Call], float | None]:
        now = self._context.clock.time()
        heads = [call for call in self._context.state.hooks.heads() if call.mapping not in self._running]
        later = min((call.next_at - now for call in heads if call.next_at > now), default=None)
        return [call for call in heads if call.next_at <= now], later

    def _make(self, call: Call) -> None:
        try:
            self._carry_out(call)
        except Exception:  # one bad call must not end the others
            log.exception("unexpected error in a hook", mapping=call.mapping)
            self._failed(call, "internal error; see the log")
        finally:
            with self._idle:
                self._running.discard(call.mapping)
                self._idle.notify_all()
            self._context.hooks_changed.set()

    def _carry_out(self, call: Call) -> None:
        spec = self._context.desired.mappings.get(call.mapping)
        name = hook_of(spec, call.event) if spec is not None else None
        if spec is None or name is None:
            self._context.state.hooks.done(call.number)  # nobody wants to know any more
            return
        try:
            self._run(call, name)
        except LaneSyncError as error:
            if not self._stopping:
                self._failed(call, f"hook {name}: {error}")
            return
        self._context.state.hooks.done(call.number)
        log.info("hook called", hook=name, hook_event=call.event, mapping=call.mapping, files=call.files)
        if call.event == "delivered":  # what came while it ran
            flying = self._context.state.attempts.in_flight_count(call.mapping, call.destination)
            settled(self._context, spec, call.destination, flying)
        if call.tries:
            self._context.queue.add(Key(Kind.MAPPING, call.mapping))  # its status says otherwise

    def _run(self, call: Call, name: str) -> None:
        policy = self._context.policy
        command = policy.hooks.get(name) if policy is not None else None
        if command is None:
            raise RetryableError("the policy in force does not define it")
        data = json.dumps(self._document(call), ensure_ascii=True).encode()
        with self._alone(call.mapping) as lock:
            ended = run(command, data, os.environ, limit=MAX_OUTPUT, keep_open=(lock,), stop=self._stop_read)
        if ended.returncode:
            lines = ended.errors.decode("utf-8", "replace").strip().splitlines()
            said = f": {printable(lines[-1])[:200]}" if lines else ""
            raise RetryableError(f"ended with {ended.returncode}{said}")

    @contextmanager
    def _alone(self, mapping: str) -> Iterator[int]:
        """The descriptor of the mapping's lock. The program inherits it: it holds even when we are killed."""
        directory = os.path.join(self._context.state_dir, "hooks")
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            path = os.path.join(directory, f"{mapping}.lock")
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise RetryableError(f"cannot lock {directory}: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield lock
        except BlockingIOError:
            raise RetryableError("an earlier call of this mapping still runs") from None
        finally:
            os.close(lock)

    def _document(self, call: Call) -> dict[str, object]:
        document: dict[str, object] = {
            "event": call.event,
            "call": call.number,
            "attempt": call.tries + 1,
            "agent": self._context.state.agent_id,
            "mapping": call.mapping,
            "revision": call.revision,
            "since": call.since,
        }
        if call.event == "delivered":
            document |= {
                "destination": call.destination,
                "files": call.files,
                "bytes": call.bytes,
                "pathsOmitted": call.files - len(call.content["paths"]),
            }
        return {**document, **call.content}

    def _failed(self, call: Call, error: str) -> None:
        context = self._context
        now = context.clock.time()
        wait = delay(call.tries + 1, RETRY_INTERVAL, RETRY_MAX, random.random())  # noqa: S311
        context.state.hooks.failed(call.number, error, now + wait)
        key = Key(Kind.MAPPING, call.mapping)
        context.state.events.append(now, key, "Warning", str(Reason.HOOK_FAILED), error, call.revision)
        log.warning("hook failed", mapping=call.mapping, error=error, tries=call.tries + 1)
        context.queue.add(key)  # its status says so
