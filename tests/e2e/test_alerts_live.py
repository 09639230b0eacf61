"""A running agent tells of trouble, whatever becomes of the agent meanwhile."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from agents import World, fill, world
from servers import eventually
from webhooks import Receiver, receiver

from agent.reconcile.webhook import signature

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
SECRET = "0123456789abcdef0123456789abcdef"


def example(w: World, tmp_path: Path) -> Path:
    """The example of alerts on a free port; returns the source."""
    shutil.copytree(ROOT / "specs" / "samples", tmp_path / "samples")
    text = (ROOT / "specs" / "09-alerts" / "specs.yaml").read_text()
    (w.specs / "specs.yaml").write_text(re.sub(r"\b8886\b", str(w.port), text))
    return tmp_path / "samples" / "reports"


def changes(hook: Receiver) -> list[tuple[str, str, str]]:
    return [
        (found["status"], found["object"], found["reason"])
        for message in hook.messages()
        for found in message["objects"]
    ]


def test_the_example_tells_of_trouble_through_a_crash_and_of_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receiver is down when it begins, the agent is killed before it is up; each thing is told once."""
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    with world(tmp_path) as w, receiver() as hook:
        monkeypatch.setenv("HOOK_URL", hook.url)
        source = example(w, tmp_path)
        w.start()
        w.in_sync()
        eventually(lambda: hook.messages("heartbeat"), what="a heartbeat")
        assert hook.messages() == []
        hook.status = 503
        source.rename(tmp_path / "away")
        assert w.call("reconcile").returncode == 0
        eventually(lambda: hook.messages(), what="an attempt")
        w.kill()
        hook.status = 200
        before = len(hook.taken)
        w.start()
        eventually(lambda: hook.messages()[1:], what="the message after the restart")
        first = hook.messages()[0]["id"]
        assert {message["id"] for message in hook.messages()} == {first}
        (tmp_path / "away").rename(source)
        assert w.call("reconcile").returncode == 0
        eventually(lambda: changes(hook)[-1][0] == "resolved", what="the end is told")
        assert w.stop() == 0
    told = {message["id"]: message for message in hook.messages()}
    assert [(m["status"], m["counts"]["firing"]) for m in told.values()] == [("firing", 1), ("resolved", 0)]
    assert len({m["objects"][0]["fingerprint"] for m in told.values()}) == 1
    assert set(changes(hook)) == {(s, "Mapping/reports", "SourceSuspect") for s in ("firing", "resolved")}
    for taken in hook.taken[before:]:
        sent = taken.headers["X-LaneSync-Timestamp"]
        assert taken.headers["X-LaneSync-Signature"] == signature(SECRET.encode(), sent, taken.body)
    log = w.log.read_text() + "".join(p.read_text() for p in w.state.glob("*.log"))
    assert "T0PSECRET" not in log
    assert SECRET not in log


def test_when_everything_fails_at_once_there_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred mappings lose their sources together."""
    with world(tmp_path) as w, receiver() as hook:
        monkeypatch.setenv("HOOK_URL", hook.url)
        away = tmp_path / "away"
        names = [f"m{number}" for number in range(100)]
        for name in names:
            (w.source / name).mkdir()
            (w.source / name / "f").write_text(name)
        mappings = [w.mapping(name, f"/{name}", "prune: true", str(w.source / name)) for name in names]
        w.write(*mappings, alert({"on": ["Stalled"], "groupWait": "5s"}))
        w.start()
        w.in_sync()
        w.source.rename(away)
        assert w.call("reconcile").returncode == 0
        eventually(lambda: sum(m["counts"]["new"] for m in hook.messages()) == 100, what="all are told")
        assert len(hook.messages()) <= 2  # it takes a while to look at a hundred
        assert hook.messages()[-1]["counts"]["firing"] == 100
        assert all(len(m["objects"]) <= 50 for m in hook.messages())


def test_a_stalled_alert_holds_up_nobody(tmp_path: Path) -> None:
    """Its reference is missing: deliveries go on, and the answer names it."""
    with world(tmp_path) as w:
        fill(w.source, 3)
        w.write(w.mapping(), alert({"on": ["Stalled"]}))
        done = w.once()
        assert done.returncode == 4
        assert "Alert/ops" in done.stdout + done.stderr
        assert "has no variable HOOK_URL" in done.stdout + done.stderr
        assert w.same()


def test_one_run_tells_what_it_found_before_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`run --once` does not wait for the group."""
    with world(tmp_path) as w, receiver() as hook:
        monkeypatch.setenv("HOOK_URL", hook.url)
        w.write(
            w.mapping(source=str(tmp_path / "nowhere"), more="prune: true"),
            alert({"on": ["Stalled", "NotInSync"], "groupWait": "1h"}),
        )
        assert w.once("20s").returncode != 0
        assert ("firing", "Mapping/dailies") in {change[:2] for change in changes(hook)}


def alert(spec: dict[str, Any]) -> str:
    body = json.dumps({"webhook": {"url": {"env": "HOOK_URL"}}, **spec})
    return f"\n---\napiVersion: lanesync/v1\nkind: Alert\nmetadata: {{name: ops}}\nspec: {body}\n"
