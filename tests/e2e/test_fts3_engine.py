"""The agent on FTS3: specs become jobs, and jobs become files at the destination. Agent, service and storages
are processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import World, fill, world
from grid import Grid, start_grid
from servers import eventually

pytestmark = pytest.mark.e2e

SERVER = """
apiVersion: lanesync/v1
kind: Server
metadata: {{name: grid}}
spec:
  engine: fts3
  endpoint: {endpoint}
  auth: {{certificate: {{cert: {cert}, key: {key}}}}}
  ca: {ca}
  storage:
    - {{path: {root}, url: "{url}"}}
---
apiVersion: lanesync/v1
kind: Destination
metadata: {{name: archive}}
spec:
  server: grid
  url: "{target}"
{destination}
"""

LANES = """
---
apiVersion: lanesync/v1
kind: PriorityLanes
metadata: {name: own}
spec:
  lanes:
    - {name: High, share: 70%}
    - {name: Normal, share: 30%}
    - {name: Spare, share: 0%}
"""


class GridWorld:
    """A world whose source is served by a storage, and whose destination is another one."""

    def __init__(self, made: World, grid: Grid, folder: str, user: str) -> None:
        self.world, self.grid, self.folder = made, grid, folder
        self.user = grid.service.user(user)
        self.source = made.source = grid.source.root / folder
        self.source.mkdir()
        made.received = grid.target.root / folder

    def write(self, *mappings: str, destination: str = "", **fields: Any) -> None:
        lines = "\n".join(f"  {line}" for line in destination.splitlines())
        values = {
            "endpoint": self.grid.service.url,
            "cert": self.user.cert,
            "key": self.user.key,
            "ca": self.grid.service.ca,
            "root": self.grid.source.root,
            "url": self.grid.source.url().rstrip("/"),
            "target": self.grid.url(self.folder),
            "destination": lines,
        }
        server = SERVER.format(**{**values, **fields})
        self.world.write(server, *mappings, servers=False)

    def mapping(self, name: str = "dailies", more: str = "", **fields: Any) -> str:
        return self.world.mapping(name, more=more, **fields)

    def files(self, path: str = "paris") -> dict[str, bytes]:
        return contents(self.world.target(path))

    def delivered(self, path: str = "paris", seconds: float = 40.0) -> None:
        eventually(lambda: self.files(path) == contents(self.source), seconds=seconds, what="the same files")

    def condition(self, kind: str, name: str, wanted: str, reason: str) -> str:
        """The message of a condition, once it is there."""

        def look() -> str:
            found = self.world.object(kind, name).get("conditions", [])
            same = [c for c in found if (c["type"], c["reason"]) == (wanted, reason)]
            return str(same[0]["message"]) if same else ""

        return eventually(look, what=f"{wanted} {reason}")

    def files_at_service(self, **states: int) -> bool:
        found = self.grid.service.state()["files"]
        return all(found.get(state, 0) == count for state, count in states.items())


def contents(root: Path) -> dict[str, bytes]:
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            with contextlib.suppress(FileNotFoundError):
                found[str(path.relative_to(root))] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grid]:
    with start_grid(tmp_path_factory.mktemp("grid")) as started:
        yield started


@pytest.fixture
def site(shared: Grid, tmp_path: Path) -> Iterator[GridWorld]:
    shared.reset()
    shared.service.settings(engine_paused=False, max_copies=16)
    with world(tmp_path) as made:
        yield GridWorld(made, shared, "site", "alice")


def test_a_first_delivery_edits_and_deletions_reach_the_storage(site: GridWorld) -> None:
    """`run --once` delivers everything; a running agent follows edits, new files, and deletions."""
    fill(site.source, 120)
    (site.source / "odd %#? name.txt").write_text("odd")
    (site.source / "empty").mkdir()
    site.write(site.mapping(more="prune: true"))
    done = site.world.once()
    assert done.returncode == 0, done.stdout + done.stderr
    assert site.files() == contents(site.source)
    assert site.world.target("paris/empty").is_dir()
    site.world.start()
    (site.source / "d000" / "f00001.bin").write_bytes(b"another version")
    (site.source / "new.txt").write_text("new")
    (site.source / "d001" / "f00050.bin").unlink()
    site.delivered()
    site.world.in_sync()
    assert site.world.stop() == 0


def test_one_bad_file_of_a_hundred_is_the_only_one_sent_again(site: GridWorld) -> None:
    """The others are delivered once; the status names the file and why."""
    fill(site.source, 100)
    site.grid.service.fault("fail", source="*f00042.bin", times=-1, reason="TRANSFER [5] Input/output error")
    site.write(site.mapping())
    site.world.start()
    good = {path: body for path, body in contents(site.source).items() if "f00042" not in path}
    eventually(lambda: site.files() == good, what="the others")

    def last_error() -> str:
        (delivery,) = site.world.object("Mapping", "dailies")["deliveries"]
        return str(delivery["lastError"] or "")

    text = eventually(last_error, seconds=60, what="the failure is told")
    assert "f00042.bin: TRANSFER [5] Input/output error" in text
    site.grid.service.clear_faults()
    site.delivered()
    site.world.in_sync()
    with site.grid.client() as client:
        sent = [f.dest_surl for job in site.grid.jobs() for f in client.jobs.files(job.job_id)]
    again = {url for url in sent if sent.count(url) > 1}
    assert len(again) == 1
    assert "f00042" in again.pop()


def test_an_answer_lost_after_the_submission_makes_no_second_job(site: GridWorld) -> None:
    """The id was known before: the job is found and taken for ours."""
    fill(site.source, 20)
    site.grid.service.fault("drop_answer", method="POST", path="/jobs", times=2)
    site.write(site.mapping())
    done = site.world.once()
    assert done.returncode == 0, done.stdout + done.stderr
    assert site.files() == contents(site.source)
    assert len(site.grid.jobs()) == 1


def test_an_agent_killed_between_submission_and_record_takes_its_job_up_again(site: GridWorld) -> None:
    """Killed when the service has the job and the agent does not know: one job, every file once."""
    fill(site.source, 20)
    service = site.grid.service
    service.settings(engine_paused=True)
    service.fault("drop_answer", method="POST", path="/jobs", times=-1)
    service.fault("status", method="GET", path="/jobs/*", status=503, times=-1)
    site.write(site.mapping())
    site.world.start()
    eventually(lambda: site.files_at_service(SUBMITTED=20), what="the job is at the service")
    site.world.kill()
    service.clear_faults()
    service.settings(engine_paused=False)
    site.world.start()
    site.delivered()
    site.world.in_sync()
    assert len(site.grid.jobs()) == 1


def test_jobs_that_the_service_has_forgotten_are_looked_for_at_the_destination(site: GridWorld) -> None:
    """404 is lost, not failed: what is there and the same is taken as delivered, and not sent again."""
    fill(site.source, 30)
    service = site.grid.service
    service.fault("status", method="GET", path="/jobs/*", status=503, times=-1)
    site.write(site.mapping())
    site.world.start()
    eventually(lambda: site.files_at_service(FINISHED=30), what="the copies end")
    assert service.forget() == 1
    (site.world.target() / "d000" / "f00003.bin").write_bytes(b"not what was sent")
    service.clear_faults()
    site.delivered()
    site.world.in_sync()
    assert len(contents(site.source)) == 30
    with site.grid.client() as client:
        sent = [f for job in site.grid.jobs() for f in client.jobs.files(job.job_id)]
    assert len(sent) == 1, "only the one that differs"


def test_the_service_may_go_away_and_come_back(site: GridWorld) -> None:
    """What changed meanwhile is delivered afterwards; the status says who is not there."""
    fill(site.source, 10)
    site.write(site.mapping())
    site.world.start()
    site.delivered()
    site.grid.service.stop()
    (site.source / "meanwhile.txt").write_text("meanwhile")
    eventually(lambda: not site.world.status()["inSync"], what="it is noticed")
    site.condition("Server", "grid", "Ready", "ServerUnreachable")
    site.grid.service.start()
    site.delivered()
    site.world.in_sync()


def test_lanes_are_activities_and_priorities_follow_the_spec(site: GridWorld) -> None:
    """Waiting jobs carry the lane's name and a priority of 1 to 5; a changed priority reaches them."""
    fill(site.source, 5)
    site.grid.service.settings(engine_paused=True)
    site.write(site.mapping(more="lane: High\npriority: 5000"))
    site.world.start()
    (job,) = eventually(site.grid.jobs, what="the job")
    assert job.priority == 2
    with site.grid.client() as client:
        assert {file.activity for file in client.jobs.files(job.job_id)} == {"High"}
    site.write(site.mapping(more="lane: High\npriority: 1"))
    eventually(lambda: [j.priority for j in site.grid.jobs()] == [5], what="the new priority")
    site.grid.service.settings(engine_paused=False)
    site.delivered()


