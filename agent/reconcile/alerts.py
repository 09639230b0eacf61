"""Alerts: what is true of the objects is compared with what the receivers were told, and told to them.

A message is written down before it is sent and sent until it is taken, with one id, so that it arrives at
least once. Nothing that is delivered waits for a web hook.
"""

from __future__ import annotations

import json
import os
import random
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import structlog

from agent.model.condition import ConditionType, Reason
from agent.model.outcome import Done, LaneSyncError, Outcome, PermanentError, Stalled
from agent.model.spec import AlertOn, AlertSpec, Key, Kind, SecretRef, SecretSource
from agent.planning.alerts import Fact, Id, Message, document, due, observe, told
from agent.planning.backoff import delay
from agent.planning.words import count
from agent.reconcile.context import Context
from agent.reconcile.report import Report
from agent.reconcile.status import ObjectStatus
from agent.reconcile.webhook import MIN_SECRET, Target, post
from agent.specs.secrets import resolve
from agent.specs.select import Selector, parse
from agent.specs.webhooks import webhook_problem
from agent.state.alerts import Outgoing

log = structlog.get_logger(__name__)

WORKERS = 32
"""Requests at a time. Each alert has one at most, and one heartbeat."""

STOP_SECONDS = 3.0
"""Granted to requests when the agent ends; what was not taken by then is sent when it starts again."""

RETRY_INTERVAL, RETRY_MAX = 5.0, 600.0
INTERVAL = 300.0
"""Seconds between two looks at an alert without a heartbeat."""

LONG = 3600.0
IDLE_SECONDS = 30.0
"""The thread looks up at least so often: so idle is told from stuck."""
"""Seconds to the next look, when nothing changes and nothing is due."""

SPECS = "Specs"
"""The object of what is wrong with the specs as a whole: a held revision, a commit that was refused."""

Labels = Mapping[str, str]

_CONDITIONS = {
    AlertOn.STALLED: ConditionType.STALLED,
    AlertOn.DRIFTED: ConditionType.DRIFTED,
    AlertOn.SUSPENDED: ConditionType.SUSPENDED,
    AlertOn.WATCH_DEGRADED: ConditionType.WATCH_DEGRADED,
    AlertOn.LIMITED: ConditionType.LIMITED,
}


@dataclass(frozen=True, slots=True)
class Seen:
    """The objects as they are now. `unknown`: wanted, and not looked at yet. `problems`: with the specs."""

    statuses: tuple[ObjectStatus, ...]
    labels: Mapping[Key, Labels]
    unknown: frozenset[Key]
    problems: tuple[str, ...] = ()


# -- the object


def reconcile_alert(context: Context, name: str, report: Report) -> Outcome:
    """Permitted? Usable? Then the heartbeat is due, and the status says how it goes."""
    spec = context.desired.alerts.get(name)
    if spec is None:
        context.state.alerts.drop(name)
        return Done()
    if refused := context.refusal(spec):
        return Stalled(Reason.REFUSED_BY_POLICY, refused, INTERVAL)
    try:
        _check(context, spec)
    except PermanentError as error:
        return Stalled(Reason.WEBHOOK_UNUSABLE, str(error), INTERVAL)
    firing = [i for i in context.state.alerts.instances(name).values() if i.fires(spec, context.clock.time())]
    report.detail = {"firing": len(firing), "lastSent": context.state.alerts.last_sent(name) or None}
    report.message = f"{count(len(firing), 'condition')} firing" if firing else "nothing fires"
    waiting = context.state.alerts.outgoing(name)
    if waiting is not None and waiting.tries:
        report.add(ConditionType.LIMITED, Reason.WEBHOOK_FAILED, f"{waiting.last_error}; trying on")
    if missed := context.heartbeats.error(name):
        report.add(ConditionType.LIMITED, Reason.WEBHOOK_FAILED, f"heartbeat: {missed}")
    if spec.heartbeat is None:
        return Done(INTERVAL)
    context.heartbeats.beat(name)
    context.alerts_changed.set()
    return Done(spec.heartbeat.interval)


