"""The functions of the FTS3 Easy bindings, as their documentation shows them, on recorded exchanges."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from unit.fts3_service import (
    BANNED_PAGE,
    DELEGATION,
    DELEGATION_ID,
    ENDPOINT,
    FILE,
    JOB,
    JOB_ID,
    NOW,
    OTHER_ID,
    QUICK,
    UNKNOWN_ID,
    WHOAMI,
    Delegatee,
    Naps,
    Reply,
    authority,
    ec_key,
    no_job,
    not_yours,
    user,
)

import agent.fts3.easy as fts3

DAY = timedelta(days=1)
OTHER = {**JOB, "job_id": OTHER_ID, "source_se": "mock://somewhere.uk", "verify_checksum": "t"}
PARAMETERS = {
    "ban_se": "context storage status='cancel' timeout=0 allow_submit=False",
    "unban_se": "context storage",
    "ban_dn": "context dn",
    "unban_dn": "context dn",
    "whoami": "context",
    "delegate": "context lifetime=7:00:00 force=False delegate_when_lifetime_lt=2:00:00",
    "list_jobs": "context user_dn=None vo=None source_se=None dest_se=None delegation_id=None state_in=None",
    "get_job_status": "context job_id list_files=False",
    "get_jobs_statuses": "context job_ids list_files=False",
    "submit": "context job delegation_lifetime=7:00:00 force_delegation=False "
    "delegate_when_lifetime_lt=2:00:00",
    "cancel": "context job_id file_ids=None",
    "cancel_all": "context vo_name=None",
    "add_alternative_source": "transfer alt_source",
    "new_transfer": "source destination checksum='ADLER32' filesize=None activity=None scitag=None "
    "metadata=None staging_metadata=None archive_metadata=None selection_strategy='auto'",
    "new_job": "transfers=None deletion=None verify_checksum=False reuse=None overwrite=False "
    "overwrite_on_retry=False overwrite_when_only_on_disk=False overwrite_hop=False multihop=False "
    "source_spacetoken=None destination_spacetoken=None bring_online=None dst_file_report=False "
    "archive_timeout=None copy_pin_lifetime=None retry=-1 retry_delay=0 priority=None metadata=None "
    "strict_copy=False disable_cleanup=False max_time_in_queue=None timeout=None id_generator='standard' "
    "sid=None s3alternate=False nostreams=1 buffer_size=None unmanaged_tokens=False",
    "new_staging_job": "files bring_online=None copy_pin_lifetime=None source_spacetoken=None "
    "destination_spacetoken=None metadata=None priority=None id_generator='standard' sid=None",
    "new_delete_job": "files spacetoken=None metadata=None priority=None id_generator='standard' sid=None",
}


@pytest.fixture
def service() -> Iterator[Delegatee]:
    running = Delegatee()
    yield running
    running.close()


@pytest.fixture
def context(service: Delegatee, tmp_path: Path) -> fts3.Context:
    alice = user(authority(NOW), ec_key(), NOW - DAY, NOW + 9 * DAY).write(tmp_path, "alice")
    return fts3.Context(service.url, *alice, runtime=Naps().runtime, retries=QUICK)


@pytest.mark.parametrize("name", PARAMETERS)
def test_names_order_and_defaults_are_those_of_the_bindings(name: str) -> None:
    found = [
        one.name if one.default is one.empty else f"{one.name}={_shown(one.default)}"
        for one in inspect.signature(getattr(fts3, name)).parameters.values()
        if one.kind is one.POSITIONAL_OR_KEYWORD
    ]
    assert " ".join(found) == PARAMETERS[name]


def _shown(value: Any) -> str:
    return str(value) if isinstance(value, timedelta) else repr(value)


def test_exceptions_are_found_where_scripts_look_for_them() -> None:
    assert fts3.exceptions.NotFound is fts3.NotFound
    assert issubclass(fts3.exceptions.NeedDelegation, fts3.exceptions.ClientError)


def test_a_context_checks_its_endpoint(context: fts3.Context, service: Delegatee) -> None:
    assert context.get_endpoint_info() == {**ENDPOINT, "url": service.url}
    assert service.asked() == ["GET /"]
    service.script["GET /"] = Reply("<p>hello</p>")
    with pytest.raises(fts3.BadEndpoint):
        fts3.Context(service.url, None, None, True, no_creds=True)
    service.close()
    with pytest.raises(fts3.BadEndpoint):
        fts3.Context(service.url, no_creds=True, retries=QUICK)


def test_whoami(context: fts3.Context) -> None:
    assert fts3.whoami(context) == WHOAMI


def test_list_jobs(context: fts3.Context, service: Delegatee) -> None:
    service.script["GET /jobs"] = Reply([JOB, OTHER])
    assert fts3.list_jobs(context, user_dn=None, vo=None) == [JOB, OTHER]
    fts3.list_jobs(context, state_in=["SUBMITTED", "ACTIVE"])
    assert service.requests[-1].query == {"state_in": "ACTIVE,SUBMITTED"}


def test_get_job_status(context: fts3.Context, service: Delegatee) -> None:
    service.script |= {
        f"GET /jobs/{JOB_ID}": Reply(JOB),
        f"GET /jobs/{JOB_ID}/files": Reply([FILE]),
        f"GET /jobs/{JOB_ID}/dm": Reply([]),
        f"GET /jobs/{UNKNOWN_ID}": Reply(no_job(), 404),
        f"GET /jobs/{OTHER_ID}": Reply(not_yours(), 403),
    }
    assert fts3.get_job_status(context, JOB_ID, list_files=False) == JOB
    assert fts3.get_job_status(context, JOB_ID, list_files=True) == {**JOB, "files": [FILE], "dm": []}
    with pytest.raises(fts3.NotFound) as caught:
        fts3.get_job_status(context, UNKNOWN_ID)
    assert caught.value.resource == UNKNOWN_ID
    with pytest.raises(fts3.Unauthorized, match="Not enough permissions to check the job"):
        fts3.get_job_status(context, OTHER_ID)


def test_get_jobs_statuses(context: fts3.Context, service: Delegatee) -> None:
    service.script[f"GET /jobs/{JOB_ID},{OTHER_ID}"] = Reply([OTHER, JOB])
    service.script[f"GET /jobs/{JOB_ID}"] = Reply(JOB)
    assert fts3.get_jobs_statuses(context, [JOB_ID, OTHER_ID], list_files=True) == [JOB, OTHER]
    fields = "file_state,dest_surl,finish_time,start_time,reason,source_surl,file_metadata"
    assert service.requests[-1].query == {"files": fields}
    assert fts3.get_jobs_statuses(context, [JOB_ID]) == [JOB]
    assert fts3.get_jobs_statuses(context, []) == []
    with pytest.raises(fts3.ClientError, match="list"):
        fts3.get_jobs_statuses(context, JOB_ID)


def test_get_jobs_statuses_keeps_the_good_ones(context: fts3.Context, service: Delegatee) -> None:
    service.script[f"GET /jobs/{JOB_ID},{UNKNOWN_ID}"] = Reply([JOB, no_job()], 207)
    with pytest.raises(fts3.ClientError, match=UNKNOWN_ID) as caught:
        fts3.get_jobs_statuses(context, [JOB_ID, UNKNOWN_ID])
    assert isinstance(caught.value, fts3.PartialAnswer)
    assert (caught.value.entries, caught.value.missing, caught.value.refused) == ([JOB], (UNKNOWN_ID,), {})
    assert (caught.value.kind, caught.value.status) == (fts3.Kind.LOST, 207)
    service.script[f"GET /jobs/{JOB_ID},{OTHER_ID}"] = Reply([JOB, not_yours()], 207)
    with pytest.raises(fts3.PartialAnswer, match="Not enough permissions") as partial:
        fts3.get_jobs_statuses(context, [JOB_ID, OTHER_ID])
    assert partial.value.kind is fts3.Kind.NOT_PERMITTED
    service.script[f"GET /jobs/{UNKNOWN_ID}"] = Reply(no_job(), 404)
    with pytest.raises(fts3.NotFound):
        fts3.get_jobs_statuses(context, [UNKNOWN_ID])


def test_delegate(context: fts3.Context, service: Delegatee) -> None:
    assert fts3.delegate(context, lifetime=timedelta(hours=48), force=False) == DELEGATION_ID
    fts3.delegate(context)
    assert len(service.proxies) == 1
    fts3.delegate(context, force=True)
    assert len(service.proxies) == 2


def test_submit(context: fts3.Context, service: Delegatee) -> None:
    service.script["POST /jobs"] = Reply({"job_id": JOB_ID})
    one = fts3.new_transfer("https://localhost:8448/a/f1", "https://localhost:8448/b/f1", filesize=123)
    two = fts3.add_alternative_source(
        fts3.new_transfer("https://localhost:8448/a/f2", "https://localhost:8448/b/f2"), "https://c/f2"
    )
    job = fts3.new_job([one, two], verify_checksum=True, overwrite=True, retry=3, priority=4)
    assert fts3.submit(context, job) == JOB_ID
    assert len(service.proxies) == 1
    assert service.requests[-1].json["files"] == [one, two]
    assert service.requests[-1].json["params"]["verify_checksum"] is True


def test_submit_a_staging_job(context: fts3.Context, service: Delegatee) -> None:
    service.script["POST /jobs"] = Reply({"job_id": JOB_ID})
    assert fts3.submit(context, fts3.new_staging_job(["srm://se/a"], bring_online=120)) == JOB_ID
    assert service.requests[-1].json["params"]["bring_online"] == 120


def test_submit_a_deletion_job(context: fts3.Context, service: Delegatee) -> None:
    """Gone from the service, which says so."""
    service.script["POST /jobs"] = Reply({"message": "Deletion is not supported"}, 405)
    with pytest.raises(fts3.MethodNotAllowed, match="Deletion"):
        fts3.submit(context, fts3.new_delete_job(["srm://se/a"]))
    assert service.requests[-1].json["delete"] == ["srm://se/a"]


def test_cancel(context: fts3.Context, service: Delegatee) -> None:
    canceled = {**JOB, "job_state": "CANCELED", "http_message": None}
    service.script |= {
        f"DELETE /jobs/{JOB_ID}": Reply(canceled),
        f"DELETE /jobs/{UNKNOWN_ID}": Reply(no_job(), 404),
        f"DELETE /jobs/{OTHER_ID}": Reply(not_yours(), 403),
        f"DELETE /jobs/{JOB_ID}/files/8872390430": Reply('"CANCELED"'),
        f"DELETE /jobs/{JOB_ID}/files/1,2": Reply(["CANCELED", "FINISHED"]),
    }
    assert fts3.cancel(context, JOB_ID) == canceled
    with pytest.raises(fts3.NotFound):
        fts3.cancel(context, UNKNOWN_ID)
    with pytest.raises(fts3.Unauthorized, match="Not enough permissions"):
        fts3.cancel(context, OTHER_ID)
    assert fts3.cancel(context, JOB_ID, [8872390430]) == "CANCELED"
    assert fts3.cancel(context, JOB_ID, [1, 2]) == ["CANCELED", "FINISHED"]


def test_cancel_all(context: fts3.Context, service: Delegatee) -> None:
    service.script["DELETE /jobs/all"] = Reply({"message": "User does not have root privileges"}, 403)
    service.script["DELETE /jobs/vo/farm"] = Reply({"affected_jobs": 3})
    assert fts3.cancel_all(context, "farm") == {"affected_jobs": 3}
    with pytest.raises(fts3.Unauthorized, match="root privileges"):
        fts3.cancel_all(context)


def test_ban_se(context: fts3.Context, service: Delegatee) -> None:
    service.script["POST /ban/se"] = Reply([])
    assert fts3.ban_se(context, "gsiftp://example.com", status="wait", timeout=3600, allow_submit=False) == []
    body = {"storage": "gsiftp://example.com", "status": "wait", "timeout": 3600, "allow_submit": False}
    assert service.requests[-1].json == body


def test_unban_se(context: fts3.Context, service: Delegatee) -> None:
    service.script["DELETE /ban/se"] = Reply(b"", 204)
    fts3.unban_se(context, "gsiftp://example.com")
    assert service.requests[-1].query == {"storage": "gsiftp://example.com"}


def test_ban_dn(context: fts3.Context, service: Delegatee) -> None:
    service.script["POST /ban/dn"] = Reply([JOB_ID])
    assert fts3.ban_dn(context, "/DC=cern/DC=ch/CN=x") == [JOB_ID]
    assert service.requests[-1].json == {"user_dn": "/DC=cern/DC=ch/CN=x"}


def test_unban_dn(context: fts3.Context, service: Delegatee) -> None:
    service.script["DELETE /ban/dn"] = Reply(b"", 204)
    fts3.unban_dn(context, "/DC=cern/DC=ch/CN=x")
    assert service.requests[-1].query == {"user_dn": "/DC=cern/DC=ch/CN=x"}


def test_a_banned_user_reads_plain_words(context: fts3.Context, service: Delegatee) -> None:
    service.script["GET /whoami"] = Reply(BANNED_PAGE, 403, {"Content-Type": "text/html; charset=utf-8"})
    with pytest.raises(fts3.Unauthorized) as caught:
        fts3.whoami(context)
    assert (str(caught.value), caught.value.kind) == ("The user has been banned", fts3.Kind.BANNED)


def test_a_failed_delegation_keeps_its_kind(context: fts3.Context, service: Delegatee) -> None:
    service.script[f"GET {DELEGATION}"] = Reply({"message": "busy"}, 503)
    with pytest.raises(fts3.TryAgain):
        fts3.delegate(context)


def test_the_page_about_the_bindings_has_each_function_and_names_tests_that_exist() -> None:
    root = Path(__file__).resolve().parents[2]
    page = (root / "docs/fts3-api.md").read_text()
    functions = [name for name in fts3.__all__ if inspect.isfunction(getattr(fts3, name))]
    assert len(functions) == len(PARAMETERS)
    assert [name for name in functions if f"\n| `{name}` |" not in page] == []
    tests = set(re.findall(r"`(test_\w+)`", page))
    assert {name for name in tests if name not in globals()} == set()