def test_what_may_not_be_set_is_told_with_what_an_administrator_has_to_send(site: GridWorld) -> None:
    """Activity shares need a right; the condition has the exact request."""
    fill(site.source, 3)
    site.write(LANES, site.mapping(), destination="lanes: own")
    site.world.start()
    text = site.condition("Server", "grid", "Limited", "NotPermitted")
    body = json.loads(text[text.index("{") :])
    assert body["share"] == {"High": 0.7, "Normal": 0.3, "Spare": 0.001}
    with site.grid.client("admin") as admin:
        admin.config.set_activity_shares(body["vo"], body["share"])
        assert admin.config.activity_shares()["farm"]["share"]


def test_who_may_sets_activity_shares_and_keeps_those_of_others(shared: Grid, tmp_path: Path) -> None:
    """Shares are compared and set; an activity that is not ours keeps its weight."""
    shared.reset()
    with shared.client("admin") as admin:
        admin.config.set_activity_shares("farm", {"Other": 0.4, "High": 0.1})
        with world(tmp_path) as made:
            site = GridWorld(made, shared, "admins", "admin")
            fill(site.source, 3)
            site.write(LANES, site.mapping(), destination="lanes: own")
            site.world.start()

            def shares() -> Any:
                return admin.config.activity_shares()["farm"]["share"]

            eventually(lambda: weights(shares()).get("High") == 0.7, what="the shares")
            assert weights(shares()) == {"Other": 0.4, "High": 0.7, "Normal": 0.3, "Spare": 0.001}


