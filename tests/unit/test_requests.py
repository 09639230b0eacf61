"""Requests of people: an id that the objects concerned echo once they have acted on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from unit.reconcile_bench import DESTINATION, MAPPING, Bench

from agent.model.outcome import LaneSyncError, NeedsPersonError, NotFoundError
from agent.model.spec import Deletions, RetryPolicy
from agent.reconcile.requests import REMEMBERED, Requests
from agent.reconcile.service import AgentService


@pytest.fixture
def b(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    (bench.source / "a").write_text("x")
    bench.converge()
    yield bench
    bench.agent.context.state.close()


def echoed(b: Bench) -> str | None:
    found = b.status().detail["lastHandledRequest"]
    assert found is None or isinstance(found, str)
    return found


def test_a_reconcile_is_echoed_by_the_object_when_it_was_acted_on(b: Bench) -> None:
    """Not before; and it stays when later turns have nothing asked."""
    service = AgentService(b.agent)
    request = service.reconcile("Mapping/m", "ada")["request"]
    assert service.request(request) == {"request": request, "handled": False, "pending": ["Mapping/m"]}
    assert echoed(b) is None
    b.settle()
    assert service.request(request)["handled"] is True
    assert echoed(b) == request
    b.look()
    assert echoed(b) == request


def test_what_is_asked_while_a_reconcile_runs_is_left_to_the_next() -> None:
    """The one that runs may have looked already."""
    requests = Requests()
    first = requests.new([MAPPING])
    taken = requests.take(MAPPING)
    second = requests.new([MAPPING])
    requests.handled(MAPPING, taken)
    assert requests.open(first) == ()
    assert requests.open(second) == (MAPPING,)


def test_requests_are_bounded() -> None:
    """The oldest are not known any more."""
    requests = Requests()
    names = [requests.new([MAPPING]) for _ in range(REMEMBERED + 1)]
    assert requests.open(names[0]) is None
    assert requests.open(names[-1]) == (MAPPING,)


def test_an_object_that_is_gone_keeps_nobody_waiting(b: Bench) -> None:
    """A request for all is handled although one of them left meanwhile."""
    requests = b.agent.context.requests
    request = requests.new([MAPPING, DESTINATION])
    requests.forget(MAPPING)
    requests.handled(DESTINATION, requests.take(DESTINATION))
    assert requests.open(request) == ()


def test_a_suspended_object_is_not_reconciled_silently(b: Bench) -> None:
    """The refusal names the command that ends it, also when it is the destination that is suspended."""
    service = AgentService(b.agent)
    service.suspend("Destination/d", "disk swap", "ada", None)
    b.settle()
    with pytest.raises(NeedsPersonError, match="lanesync resume Destination/d"):
        service.reconcile("Mapping/m", "ada")


def test_a_suspension_for_a_while_ends_by_itself_also_after_a_restart(b: Bench) -> None:
    """Its end is in the state, not in the process."""
    AgentService(b.agent).suspend("Mapping/m", "lunch", "ada", 60.0)
    b.settle()
    assert "SuspendedLocally" in b.reasons()
    found = AgentService(b.agent).describe("Mapping/m")["suspension"]
    assert found["local"]["author"] == "ada"
    assert found["local"]["until"] == found["local"]["since"] + 60.0
    b.crash()
    b.open()
    b.settle()
    assert "SuspendedLocally" in b.reasons()
    (b.source / "later").write_text("x")
    for _ in range(5):
        b.pass_time(20.0)
    b.converge()
    assert "/later" in b.at_destination


def test_retry_forgets_the_pause(b: Bench) -> None:
    """What failed is tried at once, and the next pause is a first one."""
    b.change(retry=RetryPolicy(1000.0, 5000.0))
    (b.source / "bad").write_text("x")
    b.look()
    (b.source / "bad").unlink()
    (b.source / "bad").symlink_to("/dev/null")
    b.pass_time(0.1)
    assert b.status().detail["deliveries"][0]["failuresInARow"] == 1
    (b.source / "bad").unlink()
    (b.source / "bad").write_text("good again")
    AgentService(b.agent).retry("Destination/d", "ada")
    b.settle()
    b.pass_time(0.1)
    assert "/bad" in b.at_destination
    b.converge()


def test_approve_and_who_asked_are_in_the_trail(b: Bench) -> None:
    """With the number of the request and the digest of what was let through."""
    b.change(prune=True, deletions=Deletions(max_count=1))
    for name in "bcd":
        (b.source / name).write_text("x")
    b.look()
    b.converge()
    for name in "bcd":
        (b.source / name).unlink()
    b.look()
    service = AgentService(b.agent)
    found = service.approve("Mapping/m", "ada")
    acts = [act for act in service.history("Mapping/m")["entries"] if act["action"] == "approve"]
    assert [(act["who"], act["request"], act["reason"]) for act in acts] == [
        ("ada", found["request"], ", ".join(found["approved"]))
    ]


def test_names_that_are_nearly_right_are_hinted_at(b: Bench) -> None:
    """Kinds and names; both in any case of letters."""
    service = AgentService(b.agent)
    with pytest.raises(LaneSyncError, match="did you mean Mapping"):
        service.describe("Maping/m")
    with pytest.raises(LaneSyncError, match="there is no Mapping/x; known: m"):
        service.describe("mapping/x")
    with pytest.raises(LaneSyncError, match="KIND/NAME"):
        service.describe("m")
    with pytest.raises(NotFoundError):
        service.request("r-unknown")
    assert [spec["name"] for spec in service.get("mappings")["specs"]] == ["m"]
