"""`publish: set`, `symlinks: preserve` and `durability: strict` as a spec asks for them, with real agents."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents import World, tree, world
from servers import eventually, server_pair

from agent.jetstream import CommandError, constants

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def fill(w: World, count: int = 200) -> None:
    chance = random.Random(1)
    for number in range(count):
        folder = w.source / f"d{number % 9}"
        folder.mkdir(exist_ok=True)
        (folder / f"f{number}").write_bytes(chance.randbytes(chance.randrange(30_000)))
    (w.source / "aa-COMPLETE").write_text("version 1")
    (w.source / "large.mov").write_bytes(chance.randbytes(6 << 20))


class Reader:
    """Waits for the marker, as a consumer would, and then needs all of its set."""

    def __init__(self, w: World) -> None:
        self._w = w
        self.wrong: list[str] = []
        self.seen = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        wanted = tree(self._w.source)
        while not self._stop.wait(0.01):
            if (self._w.target() / "aa-COMPLETE").exists():
                self.seen += 1
                found = tree(self._w.target())
                self.wrong += [os.fsdecode(path) for path in wanted if path not in found]


def test_a_set_appears_with_its_marker_last_and_deletions_follow(w: World) -> None:
    fill(w)
    w.write(
        w.mapping(more='publish: set\nmarker: "*-COMPLETE"\nprune: true'),
        destination=", sendRateMax: 60Mbit/s",
    )
    with Reader(w) as reader:
        w.start()
        w.eventually_same(seconds=120)
        w.in_sync()
        eventually(lambda: reader.seen, what="the reader has looked")
    assert reader.wrong == []
    old = w.target() / "d1" / "f1"
    (w.source / "d1" / "f1").unlink()
    (w.source / "d1" / "new").write_text("more")
    (w.source / "aa-COMPLETE").write_text("version 2")
    eventually(lambda: (w.target() / "aa-COMPLETE").read_text() == "version 2", what="the next set")
    assert (w.target() / "d1" / "new").read_text() == "more"
    eventually(lambda: not old.exists(), what="the deletion that waited for it")
    w.in_sync()
    assert w.leftovers() == []


def test_what_is_in_the_way_of_one_file_keeps_its_set_back_and_is_named(w: World) -> None:
    fill(w, 20)
    (w.target() / "d3" / "f3").mkdir(parents=True)  # a directory in the place of a file
    w.write(w.mapping(more="publish: set"))
    w.start()
    eventually(lambda: "f3" in str(w.object("Mapping", "dailies")), what="the file is named", seconds=60)
    assert not (w.target() / "large.mov").exists() and not (w.target() / "d1" / "f1").exists()
    (w.target() / "d3" / "f3").rmdir()
    w.eventually_same(seconds=60)


def test_killed_agents_with_their_servers_leave_no_half_set(w: World) -> None:
    fill(w)
    w.write(
        w.mapping(more='publish: set\nmarker: "aa-COMPLETE"'),
        destination=", sendRateMax: 60Mbit/s, transferDefaults: {checkpointInterval: 1s}",
    )
    chance = random.Random(3)
    with Reader(w) as reader:
        for _ in range(4):
            w.start()
            threading.Event().wait(chance.uniform(0.5, 2.0))  # the instant is the random part of the test
            w.kill()
        w.start()
        w.eventually_same(seconds=120)
    w.in_sync()
    assert reader.wrong == []
    assert w.leftovers() == []


def link_text(path: Path) -> str | None:
    """Where it leads; None while it is gone, as it may be for a moment: `prune` follows the source."""
    return os.readlink(path) if path.is_symlink() else None


def test_links_are_delivered_as_links_and_those_that_lead_out_are_named(w: World) -> None:
    (w.source / "a" / "b").mkdir(parents=True)
    (w.source / "a" / "real").write_text("content")
    (w.source / "a" / "b" / "up").symlink_to("../real")
    (w.source / "folder").symlink_to("a")
    (w.source / "away").symlink_to("/etc/passwd")
    (w.source / "above").symlink_to("../elsewhere")
    w.write(w.mapping(more="symlinks: preserve\nprune: true"))
    w.start()
    eventually(lambda: os.path.islink(w.target() / "a" / "b" / "up"), what="the link")
    w.in_sync()
    assert os.readlink(w.target() / "a" / "b" / "up") == "../real"
    assert os.readlink(w.target() / "folder") == "a"
    assert not os.path.lexists(w.target() / "away") and not os.path.lexists(w.target() / "above")
    told = str(w.object("Mapping", "dailies"))
    assert "2 links are left out" in told and "/etc/passwd" in told
    # a link says something else; a link becomes a file, a file a link; a link goes
    (w.source / "folder").unlink()
    (w.source / "folder").symlink_to("a/b")
    (w.source / "a" / "b" / "up").unlink()
    (w.source / "a" / "b" / "up").write_text("a file now")
    (w.source / "a" / "real").unlink()
    (w.source / "a" / "real").symlink_to("b/up")
    eventually(lambda: link_text(w.target() / "folder") == "a/b", what="another target")
    eventually(lambda: os.path.islink(w.target() / "a" / "real"), what="a link in the place of a file")
    eventually(
        lambda: not os.path.islink(w.target() / "a" / "b" / "up"), what="a file in the place of a link"
    )
    assert (w.target() / "a" / "real").read_text() == "a file now"
    (w.source / "folder").unlink()
    (w.source / "folder").mkdir()
    (w.source / "folder" / "inside").write_text("x")
    eventually(lambda: (w.target() / "folder" / "inside").exists(), what="a directory in the place of a link")
    assert not (w.target() / "folder").is_symlink()
    w.in_sync()


def test_strict_durability_is_asked_for_by_a_destination(w: World) -> None:
    fill(w, 60)
    w.write(w.mapping(), destination=", transferDefaults: {durability: strict}")
    w.start()
    w.eventually_same()
    w.in_sync()


def test_a_manifest_is_filled_in_several_calls(tmp_path: Path) -> None:
    """Its entries keep the order of the calls; it is not sent before it is complete, nor added to after."""
    source = tmp_path / "source"
    source.mkdir()
    for number in range(6):
        (source / str(number)).write_text(str(number))
    with server_pair(tmp_path) as (sender, receiver), sender.api() as api:
        parts = [
            {f"/{n}": {"src": str(source / str(n)), "size": 1} for n in (first, first + 1)}
            for first in (4, 0, 2)
        ]
        made = api.lanesync.fillManifest(parts[0], complete=False)["manifestId"]
        destination = api.send.createDestination("127.0.0.1", destinationPort=receiver.port)
        with pytest.raises(CommandError, match="not complete"):
            api.send.createTransfer(destination, made)
        api.lanesync.fillManifest(parts[1], made, complete=False)
        api.lanesync.fillManifest(parts[2], made)
        listed = api.send.getManifestFiles(made)["fileMappings"]
        assert [found["destPath"] for found in listed] == ["/4", "/5", "/0", "/1", "/2", "/3"]
        with pytest.raises(CommandError, match="complete"):
            api.lanesync.fillManifest(parts[0], made)
        flags = constants.DEFAULT_TRANSFER_FLAGS | constants.TRANSFER_FLAG_SET
        ended = api.send.waitForTransfer(api.send.createTransfer(destination, made, transferFlags=flags))
        assert ended["status"] == "complete"
        twice = api.lanesync.fillManifest(parts[0], complete=False)["manifestId"]
        api.lanesync.fillManifest(parts[0], twice)
        assert api.send.getManifest(twice)["status"] == "error"
        with pytest.raises(CommandError, match="createManifest"):
            api.lanesync.fillManifest({"/x": str(source)})
