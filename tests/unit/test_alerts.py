"""Alerts reach their web hook: signed, at least once, and nothing else of the agent reaches anybody."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from unit.reconcile_bench import Bench
from webhooks import Receiver, receiver

from agent.model.condition import Condition, ConditionType, Reason
from agent.model.spec import (
    AlertOn,
    AlertSpec,
    DesiredState,
    Heartbeat,
    Key,
    Kind,
    SecretRef,
    SecretSource,
    Webhook,
)
from agent.reconcile import alerts
from agent.reconcile.status import ObjectStatus
from agent.specs.policy import Policy
from agent.specs.policy_rules import PathRule, parse_address
from agent.specs.webhooks import parse_webhook

ALERT = Key(Kind.ALERT, "ops")
SECRET = "correct horse battery staple"


def ref(name: str) -> SecretRef:
    return SecretRef(SecretSource.ENV, name)


class Alerting(Bench):
    """A bench with an alert about everything that is stalled."""

    def __init__(self, directory: Path) -> None:
        self.alert: AlertSpec | None = AlertSpec(
            "ops", (AlertOn.STALLED,), Webhook(ref("HOOK"), ref("HOOK_SECRET")), group_wait=10.0
        )
        super().__init__(directory)

    def desired(self) -> DesiredState:
        alerts = {} if self.alert is None else {self.alert.name: self.alert}
        return replace(super().desired(), alerts=alerts)

    def set_alert(self, **fields: object) -> None:
        assert self.alert is not None
        self.alert = replace(self.alert, **fields)  # type: ignore[arg-type]
        self.agent._take(self.agent.context.desired, self.desired())
        self.settle()

    def mark(self, name: str, *, stalled: bool) -> None:
        """What the reconcile of a mapping would say."""
        key, now = Key(Kind.MAPPING, name), self.clock.now
        ready = Condition(ConditionType.READY, not stalled, Reason.FILES_FAILED, f"t={now}", now)
        bad = Condition(ConditionType.STALLED, True, Reason.FILES_FAILED, f"t={now}", now)
        self.agent.context.board.write(ObjectStatus(key, (ready, bad) if stalled else (ready,)))

    def tell(self) -> None:
        """What is due is sent to its end; nothing else happens."""
        self.agent.alerts.step()
        with self.agent.alerts._idle:
            assert self.agent.alerts._idle.wait_for(lambda: not self.agent.alerts._sending, 20)

    def after(self, seconds: float) -> None:
        """Time passes, and the agent goes on."""
        self.pass_time(seconds)
        self.tell()
        self.settle()


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiver() as found:
        monkeypatch.setenv("HOOK", found.url)
        monkeypatch.setenv("HOOK_SECRET", SECRET)
        yield found


@pytest.fixture
def bench(tmp_path: Path, hook: Receiver) -> Alerting:
    made = Alerting(tmp_path)
    made.settle()
    return made


def fire(bench: Alerting, name: str = "x") -> None:
    bench.mark(name, stalled=True)
    bench.after(0)
    bench.after(11)


def test_it_tells_of_the_beginning_and_of_the_end(bench: Alerting, hook: Receiver) -> None:
    """Both with one fingerprint; nothing in between."""
    fire(bench)
    bench.mark("x", stalled=True)
    bench.after(60)
    bench.mark("x", stalled=False)
    bench.after(0)
    bench.after(11)
    first, last = hook.messages()
    assert [m["status"] for m in (first, last)] == ["firing", "resolved"]
    [began], [ended] = first["objects"], last["objects"]
    assert (began["object"], began["on"], began["reason"]) == ("Mapping/x", "Stalled", "FilesFailed")
    assert began["fingerprint"] == ended["fingerprint"]
    assert (began["ended"], ended["since"] == began["since"]) == (None, True)
    assert (first["agent"], first["alert"], first["revision"]) == (
        bench.agent.context.state.agent_id,
        "ops",
        "r",
    )


def test_the_receiver_can_verify_who_sent_it(bench: Alerting, hook: Receiver) -> None:
    """As the document of the messages says."""
    fire(bench)
    [taken] = hook.taken
    timestamp = taken.headers["X-LaneSync-Timestamp"]
    wanted = hmac.new(SECRET.encode(), timestamp.encode() + b"." + taken.body, hashlib.sha256).hexdigest()
    assert taken.headers["X-LaneSync-Signature"] == f"sha256={wanted}"
    assert taken.headers["X-LaneSync-Id"] == taken.message["id"] == taken.headers["Idempotency-Key"]


def test_what_is_not_taken_is_sent_again_after_a_crash_with_its_id(bench: Alerting, hook: Receiver) -> None:
    """The same bytes, and the status says that it fails, until it is taken."""
    hook.status = 503
    fire(bench)
    assert Reason.WEBHOOK_FAILED in {c.reason for c in bench.status(ALERT).conditions}
    assert bench.status(ALERT).ready
    bench.crash()
    bench.open()
    bench.mark("x", stalled=True)
    bench.settle()
    hook.status = 204
    bench.after(700)
    assert len(hook.taken) == 2
    assert hook.taken[0].body == hook.taken[1].body
    bench.after(700)
    assert len(hook.taken) == 2
    bench.settle()
    assert Reason.WEBHOOK_FAILED not in {c.reason for c in bench.status(ALERT).conditions}


def test_a_restart_tells_nothing_twice_and_resolves_nothing_unseen(bench: Alerting, hook: Receiver) -> None:
    """Before the mapping was looked at again, nobody knows how it is."""
    bench.mark("m", stalled=True)
    bench.after(0)
    bench.after(11)
    assert len(hook.messages()) == 1
    bench.crash()
    bench.open()
    for _ in range(3):
        bench.clock.now += 100
        bench.tell()
    bench.mark("m", stalled=True)
    bench.clock.now += 100
    bench.tell()
    assert len(hook.messages()) == 1


def test_while_one_message_fails_the_rest_is_gathered(bench: Alerting, hook: Receiver) -> None:
    """One waits and one follows, however much happens."""
    hook.status = 500
    fire(bench, "x")
    for number in range(30):
        bench.mark(f"y{number}", stalled=True)
        bench.after(15)
    assert {m["id"] for m in hook.messages()} == {hook.messages()[0]["id"]}
    hook.status = 200
    bench.after(700)
    bench.after(11)
    last = hook.messages()[-1]
    assert (last["counts"]["new"], last["counts"]["firing"]) == (30, 31)


def test_an_object_that_is_gone_is_resolved(bench: Alerting, hook: Receiver) -> None:
    fire(bench)
    bench.agent.context.board.remove(Key(Kind.MAPPING, "x"))
    bench.after(0)
    bench.after(11)
    assert hook.messages()[-1]["status"] == "resolved"


def test_an_alert_that_is_gone_leaves_nothing(bench: Alerting, hook: Receiver) -> None:
    hook.status = 500
    fire(bench)
    bench.alert = None
    bench.agent._take(bench.agent.context.desired, bench.desired())
    bench.settle()
    store = bench.agent.context.state.alerts
    assert (store.instances("ops"), store.outgoing("ops"), store.last_sent("ops")) == ({}, None, 0.0)
    assert bench.agent.context.board.get(ALERT) is None


def test_a_held_revision_is_told_as_the_specs(bench: Alerting, hook: Receiver) -> None:
    bench.agent._held = "revision x removes all objects; approve it"
    bench.after(0)
    bench.after(11)
    [found] = hook.messages()[0]["objects"]
    assert (found["object"], found["message"]) == ("Specs", "revision x removes all objects; approve it")


def test_a_redirect_is_not_followed(bench: Alerting, hook: Receiver) -> None:
    """Who answers for the URL cannot send the agent elsewhere."""
    with receiver() as inside:
        hook.status, hook.headers = 307, {"Location": inside.url}
        fire(bench)
        assert len(hook.taken) == 1
        assert inside.taken == []
    assert "a redirect, which is not followed" in str(bench.status(ALERT).conditions)


def test_proxies_of_the_environment_are_not_used(
    bench: Alerting, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiver() as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "")
        fire(bench)
        assert (len(hook.taken), proxy.taken) == (1, [])


@pytest.mark.parametrize("trouble", ["refused", "answers 500", "nobody"])
def test_nothing_says_the_url_or_the_secret(
    trouble: str, bench: Alerting, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the log, the status or the events; the host is named."""
    if trouble == "nobody":
        monkeypatch.setenv("HOOK", "http://127.0.0.1:9/hook/T0PSECRET?token=S3CRET")
    if trouble == "refused":
        monkeypatch.setenv("HOOK", "http://inside.example/hook/T0PSECRET?token=S3CRET")
    hook.status = 500
    with structlog.testing.capture_logs() as lines:
        fire(bench)
        bench.agent.context.queue.add(ALERT)
        bench.settle()
    events = [event.message for event in bench.agent.context.state.events.last(100)]
    said = json.dumps([lines, events, bench.agent.status()], default=str)
    assert "T0PSECRET" not in said
    assert "S3CRET" not in said
    assert SECRET not in said
    assert {"refused": "plain http is only", "nobody": "cannot be reached"}.get(
        trouble, "answers 500"
    ) in said


