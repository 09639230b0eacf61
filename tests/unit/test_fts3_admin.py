"""Bans, configuration and storage of the FTS3 service through the typed client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from unit.fts3_service import JOB_ID, QUICK, Reply, Request, Service, serving

from agent.fts3 import (
    Client,
    ClientError,
    Conflict,
    Context,
    NeedDelegation,
    NoAnswer,
    NotFound,
    ServerError,
    TryAgain,
    Unauthorized,
)
from agent.fts3.storage import Stat

DN = "/DC=test/DC=farm/OU=Users/CN=banme"


@pytest.fixture
def service() -> Iterator[Service]:
    with serving() as running:
        yield running


@pytest.fixture
def fts3(service: Service) -> Client:
    return Client(Context(service.url, no_creds=True, retries=QUICK))


def test_a_storage_is_banned_as_recorded(service: Service, fts3: Client) -> None:
    service.script["POST /ban/se"] = Reply(chunks=[b'["', JOB_ID.encode(), b'"]'])
    hit = fts3.bans.ban_se("gsiftp://example.com", "wait", 3600, False)
    assert hit == [JOB_ID]
    body = {"storage": "gsiftp://example.com", "status": "wait", "timeout": 3600, "allow_submit": False}
    assert service.requests[-1].json == body
    fts3.bans.ban_se("gsiftp://example.com", "wait", allow_submit=True, message="down")
    assert service.requests[-1].json["message"] == "down"


@pytest.mark.parametrize(
    ("storage", "options", "word"),
    [
        ("gsiftp://example.com/", {}, "gsiftp://example.com'"),
        ("davs://example.com:8443", {}, "davs://example.com'"),
        ("example.com", {}, "scheme://host"),
        ("davs://example.com", {"status": "nope"}, "cancel or wait"),
        ("davs://example.com", {"status": "cancel", "allow_submit": True}, "allow_submit"),
    ],
)
def test_a_ban_that_would_do_nothing_is_refused(
    service: Service, fts3: Client, storage: str, options: dict[str, Any], word: str
) -> None:
    with pytest.raises(ClientError, match=word):
        fts3.bans.ban_se(storage, **options)
    assert service.requests == []


def test_any_ban_can_be_lifted(service: Service, fts3: Client) -> None:
    """Also one that was written in a form of no effect."""
    service.script["DELETE /ban/se"] = Reply(b"", 204)
    fts3.bans.unban_se("mock://x/")
    assert service.requests[-1].query == {"storage": "mock://x/"}


def test_a_user_is_banned_and_unbanned(service: Service, fts3: Client) -> None:
    service.script |= {"POST /ban/dn": Reply([JOB_ID]), "DELETE /ban/dn": Reply(b"", 204)}
    assert fts3.bans.ban_dn(DN) == [JOB_ID]
    assert service.requests[-1].json == {"user_dn": DN}
    fts3.bans.unban_dn(DN)
    assert service.requests[-1].query == {"user_dn": DN}


def test_refusals_of_a_ban_keep_their_text(service: Service, fts3: Client) -> None:
    service.script["POST /ban/dn"] = Reply({"message": "The user tried to ban (her|his)self"}, 409)
    with pytest.raises(Conflict, match="self"):
        fts3.bans.ban_dn(DN)
    service.script["POST /ban/se"] = Reply({"message": "Not enough permissions"}, 403)
    with pytest.raises(Unauthorized, match="Not enough permissions"):
        fts3.bans.ban_se("davs://example.com")
    service.script["POST /ban/se"] = Reply({})
    with pytest.raises(ServerError):
        fts3.bans.ban_se("davs://example.com")


def test_bans_are_listed(service: Service, fts3: Client) -> None:
    ban = {"se": "davs://example.com", "vo": "farm", "status": "WAIT_AS", "message": ""}
    service.script |= {"GET /ban/se": Reply([ban]), "GET /ban/dn": Reply([{"dn": DN}])}
    assert fts3.bans.banned_ses() == [ban]
    assert fts3.bans.banned_dns() == [{"dn": DN}]


def test_a_link_is_set_read_and_deleted(service: Service, fts3: Client) -> None:
    link = {"symbolicname": "a/b", "source": "davs://a", "destination": "*", "min_active": 2, "max_active": 9}
    service.script |= {
        "POST /config/links": Reply(b"{}", 201, {"Content-Type": "text/html"}),
        "GET /config/links": Reply([link]),
        "GET /config/links/a%2Fb": Reply(link),
        "DELETE /config/links/a%2Fb": Reply(b"", 204),
    }
    fts3.config.set_link("a/b", "davs://a", min_active=2, max_active=9, optimizer_mode=1)
    assert service.requests[-1].json == {**link, "optimizer_mode": 1}
    assert fts3.config.links() == [link]
    assert fts3.config.link("a/b") == link
    fts3.config.delete_link("a/b")
    with pytest.raises(NotFound):
        fts3.config.link("none")
    with pytest.raises(ClientError, match="min_active"):
        fts3.config.set_link("a", min_active=3, max_active=2)


def test_limits_of_a_storage_are_set_read_and_deleted(service: Service, fts3: Client) -> None:
    stored = {"davs://a": {"se_info": {"inbound_max_active": 9}}}
    service.script |= {
        "POST /config/se": Reply([None, None]),
        "GET /config/se": Reply(stored),
        "DELETE /config/se": Reply(b"", 204),
    }
    fts3.config.set_storage("davs://a", {"inbound_max_active": 9})
    assert service.requests[-1].json == stored
    fts3.config.set_storage("*", operations={"farm": {"staging": 3}})
    assert service.requests[-1].json == {"*": {"operations": {"farm": {"staging": 3}}}}
    assert fts3.config.storages("davs://a") == stored
    assert service.requests[-1].query == {"se": "davs://a"}
    assert fts3.config.storages() == stored
    fts3.config.delete_storage("davs://a")
    for storage, parts in (("davs://a:1/b", {"site": "x"}), ("davs://a", {})):
        with pytest.raises(ClientError):
            fts3.config.set_storage(storage, parts or None)


def test_shares_of_activities_are_set_read_and_deleted(service: Service, fts3: Client) -> None:
    stored = {"farm": {"share": {"High": 0.7, "default": 0.3}, "active": True}}
    service.script |= {
        "POST /config/activity_shares": Reply({}),
        "GET /config/activity_shares": Reply(stored),
        "DELETE /config/activity_shares/farm": Reply(b"", 204),
    }
    fts3.config.set_activity_shares("farm", {"High": 0.7, "default": 0.3})
    assert service.requests[-1].json == {"vo": "farm", **stored["farm"]}
    assert fts3.config.activity_shares() == stored
    fts3.config.delete_activity_shares("farm")
    for odd in ({}, {"High": -1.0}):
        with pytest.raises(ClientError, match="weight"):
            fts3.config.set_activity_shares("farm", odd)


def test_a_share_that_was_not_stored_is_no_success(service: Service, fts3: Client) -> None:
    """The service answers 200 for a link that it does not know, and stores nothing."""
    share = {"source": "davs://a", "destination": "davs://b", "vo": "farm", "share": 60}
    service.script |= {
        "POST /config/shares": Reply(60),
        "GET /config/shares": Reply([]),
        "DELETE /config/shares": Reply(b"", 204),
    }
    with pytest.raises(ClientError, match="link"):
        fts3.config.set_share("davs://a:8443/x", "davs://b", "farm", 60)
    service.script["GET /config/shares"] = Reply([share])
    fts3.config.set_share("davs://a", "davs://b", "farm", 60)
    assert fts3.config.shares() == [share]
    fts3.config.delete_share("davs://a", "davs://b", "farm")
    assert service.requests[-1].query == {name: share[name] for name in ("source", "destination", "vo")}


def test_settings_whose_answer_breaks_off_are_made(service: Service, fts3: Client) -> None:
    """The service promises more bytes than it sends."""
    service.script |= {
        "POST /config/global": Reply(b'{"*": {', length=500),
        "GET /config/global": Reply({"*": {"retry": 3}}),
        "DELETE /config/global": Reply(b"", 204),
    }
    fts3.config.set_global(retry=3)
    assert service.requests[-1].json == {"vo_name": "*", "retry": 3}
    assert len(service.requests) == 1
    assert fts3.config.global_settings() == {"*": {"retry": 3}}
    fts3.config.delete_global("farm")


def test_the_rest_of_the_configuration(service: Service, fts3: Client) -> None:
    service.script |= {
        "POST /config/drain": [Reply(None), Reply({"message": "Host not found"}, 400)],
        "POST /config/authorize": Reply({"dn": DN, "operation": "config"}),
        "GET /config/authorize": Reply([{"dn": DN, "operation": "config"}]),
        "DELETE /config/authorize": Reply(b"", 204),
        "GET /config/audit": Reply([{"action": "drain"}]),
    }
    fts3.config.set_drain("fts01.example.org")
    assert service.requests[-1].json == {"hostname": "fts01.example.org", "drain": True}
    with pytest.raises(ClientError, match="Host not found"):
        fts3.config.set_drain("fts99.example.org", False)
    fts3.config.grant(DN, "config")
    assert fts3.config.rights()[0]["operation"] == "config"
    fts3.config.revoke(DN, "config")
    for odd in ("admin", "everything"):
        with pytest.raises(ClientError, match="operation"):
            fts3.config.grant(DN, odd)
    assert fts3.config.audit() == [{"action": "drain"}]


def test_a_change_whose_answer_is_lost_is_made_again(service: Service, fts3: Client) -> None:
    service.script["POST /config/drain"] = [Reply(cut=True), Reply(None)]
    fts3.config.set_drain("fts01.example.org")
    assert len(service.requests) == 2


def test_files_at_a_storage(service: Service, fts3: Client) -> None:
    service.script |= {
        "GET /dm/stat": Reply({"mode": 33188, "nlink": 1, "size": 5, "atime": 0, "mtime": 9, "ctime": 9}),
        "GET /dm/list": Reply({name: {"size": 5, "mode": 33188, "mtime": 9} for name in ("f", "d/")}),
        **{f"POST /dm/{word}": Reply(0) for word in ("mkdir", "rmdir", "unlink", "rename")},
    }  # fmt: skip
    assert fts3.storage.stat("davs://a/f") == Stat(5, 33188, 9)
    assert service.requests[-1].query == {"surl": "davs://a/f"}
    assert list(fts3.storage.list("davs://a/")) == ["f", "d/"]
    one: dict[str, Callable[[str], None]] = {
        "mkdir": fts3.storage.mkdir,
        "rmdir": fts3.storage.rmdir,
        "unlink": fts3.storage.unlink,
    }
    for word, call in one.items():
        call("davs://a/d")
        assert (service.requests[-1].path, service.requests[-1].json) == (
            f"/dm/{word}",
            {"surl": "davs://a/d"},
        )
    fts3.storage.rename("davs://a/f", "davs://a/g")
    assert service.requests[-1].json == {"old": "davs://a/f", "new": "davs://a/g"}


@pytest.mark.parametrize(
    ("status", "error"),
    [(404, NotFound), (403, Unauthorized), (419, NeedDelegation), (503, TryAgain), (500, ServerError)],
)
def test_what_a_storage_says_has_its_exception(
    service: Service, fts3: Client, status: int, error: type[Exception]
) -> None:
    service.script["GET /dm/stat"] = Reply({"status": str(status), "message": "[2] what it says"}, status)
    with pytest.raises(error, match="what it says"):
        fts3.storage.stat("davs://a/f")
    service.script["GET /dm/stat"] = Reply({"size": None})
    with pytest.raises(ServerError, match="size"):
        fts3.storage.stat("davs://a/f")


def test_a_deletion_whose_answer_is_lost_is_not_repeated(service: Service, fts3: Client) -> None:
    """A second one would say that there is no such file."""

    def gone(_: Request) -> Reply:
        return Reply(cut=True)

    service.script["POST /dm/unlink"] = gone
    with pytest.raises(NoAnswer):
        fts3.storage.unlink("davs://a/f")
    assert len(service.requests) == 1
