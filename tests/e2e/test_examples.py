"""Every example below specs/ runs as it stands, with real servers, on free ports."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from freeports import free_port
from fts3_double.run import Double, WebDav, start_double, start_webdav
from servers import start_server

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
ALONE = ["01-quickstart", "03-priority-lanes", "04-filters", "05-prune", "06-several-destinations"]
PASSWORD = "correct horse"


def tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def copied(directory: Path, example: str, ports: dict[str, int]) -> Path:
    """The example with its samples below `directory`, its ports replaced by free ones."""
    shutil.copytree(ROOT / "specs" / "samples", directory / "samples")
    target = directory / example
    shutil.copytree(ROOT / "specs" / example, target)
    for path in target.glob("*.yaml"):
        path.write_text(re.sub(r"\b888[5-7]\b", lambda m: str(ports[m[0]]), path.read_text()))
    return target


def lanesync(*arguments: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent.cli.main", *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **(environ or {})},
    )


def run_once(specs: Path, state: Path, environ: dict[str, str] | None = None) -> None:
    done = lanesync("run", str(specs), "--once", "--state-dir", str(state), environ=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    again = lanesync("plan", str(specs), "--exit-code", "--state-dir", str(state), environ=environ)
    assert again.returncode == 0, again.stdout + again.stderr


def expected(example: str) -> dict[str, bytes]:
    """What the example delivers, by destination path."""
    samples = ROOT / "specs" / "samples"
    dailies = {f"dailies/{name}": data for name, data in tree(samples / "dailies").items()}
    reports = {f"reports/{name}": data for name, data in tree(samples / "reports").items()}
    match example:
        case "01-quickstart":
            return {f"paris/sample/{name}": data for name, data in tree(samples / "quickstart").items()}
        case "03-priority-lanes":
            return {**dailies, **reports}
        case "04-filters":
            kept = {n: d for n, d in {**dailies, **reports}.items() if not n.endswith((".cache", ".draft"))}
            return {f"paris/{name}": data for name, data in kept.items()}
        case "05-prune":
            return reports
        case _:
            return dailies


@pytest.mark.parametrize("example", ALONE)
def test_example_delivers_its_samples(tmp_path: Path, example: str) -> None:
    """`lanesync run --once` ends in sync, the files are there, and nothing is left to do."""
    specs = copied(tmp_path, example, {str(port): free_port() for port in (8885, 8886, 8887)})
    state = tmp_path / "state"
    run_once(specs, state)
    receivers = [
        root for root in (state / "received", *state.glob("servers/*/received")) if tree_or_none(root)
    ]
    assert len(receivers) == (2 if example == "06-several-destinations" else 1)
    assert all(tree(root) == expected(example) for root in receivers)


def tree_or_none(root: Path) -> dict[str, bytes] | None:
    return tree(root) if root.is_dir() else None


def test_smallest_example_needs_one_receiver(tmp_path: Path) -> None:
    """One destination, one mapping, and a `lanesync serve` on the other side."""
    with start_server(tmp_path / "receiver") as receiver:
        specs = copied(tmp_path, "02-smallest", {"8886": receiver.port})
        text = (specs / "specs.yaml").read_text()
        (specs / "specs.yaml").write_text(
            text.replace("address: 127.0.0.1", f"address: 127.0.0.1\n  port: {receiver.port}")
        )
        run_once(specs, tmp_path / "state")
        assert tree(tmp_path / "receiver" / "received") == expected("02-smallest")


def test_running_server_example_logs_in(tmp_path: Path) -> None:
    """A sending server with accounts that the agent does not start, and a password from the environment."""
    accounts = tmp_path / "accounts.json"
    made = lanesync(
        "user", "add", "agent", "--accounts", str(accounts), environ={"LANESYNC_USER_PASSWORD": PASSWORD}
    )
    assert made.returncode == 0, made.stderr
    with (
        start_server(tmp_path / "sender", accounts=str(accounts)) as sender,
        start_server(tmp_path / "receiver") as receiver,
    ):
        specs = copied(tmp_path, "07-running-server", {"8885": sender.port, "8886": receiver.port})
        run_once(specs, tmp_path / "state", {"STUDIO_PASSWORD": PASSWORD})
        assert tree(tmp_path / "receiver" / "received") == expected("07-running-server")
        told = lanesync("status", "--output", "json", "--state-dir", str(tmp_path / "state"))
        assert PASSWORD not in told.stdout + told.stderr
        assert json.loads(told.stdout)


def at_the_double(example: str, double: Double, near: WebDav, far: WebDav) -> str:
    """The example's text with our service, storages and user in place of its own."""
    text = (ROOT / "specs" / example / "specs.yaml").read_text()
    for name, ours in {
        "https://fts3.example.org:8446": double.url,
        "/etc/grid-security/certificates": str(double.ca),
        "/etc/grid-security/lanesync/cert.pem": str(double.user_cert),
        "/etc/grid-security/lanesync/key.pem": str(double.user_key),
        "davs://se.example.org:8443/data": near.url("data"),
        "davs://storage.tier2.example.net:8443/farm": far.url("farm"),
        " /data": f" {near.root / 'data'}",
    }.items():
        assert name in text, name
        text = text.replace(name, ours)
    return text


def test_grid_site_example_copies_between_storages(tmp_path: Path) -> None:
    """The bytes go from storage to storage; what is deleted at the source is pruned at the other end."""
    with (
        start_double(tmp_path / "fts3") as double,
        start_webdav(tmp_path / "near", pki=double.pki) as near,
        start_webdav(tmp_path / "far", pki=double.pki) as far,
    ):
        shutil.copytree(ROOT / "specs" / "samples", near.root / "data")
        specs, state = tmp_path / "specs", tmp_path / "state"
        specs.mkdir()
        (specs / "specs.yaml").write_text(at_the_double("08-grid-site", double, near, far))
        run_once(specs, state)
        wanted = {f"farm/{name}": data for name, data in expected("03-priority-lanes").items()}
        assert tree(far.root) == wanted
        gone = sorted((near.root / "data" / "reports").rglob("*.*"))[0]
        gone.unlink()
        run_once(specs, state)
        del wanted[f"farm/reports/{gone.relative_to(near.root / 'data' / 'reports')}"]
        assert tree(far.root) == wanted
