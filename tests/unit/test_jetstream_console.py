"""`lanesync api` reads its parameters as people write them, and says what is wrong."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner
from servers import start_server

from agent.cli.api import command, methods, parse_arguments, resolve_method


def test_values_are_json_where_they_are_json() -> None:
    """Numbers, lists and objects are typed, all else is text."""
    parsed = parse_arguments(("limit=10", "key=plain text", 'mappings={"/a": "/b"}', "flag=true", "empty="))
    assert parsed == {"limit": 10, "key": "plain text", "mappings": {"/a": "/b"}, "flag": True, "empty": ""}


def test_parameters_may_be_written_as_options() -> None:
    """The documents' console form, also of a mapping; names with a colon are told apart by two."""
    assert parse_arguments(("--transferId=7", "priority=1")) == {"transferId": 7, "priority": 1}
    assert parse_arguments(("--fileMappings=/src/a:/b",)) == {"fileMappings": {"/src/a": "/b"}}
    assert parse_arguments(("--fileMappings=C:/a::/b",)) == {"fileMappings": {"C:/a": "/b"}}


def test_one_json_object_is_all_parameters() -> None:
    """A script passes everything at once."""
    assert parse_arguments(('{"transferId": "17"}',)) == {"transferId": "17"}


def test_a_value_may_come_from_a_file(tmp_path: Path) -> None:
    """key=@FILE reads a long mapping."""
    path = tmp_path / "mappings.json"
    path.write_text(json.dumps({"/a": "/b"}))
    assert parse_arguments((f"mappings=@{path}",)) == {"mappings": {"/a": "/b"}}


@pytest.mark.parametrize(
    "wrong",
    [
        ("limit",),
        ("=1",),
        ("a=1", "a=2"),
        ("a=1", "--a=2"),
        ("--a", "2"),
        ("{broken",),
        ("m=@/nonexistent/file",),
        ("fileMappings=/a",),
    ],
)
def test_what_cannot_be_read_is_a_usage_error(wrong: tuple[str, ...]) -> None:
    """Nothing is guessed and nothing is left out."""
    with pytest.raises(click.UsageError):
        parse_arguments(wrong)


def test_a_short_name_finds_its_namespace() -> None:
    """`getTransfers` is `send.getTransfers`; full names stay."""
    assert resolve_method("getTransfers") == "send.getTransfers"
    assert resolve_method("recv.getTransfers") == "recv.getTransfers"
    assert resolve_method("getServerInfo") == "server.getServerInfo"


def test_every_documented_send_method_can_be_called() -> None:
    """The console knows what the client knows."""
    assert {"send.createTransfer", "send.waitForManifest", "server.auth", "lanesync.waitEvents"} <= set(
        methods()
    )


def test_an_unknown_method_gets_a_hint() -> None:
    """A misspelt name exits 2 and names the nearest."""
    result = CliRunner().invoke(command, ["send.getTransfer5"])
    assert result.exit_code == 2
    assert "send.getTransfer" in result.output


def test_nobody_listening_exits_1_and_says_where() -> None:
    """The message names host and port and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    result = CliRunner().invoke(command, ["getTransfers", "--port", str(port)])
    assert result.exit_code == 1
    assert f"127.0.0.1:{port}" in result.output


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("lanesync api send.createTr", ["send.createTransfer"]),
        ("lanesync api getRequestSt", ["getRequestStatus"]),
        ("lanesync api createTransfer dest", ["destinationId=", "destinationPath="]),
        ("lanesync api createTransfer destinationId=1 dest", ["destinationPath="]),
        ("lanesync api nonsense x", []),
    ],
)
def test_tab_completes_methods_and_their_parameters(words: str, expected: list[str]) -> None:
    """A shell asks for the word at hand."""
    *before, last = words.split()[2:]
    complete = ShellComplete(command, {}, "api", "_API_COMPLETE")
    assert [item.value for item in complete.get_completions(before, last)] == expected


def test_a_password_is_read_from_a_file(tmp_path: Path) -> None:
    """A script needs neither a prompt nor an environment variable; a token and a user exclude each other."""
    path = tmp_path / "password"
    path.write_text("secret\n")
    with start_server(tmp_path / "server") as server:
        given = ["getServerInfo", "--port", str(server.port), "--user", "me", "--password-file", str(path)]
        refused = CliRunner().invoke(command, given)
        assert (refused.exit_code, "accounts" in refused.output) == (1, True)
        both = CliRunner().invoke(
            command, ["getServerInfo", "--port", str(server.port), *given[3:5], "--token", "t"]
        )
        assert both.exit_code == 2