def _check(context: Context, spec: AlertSpec) -> None:
    """That the references can be used, before something happens at night. Commands are run only then."""
    urls = [spec.webhook.url] + ([spec.heartbeat.url] if spec.heartbeat is not None else [])
    for ref in urls:
        if ref.source is not SecretSource.COMMAND:
            _url(context, ref)
    if spec.webhook.secret is not None and spec.webhook.secret.source is not SecretSource.COMMAND:
        _secret(context, spec)


def _url(context: Context, ref: SecretRef) -> str:
    policy = context.policy
    url = resolve(ref, os.environ, os.environ.get("CREDENTIALS_DIRECTORY"), policy)
    problem = webhook_problem(url, None if policy is None else policy.webhooks)
    if problem:
        raise PermanentError(f"web hook {{{ref.source}: {ref.name}}}: {problem}")
    return url


def _secret(context: Context, spec: AlertSpec) -> bytes:
    ref = spec.webhook.secret
    if ref is None:
        return b""
    secret = resolve(ref, os.environ, os.environ.get("CREDENTIALS_DIRECTORY"), context.policy)
    if len(secret) < MIN_SECRET:
        raise PermanentError(
            f"the secret {{{ref.source}: {ref.name}}} is shorter than {MIN_SECRET} characters; "
            "make one with `openssl rand -hex 32`"
        )
    return secret.encode()


# -- what is true now


def facts(spec: AlertSpec, seen: Seen) -> dict[Id, Fact]:
    """Of the objects that it selects. Alerts are not about alerts: they would answer each other."""
    selector = parse(spec.select) if spec.select else None
    found: dict[Id, Fact] = {}
    for status in seen.statuses:
        if status.key.kind is not Kind.ALERT and _selected(selector, seen.labels.get(status.key, {})):
            found.update({Id(str(status.key), on): fact for on, fact in _facts_of(status, spec.on)})
    if seen.problems and selector is None:
        fact = Fact(str(Reason.INVALID_SPEC), seen.problems[0])
        broken = (AlertOn.STALLED, AlertOn.NOT_IN_SYNC)
        found.update({Id(SPECS, on): fact for on in spec.on if on in broken})
    return found


def _selected(selector: Selector | None, labels: Labels) -> bool:
    return selector is None or selector.matches(labels)


def _facts_of(status: ObjectStatus, wanted: Iterable[AlertOn]) -> Iterable[tuple[AlertOn, Fact]]:
    for on in wanted:
        if on is AlertOn.NOT_IN_SYNC:
            condition = None if status.ready or status.suspended else status.why_not_ready()
        else:
            condition = status.condition(_CONDITIONS[on])
        if condition is not None:
            yield on, Fact(str(condition.reason), condition.message)


# -- the messages


