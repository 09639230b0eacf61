"""Source files are deleted once two real destinations have them: one in the agent's family, one outside."""

from __future__ import annotations

import contextlib
import json
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import World, fill, tree, world
from freeports import free_port
from servers import Server, eventually, start_server

pytestmark = pytest.mark.e2e

MIRROR = """
---
apiVersion: lanesync/v1
kind: Destination
metadata: {{name: mirror}}
spec: {{server: sender, address: 127.0.0.1, port: {port}}}
"""


class Two:
    """A world with a second destination, and a policy that allows to release its source."""

    def __init__(self, w: World) -> None:
        self.w = w
        self.port = free_port()
        self.mirror: Server | None = None
        self.trees = (w.target(), w.directory / "mirrored" / "paris")
        policy = w.directory / "policy.yaml"
        allowed = {"sources": [str(w.directory)], "release": [str(w.source)], "receiveRoots": ["received"]}
        addresses = [{"network": "127.0.0.1/32"}]
        spec = {**allowed, "addresses": addresses, "listen": addresses}
        policy.write_text(json.dumps({"apiVersion": "lanesync/v1", "kind": "Policy", "spec": spec}))
        w.options = ("--policy", str(policy))

    def up(self) -> None:
        self.mirror = start_server(self.w.directory / "mirror", self.w.directory / "mirrored", port=self.port)
        self.mirror.__enter__()

    def down(self) -> None:
        if self.mirror is not None:
            self.mirror.__exit__(None, None, None)
            self.mirror = None

    def write(self, release: str, more: str = "") -> None:
        text = self.w.mapping(more=f"release: {release}\n{more}")
        text = text.replace("destination: archive", "destinations: [archive, mirror]")
        self.w.write(text, MIRROR.format(port=self.port))

    def left(self) -> list[str]:
        """Files at the source."""
        return sorted(str(p.relative_to(self.w.source)) for p in self.w.source.rglob("*") if p.is_file())

    def document(self) -> dict[str, Any]:
        return self.w.object("Mapping", "dailies")

    def told(self) -> dict[str, str]:
        return {c["type"]: c["message"] for c in self.document().get("conditions", ()) if c["status"]}

    def delivered(self) -> bool:
        return all(tree(self.w.source) == tree(target) for target in self.trees)

    def released(self, whole: dict[bytes, Any]) -> None:
        eventually(lambda: self.left() == [], seconds=60, what="the source is empty")
        assert [tree(target) == whole for target in self.trees] == [True, True]
        self.w.in_sync()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    with world(tmp_path) as w:
        made = Two(w)
        with contextlib.ExitStack() as stack:
            stack.callback(made.down)
            yield made


def test_nothing_is_released_while_one_of_two_destinations_is_down(two: Two) -> None:
    """The other has everything long ago. Then all is released, and stays where it was delivered."""
    fill(two.w.source, 120)
    whole = tree(two.w.source)
    two.write("deleteSource")
    two.w.start()
    eventually(lambda: tree(two.trees[0]) == whole, what="the archive has it")
    for _ in range(5):
        threading.Event().wait(0.4)
        assert tree(two.w.source) == whole
    two.up()
    two.released(whole)
    found = two.document()
    assert found["release"]["released"] == 120
    assert found["release"]["stays"] == []
    lines = two.w.call("history", "Mapping/dailies", "--files", "--output", "json").stdout
    assert lines.count('"release"') >= 240, lines[-2000:]
    path = str(two.w.source / "d000" / "f00001.bin")
    answer = json.loads(two.w.call("explain", path, "--output", "json").stdout)
    assert {d["state"] for d in answer["mappings"][0]["deliveries"]} == {"released"}
    (two.w.source / "d000" / "new.bin").write_text("comes later")
    eventually((two.trees[1] / "d000" / "new.bin").exists, what="the new file is delivered")
    new = tree(two.trees[1])[b"d000/new.bin"]
    two.released({**whole, b"d000/new.bin": new})
    assert (two.trees[0] / "d000" / "new.bin").read_text() == "comes later"


