"""Who may command a real `lanesync serve`, and how it starts, ends and comes back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from freeports import free_port
from rawclient import Lines, explicit
from servers import eventually, start_server

from agent.jetstream import CommandError, constants
from agent.server import accounts
from agent.server.store.schema import DATABASE_NAME

pytestmark = pytest.mark.e2e


def test_a_control_token_comes_before_everything(tmp_path: Path) -> None:
    """Nothing but authToken is answered before it, and a wrong one opens nothing."""
    token = tmp_path / "token"
    token.write_text("t" * 40)
    token.chmod(0o600)
    with start_server(tmp_path / "s", control_token_file=token) as server, Lines(server.port) as lines:
        for method in ("server.getServerInfo", "server.echo", "send.getTransfers", "server.auth", "no.such"):
            assert lines.call(method)["error"]["code"] == constants.ERROR_AUTHENTICATION
        assert (
            lines.call("server.authToken", token="wrong")["error"]["code"] == constants.ERROR_AUTHENTICATION
        )
        assert lines.call("server.authToken", token="t" * 40)["result"] is None
        assert lines.call("send.getTransfers")["result"] == []
        assert "t" * 40 not in server.log()


def test_accounts_are_needed_where_there_are_some(tmp_path: Path) -> None:
    """Right name and password open the connection they were given on; little is told before."""
    file = tmp_path / "accounts.json"
    accounts.add(file, "jsmith", "secret-word")
    with start_server(tmp_path / "s", accounts=file) as server, Lines(server.port) as lines:
        info = lines.call("server.getServerInfo")["result"]
        assert info["authRequired"] and "hostName" not in info
        assert lines.call("send.getTransfers")["error"]["code"] == constants.ERROR_AUTHENTICATION
        for user, password in (("jsmith", "wrong"), ("nobody", "secret-word")):
            error = lines.call("server.auth", user=user, password=password)["error"]
            assert error["message"] == "user name or password is wrong"
        request = lines.call("server.authAsync", user="jsmith", password="secret-word")["result"]
        assert lines.call("server.getRequestResult", requestId=request)["result"] is None
        assert lines.call("send.getTransfers")["result"] == []
        accounts.add(file, "late", "another-word")
        with Lines(server.port) as other:
            assert other.call("server.auth", user="late", password="another-word")["result"] is None
        assert "secret-word" not in server.log()


def test_without_accounts_nobody_can_log_in_and_the_log_warns(tmp_path: Path) -> None:
    """auth is refused with what to do; the log says who may command the server."""
    with (
        start_server(tmp_path / "s") as server,
        server.api() as api,
        pytest.raises(CommandError, match="no accounts"),
    ):
        api.server.auth("jsmith", "secret")
    assert "every user of this machine" in server.log()


def test_a_second_server_names_the_first(tmp_path: Path) -> None:
    """One process owns a state directory."""
    with start_server(tmp_path / "s") as server:
        command = [sys.executable, "-m", "agent.server", "--listen", "127.0.0.1:0"]
        command += ["--state-dir", str(server.state_dir)]
        second = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert second.returncode == 1
    assert f"process id {server.pid}" in second.stderr and "Traceback" not in second.stderr


def test_everything_survives_a_kill(tmp_path: Path) -> None:
    """After kill -9 the objects are there, and an active transfer is active by itself."""
    with start_server(tmp_path / "s") as server:
        with Lines(server.port) as lines:
            destination = lines.call(
                "send.createDestination",
                destinationAddress="127.0.0.1",
                destinationPort=free_port(),
                permanent=True,
            )["result"]
            lines.call("send.setPriorityLanes", destinationId=destination, priorityLanes={"A": 0.9, "B": 0.1})
            manifest = lines.call("send.createManifest", mappings=explicit(2))["result"]
            both = {"destinationId": destination, "manifestId": manifest}
            active = lines.call("send.createTransfer", **both, userData={"tag": "t"})["result"]
            paused = lines.call("send.createTransfer", **both)["result"]
            lines.call("send.suspendTransfer", transferId=paused)
        server.kill()
        server.start()
        with Lines(server.port) as lines:
            after = lines.call("send.getTransfer", transferId=active)["result"]
            assert after["processing"] and after["userData"] == {"tag": "t"}
            assert lines.call("send.getTransfer", transferId=paused)["result"]["status"] == "suspended"
            kept = lines.call("send.getDestination", destinationId=destination)["result"]
            assert kept["priorityLanes"] == {"A": 0.9, "B": 0.1}
            eventually(lambda: server.worker("sender"), what="the sender starts by itself")


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    """The control process stays, the transfer stays active, another sender takes it up."""
    with start_server(tmp_path / "s") as server, Lines(server.port) as lines:
        destination = lines.call(
            "send.createDestination", destinationAddress="127.0.0.1", destinationPort=free_port()
        )["result"]
        manifest = lines.call("send.createManifest", mappings=explicit(1))["result"]
        made = lines.call("send.createTransfer", destinationId=destination, manifestId=manifest)["result"]
        first = eventually(lambda: server.worker("sender"))
        os.kill(first, signal.SIGKILL)
        eventually(lambda: server.worker("sender") not in (None, first))
        assert lines.call("send.getTransfer", transferId=made)["result"]["processing"]
        assert lines.call("send.suspendTransfer", transferId=made)["result"]


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to be read as one" * 100, b""])
def test_a_damaged_database_is_refused_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    """The server does not start on top of it, and does not overwrite it (an empty file is a new one)."""
    state = tmp_path / "s"
    state.mkdir()
    (state / DATABASE_NAME).write_bytes(content)
    if not content:
        start_server(state).stop()
        return
    command = [sys.executable, "-m", "agent.server", "--listen", "127.0.0.1:0", "--state-dir", str(state)]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert refused.returncode == 1
    assert "is damaged" in refused.stderr and "Traceback" not in refused.stderr
    assert (state / DATABASE_NAME).read_bytes() == content


def test_the_server_ends_with_its_parent(tmp_path: Path) -> None:
    """The end of the parent's pipe is the end of the server and its workers."""
    ready, told = os.pipe()
    theirs, ours = os.pipe()
    command = [
        sys.executable,
        "-m",
        "agent.server",
        "--listen",
        "127.0.0.1:0",
        "--state-dir",
        str(tmp_path / "s"),
    ]
    command += ["--ready-fd", str(told), "--parent-pipe-fd", str(theirs)]
    process = subprocess.Popen(command, pass_fds=(told, theirs), stderr=subprocess.DEVNULL)
    os.close(told)
    os.close(theirs)
    try:
        with os.fdopen(ready) as file:
            assert json.loads(file.readline())["pid"] == process.pid
        os.close(ours)
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_a_stop_is_quick_with_clients_and_workers_about(tmp_path: Path) -> None:
    """SIGTERM ends it with exit code 0 while a client waits and the sender runs."""
    with start_server(tmp_path / "s") as server, Lines(server.port) as lines:
        destination = lines.call(
            "send.createDestination", destinationAddress="127.0.0.1", destinationPort=free_port()
        )["result"]
        manifest = lines.call("send.createManifest", mappings=explicit(1))["result"]
        made = lines.call("send.createTransfer", destinationId=destination, manifestId=manifest)["result"]
        lines.say(
            json.dumps(
                {"jsonrpc": "2.0", "id": 1, "method": "send.waitForTransfer", "params": {"transferId": made}}
            ).encode()
            + b"\n"
        )
        eventually(lambda: server.worker("sender"))
        began = time.monotonic()
        assert server.stop() == 0
        print(f"stopped in {time.monotonic() - began:.2f} s")
