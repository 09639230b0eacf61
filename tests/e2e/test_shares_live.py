"""A share of a running agent: a token with which somebody else really downloads what was delivered."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import World, fill, tree, world
from servers import Server, eventually, start_server

from agent.jetstream import APIInterface, AuthenticationError, CommandError, Jetstream

pytestmark = pytest.mark.e2e

PASSWORD = "correct horse"


def share(spec: dict[str, Any] | None = None, name: str = "grading") -> str:
    body = json.dumps({"mapping": "dailies", **(spec or {})})
    return f"\n---\napiVersion: lanesync/v1\nkind: Share\nmetadata: {{name: {name}}}\nspec: {body}\n"


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        fill(made.source, 12)
        yield made


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Server]:
    """The receiver of somebody else."""
    with start_server(tmp_path / "guest") as server:
        yield server


def token(w: World) -> str:
    done = w.call("token", "grading")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def holder(w: World, text: str, password: str | None = None) -> APIInterface:
    api: APIInterface = Jetstream().api("127.0.0.1", w.port)
    api.connect()
    api.server.authToken(text, password)
    return api


def download(w: World, guest: Server, text: str, password: str | None = None) -> str:
    """How the transfer of everything that the token shows ends."""
    with holder(w, text, password) as api:
        [manifest] = api.send.getManifests()
        destination = api.send.createDestination("127.0.0.1", destinationPort=guest.port)
        transfer = api.send.createTransfer(destination, manifest)
        return str(api.send.waitForTransfer(transfer)["status"])


def test_somebody_downloads_what_a_mapping_delivered_and_nothing_beside_it(w: World, guest: Server) -> None:
    """As often as is allowed; the token stands nowhere but where it is asked for."""
    os.environ["SHARE_PW"] = PASSWORD
    try:
        wanted = {"expiresIn": "7d", "downloadLimit": 2, "password": {"env": "SHARE_PW"}, "description": "x"}
        w.write(w.mapping(), share(wanted))
        w.target().mkdir(parents=True)
        (w.target() / "foreign").write_text("not ours to share")
        w.start()
        w.in_sync()
        text = token(w)
        with pytest.raises(AuthenticationError):
            holder(w, text, "wrong password")
        assert download(w, guest, text, PASSWORD) == "complete"
        assert tree(guest.receive_root / "paris") == tree(w.source)
        assert w.call("reconcile", "Share/grading").returncode == 0
        found = eventually(
            lambda: (o := w.object("Share", "grading")).get("downloads") == 1 and o,
            what="the download is counted",
        )
        assert (found["files"], found["downloadLimit"], found["server"]) == (12, 2, "receiver")
        assert found["expiresAt"] - found["createdAt"] == pytest.approx(7 * 86_400, abs=5)
        assert download(w, guest, text, PASSWORD) == "complete"
        with pytest.raises(CommandError):
            download(w, guest, text, PASSWORD)
        said = w.log.read_text() + json.dumps(w.status()) + w.call("events").stdout
        assert text not in said
        assert PASSWORD not in said
    finally:
        del os.environ["SHARE_PW"]


def test_a_share_is_changed_where_it_can_be_and_made_anew_where_not(w: World, guest: Server) -> None:
    """It survives a killed agent, is made again when somebody deleted it, and goes with its object."""
    w.write(w.mapping(), share({"expiresIn": "7d"}))
    w.start()
    w.in_sync()
    first = token(w)
    w.write(w.mapping(), share({"expiresIn": "2d", "description": "shorter"}))
    eventually(lambda: days(w) == 2, what="the new expiry")
    assert token(w) == first
    w.kill()
    w.start()
    w.in_sync()
    assert token(w) == first
    assert download(w, guest, first) == "complete"
    w.write(w.mapping(), share({"expiresIn": "2d", "downloadLimit": 5}))
    eventually(lambda: w.object("Share", "grading").get("downloadLimit") == 5, what="another token")
    second = token(w)
    assert second != first
    with pytest.raises(AuthenticationError):
        holder(w, first)
    w.write(w.mapping())
    eventually(lambda: w.object("Share", "grading") == {}, what="the share is gone")
    with pytest.raises(AuthenticationError):
        holder(w, second)


def days(w: World) -> int:
    found = w.object("Share", "grading")
    return round(((found.get("expiresAt") or 0) - (found.get("createdAt") or 0)) / 86_400)


def test_an_expired_share_is_reported_and_not_made_again(w: World) -> None:
    """Until the spec says that it ends later; the time counts from when it was made."""
    w.write(w.mapping(), share({"expiresIn": "3s"}))
    w.start()
    reasons = lambda: {c["reason"] for c in w.object("Share", "grading").get("conditions", ())}  # noqa: E731
    eventually(lambda: "ShareExpired" in reasons(), what="it has expired")
    assert w.call("reconcile", "Share/grading").returncode == 0
    w.in_sync()
    assert "ShareExpired" in reasons()
    done = w.call("token", "grading")
    assert done.returncode != 0
    assert "has no token now" in done.stderr
    w.write(w.mapping(), share({"expiresIn": "1d"}))
    eventually(lambda: "ShareExpired" not in reasons(), what="it is made again")
    assert token(w)


def test_a_share_that_cannot_be_made_here_says_who_can(w: World, guest: Server) -> None:
    """The mapping is delivered all the same, and an unknown one stalls the share alone."""
    elsewhere = (
        "\n---\napiVersion: lanesync/v1\nkind: Destination\nmetadata: {name: far}\n"
        f"spec: {{server: sender, address: 127.0.0.1, port: {guest.port}}}\n"
    )
    w.write(
        w.mapping().replace("destination: archive", "destination: far"),
        elsewhere,
        share(),
        share({"mapping": "unknown"}, "other"),
    )
    w.start()
    eventually(lambda: tree(guest.receive_root / "paris") == tree(w.source), what="delivered")
    found = eventually(
        lambda: [c for c in w.object("Share", "grading").get("conditions", ()) if c["type"] == "Stalled"]
    )
    assert found[0]["reason"] == "ShareImpossible"
    assert "manifest of /paris" in found[0]["message"]
    other = [c for c in w.object("Share", "other")["conditions"] if c["type"] == "Stalled"]
    assert (other[0]["reason"], "there is no Mapping `unknown`" in other[0]["message"]) == (
        "InvalidSpec",
        True,
    )


def test_a_link_that_was_planted_is_not_shared(w: World, guest: Server, tmp_path: Path) -> None:
    """Who may write at the receiver cannot have others read what lies elsewhere."""
    secret = tmp_path / "secret"
    w.write(w.mapping())
    w.start()
    w.in_sync()
    planted = next(path for path in sorted(w.target().rglob("*.bin")) if path.stat().st_size)
    secret.write_bytes(b"x" * planted.stat().st_size)
    planted.unlink()
    planted.symlink_to(secret)
    w.write(w.mapping(), share())
    w.in_sync()
    assert download(w, guest, token(w)) == "complete"
    there = guest.receive_root / "paris" / planted.relative_to(w.target())
    assert not there.exists()
    assert w.object("Share", "grading")["files"] == 11