def test_a_flipped_bit_keeps_a_file_at_the_source_until_it_is_corrected(two: Two) -> None:
    """With `warn` it is told and stays; with `correct` it is sent again, then released."""
    fill(two.w.source, 60)
    whole = tree(two.w.source)
    two.up()
    two.write("keep")
    two.w.start()
    eventually(two.delivered, what="delivered")
    two.w.in_sync()
    rot(two.trees[1] / "d000" / "f00007.bin")
    two.write("deleteSource", "drift: {policy: warn}")
    eventually(lambda: two.left() == ["d000/f00007.bin"], what="the others are released")
    eventually(lambda: "Drifted" in two.told(), what="it is told")
    told = two.told()
    assert "1 file damaged at mirror: /paris/d000/f00007.bin" in told["Drifted"]
    assert "1 file not deleted at the source: /paris/d000/f00007.bin" in told["Limited"]
    assert two.left() == ["d000/f00007.bin"]
    two.write("deleteSource", "drift: {policy: correct}\nverify: {mode: checksum}")
    two.w.call("reconcile", "Mapping/dailies")
    two.released(whole)
    eventually(lambda: two.told().keys() == {"Ready"}, what="nothing is left to tell")


def rot(path: Path) -> None:
    info = path.stat()
    with open(path, "r+b") as file:
        byte = file.read(1)
        file.seek(0)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def test_a_file_that_is_modified_between_delivery_and_release_is_not_released(two: Two) -> None:
    """Not even when its size and modification time are as they were: its new content goes first."""
    fill(two.w.source, 40)
    two.up()
    two.write("keep")
    two.w.start()
    eventually(two.delivered, what="delivered")
    two.w.in_sync()
    assert two.w.stop() == 0
    rot(two.w.source / "d000" / "f00003.bin")
    whole = tree(two.w.source)
    two.write("deleteSource")
    two.down()
    two.w.start()
    eventually(
        lambda: tree(two.trees[0]).get(b"d000/f00003.bin") == whole[b"d000/f00003.bin"],
        what="one destination has the new content",
    )
    assert tree(two.w.source) == whole
    two.up()
    two.released(whole)


def wait_for_fewer_than(files: int, directory: Path) -> None:
    """To the millisecond."""
    for _ in range(30_000):
        if len(os.listdir(directory)) < files:
            return
        threading.Event().wait(0.001)
    raise AssertionError(f"nothing is released in {directory}")


def test_killed_agents_lose_no_file(two: Two) -> None:
    """Whenever the agent dies while it releases, each file is whole at both destinations or at the source."""
    fill(two.w.source, 1100)
    whole = tree(two.w.source)
    two.up()
    two.write("keep")
    two.w.start()
    eventually(two.delivered, what="delivered")
    two.w.in_sync()
    two.w.kill()
    two.write("deleteSource")
    chance = random.Random(11)
    in_the_middle = 0
    for _ in range(2):
        before = two.left()
        first = (two.w.source / before[0]).parent
        two.w.start()
        wait_for_fewer_than(len(os.listdir(first)), first)
        threading.Event().wait(chance.uniform(0.0, 0.03))
        two.w.kill()
        left = len(two.left())
        in_the_middle += 0 < left < len(before)
        there, (archive, mirror) = tree(two.w.source), map(tree, two.trees)
        for path, version in whole.items():
            assert there.get(path) == version or archive.get(path) == mirror.get(path) == version, path
        if not left:
            break
    assert in_the_middle, "no kill came in the middle"
    two.w.start()
    two.released(whole)


def test_a_mapping_that_releases_leaves_run_once_with_an_empty_source(two: Two) -> None:
    """It is not in sync before."""
    fill(two.w.source, 30)
    whole = tree(two.w.source)
    two.up()
    two.write("deleteSource")
    done = two.w.call("run", str(two.w.specs), "--once", "--timeout", "60s", *two.w.options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert two.left() == []
    assert [tree(target) for target in two.trees] == [whole, whole]
