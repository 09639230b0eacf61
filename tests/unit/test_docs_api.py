"""docs/jetstream-api.md has a row with a test for each method, field and constant, and for nothing else."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agent.jetstream import constants
from agent.jetstream import structures as client
from agent.jetstream.extensions import ExtensionInterface
from agent.jetstream.recvinterface import RecvInterface
from agent.jetstream.sendinterface import SendInterface
from agent.jetstream.serverinterface import ServerInterface
from agent.server import structures as server
from agent.server.clock import SystemClock
from agent.server.counters import Counters
from agent.server.live import Link
from agent.server.receptions import Receptions
from agent.server.store.destinations import Connection, Defaults, Destination
from agent.server.store.manifests import Entry, Manifest
from agent.server.store.scope import EVERYTHING
from agent.server.store.transfers import Transfer

PAGE = Path(__file__).resolve().parents[2] / "docs/jetstream-api.md"
INTERFACES = {
    "SendInterface": SendInterface,
    "ServerInterface": ServerInterface,
    "RecvInterface": RecvInterface,
    "ExtensionInterface": ExtensionInterface,
}
STRUCTURES = {name: found for name, found in vars(client).items() if hasattr(found, "__total__")}
EVENT = ("_event", "_timestamp")  # beside them, what the structure of the object has


class Row(NamedTuple):
    names: list[str]
    cells: list[str]


class Section(NamedTuple):
    text: str
    rows: list[Row]


def sections() -> dict[str, Section]:
    """By heading, without `(ours)`; rows are those of the tables whose last column is `test`."""
    found = {}
    for part in re.split(r"(?m)^#{2,3} ", PAGE.read_text())[1:]:
        heading, _, text = part.partition("\n")
        rows = [_row(line) for line in text.splitlines() if line.startswith("| `")]
        has_tests = re.search(r"(?m)^\| \w+ \|.*\| test \|$", text) is not None
        found[heading.removesuffix(" (ours)")] = Section(text, rows if has_tests else [])
    return found


def _row(line: str) -> Row:
    cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
    return Row(re.findall(r"`([^`]+)`", cells[0]), cells)


def names(heading: str) -> list[str]:
    return [name for row in sections()[heading].rows for name in row.names]


def _transfer() -> Transfer:
    return Transfer(5, "u", 1, 3, "pending", "me", "/", "Normal", 100, None, 7, 4, 30, 0, 0.0, 1, 1, 1, 1)


def _destination() -> Destination:
    return Destination(1, 2, "a", 8886, None, 0, False, None, (("A", 1.0),), Defaults(), "me", 1)


def _reception(kind: str) -> dict[str, Any]:
    receptions = Receptions()
    report = {"ident": "i", "uid": "u", "user": "me", "sourceIP": "::1", "sourcePort": 1, "totalSize": 1}
    receptions.note(report | {"destinationPath": "/", "status": "receiving"}, 1)
    return getattr(receptions, kind)(EVERYTHING, 1)[0]


EMITTED = {
    "Destination": lambda: server.destination(_destination(), Link(), 0, {}),
    "Connection": lambda: server.connection(
        Connection(
            2,
            "a",
            1,
            None,
            None,
            None,
            None,
            rate_control=True,
            rate_method=0,
            relay_address="",
            relay_port=0,
        ),
        Link(),
        0,
        0.0,
    ),
    "Manifest": lambda: server.manifest(Manifest(3, "pending", None, None, None, "me", 1), {}),
    "FileMapping": lambda: server.file_mappings([Entry("/f", "/f", 0, 1, executable=False)])[0],
    "Transfer": lambda: (
        server.transfer(_transfer(), Counters(), SystemClock(), {}) | {"completeFlags": [False]}
    ),
    "ReceiveTransfer": lambda: _reception("transfers"),
    "Source": lambda: _reception("sources"),
}


@pytest.mark.parametrize("name", sorted(INTERFACES))
def test_each_method_of_the_client_has_one_row(name: str) -> None:
    """Public methods and rows are the same, a twin beside its `…Async`."""
    public = [
        member for member, _ in inspect.getmembers(INTERFACES[name], inspect.isfunction) if member[0] != "_"
    ]
    assert sorted(names(name)) == public
    for row in sections()[name].rows:
        first, *twins = row.names
        assert all(first.removesuffix("Async") == each.removesuffix("Async") for each in twins)


@pytest.mark.parametrize("name", [*sorted(STRUCTURES), "Event"])
def test_each_field_of_a_structure_has_one_row(name: str) -> None:
    """The client's types and the rows are the same; live answers are held to the types elsewhere."""
    fields = EVENT if name == "Event" else STRUCTURES[name].__annotations__
    assert sorted(names(name)) == sorted(fields)


@pytest.mark.parametrize("name", sorted(EMITTED))
def test_each_field_that_the_server_makes_has_one_row(name: str) -> None:
    """What the server's code puts into a structure is what the page tells."""
    assert sorted(names(name)) == sorted(EMITTED[name]())


def test_every_constant_is_in_the_table_with_its_value() -> None:
    """Names and values, and none is left out."""
    told = {row.names[0]: ast.literal_eval(row.cells[1].strip("*")) for row in sections()["Constants"].rows}
    assert told == {name: value for name, value in vars(constants).items() if name.isupper()}


def test_every_row_is_shown_by_a_test() -> None:
    """Its own, or the one that is named above the table."""
    silent = []
    for heading, (text, rows) in sections().items():
        above = re.search(
            r"(?:Unless a row names another test|is left out, is shown by)[^|]*::test_\w+`", text
        )
        silent += [f"{heading}: {row.names}" for row in rows if not above and "::test_" not in row.cells[-1]]
    assert silent == []


def test_all_rows_of_the_page_are_looked_at() -> None:
    """No table with tests stands below a heading that the tests above do not know."""
    known = {*INTERFACES, *STRUCTURES, "Event", "Constants"}
    assert {heading for heading, found in sections().items() if found.rows} == known
    assert all(len({len(row.cells) for row in found.rows}) <= 1 for found in sections().values())
