"""The main job with real processes: specs in, files delivered, kept in sync."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents import World, fill, tree, world
from freeports import free_port
from servers import eventually

pytestmark = pytest.mark.e2e


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def strange_names(root: Path) -> None:
    (root / "ünïcødé 📼").mkdir()
    (root / "ünïcødé 📼" / "名前.txt").write_text("unicode")
    with open(os.fsencode(root) + b"/not-utf8-\xff\xfe.bin", "wb") as file:
        file.write(b"bytes")
    (root / "new\nline").write_text("newline in a name")
    (root / "empty.file").write_bytes(b"")
    (root / "empty" / "directory").mkdir(parents=True)
    (root / "tool.sh").write_text("#!/bin/sh\n")
    (root / "tool.sh").chmod(0o755)
    os.utime(root / "tool.sh", ns=(1, 1_234_567_890_123_456_789))


def test_first_delivery_of_a_tree_with_everything_in_it(w: World) -> None:
    """2,000 files, strange names, empty files and directories, a sparse gigabyte, modes and times."""
    fill(w.source, 2000)
    strange_names(w.source)
    with open(w.source / "sparse.raw", "wb") as file:
        file.truncate(1 << 30)
        file.seek(700 << 20)
        file.write(b"in the middle")
    w.write(w.mapping())
    done = w.once()
    assert done.returncode == 0, done.stdout + done.stderr
    assert tree(w.source) == tree(w.target())
    assert (w.target() / "sparse.raw").stat().st_blocks * 512 < 64 << 20, "the hole became blocks"
    assert w.leftovers() == []
    assert "in sync" in done.stdout
    assert w.family() == []


def test_second_run_has_nothing_to_deliver(w: World) -> None:
    """Plan after apply is empty, and a new agent sends nothing again."""
    fill(w.source, 60)
    w.write(w.mapping())
    assert w.once().returncode == 0
    plan = w.call("plan", str(w.specs), "--exit-code", "--output", "json")
    assert plan.returncode == 0, plan.stdout
    assert json.loads(plan.stdout)["empty"] is True
    again = w.once()
    assert again.returncode == 0
    assert "nothing had to be delivered" in again.stdout


def test_changes_arrive_while_the_agent_watches(w: World) -> None:
    """Change, add, rename, new directories and deletion without prune, as they happen."""
    fill(w.source, 60)
    w.write(w.mapping())
    w.start()
    w.eventually_same()
    (w.source / "d000" / "f00001.bin").write_text("changed")
    (w.source / "new.txt").write_text("added")
    (w.source / "deep" / "er" / "still").mkdir(parents=True)
    (w.source / "deep" / "er" / "still" / "x").write_text("in a new directory")
    outside = w.directory / "outside.txt"
    outside.write_text("renamed into place")
    outside.rename(w.source / "moved-in.txt")
    w.eventually_same()
    (w.source / "new.txt").rename(w.source / "renamed.txt")
    (w.source / "d000" / "f00002.bin").unlink()
    eventually((w.target() / "renamed.txt").exists, what="the new name")
    w.in_sync()
    assert (w.target() / "new.txt").exists(), "without prune nothing is deleted at the destination"
    assert (w.target() / "d000" / "f00002.bin").exists()


def test_prune_deletes_what_was_delivered_and_emptied_directories(w: World) -> None:
    """With prune a deletion follows, empty directories go, and files of others stay."""
    fill(w.source, 60)
    (w.source / "gone" / "deeper").mkdir(parents=True)
    (w.source / "gone" / "deeper" / "file").write_text("x")
    w.write(w.mapping(more="prune: true"))
    w.start()
    w.eventually_same()
    w.in_sync()
    foreign = w.target() / "d000" / "foreign.txt"
    foreign.write_text("somebody else's")
    shutil.rmtree(w.source / "gone")
    (w.source / "d000" / "f00003.bin").unlink()
    eventually(lambda: not (w.target() / "gone").exists(), what="the emptied directory is gone")
    eventually(lambda: not (w.target() / "d000" / "f00003.bin").exists(), what="the file is gone")
    w.in_sync()
    assert foreign.read_text() == "somebody else's"


def test_missing_and_emptied_sources_delete_nothing(w: World) -> None:
    """An unmounted or emptied source holds deletions, says so, and heals."""
    fill(w.source, 30)
    w.write(w.mapping(more="prune: true"))
    assert w.once().returncode == 0
    hidden = w.directory / "unmounted"
    w.source.rename(hidden)
    missing = w.once()
    assert missing.returncode == 4, missing.stdout
    assert "missing" in missing.stdout
    w.source.mkdir()
    emptied = w.once()
    assert emptied.returncode == 4, emptied.stdout
    assert "emptied" in emptied.stdout
    assert tree(hidden) == tree(w.target())
    w.source.rmdir()
    hidden.rename(w.source)
    assert w.once().returncode == 0
    assert w.same()


def test_spec_edit_changes_the_lane_of_a_running_transfer(w: World) -> None:
    """Editing lane and priority in the spec steers what runs; nothing is restarted."""
    with open(w.source / "large.bin", "wb") as file:
        file.write(os.urandom(1 << 20) * 24)
    limit = ", sendRateMax: 16Mbit/s"
    w.write(w.mapping(more="lane: Low"), destination=limit)
    w.start()

    def transfers() -> list[dict[str, object]]:
        found = w.object("Mapping", "dailies").get("deliveries", [])
        return found[0]["transfers"] if found else []

    eventually(lambda: any(t["lane"] == "Low" for t in transfers()), what="a transfer in lane Low")
    before = transfers()[0]["id"]
    w.write(w.mapping(more="lane: High\npriority: 7"), destination=limit)
    eventually(
        lambda: any((t["lane"], t["priority"], t["id"]) == ("High", 7, before) for t in transfers()),
        what="the same transfer in lane High",
    )
    w.write(w.mapping(more="lane: High\npriority: 7"))
    w.eventually_same()


def test_destination_that_is_down_at_start_is_waited_for(w: World) -> None:
    """An absent receiver is no error: the mapping says so, and delivers when it comes."""
    fill(w.source, 30)
    sender_only = f"""