def weights(share: Any) -> dict[str, float]:
    pairs = share if isinstance(share, list) else [share]
    return {name: value for pair in pairs for name, value in pair.items()}


def test_a_suspended_destination_is_banned_where_that_is_permitted(shared: Grid, tmp_path: Path) -> None:
    """With `wait`, so that what is queued is held; resuming lifts the ban, but none of somebody else."""
    shared.reset()
    with shared.client("admin") as admin, world(tmp_path) as made:
        site = GridWorld(made, shared, "banned", "admin")
        fill(site.source, 3)
        site.write(site.mapping())
        site.world.start()
        site.delivered()
        site.write(site.mapping(), destination="suspend: true")
        text = site.condition("Destination", "archive", "Suspended", "SuspendedInSpec")
        assert "banned with `wait`" in text
        assert [(ban["se"], ban["status"]) for ban in admin.bans.banned_ses()] == [
            ("davs://localhost", "WAIT")
        ]
        (site.source / "later").write_text("later")
        site.write(site.mapping())
        eventually(lambda: not admin.bans.banned_ses(), what="the ban is lifted")
        site.delivered()
        admin.bans.ban_se("davs://localhost", "wait", message="maintenance")
        site.write(site.mapping(), destination="suspend: true")
        eventually(
            lambda: (
                "banned by others" in site.condition("Destination", "archive", "Suspended", "SuspendedInSpec")
            )
        )
        site.write(site.mapping())
        site.condition("Destination", "archive", "Ready", "InSync")
        assert [ban["message"] for ban in admin.bans.banned_ses()] == ["maintenance"]


