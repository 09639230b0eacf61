"""Transfers that begin while their manifest is still being made, and what becomes of it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from data_world import World, contents, wait_for, world

from agent.jetstream import constants

pytestmark = pytest.mark.fault

EARLY = constants.DEFAULT_TRANSFER_FLAGS | constants.TRANSFER_FLAG_EARLY
SET = EARLY | constants.TRANSFER_FLAG_SET


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


class Growing:
    """A transfer, and the manifest that it was started on with nothing in it."""

    def __init__(self, w: World, flags: int = EARLY) -> None:
        self._w, self._count = w, 0
        self.id = w.manifest([])
        self._set("pending", None)
        w.start("1", [], manifestId=str(self.id), flags=flags)

    def add(self, names: list[str]) -> None:
        rows: list[tuple[Any, ...]] = []
        for seq, name in enumerate(names, self._count):
            path = self._w.source / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(secrets.token_bytes(3000))
            rows.append((self.id, seq, os.fsencode(f"/{name}"), os.fsencode(path), 0, 3000, 0, None))
        self._count += len(rows)
        with self._w.db_lock:
            self._w.db.executemany("INSERT INTO manifest_files VALUES(?,?,?,?,?,?,?,?)", rows)
        self._tell()

    def end(self, status: str = "complete", error: str | None = None) -> None:
        self._set(status, error)
        self._tell()

    def _set(self, status: str, error: str | None) -> None:
        with self._w.db_lock:
            query = "INSERT OR REPLACE INTO manifests(id, status, error) VALUES(?,?,?)"
            self._w.db.execute(query, (self.id, status, error))

    def _tell(self) -> None:
        assert self._w.sender is not None
        self._w.sender.send({"op": "manifest", "id": str(self.id)})

    def arrived(self, names: list[str]) -> None:
        wait_for(lambda: all((self._w.root / "in" / name).exists() for name in names), f"{names} arrive")


def test_files_go_as_they_are_listed_and_the_last_one_ends_it(w: World) -> None:
    """What is listed is delivered at once; the transfer ends when the manifest does, and not before."""
    growing = Growing(w)
    for number in range(3):
        names = [f"d{number}/{name}" for name in "abc"]
        growing.add(names)
        growing.arrived(names)
        assert not w.finished
    growing.end()
    assert w.finish("1")["status"] == "complete"
    assert contents(w.root / "in") == contents(w.source)
    assert sorted(w.records["1"]) == list(range(9))


def test_an_empty_manifest_ends_its_transfer(w: World) -> None:
    """Nothing was listed: nothing is sent, and the transfer is complete."""
    Growing(w).end()
    assert w.finish("1")["status"] == "complete"


def test_a_manifest_that_fails_is_never_taken_for_a_complete_one(w: World) -> None:
    """What was listed is delivered and told; the transfer ends with the manifest's error."""
    growing = Growing(w)
    growing.add(["a", "b"])
    growing.end("error", "/src/c cannot be read")
    ended = w.finish("1")
    assert (ended["status"], ended["message"]) == ("error", "/src/c cannot be read")
    assert sorted(w.records["1"]) == [0, 1] and contents(w.root / "in") == contents(w.source)


def test_nothing_of_a_set_is_published_when_its_manifest_fails(w: World) -> None:
    """It is not known what the set would have been."""
    growing = Growing(w, SET)
    growing.add(["a", "b"])
    wait_for(lambda: list(w.root.glob(".lanesync/*/*")), "the files are at the receiver")
    growing.end("error", "/src/c cannot be read")
    ended = w.finish("1")
    assert ended["status"] == "error" and "nothing was published: /src/c cannot be read" in ended["message"]
    assert not (w.root / "in").exists() and not w.records.get("1")


def test_a_set_waits_for_the_whole_of_its_manifest(w: World) -> None:
    """No file shows before the manifest is complete and all of it is there."""
    growing = Growing(w, SET)
    growing.add(["a", "b"])
    wait_for(lambda: list(w.root.glob(".lanesync/*/*")), "the files are at the receiver")
    growing.add(["c"])
    assert not (w.root / "in").exists()
    growing.end()
    assert w.finish("1")["status"] == "complete"
    assert contents(w.root / "in") == contents(w.source)


@pytest.mark.parametrize("who", ["sender", "receiver"])
def test_either_side_may_die_while_the_manifest_grows(w: World, who: str) -> None:
    """The new process goes on with what is listed, and waits for the rest."""
    growing = Growing(w)
    growing.add(["a", "b"])
    growing.arrived(["a", "b"])
    worker = w.sender if who == "sender" else w.receiver
    assert worker is not None
    worker.kill()
    growing.add(["c"])
    w.start_sender() if who == "sender" else w.start_receiver()
    growing.arrived(["c"])
    assert not w.finished
    growing.end()
    assert w.finish("1")["status"] == "complete"
    assert sorted(w.records["1"]) == [0, 1, 2] and contents(w.root / "in") == contents(w.source)


def test_one_that_is_stopped_meanwhile_goes_on_from_there(w: World) -> None:
    """A pause while nothing is listed, and what was listed in it."""
    growing = Growing(w)
    growing.add(["a"])
    growing.arrived(["a"])
    w.stop("1")
    growing.add(["b"])
    growing.end()
    w.again("1")
    assert w.finish("1")["status"] == "complete"
    assert contents(w.root / "in") == contents(w.source)
