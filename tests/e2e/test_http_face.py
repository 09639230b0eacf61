"""The agent's HTTP face: open for reading, closed for changing without the token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from agents import World, fill, world

pytestmark = pytest.mark.e2e


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def test_reading_is_open_and_changing_needs_the_token(w: World) -> None:
    """Health and status answer anybody on the host; suspend answers who has read the token."""
    fill(w.source, 10)
    w.write(w.mapping())
    w.start()
    w.in_sync()
    url = f"http://{w.status()['agent']['http']}"
    session = requests.Session()
    session.trust_env = False
    assert session.get(f"{url}/healthz", timeout=60).json() == {"ok": True}
    assert session.get(f"{url}/readyz", timeout=60).status_code == 200
    assert session.get(f"{url}/api/v1/status", timeout=60).json()["inSync"] is True
    order = {"name": "Mapping/dailies", "reason": "test", "author": "test"}
    refused = session.post(f"{url}/api/v1/suspend", json=order, timeout=60)
    assert refused.status_code == 401
    assert "token" in refused.json()["error"]
    token = (w.state / "token").read_text().strip()
    bearer = {"Authorization": f"Bearer {token}"}
    assert session.post(f"{url}/api/v1/suspend", json=order, headers=bearer, timeout=60).status_code == 200
    wrong = session.post(f"{url}/api/v1/suspend", data="[1", headers=bearer, timeout=60)
    assert wrong.status_code == 400
    assert "JSON" in wrong.json()["error"]
    events = session.get(f"{url}/api/v1/events", timeout=60).json()["events"]
    assert any(event["key"] == "Mapping/dailies" for event in events)


def test_verbs_work_beside_the_agent_and_without_it(w: World) -> None:
    """plan, suspend, resume and status through the socket, then under the state lock."""
    fill(w.source, 10)
    w.write(w.mapping())
    w.start()
    w.in_sync()
    assert json.loads(w.call("plan", str(w.specs), "--output", "json").stdout)["empty"] is True
    assert w.call("suspend", "mapping/dailies", "--reason", "disk swap").returncode == 0
    (w.source / "later.txt").write_text("x")
    shown = w.call("status", "Mapping/dailies")
    assert "disk swap" in shown.stdout
    refused = w.call("reconcile", "Mapping/dailies")
    assert refused.returncode == 4, "a suspended object is refused loudly"
    assert "lanesync resume Mapping/dailies" in refused.stderr
    assert w.stop() == 0
    assert w.call("resume", "Mapping/dailies").returncode == 0
    plan = w.call("plan", str(w.specs), "--exit-code")
    assert plan.returncode == 3
    assert "later.txt" in plan.stdout
    saved = w.directory / "plan.json"
    assert w.call("plan", str(w.specs), "--out", str(saved)).returncode == 0
    assert w.call("apply", str(w.specs)).returncode == 2, "it wants --yes where it cannot ask"
    applied = w.call("apply", str(saved), "--timeout", "60s")
    assert applied.returncode == 0, applied.stdout + applied.stderr
    assert w.same()
    stale = w.call("apply", str(saved), "--timeout", "60s")
    assert stale.returncode == 1
    assert "stale" in stale.stderr
    assert w.call("status").returncode == 0
