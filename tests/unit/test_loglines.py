"""Where logs go, and how much of them there is."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers import eventually

from agent.loglines import MAX_VALUE, Journal, datagram, fields, is_journal

PROGRAM = """
import sys
import structlog
from agent import loglines
loglines.SOCKET = sys.argv[1]
loglines.configure(sys.argv[2])
log = structlog.get_logger("test")
for line in sys.stdin:
    log.debug("looked at", what=line.strip())
    log.warning("needs a person", key="Mapping/dailies", error=line.strip())
    print("done", flush=True)
"""


def read(data: bytes) -> dict[str, bytes]:
    """What the journal makes of a datagram: as its documentation of the protocol says."""
    found = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, is_plain, value = line.partition(b"=")
        if not is_plain:
            (size,) = struct.unpack_from("<Q", data)
            value, data = data[8 : 8 + size], data[8 + size :]
            assert data[:1] == b"\n"
            data = data[1:]
        found[name.decode()] = value
    return found


@given(
    st.dictionaries(
        st.from_regex(r"[A-Z][A-Z0-9_]{0,20}", fullmatch=True),
        st.text(max_size=50) | st.sampled_from(["a=b", "line\nline", "\n", "=", "bytes \udcff"]),
        max_size=6,
    )
)
def test_every_value_arrives_as_it_is(values: dict[str, str]) -> None:
    expected = {name: value.encode("utf-8", "backslashreplace") for name, value in values.items()}
    assert read(datagram(values)) == expected


def test_a_long_value_is_cut() -> None:
    assert read(datagram({"MESSAGE": "x" * (MAX_VALUE + 1)})) == {"MESSAGE": b"x" * MAX_VALUE}


def test_an_entry_can_be_read_and_filtered() -> None:
    """One text for people; each value in a field; the object by its kind; the severity."""
    event = {
        "event": "needs a person",
        "level": "warning",
        "timestamp": "2026-01-01T00:00:00Z",
        "key": "Mapping/dailies",
        "error": "no such file",
        "added": ["a", "b"],
        "nothing": None,
    }
    assert fields("warning", event) == {
        "MESSAGE": 'needs a person key=Mapping/dailies error="no such file" added=["a", "b"]',
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "lanesync",
        "LANESYNC_KEY": "Mapping/dailies",
        "LANESYNC_MAPPING": "dailies",
        "LANESYNC_ERROR": "no such file",
        "LANESYNC_ADDED": '["a", "b"]',
    }
    failed = fields("exception", {"event": "it failed", "exception": "Traceback\nValueError"})
    assert failed["MESSAGE"] == "it failed\nTraceback\nValueError"
    assert failed["PRIORITY"] == "3"


def test_only_the_file_that_systemd_names_is_the_journal(tmp_path: Path) -> None:
    """A service whose stderr was redirected logs there."""
    with open(tmp_path / "journal", "w") as stream, open(tmp_path / "other", "w") as other:
        found = os.fstat(stream.fileno())
        environment = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        assert is_journal(environment, stream)
        assert not is_journal(environment, other)
        assert not is_journal({}, stream)
        assert not is_journal(environment, io.StringIO())


class Service:
    """A program that logs whenever it is told to, with a journal beside it."""

    def __init__(self, folder: Path, level: str = "info", *, journal: bool = True) -> None:
        self._journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._journal.settimeout(10)
        self._path, self._errors = folder / "socket", folder / "stderr"
        self._journal.bind(str(self._path))
        with open(self._errors, "wb") as errors:
            found = os.fstat(errors.fileno())
            named = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"} if journal else {}
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(self._path), level],
                env={**os.environ, **named},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate(timeout=60)
        self._journal.close()

    def say(self, text: str) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == b"done\n"

    def entries(self) -> list[dict[str, bytes]]:
        """Those that are there."""
        found = []
        self._journal.setblocking(False)
        while True:
            try:
                found.append(read(self._journal.recv(1 << 20)))
            except BlockingIOError:
                return found

    def lines(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self._errors.read_text().splitlines()]

    def journal_goes(self) -> None:
        self._path.unlink()


def test_a_service_writes_to_the_journal_and_to_stderr_when_it_cannot(tmp_path: Path) -> None:
    with Service(tmp_path) as service:
        service.say("first")
        (entry,) = service.entries()
        assert entry["LANESYNC_ERROR"] == b"first"
        assert entry["PRIORITY"] == b"4"
        assert service.lines() == []
        service.journal_goes()
        service.say("second")
        (line,) = service.lines()
        assert (line["event"], line["error"], line["level"]) == ("needs a person", "second", "warning")


def test_elsewhere_logs_are_json_lines(tmp_path: Path) -> None:
    with Service(tmp_path, journal=False) as service:
        service.say("first")
        assert service.entries() == []
        assert [line["error"] for line in service.lines()] == ["first"]


@pytest.mark.parametrize("level", ["info", "error"])
def test_signals_change_how_much_is_logged(level: str, tmp_path: Path) -> None:
    """SIGUSR1: everything. SIGUSR2: what it was started with."""
    count = {"info": 1, "error": 0}[level]
    with Service(tmp_path, level, journal=False) as service:
        service.say("first")
        assert len(service.lines()) == count
        service.process.send_signal(signal.SIGUSR1)

        def more() -> bool:
            before = len(service.lines())
            service.say("again")
            return len(service.lines()) - before == 2

        eventually(more, what="debug lines, too")
        assert {line["level"] for line in service.lines()} == {"debug", "warning"}
        service.process.send_signal(signal.SIGUSR2)

        def fewer() -> bool:
            before = len(service.lines())
            service.say("again")
            return len(service.lines()) - before == count

        eventually(fewer, what="as it was")


def test_an_entry_that_is_too_large_for_the_journal_goes_to_stderr(tmp_path: Path) -> None:
    """Nothing is lost, and nothing raises."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "socket"))
        event = {"event": "large", **{f"field{number}": "x" * MAX_VALUE for number in range(100)}}
        assert Journal(str(tmp_path / "socket")).processor(None, "info", event) == event


@pytest.mark.parametrize("module", ["agent.server.worker", "agent.server.command"])
def test_servers_start_without_what_draws_tracebacks_which_others_may_still_use(module: str) -> None:
    look = f"import sys, {module}; assert not any(name.split('.')[0] == 'rich' for name in sys.modules)"
    subprocess.run([sys.executable, "-c", f"{look}; import rich.console"], check=True)
