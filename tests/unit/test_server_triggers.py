"""Triggers run real programs: with which arguments, in what surroundings, and which ones are not run."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from servers import eventually
from structlog.testing import capture_logs

from agent.server import triggers
from agent.server.errors import StartError
from agent.server.triggers import Triggers

_DUMP = """#!PYTHON
import json, os, sys
found = {"args": [os.fsencode(a).decode("latin-1") for a in sys.argv[1:]], "env": sorted(os.environ),
         "cwd": os.getcwd(), "leader": os.getpid() == os.getpgrp() == os.getsid(0),
         "fds": sorted(os.listdir("/proc/self/fd")), "stdin": sys.stdin.read()}
json.dump(found, open(TARGET, "w"))
"""


def _program(folder: Path, event: str, text: str, mode: int = 0o755) -> Path:
    path = folder / event
    path.write_text(text)
    path.chmod(mode)
    return path


@contextlib.asynccontextmanager
async def _triggers(folder: Path, **options: Any) -> AsyncIterator[Triggers]:
    made = Triggers(folder, **options)
    try:
        yield made
        while made._runners:
            await asyncio.wait(made._runners)
    finally:
        await made.stop()


def _fire(folder: Path, event: str, *arguments: object, **options: Any) -> list[Any]:
    """Fire once and wait for the end; returns what was logged."""

    async def work() -> None:
        async with _triggers(folder, **options) as made:
            made.fire(event, *arguments)

    structlog.reset_defaults()
    with capture_logs() as logs:
        asyncio.run(work())
    return list(logs)


def test_a_program_gets_the_arguments_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No shell sees the arguments, odd file names arrive as bytes, and no secret is inherited."""
    monkeypatch.setenv("SECRET_TOKEN", "s3cret")
    target = tmp_path / "seen"
    _program(
        tmp_path, triggers.SENT, _DUMP.replace("PYTHON", sys.executable).replace("TARGET", repr(str(target)))
    )
    _fire(tmp_path, triggers.SENT, 7, "complete", "$(touch x); `id`", os.fsdecode(b"/a\xff"), "")
    seen = json.loads(target.read_text())
    assert seen["args"] == ["7", "complete", "$(touch x); `id`", "/a\xff", ""]
    assert set(seen["env"]) <= {*triggers._ENVIRONMENT, "LANESYNC_TRIGGER", "LC_CTYPE"}
    assert (seen["cwd"], seen["leader"], seen["stdin"]) == ("/", True, "")
    assert len(seen["fds"]) <= 4  # the three and the listing itself


def test_output_and_status_are_logged_within_bounds(tmp_path: Path) -> None:
    _program(
        tmp_path,
        "launch",
        "#!/bin/sh\necho to out; echo to err >&2; head -c 5000000 /dev/zero | tr '\\0' x; exit 3\n",
    )
    logs = _fire(tmp_path, "launch", 1)
    ended = next(entry for entry in logs if entry["event"] == "trigger ended")
    assert (ended["status"], ended["log_level"]) == (3, "warning")
    assert ended["output"].startswith("to out\nto err\nxxx") and len(ended["output"]) <= triggers.MAX_OUTPUT


