"""Receipts are what the public ASC MHL tool takes for a history of what was delivered."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from agents import World, fill, world
from servers import eventually

pytestmark = pytest.mark.e2e

needs_tool = pytest.mark.skipif(
    importlib.util.find_spec("ascmhl") is None,
    reason="the ascmhl tool is not installed (extra receipts-check)",
)
RECEIPT = "receipt: ascMhl"


def tool(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = "ascmhl_debug" if arguments[0] == "verify" else "ascmhl"
    command = [sys.executable, "-m", f"ascmhl.cli.{program}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def verified(path: Path) -> bool:
    done = tool("verify", "-v", str(path))
    return done.returncode == 0


def history(path: Path) -> list[str]:
    return sorted(p.name for p in (path / "ascmhl").iterdir()) if (path / "ascmhl").is_dir() else []


def same_but_receipts(w: World) -> bool:
    """The trees are alike, the history aside."""
    here = {p.relative_to(w.source): p.read_bytes() for p in w.source.rglob("*") if p.is_file()}
    there = {
        p.relative_to(w.target()): p.read_bytes()
        for p in w.target().rglob("*")
        if p.is_file() and "ascmhl" not in p.parts
    }
    return here == there


@needs_tool
def test_the_public_tool_verifies_each_generation_and_sees_what_was_changed(tmp_path: Path) -> None:
    """One generation for each change set, none for a look that found nothing; pruning leaves them alone."""
    with world(tmp_path) as w:
        fill(w.source, 40, per_directory=10)
        (w.source / "ä & <b> ' \"").write_bytes(b"odd")
        (w.source / "large").write_bytes(bytes(range(256)) * 2**15)  # goes in chunks
        w.write(w.mapping(more=f"{RECEIPT}\nprune: true"))
        assert w.once().returncode == 0
        assert same_but_receipts(w)
        assert [name[:4] for name in history(w.target())] == ["0001", "ascm"]
        done = tool("verify", "-v", str(w.target()))
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("OK") >= 42
        assert tool("info", "-v", str(w.target())).returncode == 0
        (w.source / "d001" / "late.bin").write_bytes(b"late")
        w.start()
        eventually(lambda: len(history(w.target())) == 3, what="another generation")
        w.in_sync()
        eventually(lambda: verified(w.target()), what="the chain names it")
        assert w.call("reconcile").returncode == 0
        w.in_sync()
        assert [name[:4] for name in history(w.target())] == ["0001", "0002", "ascm"]
        second = (w.target() / "ascmhl" / history(w.target())[1]).read_text()
        assert re.findall(r"<path[^>]*>([^<]*)</path>", second) == ["d001/late.bin"]
        assert tool("diff", str(w.target())).returncode == 0  # nothing is missing, nothing is there besides
        (w.target() / "d001" / "late.bin").write_bytes(b"LATE")
        done = tool("verify", "-v", str(w.target()))
        assert done.returncode != 0
        assert "hash mismatch        for d001/late.bin" in done.stdout + done.stderr


@needs_tool
def test_a_receipt_survives_the_agent_being_killed(tmp_path: Path) -> None:
    """Whenever it happens, there is in the end one whole history and no number twice."""
    with world(tmp_path) as w:
        fill(w.source, 60, per_directory=20)
        w.write(w.mapping(more=RECEIPT))
        for files in (10, 30, 50):
            w.start()
            eventually(lambda n=files: w.target().exists() and len(list(w.target().rglob("*.bin"))) >= n)
            w.kill()
        w.start()
        w.in_sync()
        numbers = [name[:4] for name in history(w.target()) if name.endswith(".mhl")]
        assert numbers == sorted(set(numbers))
        assert verified(w.target())


@needs_tool
def test_a_renamed_mapping_goes_on_with_its_history(tmp_path: Path) -> None:
    """And a look at the destination takes the history for ours."""
    with world(tmp_path) as w:
        fill(w.source, 5)
        w.write(w.mapping(more=RECEIPT))
        assert w.once().returncode == 0
        (w.source / "late.bin").write_bytes(b"late")
        w.write(w.mapping("renamed", more=RECEIPT))
        assert w.once().returncode == 0
        assert [name[:4] for name in history(w.target())] == ["0001", "0002", "ascm"]
        assert verified(w.target())
        assert "ReceiptIncomplete" not in w.call("status", "--output", "json").stdout
        looked = w.call("verify", "renamed", "--output", "json")
        assert looked.returncode == 0, looked.stdout
        assert re.findall(r'"foreign": (\d+)', looked.stdout) == ["0"]


def test_somebody_elses_history_is_left_alone(tmp_path: Path) -> None:
    """At the destination, and in the source, which is delivered like any file."""
    with world(tmp_path) as w:
        fill(w.source, 3)
        theirs = w.target() / "ascmhl"
        theirs.mkdir(parents=True)
        (theirs / "ascmhl_chain.xml").write_text("theirs")
        own = w.directory / "camera"
        (own / "ascmhl").mkdir(parents=True)
        (own / "ascmhl" / "ascmhl_chain.xml").write_text("the camera's")
        w.write(w.mapping(more=RECEIPT), w.mapping("camera", "/camera", RECEIPT, source=str(own)))
        assert w.once().returncode == 0
        assert (theirs / "ascmhl_chain.xml").read_text() == "theirs"
        assert history(w.target("camera")) == ["ascmhl_chain.xml"]
        said = w.call("status").stdout
        assert "of a history that is not ours" in said
        assert "delivered from the source" in said
