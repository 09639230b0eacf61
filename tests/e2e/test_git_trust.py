"""Whoever can push specs does not thereby own the machine.

Each way in which a spec can name a path, an address, a secret, a command or a web hook is tried from a real
repository, on a running agent with a policy.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from agents import SPECS, World, fill, world
from gitserver import Repo, git_server
from servers import eventually
from webhooks import receiver

pytestmark = pytest.mark.e2e

KEY = "A" * 43 + "="


@dataclass
class Trap:
    """A service that nobody was allowed to reach."""

    port: int
    touched: int = 0


@contextlib.contextmanager
def trap() -> Iterator[Trap]:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listening:
        found = Trap(listening.getsockname()[1])

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    listening.accept()[0].close()
                    found.touched += 1

        threading.Thread(target=accept, daemon=True).start()
        yield found
        listening.shutdown(socket.SHUT_RDWR)


def document(kind: str, name: str, spec: dict[str, Any]) -> str:
    head = f"\n---\napiVersion: lanesync/v1\nkind: {kind}\nmetadata: {{name: {name}}}\n"
    return f"{head}spec: {json.dumps(spec)}\n"


def hostile(w: World, secret: Path, mark: Path, port: int) -> list[tuple[str, dict[str, Any]]]:
    """(kind, spec): each names one thing that the policy does not allow, in one of its spellings."""
    steal = ["/bin/sh", "-c", f"touch {mark}; echo secret"]
    link = w.source.parent / "allowed" / "link"
    paths = [str(secret), "/etc", f"{w.source}/../secret", str(link), f"{link}/deep", f"{w.source}2"]
    hosts = [
        "localhost",
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "2130706433",
        "::1",
        "::ffff:127.0.0.1",
        "[::1]",
    ]
    found: list[tuple[str, dict[str, Any]]] = [
        ("Mapping", {"destination": "archive", "destinationPath": f"/stolen{n}", "paths": {"/": path}})
        for n, path in enumerate(paths)
    ]
    found += [("Destination", {"server": "sender", "address": host, "port": port}) for host in hosts]
    found += [("Destination", {"server": "sender", "address": "internal.example", "port": w.port})]
    relay = {"server": "sender", "address": "127.0.0.1", "port": w.port}
    found += [("Destination", {**relay, "relay": {"address": host, "port": port}}) for host in hosts[:2]]
    found += [("Server", {"engine": "jetstream", "address": host, "port": port}) for host in hosts]
    grid = {"engine": "fts3", "auth": {"token": {"env": "OK_X"}}}
    storage = [{"path": str(w.source), "url": "davs://127.0.0.1/x"}]
    ends = (
        f"https://localhost:{port}",
        f"https://127.0.0.1:{w.port}@127.0.0.1:{port}",
        f"https://[::1]:{port}",
        f"https://127.0.0.1:{port}\\@x",
    )
    found += [("Server", {**grid, "endpoint": end, "storage": storage}) for end in ends]
    found += [
        ("Server", {"listen": f"0.0.0.0:{port}", "authorizedClients": [KEY]}),
        ("Server", {"receiveRoot": "/etc/lanesync-received"}),
        ("Server", {"receiveRoot": "received/../../out"}),
        ("Server", {"accounts": "/etc/passwd"}),
        (
            "Server",
            {"engine": "jetstream", "address": "127.0.0.1", "port": w.port, "tls": {"ca": str(secret / "f")}},
        ),
    ]
    references: list[dict[str, Any]] = [
        {"command": steal},
        {"file": str(secret / "f")},
        {"file": str(link / "f")},
        {"env": "HOME"},
        {"credential": "root"},
        {"credential": "../root"},
    ]
    for reference in references:
        login = {"userName": "u", "password": reference}
        found += [
            ("Destination", {**relay, "credentials": login}),
            ("Server", {"engine": "jetstream", "address": "127.0.0.1", "port": w.port, "auth": login}),
            ("Share", {"mapping": "dailies", "password": reference}),
            ("Alert", alert(reference)),
            ("Alert", {**alert({"env": "OK_HOOK"}), "heartbeat": {"url": reference}}),
        ]
    inner = {"destination": "archive", "destinationPath": "/hooked", "paths": {"/": str(w.source)}}
    for name in ("other", "../notify", "/bin/sh", "sh -c id"):
        found.append(("Mapping", {**inner, "hooks": {"onDelivered": {"command": name}}}))
    found += [("Alert", alert({"env": name})) for name in ("OK_NAME", "OK_USER", "OK_IPV6", "OK_PLAIN")]
    return found


def alert(url: dict[str, Any]) -> dict[str, Any]:
    return {"on": ["NotInSync", "Stalled", "Limited"], "groupWait": "100ms", "webhook": {"url": url}}


def policy(w: World, hook: str, allowed: Path) -> Path:
    spec = {
        "sources": [str(w.source), str(allowed)],
        "addresses": [{"host": "127.0.0.1", "ports": [w.port]}],
        "listen": [{"host": "127.0.0.1", "ports": [w.port]}],
        "receiveRoots": ["received"],
        "files": [str(allowed)],
        "secrets": {"env": ["OK_*"], "commands": [{"argv": ["/bin/echo", "fine"]}]},
        "hooks": {"notify": {"argv": ["/bin/true"]}},
        "webhooks": [hook],
    }
    path = w.directory / "policy.yaml"
    path.write_text(json.dumps({"apiVersion": "lanesync/v1", "kind": "Policy", "spec": spec}))
    os.chmod(path, 0o600)
    return path


@contextlib.contextmanager
def running(w: World, directory: Path, text: str, *options: str) -> Iterator[None]:
    """An agent that follows a repository with these specs."""
    served = directory / "served"
    served.mkdir()
    with git_server(served) as server:
        repo = Repo(served / "site.git-work")
        repo.write("site/specs.yaml", text)
        repo.commit()
        url = f"{server.url}/site.git-work/.git"
        command = w.command(
            "run", "--git", url, "--ref", "main", "--subdir", "site", "--listen", "127.0.0.1:0", *options
        )
        with open(w.log, "ab") as log:
            w.agent = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        eventually((w.state / "agent.sock").exists, what="the agent's socket")
        yield
        assert w.stop() == 0


def test_no_spelling_leads_past_the_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is right of the same commit is delivered, each hostile object stalls, and nothing was touched."""
    secret, allowed, mark = tmp_path / "secret", tmp_path / "allowed", tmp_path / "mark"
    (secret / "deep").mkdir(parents=True)
    (secret / "f").write_text("TOP-SECRET")
    (secret / "deep" / "f").write_text("TOP-SECRET")
    allowed.mkdir()
    (allowed / "link").symlink_to(secret)
    with world(tmp_path) as w, trap() as bait, receiver() as hook:
        fill(w.source, 5)
        hook.status, hook.headers = 307, {"Location": f"http://127.0.0.1:{bait.port}/"}
        monkeypatch.setenv("OK_HOOK", hook.url)
        monkeypatch.setenv("OK_X", "x")
        monkeypatch.setenv("OK_NAME", f"http://localhost:{bait.port}/hook/x")
        monkeypatch.setenv("OK_USER", f"http://127.0.0.1:{hook.port}@127.0.0.1:{bait.port}/hook/x")
        monkeypatch.setenv("OK_IPV6", f"http://[::1]:{bait.port}/hook/x")
        monkeypatch.setenv("OK_PLAIN", "http://internal.example/hook/x")
        bad = [
            (kind, f"bad-{number}", spec)
            for number, (kind, spec) in enumerate(hostile(w, secret, mark, bait.port))
        ]
        text = SPECS.format(port=w.port, destination="") + w.mapping()
        text += document("Alert", "fine", alert({"env": "OK_HOOK"}))
        text += "".join(document(kind, name, spec) for kind, name, spec in bad)
        bounds = policy(w, f"http://127.0.0.1:{hook.port}/hook/*", allowed)
        with running(w, tmp_path, text, "--policy", str(bounds)):
            w.eventually_same()
            eventually(lambda: hook.messages(), what="the web hook that is allowed is called")
            status = w.status()
            stalled = {
                (o["kind"], o["name"]): {c["reason"] for c in o["conditions"] if c["type"] == "Stalled"}
                for o in status["objects"]
            }
            wrong = {"InvalidSpec", "RefusedByPolicy", "WebhookUnusable"}
            passed = [
                (kind, spec) for kind, name, spec in bad if not stalled.get((kind, name), set()) & wrong
            ]
            assert passed == []
            assert w.call("reconcile").returncode == 0
            eventually(lambda: len(hook.messages()) > 1, what="another attempt")
        assert bait.touched == 0
        assert not mark.exists()
        received = [p for p in w.state.rglob("*") if p.is_file() and b"TOP-SECRET" in p.read_bytes()]
        assert received == []
        assert sorted(p.name for p in w.received.iterdir() if not p.name.startswith(".")) == ["paris"]
        assert "TOP-SECRET" not in w.log.read_text()


def test_without_a_policy_specs_from_git_call_no_web_hook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor a command; the same specs from this machine do call the web hook."""
    with world(tmp_path) as w, receiver() as hook:
        monkeypatch.setenv("HOOK", hook.url)
        fill(w.source, 3)
        beating = {**alert({"env": "HOOK"}), "heartbeat": {"url": {"env": "HOOK"}, "interval": "1s"}}
        text = SPECS.format(port=w.port, destination="") + w.mapping() + document("Alert", "ops", beating)
        with running(w, tmp_path, text):
            w.eventually_same()
            eventually(lambda: w.object("Alert", "ops"), what="the alert is looked at")
            told = str(w.object("Alert", "ops")["conditions"])
            assert "specs from git call a web hook only when a policy allows it" in told
        assert hook.taken == []
        w.write(w.mapping(), document("Alert", "ops", beating))
        w.start()
        eventually(lambda: hook.messages("heartbeat"), what="a heartbeat")