class AlertRunner:
    """Looks whenever something changed, and sends in threads of its own."""

    def __init__(self, context: Context, look: Callable[[], Seen]) -> None:
        self._context = context
        self._look = look
        self._sending: set[str] = set()
        self._idle = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None

    @property
    def threads(self) -> tuple[threading.Thread, ...]:
        return () if self._thread is None else (self._thread,)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._work, name="alerts", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """A receiver that does not answer holds nothing up. Idempotent."""
        self._stopping = True
        self._context.alerts_changed.set()
        if self._thread is not None:
            self._thread.join()
        with self._idle:
            self._idle.wait_for(lambda: not self._sending, STOP_SECONDS)

    def drain(self) -> None:
        """Tell now what is true now, without waiting for more, and wait until each was tried once."""
        self.step(hurry=True)
        with self._idle:
            self._idle.wait_for(lambda: not self._sending)

    def _work(self) -> None:
        while not self._stopping:
            self._context.alerts_changed.clear()
            pause = IDLE_SECONDS
            try:
                pause = min(pause, self.step())
            except LaneSyncError as error:
                log.warning("alerts cannot be looked up", why=str(error))
            except Exception:  # a defect in one look must not end them all
                log.exception("unexpected error in alerts")
            self._context.alerts_changed.wait(max(0.05, pause))

    def step(self, *, hurry: bool = False) -> float:
        """Look, write down what is to be told, start to send what is due. Seconds until there is more to do.
        With `hurry`, `groupWait` is not waited for."""
        context, now = self._context, self._context.clock.time()
        pause = LONG
        specs = [spec for spec in context.desired.alerts.values() if not context.refusal(spec)]
        if specs:
            seen = self._look()
            for spec in specs:
                pause = min(pause, self._step(spec, seen, now, hurry=hurry))
        for name in context.heartbeats.take():
            self._submit(f"ping {name}", self._ping, name)
        return pause

    def _step(self, spec: AlertSpec, seen: Seen, now: float, *, hurry: bool) -> float:
        """Seconds until there is more to do for one alert."""
        store = self._context.state.alerts
        before = store.instances(spec.name)
        after = observe(before, facts(spec, seen), frozenset(map(str, seen.unknown)), now)
        waiting = store.outgoing(spec.name)
        message, at = None, None
        if waiting is None:
            paced = replace(spec, group_wait=0.0) if hurry else spec
            message, at = due(paced, after.values(), store.last_sent(spec.name), now)
        if message is not None:
            waiting = self._compose(spec, message, now)
            store.send(waiting, before, told(after, message, now), now)
            self._context.queue.add(Key(Kind.ALERT, spec.name))
        else:
            store.update(spec.name, before, after)
        if waiting is not None and waiting.next_at <= now:
            self._submit(spec.name, self._send, waiting)
        elif waiting is not None:
            at = waiting.next_at
        return LONG if at is None else at - now

    def _compose(self, spec: AlertSpec, message: Message, now: float) -> Outgoing:
        id_ = uuid.uuid4().hex
        context = self._context
        agent, revision = context.state.agent_id, context.desired.revision
        return Outgoing(
            spec.name, id_, json.dumps(document(spec, message, agent, revision, id_, now)), 0, now
        )

    def _submit(self, what: str, job: Callable[..., None], *arguments: object) -> None:
        with self._idle:
            if what in self._sending or len(self._sending) >= WORKERS or self._stopping:
                return  # the end of any brings the next look
            self._sending.add(what)
        threading.Thread(
            target=self._guarded, args=(what, job, *arguments), name=f"alert {what}", daemon=True
        ).start()

    def _guarded(self, what: str, job: Callable[..., None], *arguments: object) -> None:
        try:
            job(*arguments)
        except LaneSyncError as error:
            log.warning("alerts: the state cannot be written", why=str(error))
        except Exception:  # one bad message must not end the others
            log.exception("unexpected error in an alert", what=what)
        finally:
            with self._idle:
                self._sending.discard(what)
                self._idle.notify_all()
            self._context.alerts_changed.set()

    def _send(self, message: Outgoing) -> None:
        context = self._context
        spec = context.desired.alerts.get(message.alert)
        if spec is None:
            return  # it is being removed
        key = Key(Kind.ALERT, spec.name)
        try:
            self._post(spec, spec.webhook.url, message.body, message.id)
        except LaneSyncError as error:
            wait = delay(message.tries + 1, RETRY_INTERVAL, RETRY_MAX, random.random())  # noqa: S311
            now = context.clock.time()
            context.state.alerts.failed(message, str(error), now + wait)
            if not message.tries:
                revision = context.desired.revision
                context.state.events.append(
                    now, key, "Warning", str(Reason.WEBHOOK_FAILED), str(error), revision
                )
            log.warning("alert not sent", alert=spec.name, error=str(error), tries=message.tries + 1)
        else:
            context.state.alerts.done(message)
            log.info("alert sent", alert=spec.name, id=message.id)
        context.queue.add(key)  # its status says so

    def _ping(self, name: str) -> None:
        context = self._context
        spec = context.desired.alerts.get(name)
        if spec is None or spec.heartbeat is None:
            return
        id_, now = uuid.uuid4().hex, context.clock.time()
        body = {"version": 1, "event": "heartbeat", "id": id_, "alert": name}
        body |= {"agent": context.state.agent_id, "revision": context.desired.revision, "time": now}
        try:
            self._post(spec, spec.heartbeat.url, json.dumps(body), id_)
        except LaneSyncError as problem:
            error = str(problem)
        else:
            error = ""
        if context.heartbeats.result(name, error):
            log.info("heartbeat", alert=name, error=error or None)

    def _post(self, spec: AlertSpec, url: SecretRef, body: str, id_: str) -> None:
        context = self._context
        if refused := context.refusal(spec):
            raise PermanentError(refused)
        target = Target(_url(context, url), _secret(context, spec), spec.webhook.ca)
        post(target, body.encode(), id_, context.clock.time())