apiVersion: lanesync/v1
kind: Destination
metadata: {{name: archive}}
spec: {{address: 127.0.0.1, port: {w.port}}}
"""
    w.write(sender_only, w.mapping(), servers=False)
    w.start()
    eventually(
        lambda: any(
            c["reason"] == "DestinationUnreachable"
            for c in w.object("Mapping", "dailies").get("conditions", [])
        ),
        what="the condition DestinationUnreachable",
    )
    from servers import Server

    with Server(w.directory / "receiver", w.received, {"port": w.port}):
        w.eventually_same()
        w.in_sync()


def test_sigterm_ends_everything(w: World) -> None:
    """The agent drains in under 10 s and leaves no process behind."""
    fill(w.source, 30)
    w.write(w.mapping())
    w.start()
    w.eventually_same()
    assert w.stop() == 0
    assert w.family() == []


def test_kill_of_the_agent_ends_its_children(w: World) -> None:
    """Also after kill -9 no process is left, and the state lock is free for the next agent."""
    fill(w.source, 30)
    w.write(w.mapping())
    w.start()
    w.eventually_same()
    w.kill()
    assert w.once().returncode == 0


def test_a_second_agent_is_refused_and_names_the_first(w: World) -> None:
    """One process owns a state directory."""
    w.write(w.mapping())
    w.start()
    assert w.agent is not None
    second = w.call("run", str(w.specs), "--once")
    assert second.returncode == 1
    assert str(w.agent.pid) in second.stderr


def test_sighup_and_file_changes_reload_specs_and_bad_ones_stall_alone(w: World) -> None:
    """A broken spec keeps its last good version; the others go on; the fix takes effect."""
    other = w.directory / "other"
    other.mkdir()
    fill(w.source, 10)
    w.write(w.mapping(), w.mapping("second", "/second", source=str(other)))
    w.start()
    w.eventually_same()
    w.write(w.mapping(more="lane: Nowhere"), w.mapping("second", "/second", source=str(other)))
    assert w.agent is not None
    for _ in range(500):
        w.agent.send_signal(signal.SIGHUP)
    eventually(lambda: w.status()["state"] == "blocked", what="blocked by the invalid spec")
    (other / "x.txt").write_text("x")
    (w.source / "y.txt").write_text("y")
    eventually((w.target("second") / "x.txt").exists, what="the valid mapping goes on")
    eventually((w.target() / "y.txt").exists, what="the invalid one keeps its last good version")
    w.write(w.mapping(), w.mapping("second", "/second", source=str(other)))
    w.in_sync()


def test_mapping_that_leaves_the_specs_is_removed_as_it_says(w: World) -> None:
    """onRemove: orphan leaves the files, onRemove: delete takes them back."""
    kept, taken = w.directory / "kept", w.directory / "taken"
    for directory in (kept, taken):
        directory.mkdir()
        fill(directory, 10)
    w.write(
        w.mapping(),
        w.mapping("kept", "/kept", source=str(kept)),
        w.mapping("taken", "/taken", "onRemove: delete", source=str(taken)),
    )
    fill(w.source, 10)
    w.start()
    w.in_sync()
    w.write(w.mapping())
    eventually(lambda: not (w.target("taken") / "d000").exists(), what="delivered files are taken back")
    eventually(lambda: len(w.status()["objects"]) == 4, what="the objects are forgotten")
    assert tree(kept) == tree(w.target("kept"))


def test_two_agents_on_one_server_leave_each_other_alone(w: World, tmp_path: Path) -> None:
    """What carries another agent's tag is neither changed nor deleted."""
    from servers import Server

    with Server(tmp_path / "shared", tmp_path / "shared-received", {}) as shared:
        agents = []
        for name in ("one", "two"):
            directory = tmp_path / name
            directory.mkdir()
            agents.append(World(directory))
        spec = f"""
apiVersion: lanesync/v1
kind: Server
metadata: {{name: shared}}
spec: {{engine: jetstream, address: 127.0.0.1, port: {shared.port}}}
---
apiVersion: lanesync/v1
kind: Destination
metadata: {{name: archive}}
spec: {{server: shared, address: 127.0.0.1, port: {shared.port}, onRemove: delete}}
"""
        for number, each in enumerate(agents):
            fill(each.source, 20)
            each.write(spec, each.mapping(path=f"/agent{number}"), servers=False)
            assert each.once().returncode == 0
        with shared.api() as api:
            assert len(api.send.getDestinations()) == 2
        agents[0].write("", servers=False)
        held = agents[0].once()
        assert held.returncode == 4, "an emptied set of specs is held"
        gone = agents[0].call("apply", str(agents[0].specs), "--yes", "--timeout", "60s")
        assert gone.returncode == 0, gone.stdout + gone.stderr
        with shared.api() as api:
            assert len(api.send.getDestinations()) == 1
        assert tree(agents[1].source) == tree(shared.receive_root / "agent1")
        plan = agents[1].call("plan", str(agents[1].specs), "--exit-code")
        assert plan.returncode == 0, plan.stdout


