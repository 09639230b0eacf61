"""Asking an agent, as people do: history, events, explain, get, describe, plan; beside it and without it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from agents import World, fill, world
from servers import eventually

pytestmark = pytest.mark.e2e


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def told(w: World, *arguments: str) -> Any:
    answer = w.call(*arguments, "--output", "json")
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def lines(w: World, *arguments: str) -> list[dict[str, Any]]:
    answer = w.call(*arguments, "--output", "json")
    assert answer.returncode == 0, answer.stderr
    return [json.loads(line) for line in answer.stdout.splitlines()]


def test_what_was_done_is_told_beside_the_agent_and_after_it(w: World) -> None:
    """History by object and by path, explain and describe: the same answers through the socket and alone."""
    fill(w.source, 10)
    w.write(w.mapping(more="prune: true"))
    w.start()
    w.in_sync()
    (w.source / "clip.mov").write_bytes(b"x" * 5000)
    eventually(lambda: (w.target() / "clip.mov").exists(), what="it arrives")
    w.in_sync()
    (w.source / "clip.mov").unlink()
    eventually(lambda: not (w.target() / "clip.mov").exists(), what="it is deleted")
    w.in_sync()
    for _ in range(2):
        acts = lines(w, "history", "Mapping/dailies")
        assert [act["action"] for act in acts if act["attempt"]] == ["deliver", "deliver", "delete"]
        one = next(act for act in acts if act["path"] == "/paris/clip.mov")
        assert (one["files"], one["bytes"], one["who"], one["revision"] != "") == (1, 5000, "agent", True)
        by_path = lines(w, "history", "--path", str(w.source / "clip.mov"))
        assert [line["action"] for line in by_path] == ["create", "delete"]
        assert by_path[0]["digest"]
        assert len(lines(w, "history", "--files")) == 12
        assert told(w, "explain", "/paris/clip.mov")["mappings"][0]["deliveries"][0]["state"] == "absent"
        shown = w.call("explain", str(w.source / "d000" / "f00001.bin"))
        assert "nothing: the destination has this version" in " ".join(shown.stdout.split())
        assert [line for line in shown.stdout.splitlines() if len(line) > 80 and len(line.split()) > 2] == []
        described = w.call("describe", "mapping/dailies")
        assert described.returncode == 0, described.stderr
        assert "specs.yaml:18" in described.stdout.replace("\n", "").replace(" ", "")
        spec = told(w, "get", "Mapping/dailies")
        assert spec["spec"]["destinationPath"] == "/paris"
        assert spec["from"].endswith("specs.yaml:18")
        assert "destinationPath: /paris" in w.call("get", "mapping/dailies", "--output", "yaml").stdout
        if w.agent is not None and w.agent.poll() is None:
            assert w.stop() == 0


def test_events_are_followed_as_they_happen(w: World) -> None:
    """`--follow` prints what comes, one JSON object a line, and ends with the agent."""
    fill(w.source, 2)
    w.write(w.mapping())
    w.start()
    w.in_sync()
    follower = subprocess.Popen(
        w.command("events", "Mapping/dailies", "--follow", "--output", "json"),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert follower.stdout is not None
        assert json.loads(follower.stdout.readline())["key"] == "Mapping/dailies"
        (w.source / "new").write_text("x")
        for line in follower.stdout:
            event = json.loads(line)
            if event["reason"] == "TransferEnded" and event["count"] > 1:
                break
        else:
            pytest.fail("no event of the second transfer")
        w.stop()
        assert follower.wait(30) == 1
    finally:
        follower.kill()
        follower.wait()
        follower.stdout.close()


def test_a_saved_plan_says_which_of_the_three_moved_on(w: World) -> None:
    """The source, what has been delivered, the specs: each alone makes it stale, and is named."""
    fill(w.source, 3)
    w.write(w.mapping())
    saved = w.directory / "plan.json"

    def save() -> None:
        assert w.call("plan", str(w.specs), "--out", str(saved)).returncode == 0

    def refused() -> str:
        answer = w.call("apply", str(saved))
        assert answer.returncode == 1, answer.stdout
        return answer.stderr

    save()
    (w.source / "new").write_text("x")
    assert "the source moved on" in refused()
    save()
    w.write(w.mapping(more="priority: 7"))
    assert "the specs (they were" in refused()
    save()
    assert w.call("apply", str(saved), "--timeout", "60s").returncode == 0
    assert "what has been delivered" in refused()
    assert "the specs" not in refused()


def test_a_plan_tells_reasons_and_how_long_it_takes(w: World) -> None:
    """By the destination's limit; unknown where nothing is known."""
    (w.source / "a.mov").write_bytes(b"x" * 3_000_000)
    w.write(w.mapping())
    assert "unknown: no rate limit" in w.call("plan", str(w.specs)).stdout
    w.write(w.mapping(), destination=", sendRateMax: 8Mbit/s")
    plan = told(w, "plan", str(w.specs))
    (delivery,) = plan["deliveries"]
    assert delivery["create"] == 1
    assert delivery["bytes"] == 3_000_000
    assert 2.8 < delivery["eta"]["bestSeconds"] <= delivery["eta"]["worstSeconds"] < 3.3
    shown = w.call("plan", str(w.specs), "--reasons")
    assert "/paris/a.mov (2.9 MiB, not in ledger)" in shown.stdout
    assert "eta     dailies -> archive: 3s (by limit)" in shown.stdout


