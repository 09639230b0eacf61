"""Delegating to the FTS3 service: when, for how long, and when there is nothing to do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from unit.fts3_service import (
    DELEGATION_ID,
    NOBODY,
    NOW,
    QUICK,
    Delegatee,
    Naps,
    Reply,
    Service,
    authority,
    ec_key,
    user,
)

from agent.fts3 import BadCredential, ClientError, Context, FailedDependency, NeedDelegation, Unauthorized
from agent.fts3.delegation import Delegation

HOUR = timedelta(hours=1)
AUTHORITY = authority(NOW)
VIEW = f"/delegation/{DELEGATION_ID}"


@pytest.fixture
def service() -> Iterator[Delegatee]:
    running = Delegatee()
    yield running
    running.close()


@pytest.fixture
def naps() -> Naps:
    return Naps()


@pytest.fixture
def here(service: Delegatee, naps: Naps, tmp_path: Path) -> Context:
    return context(service, naps, tmp_path)


def context(service: Service, naps: Naps, folder: Path, ends: timedelta = 240 * HOUR) -> Context:
    alice = user(AUTHORITY, ec_key(), NOW - HOUR, NOW + ends).write(folder, "alice")
    return Context(service.url, *alice, runtime=naps.runtime, retries=QUICK)


def test_a_first_delegation_is_made_as_recorded(service: Delegatee, here: Context) -> None:
    assert Delegation(here).delegate(timedelta(hours=48)) == DELEGATION_ID
    assert service.asked() == [
        "GET /whoami",
        f"GET {VIEW}",
        f"GET {VIEW}/request",
        f"PUT {VIEW}/credential",
    ]
    made, own = service.proxies[0]
    assert made.public_key() == service.key.public_key()
    assert made.not_valid_after_utc == NOW + timedelta(hours=48)
    assert made.issuer == own.subject


@pytest.mark.parametrize("none", [[], None, {}])
def test_each_way_to_say_that_nothing_is_delegated_is_understood(
    service: Delegatee, here: Context, none: object
) -> None:
    service.script[f"GET {VIEW}"] = Reply(none)
    assert Delegation(here).ends() is None
    Delegation(here).delegate()
    assert len(service.proxies) == 1


@pytest.mark.parametrize(
    ("left", "renewed"),
    [(-HOUR, 1), (timedelta(0), 1), (HOUR, 1), (1.9 * HOUR, 1), (2 * HOUR, 0), (40 * HOUR, 0)],
)
def test_it_is_renewed_ahead_of_its_end(
    service: Delegatee, here: Context, left: timedelta, renewed: int
) -> None:
    service.ends = NOW + left
    Delegation(here).delegate()
    assert len(service.proxies) == renewed


def test_force_renews_whatever_is_left(service: Delegatee, here: Context) -> None:
    service.ends = NOW + 40 * HOUR
    Delegation(here).delegate(force=True)
    assert service.ends == NOW + 7 * HOUR


def test_a_short_lifetime_is_not_renewed_at_every_call(service: Delegatee, here: Context) -> None:
    for _ in range(3):
        Delegation(here).delegate(lifetime=1.5 * HOUR)
    assert len(service.proxies) == 1


def test_a_certificate_that_ends_soon_is_delegated_once(
    service: Delegatee, naps: Naps, tmp_path: Path
) -> None:
    """Nothing longer can be had, so the delegation there is the best there can be."""
    here = context(service, naps, tmp_path, ends=1.5 * HOUR)
    for _ in range(3):
        Delegation(here).delegate()
    assert len(service.proxies) == 1
    naps.now = NOW + 2 * HOUR
    with pytest.raises(BadCredential, match="expired"):
        Delegation(here).delegate()


def test_what_was_learned_saves_asking_until_it_is_time_to_renew(
    service: Delegatee, here: Context, naps: Naps
) -> None:
    delegation = Delegation(here)
    delegation.delegate(fresh=False)
    asked = len(service.requests)
    delegation.delegate(fresh=False)
    assert len(service.requests) == asked
    naps.now = NOW + 5.5 * HOUR
    delegation.delegate(fresh=False)
    assert len(service.proxies) == 2


def test_threads_delegate_once_between_them(service: Delegatee, here: Context) -> None:
    together = threading.Barrier(4)

    def delegate(_: int) -> str:
        together.wait(10)
        return Delegation(here).delegate(fresh=False)

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(delegate, range(4))) == {DELEGATION_ID}
    assert len(service.proxies) == 1


@pytest.mark.parametrize("credential", [{"fts_access_token": "token"}, {"no_creds": True}])
def test_without_a_certificate_nothing_is_sent(service: Delegatee, credential: dict[str, object]) -> None:
    here = Context(service.url, **credential)  # type: ignore[arg-type]
    assert Delegation(here).delegate() == ""
    assert service.requests == []


def test_nobody_cannot_delegate(service: Delegatee, here: Context) -> None:
    service.script["GET /whoami"] = Reply(NOBODY)
    with pytest.raises(Unauthorized, match="does not know us"):
        Delegation(here).delegate()


def test_the_server_says_what_it_dislikes_about_a_proxy(service: Delegatee, here: Context) -> None:
    message = "Could not process the proxy: Malformed proxy"
    service.script[f"PUT {VIEW}/credential"] = Reply({"status": "400 Bad Request", "message": message}, 400)
    with pytest.raises(ClientError, match="Malformed proxy"):
        Delegation(here).delegate()


def test_a_delegation_whose_answer_is_lost_is_put_again(service: Delegatee, here: Context) -> None:
    service.script[f"PUT {VIEW}/credential"] = [Reply(cut=True), service.take]
    Delegation(here).delegate()
    assert len(service.proxies) == 1


def test_a_delegation_can_be_withdrawn(service: Delegatee, here: Context) -> None:
    service.script[f"DELETE {VIEW}"] = Reply(b"", 204)
    delegation = Delegation(here)
    delegation.delegate()
    delegation.withdraw()
    service.ends = None
    delegation.delegate(fresh=False)
    assert len(service.proxies) == 2


def test_attributes_need_a_delegation_first(service: Delegatee, here: Context) -> None:
    """The service itself answers 500 then."""
    delegation = Delegation(here)
    with pytest.raises(NeedDelegation, match="delegate first"):
        delegation.add_voms(["dteam:/dteam/Role=production"])
    service.ends = NOW + 9 * HOUR
    service.script[f"POST {VIEW}/voms"] = [
        Reply("2026-11-22 18:40:42", 203, {"Content-Type": "text/plain"}),
        Reply({"status": "424 Failed Dependency", "message": "no such role"}, 424),
    ]
    assert delegation.add_voms(["dteam:/dteam/Role=production"]) == "2026-11-22 18:40:42"
    assert service.requests[-1].json == ["dteam:/dteam/Role=production"]
    with pytest.raises(FailedDependency, match="no such role"):
        delegation.add_voms(["dteam:/dteam/Role=none"])


def test_who_we_are_is_asked_anew_unless_told_otherwise(service: Delegatee, here: Context) -> None:
    delegation = Delegation(here)
    assert delegation.whoami().user_dn.endswith("CN=alice")
    delegation.whoami(fresh=False)
    assert service.asked() == ["GET /whoami"]
    delegation.whoami()
    assert len(service.requests) == 2
