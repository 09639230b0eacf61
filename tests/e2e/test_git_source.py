"""An agent whose specs are in a git repository that a real git server hands out."""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from agents import SPECS, World, fill, world
from gitserver import GitServer, Repo, git_server
from servers import eventually

pytestmark = pytest.mark.e2e

SECRET = "a-secret-of-more-than-16"


class GitWorld:
    """A world whose specs are committed to `site/` of a repository."""

    def __init__(self, w: World, server: GitServer) -> None:
        self.w = w
        self.server = server
        self.repo = Repo(server.root / "site.git-work")
        self.url = f"{server.url}/site.git-work/.git"
        self.options: list[str] = ["--ref", "main"]

    def commit(self, *mappings: str, message: str = "change", extra: str = "") -> str:
        self.repo.write("site/specs.yaml", SPECS.format(port=self.w.port, destination="") + "".join(mappings))
        if extra:
            self.repo.write("site/extra.yaml", extra)
        return self.repo.commit(message)

    def arguments(self) -> list[str]:
        return ["run", "--git", self.url, "--subdir", "site", *self.options]

    def start(self, *more: str) -> None:
        command = self.w.command(*self.arguments(), "--interval", "1s", "--listen", "127.0.0.1:0", *more)
        with open(self.w.log, "ab") as log:
            self.w.agent = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        eventually((self.w.state / "agent.sock").exists, what="the agent's socket")

    def once(self, *more: str) -> subprocess.CompletedProcess[str]:
        return self.w.call(*self.arguments(), "--once", "--timeout", "60s", *more)

    def source(self) -> dict[str, Any]:
        found: dict[str, Any] = self.w.status()["source"]
        return found

    def applied(self, commit: str) -> None:
        def look() -> bool:
            status = self.w.status()
            return bool(status["inSync"] and status["revision"]["applied"] == f"git:{commit}")

        eventually(look, seconds=60, what=f"commit {commit} is applied")

    def reason(self, reason: str) -> dict[str, Any]:
        """Wait for this reason; the condition."""

        def look() -> dict[str, Any] | None:
            return next((c for c in self.source()["conditions"] if c["reason"] == reason), None)

        found = eventually(look, what=reason)
        assert found is not None
        return found


@pytest.fixture
def g(tmp_path: Path) -> Iterator[GitWorld]:
    served = tmp_path / "served"
    served.mkdir()
    with git_server(served) as server, world(tmp_path) as w:
        fill(w.source, 5)
        yield GitWorld(w, server)


def test_each_commit_takes_effect_and_is_named_everywhere(g: GitWorld) -> None:
    """Pushed, forced, rewound: what the branch is, is delivered, and status says which commit that is."""
    first = g.commit(g.w.mapping(), message="first \033[31m light")
    g.start()
    g.applied(first)
    assert g.w.same()
    source = g.source()
    assert source["inForce"] == source["applied"] == source["attempted"]
    assert source["applied"]["commit"] == first
    assert source["applied"]["subject"] == "first \\x1b[31m light"
    assert source["lastFetch"] and source["lastError"] == ""
    text = g.w.call("status").stdout
    assert f"revision git:{first[:12]}  first" in text and "from main of http://" in text

    second = g.commit(g.w.mapping(path="/rome"))
    g.applied(second)
    assert g.w.same("rome")

    g.repo.git("reset", "--quiet", "--hard", first)
    forced = g.commit(g.w.mapping(path="/oslo"), message="history is rewritten")
    g.applied(forced)
    assert g.w.same("oslo")
    exports = [p.name for p in (g.w.state / "git" / "checkouts").iterdir()]
    assert exports == [forced], "one directory for the commit in force"
    events = g.w.log.read_text()
    assert "commit fetched" in events and forced in events


def test_a_vanished_repository_or_branch_leaves_the_last_commit_in_force(g: GitWorld) -> None:
    """Also over a restart; and when it is back, so is following it."""
    first = g.commit(g.w.mapping())
    g.start()
    g.applied(first)
    g.server.down = True
    assert first[:12] in g.reason("FetchFailed")["message"]
    assert g.w.status()["inSync"], "files are delivered as before"
    (g.w.source / "later.txt").write_text("later")
    g.w.eventually_same()

    assert g.w.stop() == 0
    g.start()
    (g.w.source / "after-restart.txt").write_text("later")
    g.w.eventually_same()
    g.applied(first)
    assert "FetchFailed" in str(g.source()["conditions"])

    g.server.down = False
    g.repo.git("branch", "-m", "main", "renamed")
    missing = g.reason("RefNotFound")
    assert "no branch or tag main" in missing["message"]
    assert g.w.status()["state"] == "blocked"
    assert g.w.call("status").returncode == 4
    g.repo.git("branch", "-m", "renamed", "main")
    g.w.call("reconcile")
    g.reason("InSync")
    g.applied(first)