def test_a_suspended_destination_without_the_right_to_ban_gets_nothing_new(site: GridWorld) -> None:
    """The condition says that it is our own window that holds; resuming sends what has waited."""
    fill(site.source, 3)
    site.write(site.mapping())
    site.world.start()
    site.delivered()
    site.write(site.mapping(), destination="suspend: true")
    text = site.condition("Destination", "archive", "Suspended", "SuspendedInSpec")
    assert "not permitted" in text
    before = site.grid.posts()
    (site.source / "later").write_text("later")
    site.condition("Mapping", "dailies", "Suspended", "SuspendedInSpec")
    assert site.grid.posts() == before
    site.write(site.mapping())
    site.delivered()


def test_a_ban_by_an_operator_is_told_and_waited_for(site: GridWorld) -> None:
    """New jobs are refused while a storage is banned: that is no failure of the files."""
    with site.grid.client("admin") as admin:
        admin.bans.ban_se("davs://localhost", "wait", message="maintenance")
        fill(site.source, 3)
        site.write(site.mapping())
        site.world.start()
        assert "is banned" in site.condition("Destination", "archive", "Limited", "StorageBanned")
        admin.bans.unban_se("davs://localhost")
        site.delivered(seconds=80)


def test_a_certificate_that_is_about_to_expire_is_told_before_it_does(shared: Grid, tmp_path: Path) -> None:
    """While everything still works, with the file and the time."""
    shared.reset()
    pair = shared.service.user("carol", seconds=90 * 60)
    with world(tmp_path) as made:
        site = GridWorld(made, shared, "carols", "carol")
        fill(site.source, 3)
        site.write(site.mapping())
        site.world.start()
        text = site.condition("Server", "grid", "Limited", "CredentialExpiresSoon")
        assert str(pair.cert) in text
        assert f"{pair.certificates()[0].not_valid_after_utc:%Y-%m-%d %H:%M}" in text
        site.delivered()


def test_two_agents_share_one_service_and_never_touch_each_others_jobs(
    site: GridWorld, shared: Grid, tmp_path: Path
) -> None:
    """Each lists, cancels and adopts its own alone, under one user."""
    (tmp_path / "second").mkdir()
    with world(tmp_path / "second") as made:
        other = GridWorld(made, shared, "second", "alice")
        shared.service.settings(engine_paused=True)
        fill(site.source, 20)
        fill(other.source, 30)
        site.write(site.mapping())
        other.write(other.mapping())
        site.world.start()
        other.world.start()
        eventually(lambda: site.files_at_service(SUBMITTED=50), what="both are queued")
        site.world.kill()
        site.world.start()
        site.write(site.mapping(more="onRemove: cancel"))
        shared.service.settings(engine_paused=False)
        site.delivered()
        other.delivered()
        eventually(lambda: site.files_at_service(CANCELED=0, FINISHED=50), what="each once, none cancelled")


def test_what_the_engine_cannot_do_is_told_and_the_rest_is_delivered(site: GridWorld) -> None:
    """A rate limit is named with its field; files arrive all the same."""
    fill(site.source, 3)
    site.write(site.mapping(more="sendRateMax: 100Mbit/s"), destination="sendRateMax: 900Mbit/s")
    site.world.start()
    for kind, name in (("Destination", "archive"), ("Mapping", "dailies")):
        assert "`sendRateMax` has no effect" in site.condition(kind, name, "Limited", "Unsupported")
    site.delivered()
    site.world.in_sync()


def test_a_source_that_changes_while_it_is_copied_is_sent_again(site: GridWorld) -> None:
    """What was read may be half of either version: it does not count as delivered."""
    path = site.source / "big"
    path.write_bytes(b"1" * 400_000)
    site.grid.service.fault("slow", source="*big", rate=200_000, times=1)
    site.write(site.mapping())
    site.world.start()
    eventually(lambda: site.files_at_service(ACTIVE=1), what="the copy runs")
    path.write_bytes(b"2" * 400_000)
    site.delivered()
    site.world.in_sync()
    assert site.grid.posts() >= 2