def test_requests_are_waited_for(w: World) -> None:
    """An id, which the object echoes; a request nobody acts on cannot be waited for."""
    fill(w.source, 2)
    w.write(w.mapping())
    w.start()
    w.in_sync()
    answer = w.call("reconcile", "Mapping/dailies", "--wait", "--timeout", "60s")
    assert answer.returncode == 0, answer.stderr
    request = answer.stdout.split("request ")[1].split(")")[0]
    assert w.object("Mapping", "dailies")["lastHandledRequest"] == request
    held = w.call("suspend", "Mapping/dailies", "--reason", "swap", "--for", "2h", "--as", "ada", "--wait")
    assert held.returncode == 0, held.stderr
    suspension = w.object("Mapping", "dailies")["suspension"]
    assert suspension["inSpec"] is False
    assert (suspension["local"]["author"], suspension["local"]["reason"]) == ("ada", "swap")
    assert w.call("reconcile", "Mapping/dailies").returncode == 4
    assert w.call("resume", "Mapping/dailies", "--wait").returncode == 0
    assert w.call("retry", "Server/sender", "--wait", "--timeout", "60s").returncode == 0
    assert w.stop() == 0
    alone = w.call("suspend", "Mapping/dailies", "--wait")
    assert alone.returncode == 1
    assert "no agent runs" in alone.stderr


def test_over_http_every_question_has_its_route(w: World) -> None:
    """Open for reading, 404 and 409 where they belong, the token's holder in the trail."""
    fill(w.source, 2)
    (w.source / "\udcff.bin").write_text("x")
    w.write(w.mapping())
    w.start()
    w.in_sync()
    url = f"http://{w.status()['agent']['http']}/api/v1"
    session = requests.Session()
    session.trust_env = False
    assert session.get(f"{url}/specs/mapping/dailies", timeout=60).json()["specs"][0]["name"] == "dailies"
    assert session.get(f"{url}/objects/Mapping/dailies", timeout=60).json()["object"] == "Mapping/dailies"
    explained = session.get(f"{url}/explain?path=/paris/%ff.bin", timeout=60).json()
    assert explained["mappings"][0]["deliveries"][0]["state"] == "delivered"
    assert session.get(f"{url}/explain", timeout=60).status_code == 400
    assert session.get(f"{url}/requests/r-none", timeout=60).status_code == 404
    assert session.get(f"{url}/history?limit=x", timeout=60).status_code == 400
    assert session.get(f"{url}/history?from=-1", timeout=60).status_code == 400
    assert session.get(f"{url}/objects/Mapping/none", timeout=60).status_code == 400
    token = {"Authorization": f"Bearer {(w.state / 'token').read_text().strip()}"}
    order = {"name": "Mapping/dailies"}
    assert session.post(f"{url}/retry", json=order, timeout=60).status_code == 401
    assert session.post(f"{url}/suspend", json=order, headers=token, timeout=60).status_code == 200
    eventually(lambda: w.call("reconcile", "Mapping/dailies").returncode == 4, what="it is suspended")
    assert session.post(f"{url}/reconcile", json=order, headers=token, timeout=60).status_code == 409
    entries = session.get(f"{url}/history?object=Mapping/dailies", timeout=60).json()["entries"]
    assert [e["who"] for e in entries if e["action"] == "suspend"] == ["holder of the token"]