def test_an_invalid_object_of_a_commit_stalls_alone(g: GitWorld) -> None:
    """Its last good version stays, the rest takes effect; errors name the file as in the repository."""
    g.commit(g.w.mapping("a", "/a"), g.w.mapping("b", "/b"))
    g.start()
    g.w.in_sync()
    broken = g.w.mapping("b", "/b").replace("destination: archive", "destination: nowhere")
    bad = g.commit(g.w.mapping("a", "/elsewhere"), broken)
    g.w.eventually_same("elsewhere")
    status = eventually(
        lambda: s if (s := g.w.status())["revision"]["attempted"] == f"git:{bad}" else None, what="attempted"
    )
    assert status is not None
    (errors,) = status["invalid"].values()
    assert errors[0].startswith("site/specs.yaml:"), errors
    (g.w.source / "more.txt").write_text("x")
    g.w.eventually_same("b")


def test_what_a_repository_holds_is_never_run_nor_followed_out_of_it(g: GitWorld, tmp_path: Path) -> None:
    """Hooks, filters, submodules, modules' URLs and links that lead out: none has any effect."""
    trap = tmp_path / "trapped"
    script = f"#!/bin/sh\ntouch {trap}\n"
    outside = tmp_path / "outside.yaml"
    outside.write_text(g.w.mapping("secret", "/secret"))
    for hook in ("post-checkout", "reference-transaction", "post-index-change"):
        g.repo.write(f"site/hooks/{hook}", script)
        (g.repo.directory / "site/hooks" / hook).chmod(0o755)
    g.repo.write(".gitattributes", "* filter=trap export-subst ident\n")
    g.repo.write(".gitmodules", f'[submodule "m"]\n\tpath = m\n\turl = ext::sh -c "touch {trap}"\n')
    (g.repo.directory / "site/link.yaml").symlink_to(outside)
    (g.repo.directory / "site/folder").symlink_to(tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        f'[filter "trap"]\n\tsmudge = touch {trap}\n\tprocess = touch {trap}\n'
        f"[core]\n\thooksPath = {g.repo.directory}/site/hooks\n\tfsmonitor = touch {trap}\n"
    )
    g.commit(g.w.mapping())
    done = subprocess.run(
        g.w.command(*g.arguments(), "--once", "--timeout", "60s"),
        env={"PATH": "/usr/bin:/bin", "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 4, done.stderr
    assert g.w.same(), "what is right of the commit is delivered"
    status = g.w.status()
    assert "leads out of" in str(status["invalid"]["site/link.yaml"])
    assert not (g.w.received / "secret").exists()
    assert not trap.exists()


def test_relative_sources_and_missing_directories_are_refused_with_a_reason(g: GitWorld) -> None:
    """A commit has no place of its own on disk; a directory that it does not have cannot be meant."""
    g.commit(g.w.mapping(source="dailies"))
    done = g.once()
    assert done.returncode == 4
    assert "absolute path" in done.stdout + done.stderr
    g.options += ["--subdir", "nothere"]
    wrong = g.once()
    assert wrong.returncode == 1
    assert "has no directory nothere" in wrong.stderr


def test_an_emptied_repository_removes_nothing_until_that_is_approved(g: GitWorld) -> None:
    """Whoever empties a repository by accident has lost nothing."""
    first = g.commit(g.w.mapping())
    g.start()
    g.applied(first)
    g.repo.git("rm", "--quiet", "site/specs.yaml")
    g.repo.write("site/README", "gone")
    emptied = g.repo.commit("emptied")
    held = eventually(lambda: g.w.status()["revision"]["held"], what="held")
    assert emptied in held and "lanesync approve revision" in held
    assert g.w.same()
    assert g.source()["inForce"]["commit"] == emptied and g.source()["applied"]["commit"] == first
    assert g.w.call("approve", "revision").returncode == 0
    eventually(lambda: not any(o["kind"] == "Mapping" for o in g.w.status()["objects"]), what="carried out")


def test_the_agent_ends_at_once_although_its_repository_does_not_answer(g: GitWorld) -> None:
    """And git ends with it."""
    first = g.commit(g.w.mapping())
    g.start()
    g.applied(first)
    g.server.hang.set()
    before = len(g.server.requests)
    eventually(lambda: len(g.server.requests) > before, what="a look has begun")
    assert g.w.agent is not None
    g.w.agent.send_signal(signal.SIGTERM)
    assert g.w.agent.wait(60) == 0
    eventually(lambda: not g.w.family(), what="no git is left")


def test_tags_and_commits_can_be_followed(g: GitWorld) -> None:
    """An annotated tag, and a commit that is no branch's tip any more."""
    first = g.commit(g.w.mapping(path="/one"))
    g.repo.git("tag", "-a", "-m", "release", "v1")
    g.commit(g.w.mapping(path="/two"))
    g.options = ["--ref", "v1"]
    assert g.once().returncode == 0
    assert g.w.same("one") and not (g.w.received / "two").exists()
    shutil.rmtree(g.w.state)
    g.options = ["--ref", first]
    assert g.once().returncode == 0
    assert g.w.same("one")
    g.options = ["--ref", first[:10]]
    short = g.once()
    assert short.returncode == 1
    assert "all its hex digits" in short.stderr


def test_a_server_of_plain_files_is_fetched_from_without_shallowness(g: GitWorld) -> None:
    """The old HTTP protocol knows no depth: the whole history comes instead."""
    g.commit(g.w.mapping(path="/one"))
    g.commit(g.w.mapping(path="/two"))
    g.repo.git("update-server-info")
    g.server.dumb = True
    done = g.once()
    assert done.returncode == 0, done.stderr
    assert g.w.same("two")


def test_credentials_come_from_a_file_and_are_shown_nowhere(g: GitWorld, tmp_path: Path) -> None:
    """Without them nobody is asked; with them the agent gets in; a wrong file is left as it is."""
    g.commit(g.w.mapping())
    g.server.password = "robot:hunter2-token"
    locked = g.once()
    assert locked.returncode == 1
    assert "--git-credentials-file" in locked.stderr
    file = tmp_path / "credentials"
    host = g.server.url.removeprefix("http://")
    wrong = f"http://robot:wrong-token@{host}\n"
    file.write_text(wrong)
    refused = g.once("--git-credentials-file", str(file))
    assert refused.returncode == 1
    assert "wrong-token" not in refused.stdout + refused.stderr
    assert file.read_text() == wrong
    file.write_text(f"http://robot:hunter2-token@{host}\n")
    done = g.once("--git-credentials-file", str(file), "--log-level", "debug")
    assert done.returncode == 0, done.stderr
    assert g.w.same()
    stored = b"".join(p.read_bytes() for p in (g.w.state / "git").rglob("*") if p.is_file())
    shown = (done.stdout + done.stderr).encode() + stored + json.dumps(g.w.status()).encode()
    assert b"hunter2" not in shown


def test_the_push_hook_has_the_agent_look_at_once(g: GitWorld, tmp_path: Path) -> None:
    """Signed as repository hosts sign it, and refused otherwise; the interval is an hour."""
    secret = tmp_path / "hook-secret"
    secret.write_text(SECRET + "\n")
    first = g.commit(g.w.mapping())
    command = ["--interval", "1h", "--listen", "127.0.0.1:0", "--hook-secret-file", str(secret)]
    with open(g.w.log, "ab") as log:
        g.w.agent = subprocess.Popen(
            g.w.command(*g.arguments(), *command), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    eventually((g.w.state / "agent.sock").exists, what="the agent's socket")
    g.applied(first)
    url = f"http://{g.w.status()['agent']['http']}/api/v1/reconcile"
    body = json.dumps({"ref": "refs/heads/main"}).encode()

    def post(data: bytes, signature: str) -> requests.Response:
        session = requests.Session()
        session.trust_env = False
        return session.post(url, data=data, headers={"X-Hub-Signature-256": signature}, timeout=60)

    good = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    second = g.commit(g.w.mapping(path="/rome"))
    for data, signature in ((body + b" ", good), (body, ""), (body, "sha256=é"), (body, "sha1=" + good[7:])):
        assert post(data, signature.encode("latin-1")).status_code == 401  # type: ignore[arg-type]
    assert post(b"x" * (1 << 20) + b"x", good).status_code == 413
    assert g.source()["attempted"]["commit"] == first, "what was refused has no effect"
    assert post(body, good).status_code == 202
    g.applied(second)
    answers = [post(body, good) for _ in range(12)]
    late = answers[-1]
    assert late.status_code == 429
    assert int(late.headers["Retry-After"]) > 0


def test_only_commits_signed_by_a_known_key_are_taken(g: GitWorld, tmp_path: Path) -> None:
    """Unsigned, or signed by a stranger, a commit is refused and the last good one stays in force."""
    keyring = tmp_path / "keyring"
    keys = {name: str(tmp_path / name) for name in ("known", "stranger")}
    for name, path in keys.items():
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", path]
        subprocess.run(command, check=True, timeout=30)
    keyring.write_text("# who may push\na@example.org " + (tmp_path / "known.pub").read_text())
    g.repo.git("config", "gpg.format", "ssh")

    def commit(path: str, key: str = "") -> str:
        options = ["-S" + keys[key]] if key else []
        g.repo.write("site/specs.yaml", SPECS.format(port=g.w.port, destination="") + g.w.mapping(path=path))
        return g.repo.commit("change", *options)

    good = commit("/one", "known")
    g.options += ["--verify-signatures", str(keyring)]
    g.start()
    g.applied(good)
    unsigned = commit("/two")
    refused = g.reason("SignatureNotVerified")
    assert unsigned[:12] in refused["message"] and good[:12] in refused["message"]
    status = g.w.status()
    assert status["state"] == "blocked"
    assert status["source"]["attempted"]["commit"] == unsigned
    assert status["source"]["inForce"]["commit"] == good
    strange = commit("/three", "stranger")
    eventually(lambda: strange[:12] in str(g.source()["conditions"]), what="the stranger's is refused too")
    assert not (g.w.received / "two").exists() and not (g.w.received / "three").exists()
    again = commit("/four", "known")
    g.applied(again)
    assert g.w.same("four")