def test_what_was_delivered_is_deleted_before_the_receiver_that_leaves_with_it_ends(w: World) -> None:
    """One revision takes a mapping with `onRemove: delete` away together with the embedded server that
    receives: the server ends when its files are gone."""
    stay = w.directory / "stay"
    stay.mkdir()
    fill(stay, 3)
    other = f"""
---
apiVersion: lanesync/v1
kind: Server
metadata: {{name: sender}}
spec: {{engine: embedded, listen: "127.0.0.1:0"}}
---
apiVersion: lanesync/v1
kind: Server
metadata: {{name: second}}
spec: {{engine: embedded, listen: "127.0.0.1:{free_port()}", receiveRoot: second}}
"""
    other += "".join(
        w.mapping(name, f"/{name}", source=str(stay)).replace("destination: archive", "destination: second")
        for name in ("one", "two", "three")
    )
    port = other.split('listen: "127.0.0.1:')[2].split('"')[0]
    place = "\n---\napiVersion: lanesync/v1\nkind: Destination\nmetadata: {name: second}\n"
    other += place + f"spec: {{server: sender, address: 127.0.0.1, port: {port}}}\n"
    receiver = f"""
---
apiVersion: lanesync/v1
kind: Server
metadata: {{name: receiver}}
spec: {{engine: embedded, listen: "127.0.0.1:{w.port}", receiveRoot: received}}
---
apiVersion: lanesync/v1
kind: Destination
metadata: {{name: archive}}
spec: {{server: sender, address: 127.0.0.1, port: {w.port}}}
"""
    fill(w.source, 20)
    w.write(other, receiver, w.mapping(more="onRemove: delete"), servers=False)
    w.start()
    w.in_sync()
    w.write(other, servers=False)
    eventually(lambda: not (w.target() / "d000").exists(), what="what was delivered is deleted")
    eventually(lambda: not w.object("Server", "receiver"), seconds=60, what="the receiver leaves")