def test_a_program_that_takes_too_long_is_ended_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM, then SIGKILL to the whole group, also when SIGTERM is ignored."""
    monkeypatch.setattr(triggers, "TERM_SECONDS", 0.2)
    pids = tmp_path / "pids"
    _program(
        tmp_path,
        "launch",
        f"#!/bin/sh\ntrap '' TERM\nsleep 300 &\necho $$ $! > {pids}\nwait; wait; sleep 300\n",
    )
    logs = _fire(tmp_path, "launch", seconds=3.0)  # by then it ignores SIGTERM
    assert [entry["status"] for entry in logs if entry["event"] == "trigger ended"] == [-9]
    for pid in pids.read_text().split():
        eventually(lambda pid=pid: not _alive(int(pid)), what="the group is gone")


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_child_that_stays_behind_holds_up_nothing(tmp_path: Path) -> None:
    _program(tmp_path, "launch", f"#!/bin/sh\nsleep 300 &\necho $! > {tmp_path}/pid\necho done\n")
    logs = _fire(tmp_path, "launch")
    assert [entry["output"] for entry in logs if entry["event"] == "trigger ended"] == ["done"]
    child = int((tmp_path / "pid").read_text())
    assert _alive(child)
    os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("flaw", ["group", "others", "folder", "symlink", "mode", "directory", "nonsense"])
def test_what_others_could_have_written_is_not_run(tmp_path: Path, flaw: str) -> None:
    """The reason is logged; the file has no effect."""
    folder, mark = tmp_path / "triggers", tmp_path / "mark"
    folder.mkdir(mode=0o755)
    text = f"#!/bin/sh\ntouch {mark}\n"
    if flaw == "directory":
        (folder / "launch").mkdir()
    elif flaw == "symlink":
        (folder / "launch").symlink_to(_program(tmp_path, "elsewhere", text))
    elif flaw == "nonsense":
        _program(folder, "launch", "\x7fnot a program")
    else:
        _program(folder, "launch", text, {"group": 0o775, "others": 0o757, "mode": 0o644}.get(flaw, 0o755))
    if flaw == "folder":
        folder.chmod(0o777)
    logs = _fire(folder, "launch")
    assert [entry["event"] for entry in logs] == ["trigger not run"] and logs[0]["reason"]
    assert not mark.exists()
    folder.chmod(0o755)
    (tmp_path / "good").mkdir()
    _program(tmp_path / "good", "launch", text)
    _fire(tmp_path / "good", "launch")
    assert mark.exists()  # the same text runs where nothing is wrong


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file away needs root")
def test_a_file_of_another_account_is_not_run(tmp_path: Path) -> None:
    path = _program(tmp_path, "launch", "#!/bin/sh\ntouch /nowhere\n")
    os.chown(path, 65534, 65534)
    assert "belongs neither to root nor" in _fire(tmp_path, "launch")[0]["reason"]


def test_a_burst_is_run_a_few_at_once_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was taken runs, no more than `AT_ONCE` side by side; what is beyond the queue is named."""
    monkeypatch.setattr(triggers, "MAX_WAITING", 10)
    folder, trace = tmp_path / "triggers", tmp_path / "trace"
    folder.mkdir()
    trace.mkdir()
    script = f"#!/bin/sh\ntouch {trace}/$1.run; ls {trace} | grep -c run$ > {trace}/$1.count; sleep 0.05; "
    _program(folder, "launch", script + f"mv {trace}/$1.run {trace}/$1.over\n")

    async def work() -> None:
        async with _triggers(folder) as made:
            for number in range(14):
                made.fire("launch", number)

    structlog.reset_defaults()
    with capture_logs() as logs:
        asyncio.run(work())
    assert len(list(trace.glob("*.over"))) == 10
    assert max(int(path.read_text()) for path in trace.glob("*.count")) <= triggers.AT_ONCE
    assert [entry["event"] for entry in logs].count("trigger left out") == 4


def test_the_end_of_the_server_ends_what_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triggers, "LAST_SECONDS", 0.2)
    pid = tmp_path / "pid"
    _program(tmp_path, "launch", f"#!/bin/sh\necho $$ > {pid}\nsleep 300\n")

    async def work() -> None:
        made = Triggers(tmp_path)
        made.fire("launch")
        while not pid.exists() or not pid.read_text():
            await asyncio.sleep(0.01)
        await made.stop()
        made.fire("launch")  # too late, and no error

    asyncio.run(work())
    assert not _alive(int(pid.read_text()))


def test_a_trigger_directory_must_be_ours(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="is not a directory"):
        triggers.check(tmp_path / "missing")
    tmp_path.chmod(0o777)
    with pytest.raises(StartError, match="can be written by others"):
        triggers.check(tmp_path)
    tmp_path.chmod(0o755)
    triggers.check(tmp_path)


def test_without_a_directory_or_a_file_nothing_happens(tmp_path: Path) -> None:
    assert _fire(tmp_path, "launch", 1) == []
    asyncio.run(_nothing())


async def _nothing() -> None:
    made = Triggers()
    made.fire("launch", 1)
    await made.stop()
