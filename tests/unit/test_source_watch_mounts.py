"""Mounts that come and go while their trees are watched, in a mount namespace of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PRELUDE = """
import subprocess, sys, time
from pathlib import Path
from agent.source.root import Timing
from agent.source.watch import Watcher
base = Path(sys.argv[1])
root = base / "root"
(root / "inside").mkdir(parents=True)
(base / "other").mkdir()
told = []
watcher = Watcher(timing=Timing(check=0.05, identity=3600.0, rearm=0.0))
watcher.subscribe(str(root), lambda r, d: told.append(d))

def mount(*arguments):
    subprocess.run(["mount", *map(str, arguments)], check=True)

def umount(place):
    subprocess.run(["umount", str(place)], check=True)

def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, (told, watcher.state(str(root)))
        time.sleep(0.01)

def whole():
    return sum(d.whole for d in told)

def paths():
    return {p for d in told for p in d.paths}
"""

SCRIPTS = {
    "a file system mounted inside is watched, and what was beneath it again when it goes": """
mount("-t", "tmpfs", "none", root / "inside")
until(lambda: whole() == 1)
(root / "inside" / "above").write_text("x")
until(lambda: "inside/above" in paths())
umount(root / "inside")
until(lambda: whole() >= 2)
(root / "inside" / "beneath").write_text("x")
until(lambda: "inside/beneath" in paths())
""",
    "a directory bound inside is watched, also for changes made under its other name": """
mount("--bind", base / "other", root / "inside")
until(lambda: whole() == 1)
(base / "other" / "file").write_text("x")
until(lambda: "inside/file" in paths())
umount(root / "inside")
until(lambda: whole() >= 2)
""",
    "a root that is mounted over is watched anew, and so when it shows again": """
mount("-t", "tmpfs", "none", root)
until(lambda: whole() == 1)
(root / "above").write_text("x")
until(lambda: "above" in paths())
umount(root)
until(lambda: whole() >= 2)
(root / "inside" / "beneath").write_text("x")
until(lambda: "inside/beneath" in paths())
""",
    "a mount elsewhere is nobody's business": """
mount("-t", "tmpfs", "none", base / "other")
(base / "other" / "file").write_text("x")
(root / "file").write_text("x")
until(lambda: "file" in paths())
time.sleep(0.3)
assert whole() == 0
umount(base / "other")
""",
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=[name.replace(" ", "_") for name in SCRIPTS])
def test_mounts_while_watching(tmp_path: Path, script: str) -> None:
    """What cannot be told by the file events of a directory is told by the table of mounts."""
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c"]
    try:
        if os.getuid() != 0 or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
            pytest.skip("mount namespaces cannot be made here")
    except FileNotFoundError:
        pytest.skip("no unshare here")
    done = subprocess.run(
        [*command, PRELUDE + script + "watcher.stop()\n", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
