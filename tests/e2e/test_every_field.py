"""A spec with all sorts of fields at once, and what it makes of files."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from agents import World, world

pytestmark = pytest.mark.e2e

OLD = 1_234_567_890_123_456_789

EVERYTHING = """priority: 0
lane: High
sendRateMax: 300Mbit/s
overwrite: newer
prune: true
deletions: {maxCount: 5, maxPercent: 50%, grace: 1s}
drift: {policy: correct, interval: 1h}
verify: {interval: 24h, mode: checksum}
preserve: {mtime: MTIME, executable: EXECUTABLE}"""


def delivered(w: World, name: str, mtime: bool, executable: bool) -> tuple[bool, bool]:
    """Whether the time, and whether the mode, of a program are those of the source."""
    more = EVERYTHING.replace("MTIME", str(mtime).lower()).replace("EXECUTABLE", str(executable).lower())
    text = w.mapping(name, f"/{name}", more)
    labelled = text.replace(f"{{name: {name}}}", f"{{name: {name}, annotations: {{owner: 'ada, paris'}}}}")
    assert labelled != text
    w.write(labelled)
    done = w.once()
    assert done.returncode == 0, done.stdout + done.stderr
    info = (w.target(name) / "tool.sh").stat()
    assert (w.target(name) / "tool.sh").read_text() == "#!/bin/sh\n"
    plan = w.call("plan", str(w.specs), "--exit-code")
    assert plan.returncode == 0, plan.stdout
    return info.st_mtime_ns == OLD, bool(info.st_mode & stat.S_IXUSR)


@pytest.mark.parametrize(("mtime", "executable"), [(True, False), (False, True)])
def test_what_is_kept_of_a_file_is_what_the_spec_says(tmp_path: Path, mtime: bool, executable: bool) -> None:
    """Each of `preserve` for itself, beside everything else; the next plan is empty."""
    with world(tmp_path) as w:
        tool = w.source / "tool.sh"
        tool.write_text("#!/bin/sh\n")
        tool.chmod(0o755)
        os.utime(tool, ns=(OLD, OLD))
        assert delivered(w, "tools", mtime, executable) == (mtime, executable)
