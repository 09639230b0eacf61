"""The files under systemd/: what systemd itself says of them, and what they promise."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from agent.cli.options import default_policy

FOLDER = Path(__file__).resolve().parents[2] / "systemd"
UNITS = ("lanesync-agent.service", "lanesync-server.service", "lanesync-relay.service")
EXAMPLES = sorted((FOLDER / "examples").glob("*.service.d/*.conf"))
INSTALLED = "/usr/local/bin/lanesync"
MOST_EXPOSED = 15  # tenths, as `systemd-analyze security` counts: 0 = shut in, 100 = open


def _needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed here")


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@cache
def _help(verb: str) -> str:
    told = _run(sys.executable, "-m", "agent.cli.main", verb, "--help")
    assert told.returncode == 0
    return told.stdout


def _installed(unit: str, folder: Path) -> Path:
    """A copy of a unit whose program exists on this machine."""
    text = (FOLDER / unit).read_text()
    program = Path(sys.executable).with_name("lanesync")
    assert INSTALLED in text
    target = folder / unit
    target.write_text(text.replace(INSTALLED, str(program)))
    return target


@_needs("systemd-analyze")
def test_systemd_finds_no_fault_in_the_units(tmp_path: Path) -> None:
    """`systemd-analyze verify` accepts the units and has nothing to remark."""
    done = _run("systemd-analyze", "verify", *(str(_installed(unit, tmp_path)) for unit in UNITS))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@_needs("systemd-analyze")
@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_is_hardly_exposed(unit: str, tmp_path: Path) -> None:
    """`systemd-analyze security` counts at most 1.5 of 10."""
    path = _installed(unit, tmp_path)
    done = _run("systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED}", str(path))
    assert done.returncode == 0, done.stdout[-300:] + done.stderr


@pytest.mark.parametrize("unit", UNITS)
def test_every_setting_says_why_it_is_there(unit: str) -> None:
    """In the [Service] section each directive, or the group that it begins, follows a comment."""
    service = (FOLDER / unit).read_text().partition("[Service]\n")[2].partition("\n[Install]")[0]
    for group in re.split(r"\n\s*\n|\n(?=# )", service):
        directives = [line for line in group.splitlines() if line and not line.startswith("#")]
        assert not directives or group.startswith("#") or directives[0] == "Type=notify", group
        assert len(directives) <= 3, f"too many for one comment:\n{group}"


@pytest.mark.parametrize("path", [*(FOLDER / unit for unit in UNITS), *EXAMPLES], ids=lambda path: path.name)
def test_the_command_of_a_unit_is_one_the_program_takes(path: Path) -> None:
    """Every option in ExecStart is one that the verb knows, also in the drop-ins."""
    for line in path.read_text().splitlines():
        _, is_command, command = line.partition("ExecStart=")
        if not is_command or not command:
            continue
        words = command.split()
        assert words[0] == INSTALLED
        for option in (word for word in words if word.startswith("--")):
            assert f"{option} " in _help(words[1])


def _systemd_version() -> int:
    found = re.match(r"systemd (\d+)", _run("systemd-analyze", "--version").stdout)
    return int(found[1]) if found else 0


@_needs("systemd-analyze")
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_systemd_finds_no_fault_in_an_example(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each drop-in says first what it is for, and the unit with it is accepted without a remark."""
    text = path.read_text()
    assert text.startswith("# ")
    assert f"`{path.parent.name}/{path.name}`" in (FOLDER.parent / "docs" / "systemd.md").read_text()
    needed = re.search(r"systemd (\d+) or later", text)
    if needed and _systemd_version() < int(needed[1]):
        pytest.skip(needed[0])
    unit = path.parent.name.removesuffix(".d")
    _installed(unit, tmp_path)
    folder = tmp_path / path.parent.name
    folder.mkdir()
    program = Path(sys.executable).with_name("lanesync")
    (folder / path.name).write_text(text.replace(INSTALLED, str(program)))
    monkeypatch.setenv("SYSTEMD_UNIT_PATH", f"{tmp_path}:")
    done = _run("systemd-analyze", "verify", unit)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_agent_takes_the_policy_that_is_there(tmp_path: Path) -> None:
    """The unit names none: policy.yaml in the service's directory is in force when it exists, also when it
    cannot be read, which is an error then; nothing else is."""
    assert "--policy" not in (FOLDER / "lanesync-agent.service").read_text()
    assert default_policy({}) == ""
    environment = {"CONFIGURATION_DIRECTORY": str(tmp_path)}
    assert default_policy(environment) == ""
    (tmp_path / "policy.yaml").symlink_to(tmp_path / "nowhere")
    assert default_policy(environment) == str(tmp_path / "policy.yaml")
    (tmp_path / "specs").mkdir()
    (tmp_path / "policy.yaml").unlink()
    (tmp_path / "policy.yaml").write_text("kind: Nonsense\n")
    command = (sys.executable, "-m", "agent.cli.main", "validate", str(tmp_path / "specs"))
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode != 0
    assert str(tmp_path / "policy.yaml") in done.stdout + done.stderr


@_needs("systemd-sysusers")
@pytest.mark.skipif(os.geteuid() != 0, reason="making accounts in another root needs root")
def test_the_account_and_the_directories_can_be_made(tmp_path: Path) -> None:
    """sysusers.d makes the account of the units; tmpfiles.d makes their directories, owned as they need."""
    (tmp_path / "etc").mkdir()
    made = _run("systemd-sysusers", f"--root={tmp_path}", str(FOLDER / "lanesync.sysusers.conf"))
    assert made.returncode == 0, made.stderr
    entry = next(
        line.split(":")
        for line in (tmp_path / "etc" / "passwd").read_text().splitlines()
        if line.startswith("lanesync:")
    )
    assert entry[6] == "/usr/sbin/nologin"
    if shutil.which("systemd-tmpfiles") is None:
        pytest.skip("systemd-tmpfiles is not installed here")
    made = _run("systemd-tmpfiles", "--create", f"--root={tmp_path}", str(FOLDER / "lanesync.tmpfiles.conf"))
    assert made.returncode == 0, made.stderr
    root = (tmp_path / "srv" / "lanesync").stat()
    assert (root.st_uid, root.st_mode & 0o777) == (int(entry[2]), 0o750)
    assert (tmp_path / "etc" / "lanesync" / "specs").stat().st_uid == 0
    for unit in UNITS:
        text = (FOLDER / unit).read_text()
        assert "\nUser=lanesync\n" in text or "\nDynamicUser=yes\n" in text


def test_the_kernel_knows_the_settings() -> None:
    """Every key of the sysctl file is one of this kernel, and has a value."""
    for line in (FOLDER / "lanesync.sysctl.conf").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        key, _, value = (part.strip() for part in line.partition("="))
        assert Path("/proc/sys", *key.removeprefix("-").split(".")).exists(), key
        assert value