def test_a_reference_that_cannot_be_used_is_known_before_anything_happens(
    bench: Alerting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it stands in nobody else's way: only the alert is stalled."""
    for name, value, expected in [
        ("HOOK", None, "has no variable HOOK"),
        ("HOOK", "ftp://x.example/", "must begin with https"),
        ("HOOK_SECRET", "short", "shorter than 16"),
    ]:
        with monkeypatch.context() as changed:
            changed.delenv(name) if value is None else changed.setenv(name, value)
            bench.agent.context.queue.add(ALERT)
            bench.settle()
            stalled = bench.status(ALERT).stalled
            assert stalled is not None
            assert (stalled.reason, expected in stalled.message) == (Reason.WEBHOOK_UNUSABLE, True)
    bench.agent.context.queue.add(ALERT)
    bench.settle()
    assert bench.status(ALERT).ready


def test_the_policy_is_asked_when_the_url_is_used(bench: Alerting, hook: Receiver) -> None:
    """The reference is allowed, what it stands for is not."""

    def policy(*urls: str) -> Policy:
        return Policy(
            "p",
            sources=(PathRule("/"),),
            addresses=(parse_address({"host": "*"}),),
            env=("HOOK*",),
            webhooks=tuple(map(parse_webhook, urls)),
        )

    bench.agent.context.policy = policy("https://hooks.example.org/*")
    fire(bench)
    bench.agent.context.queue.add(ALERT)
    bench.settle()
    assert hook.taken == []
    assert "`spec.webhooks` allows https://hooks.example.org/*" in str(bench.status(ALERT).conditions)
    bench.agent.context.policy = policy()
    bench.agent.context.queue.add(ALERT)
    bench.settle()
    stalled = bench.status(ALERT).stalled
    assert stalled is not None
    assert stalled.reason is Reason.REFUSED_BY_POLICY
    bench.agent.context.policy = policy(f"http://127.0.0.1:{hook.port}/hook/*")
    bench.after(700)
    assert len(hook.taken) == 1


def test_from_git_nothing_is_sent_without_a_policy(bench: Alerting, hook: Receiver) -> None:
    bench.agent.context.from_git = True
    bench.set_alert(heartbeat=Heartbeat(ref("HOOK"), 30.0))
    fire(bench)
    assert hook.taken == []
    assert "only when a policy allows it" in str(bench.status(ALERT).stalled)


def test_the_heartbeat_goes_on_while_the_loop_moves(bench: Alerting, hook: Receiver) -> None:
    """A loop that hangs makes no pings, although the rest of the agent lives."""
    bench.set_alert(heartbeat=Heartbeat(ref("HOOK"), 30.0))
    for _ in range(4):
        bench.after(30)
    pings = hook.messages("heartbeat")
    assert len(pings) >= 4
    assert len({ping["id"] for ping in pings}) == len(pings)
    bench.agent.alerts.step()
    before = len(hook.taken)
    for _ in range(4):  # the clock goes on and nobody works on the queue
        bench.clock.now += 30
        bench.agent.alerts.step()
    assert len(hook.taken) == before


def test_a_receiver_that_does_not_answer_does_not_hold_up_the_end(
    bench: Alerting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not taken stays owed."""
    monkeypatch.setattr(alerts, "STOP_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HOOK", f"http://127.0.0.1:{silent.getsockname()[1]}/")
        bench.mark("x", stalled=True)
        bench.pass_time(0)
        bench.agent.alerts.step()
        bench.clock.now += 11
        bench.agent.alerts.step()
        bench.agent.alerts.stop()
        assert bench.agent.alerts._sending == {"ops"}
        assert bench.agent.context.state.alerts.outgoing("ops") is not None


def test_https_needs_a_certificate_that_is_trusted(
    bench: Alerting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `ca`, when it is no public one; what the environment says of it is not asked."""
    certificate, key = make_certificate(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificate)
    with receiver((certificate, key)) as hook:
        monkeypatch.setenv("HOOK", hook.url)
        fire(bench)
        assert hook.taken == []
        assert "its certificate is not trusted" in str(bench.status(ALERT).conditions)
        bench.set_alert(webhook=Webhook(ref("HOOK"), ref("HOOK_SECRET"), certificate))
        bench.after(700)
        assert len(hook.messages()) == 1


def make_certificate(directory: Path) -> tuple[str, str]:
    """For 127.0.0.1, signed by itself."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hook")])
    now = datetime.datetime.now(datetime.UTC)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(alternative, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (directory / "c.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (directory / "k.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(directory / "c.pem"), str(directory / "k.pem")
