"""docs/tutorial.md, followed word by word: its commands in order, in one shell, and what they print.

A `sh` block is run; the `text` block after it is what it prints, loosely: each of its lines is in the output,
in that order, `…` stands for anything, and a line that begins with `!` is nowhere. Comments before a block
say how it is run: `in another terminal`, `soon` (asked again until it prints it), `exits with N`, `by hand`.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from freeports import free_port
from servers import eventually

PAGE = Path(__file__).resolve().parents[2] / "docs/tutorial.md"
BLOCK = re.compile(r"(?:<!-- ([^>]*) -->\n)?```sh\n(.*?)```\n(?:\n```text\n(.*?)```)?", re.S)
PORT = "8899"


@dataclass(frozen=True)
class Block:
    how: frozenset[str]
    commands: str
    printed: list[str]

    @property
    def code(self) -> int:
        return next((int(word.split()[-1]) for word in self.how if word.startswith("exits with")), 0)


def blocks(text: str) -> list[Block]:
    return [
        Block(frozenset(filter(None, how.split("; "))), commands, printed.splitlines())
        for how, commands, printed in BLOCK.findall(text)
    ]


def differs(printed: list[str], output: str) -> str:
    """The first line that is not where it should be; empty when all are."""
    place = 0
    for line in printed:
        if line.startswith("!"):
            if line[1:] in output:
                return line
            continue
        pattern = ".*".join(re.escape(" ".join(part.split())) for part in line.split("…"))
        found = re.compile(pattern).search(output, place)
        if found is None:
            return line
        place = found.end()
    return ""


class Reader:
    """Somebody with some terminals, whose shells remember the directory."""

    def __init__(self, home: Path, port: int) -> None:
        self._directory = home
        self._home = home
        self._port = str(port)
        self._terminals: list[subprocess.Popen[bytes]] = []
        tools = home / "bin"
        tools.mkdir()
        (tools / "lanesync").write_text(
            f'#!/bin/sh\nexec "{sys.executable}" -c "from agent.cli.main import main; main()" "$@"\n'
        )
        (tools / "lanesync").chmod(0o755)
        root = PAGE.parents[1]
        self._environment = {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / "state"),
            "PYTHONPATH": str(root),
            "LC_ALL": "C.UTF-8",
        }

    def follow(self, block: Block) -> None:
        if "in another terminal" in block.how:
            self._open(block)
        elif "soon" in block.how:
            eventually(lambda: not self._try(block), seconds=60, what=block.commands)
        else:
            assert self._try(block) == ""

    def _try(self, block: Block) -> str:
        """What is wrong with the block, or nothing."""
        script = f"set -e\n{self._told(block.commands)}\npwd > {self._home}/here\n"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self._directory,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        output = done.stdout + done.stderr
        if done.returncode != block.code:
            return f"exit code {done.returncode}: {block.commands}{output}"
        if block.code == 0:
            self._directory = Path((self._home / "here").read_text().strip())
        wrong = differs([self._told(line) for line in block.printed], _plain(output))
        return f"{wrong!r} is not in what {block.commands!r} prints: {output}" if wrong else ""

    def _open(self, block: Block) -> None:
        log = self._home / f"terminal-{len(self._terminals)}"
        with open(log, "wb") as file:
            self._terminals.append(
                subprocess.Popen(
                    ["bash", "-c", f"exec {self._told(block.commands)}"],
                    cwd=self._directory,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                )
            )
        printed = block.printed or ["revision in force"]
        eventually(lambda: not differs(printed, _plain(log.read_text())), what=f"{log}: {printed}")

    def _told(self, text: str) -> str:
        return text.replace(PORT, self._port)

    def leave(self) -> None:
        """Ctrl-C in each terminal, the last one first."""
        for terminal in reversed(self._terminals):
            terminal.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                terminal.wait(20)
            if terminal.poll() is None:
                terminal.kill()
                terminal.wait()

    @property
    def ended_with(self) -> list[int | None]:
        return [terminal.returncode for terminal in self._terminals]


def _plain(output: str) -> str:
    """On one line each what a terminal's width has wrapped."""
    return re.sub(r"[ \t\n]+", " ", output)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    found = Reader(tmp_path, free_port())
    try:
        yield found
    finally:
        found.leave()


@pytest.mark.e2e
def test_the_tutorial_does_what_it_says(reader: Reader) -> None:
    """Every command works and prints what the page shows; Ctrl-C ends agent and receiver cleanly."""
    found = blocks(PAGE.read_text())
    by_hand = [block for block in found if "by hand" in block.how]
    assert len(found) > 15
    assert ["pip install" in block.commands for block in by_hand] == [True]
    for block in found:
        if "by hand" not in block.how:
            reader.follow(block)
    reader.leave()
    assert reader.ended_with == [0, 0]


def test_every_block_of_commands_is_found() -> None:
    """None is passed over because of how it is written."""
    text = PAGE.read_text()
    assert len(blocks(text)) == text.count("```sh\n")
    assert sum(bool(block.printed) for block in blocks(text)) == text.count("```text\n")


def test_what_is_printed_is_compared() -> None:
    """A line that is missing, at the wrong place, or there though it must not be, is found."""
    output = _plain("in sync\n\n✓ Mapping/documents    1 file\n")
    assert differs(["in sync", "✓ Mapping/documents   2 … file"], output) != ""
    assert differs(["in sync", "✓ Mapping/documents   1 file"], output) == ""
    assert differs(["✓ Mapping/…", "in sync"], output) == "in sync"
    assert differs(["!Mapping"], output) == "!Mapping"
