"""What `lanesync init` writes beside the specs does its work: checks are run as their services run them."""

from __future__ import annotations

import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import jsonschema
import pytest
import yaml
from agents import World, fill, world

from agent.cli.main import run

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]


class Repository:
    """A repository as `init` writes it, and a shell in it that knows `lanesync`."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "repository"
        assert run(["init", str(self.path)]) == 0
        tools = directory / "tools"
        tools.mkdir()
        self._tools = tools
        self.tool("lanesync", f'exec "{sys.executable}" -m agent.cli.main "$@"')
        self.shell(
            "git init --quiet && git add . && git -c user.name=a -c user.email=a@b commit --quiet -m specs"
        )

    def tool(self, name: str, script: str) -> None:
        (self._tools / name).write_text(f"#!/bin/bash\n{script}\n")
        (self._tools / name).chmod(0o755)

    def shell(self, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """As GitHub's and GitLab's runners call bash."""
        env = {
            "PATH": f"{self._tools}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": str(self._tools),
            "no_proxy": "*",
            **environment,
        }
        return subprocess.run(
            ["bash", "-eo", "pipefail", "-c", script],
            cwd=self.path,
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def yaml(self, name: str) -> Any:
        return yaml.safe_load((self.path / name).read_text())

    def steps(self, job: str) -> dict[str, str]:
        """Name -> script, of a job of the GitHub workflow."""
        jobs = self.yaml(".github/workflows/specs.yml")["jobs"]
        return {step["name"].split()[0]: step["run"] for step in jobs[job]["steps"] if "run" in step}

    def spoil(self) -> None:
        spec = self.path / "specs/documents.yaml"
        spec.write_text(spec.read_text().replace("destination: archive", "destination: nowhere"))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def test_an_editor_finds_the_schema_and_a_stock_validator_takes_the_specs(repository: Repository) -> None:
    """The first line of each spec leads to a file of the repository that accepts every object."""
    specs = sorted((repository.path / "specs").iterdir())
    assert len(specs) == 3
    for spec in specs:
        hint = re.match(r"# yaml-language-server: \$schema=(\S+)\n", spec.read_text())
        assert hint is not None, spec
        schema = yaml.safe_load((spec.parent / hint[1]).read_text())
        validator = jsonschema.Draft202012Validator(schema)
        validator.check_schema(schema)
        for document in yaml.safe_load_all(spec.read_text()):
            assert document is None or [error.message for error in validator.iter_errors(document)] == []


def test_the_pre_commit_hook_refuses_what_is_invalid(repository: Repository) -> None:
    """It is called for spec files alone, and takes the specs as they were written."""
    [hook] = repository.yaml(".pre-commit-config.yaml")["repos"][0]["hooks"]
    assert hook["language"] == "system"
    assert [bool(re.search(hook["files"], name)) for name in ("specs/a/b.yml", ".gitlab-ci.yml")] == [
        True,
        False,
    ]
    assert repository.shell(hook["entry"]).returncode == 0
    repository.spoil()
    refused = repository.shell(hook["entry"])
    assert refused.returncode == 5
    assert "nowhere" in refused.stdout


def test_the_github_workflow_checks_specs_and_schema(repository: Repository) -> None:
    """Valid specs pass, invalid ones and a schema of another version do not."""
    steps = repository.steps("validate")
    assert list(steps) == ["install", "validate", "the"]
    forgotten = repository.shell(steps["install"])
    assert forgotten.returncode != 0
    assert "LANESYNC_PACKAGE" in forgotten.stderr
    assert repository.shell(steps["validate"]).returncode == 0
    assert repository.shell(steps["the"]).stdout == ""
    repository.spoil()
    assert repository.shell(steps["validate"]).returncode == 5
    (repository.path / "lanesync.schema.json").write_text("{}\n")
    assert repository.shell(steps["the"]).returncode != 0


def test_the_gitlab_workflow_checks_specs_and_schema(repository: Repository) -> None:
    """The same there."""
    job = repository.yaml(".gitlab-ci.yml")["validate"]
    assert "LANESYNC_PACKAGE" in repository.shell("\n".join(job["before_script"])).stderr
    assert repository.shell("\n".join(job["script"])).returncode == 0
    repository.spoil()
    assert repository.shell("\n".join(job["script"])).returncode == 5


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


@pytest.fixture
def proposed(w: World, repository: Repository) -> Repository:
    """An agent is in sync; the repository's specs have one mapping more."""
    fill(w.source, 5)
    w.write(w.mapping())
    w.start()
    w.in_sync()
    for spec in (repository.path / "specs").iterdir():
        spec.unlink()
    more = w.directory / "more"
    more.mkdir()
    (more / "new```file.txt").write_text("new")
    text = (w.specs / "specs.yaml").read_text() + w.mapping("more", "/more", source=str(more))
    (repository.path / "specs/specs.yaml").write_text(text)
    return repository


def test_the_github_workflow_posts_the_plan_of_the_running_agent(w: World, proposed: Repository) -> None:
    """What is new is in comment and summary, as a block of code whatever its name; nothing is done."""
    proposed.tool("gh", 'echo "$@" > called; cp "${@: -1}" posted')
    steps = proposed.steps("plan")
    environment = {"STATE_DIRECTORY": str(w.state), "GITHUB_STEP_SUMMARY": "summary", "NUMBER": "7"}
    for script in steps.values():
        done = proposed.shell(script, **environment)
        assert done.returncode == 0, done.stderr
    posted = (proposed.path / "posted").read_text()
    assert re.search(r"(?m)^    .*send +more -> archive: 1 new", posted)
    assert re.search(r"(?m)^    .*new```file.txt", posted)
    assert (proposed.path / "summary").read_text() == posted
    assert (proposed.path / "called").read_text().startswith("pr comment 7 ")
    assert not (w.received / "more").exists()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_gitlab_workflow_posts_the_plan_of_the_running_agent(w: World, proposed: Repository) -> None:
    """With the token, which no argument of a program holds; without one it is in the log alone."""
    script = "\n".join(proposed.yaml(".gitlab-ci.yml")["plan"]["script"])
    got: list[tuple[str, str | None, str]] = []

    class Notes(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            got.append((self.path, self.headers["PRIVATE-TOKEN"], parse_qs(body)["body"][0]))
            self.send_response(201)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Notes)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {
        "LANESYNC_STATE": str(w.state),
        "CI_API_V4_URL": f"http://127.0.0.1:{server.server_port}/api/v4",
        "CI_PROJECT_ID": "3",
        "CI_MERGE_REQUEST_IID": "9",
    }
    try:
        quiet = proposed.shell(script, **environment)
        assert (quiet.returncode, got) == (0, []), quiet.stderr
        assert "more -> archive: 1 new" in quiet.stdout
        done = proposed.shell(script, **environment, LANESYNC_COMMENT_TOKEN="s3cret")
    finally:
        server.shutdown()
        server.server_close()
    assert done.returncode == 0, done.stderr
    [(path, token, body)] = got
    assert (path, token) == ("/api/v4/projects/3/merge_requests/9/notes", "s3cret")
    assert re.search(r"(?m)^    .*send +more -> archive: 1 new", body)
    assert not re.search(r"curl[^|]*LANESYNC_COMMENT_TOKEN", script)
