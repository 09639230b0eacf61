"""The wheel: built from this checkout, installed where nothing else is, and used."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("hatchling", reason="the wheel is built with hatchling")


def _run(*command: object, cwd: Path) -> str:
    """Without this checkout in sight: neither its folder nor its environment."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), "LANG": "C.UTF-8"}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _needed(name: str, found: dict[str, Distribution]) -> None:
    """What `name` says it depends on, and what that does, without extras."""
    for text in distribution(name).requires or ():
        requirement, _, marker = text.partition(";")
        other = re.split(r"[^A-Za-z0-9._-]", requirement.strip())[0]
        if "extra" not in marker and other.lower() not in found:
            try:
                found[other.lower()] = distribution(other)
            except ModuleNotFoundError:
                assert marker, f"{name} needs {other}"  # not on this system
                continue
            _needed(other, found)


def _put_dependencies(into: Path) -> None:
    """What the wheel declares, and no more, as if it had been downloaded."""
    found: dict[str, Distribution] = {}
    _needed("lanesync", found)
    for dist in found.values():
        for top in {file.parts[0] for file in dist.files or () if file.parts[0] not in ("..", "__pycache__")}:
            link = into / top
            if not link.is_symlink():
                link.symlink_to(dist.locate_file(top))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an environment with the wheel and what it depends on."""
    base = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-q")
    _run(*pip, "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", base, ROOT, cwd=base)
    (wheel,) = base.glob("*.whl")
    _run(sys.executable, "-m", "venv", "--without-pip", base / "env", cwd=base)
    _run(*pip, "--python", base / "env", "install", "--no-deps", "--no-index", wheel, cwd=base)
    paths = {"base": str(base / "env"), "platbase": str(base / "env")}
    _put_dependencies(Path(sysconfig.get_path("purelib", "venv", paths)))
    return base / "env"


def test_what_is_installed_validates_begins_a_repository_and_delivers(
    installed: Path, tmp_path: Path
) -> None:
    """The shipped quickstart arrives, with nothing but the wheel and its dependencies."""
    lanesync, python = installed / "bin" / "lanesync", installed / "bin" / "python"
    package = Path(_run(python, "-c", "import agent; print(agent.__path__[0])", cwd=tmp_path).strip())
    assert installed in package.parents
    examples = package / "data" / "specs"
    _run(lanesync, "validate", examples / "01-quickstart", cwd=tmp_path)
    _run(lanesync, "init", tmp_path / "mine", cwd=tmp_path)
    _run(lanesync, "validate", tmp_path / "mine", cwd=tmp_path)
    state = tmp_path / "state"
    _run(
        lanesync,
        "run",
        "--once",
        "--timeout",
        "60s",
        examples / "01-quickstart",
        "--state-dir",
        state,
        cwd=tmp_path,
    )
    source = examples / "samples" / "quickstart"
    received = [path for path in state.rglob("day-01.csv") if "servers" not in path.parts]
    assert [path.read_bytes() for path in received] == [(source / "reports" / "day-01.csv").read_bytes()]


def test_page_schemas_units_and_alert_rules_are_installed(installed: Path) -> None:
    """Each file of theirs in the checkout, where the documentation says."""
    (package,) = installed.glob("lib/python*/site-packages/agent")
    for folder, target in {
        "schemas": package / "data" / "schemas",
        "specs": package / "data" / "specs",
        "agent/api/page": package / "api" / "page",
        "systemd": installed / "share" / "lanesync" / "systemd",
        "monitoring": installed / "share" / "lanesync" / "monitoring",
    }.items():
        files = _files(ROOT / folder)
        assert files
        assert _files(target) == files, folder
    rules = installed / "share" / "lanesync" / "monitoring" / "lanesync.rules.yml"
    assert yaml.safe_load(rules.read_text())["groups"]


def _files(folder: Path) -> set[str]:
    found = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return {str(path) for path in found if "__pycache__" not in path.parts}
