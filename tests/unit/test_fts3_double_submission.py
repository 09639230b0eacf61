"""The FTS3 double makes of a submission what the real service makes of it, traps included."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from fts3_double.identity import BASE_ID, User
from fts3_double.problems import ServiceError
from fts3_double.submission import Submission, build, seconds_of

NOW = 1_795_363_101.0
ALICE = User(user_dn="/CN=alice", vos=["farm"], delegation_id="0123456789abcdef", method="certificate")
SOURCE, TARGET = "davs://one.example.org:8443/a/x", "davs://two.example.org/b/x"


def entry(**more: Any) -> dict[str, Any]:
    return {"sources": [SOURCE], "destinations": [TARGET], **more}


def built(*entries: dict[str, Any], **params: Any) -> Submission:
    body = {"files": list(entries) or [entry()], "params": params}
    return build(body, ALICE, NOW, "localhost", lambda source, destination: len(source))


def refusal(*entries: dict[str, Any], **params: Any) -> tuple[int, str]:
    with pytest.raises(ServiceError) as raised:
        built(*entries, **params)
    return raised.value.status, raised.value.message


def test_a_storage_element_has_neither_port_nor_path() -> None:
    made = built()
    assert (made.job["source_se"], made.job["dest_se"]) == (
        "davs://one.example.org",
        "davs://two.example.org",
    )
    assert made.files[0]["source_surl"] == SOURCE


def test_a_job_to_several_storages_has_no_destination_of_its_own() -> None:
    other = entry(destinations=["davs://three.example.org/b"])
    made = built(entry(), other)
    assert (made.job["source_se"], made.job["dest_se"]) == ("davs://one.example.org", None)


@pytest.mark.parametrize(
    ("mode", "checksum", "stored"),
    [
        (True, None, "b"),
        (False, "ADLER32", "t"),
        (False, None, "n"),
        (None, None, "n"),
        ("source", None, "s"),
        ("bogus", None, "b"),
    ],
)
def test_a_bare_algorithm_name_switches_verification_on(mode: Any, checksum: str | None, stored: str) -> None:
    made = built(entry(checksum=checksum), verify_checksum=mode)
    assert made.job["verify_checksum"] == stored
    assert made.files[0]["checksum"] == "ADLER32"


@pytest.mark.parametrize(("given", "stored"), [(None, 3), (0, 1), (1, 1), (5, 5), (99, 5)])
def test_priorities_are_clamped_at_submission(given: int | None, stored: int) -> None:
    made = built(priority=given)
    assert (made.job["priority"], made.files[0]["priority"]) == (stored, stored)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(2, 7200), ("10s", 10), ("5m", 300), ("2H", 7200), ("1d", 86400), (0, None), ("x", None), ("zz", None)],
)
def test_a_queue_time_without_unit_counts_hours(value: Any, seconds: int | None) -> None:
    assert seconds_of(value) == seconds


def test_the_queue_time_is_stored_as_its_end() -> None:
    assert built(max_time_in_queue="10s").job["max_time_in_queue"] == int(NOW + 10)


@pytest.mark.parametrize(
    ("params", "flag"),
    [
        ({}, None),
        ({"overwrite": True}, "Y"),
        ({"overwrite": "N"}, "Y"),
        ({"overwrite_on_retry": True}, "R"),
        ({"overwrite_hop": True, "multihop": True}, "M"),
        ({"overwrite_when_only_on_disk": True, "archive_timeout": 60}, "D"),
    ],
)
def test_overwriting_reads_back_as_a_letter(params: dict[str, Any], flag: str | None) -> None:
    assert built(**params).job["overwrite_flag"] == flag


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"overwrite": True, "overwrite_on_retry": True}, "Incompatible overwrite flags"),
        ({"overwrite_hop": True}, "'overwrite-hop' requires multihop"),
        ({"overwrite_when_only_on_disk": True}, "requires 'archive-timeout'"),
        ({"job_metadata": "x" * 3000}, "metadata exceeds size limit of 2048"),
        ({"job_metadata": 5}, "Metadata neither JSON nor String"),
        ({"verify_checksum": 3}, "Malformed request"),
        ({"retry": "many"}, "Invalid value within the request"),
        ({"id_generator": "deterministic"}, "Need sid"),
    ],
)
def test_bad_parameters_are_told(params: dict[str, Any], message: str) -> None:
    status, text = refusal(**params)
    assert status == 400
    assert message in text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("/no/scheme", "Missing scheme"),
        ("file:///tmp/x", "Can not transfer local files"),
        ("davs://host", "Missing path"),
        ("davs:///x", "Missing host"),
    ],
)
def test_urls_need_scheme_host_and_path(source: str, message: str) -> None:
    status, text = refusal(entry(sources=[source]))
    assert (status, message in text) == (400, True)


def test_a_missing_source_list_is_named() -> None:
    assert refusal({"destinations": [TARGET]}) == (400, "Missing parameter: 'sources'")


def test_deletions_are_gone() -> None:
    with pytest.raises(ServiceError) as raised:
        build({"delete": ["davs://x/y"]}, ALICE, NOW, "localhost", lambda *_: 0)
    assert raised.value.status == 405


def test_a_deterministic_id_can_be_computed_by_the_client() -> None:
    made = built(id_generator="deterministic", sid="change-7")
    assert made.job["job_id"] == str(uuid.uuid5(uuid.uuid5(BASE_ID, "farm"), "change-7"))


def test_metadata_learn_the_way_of_authentication() -> None:
    assert built(job_metadata={"k": 1}).job["job_metadata"] == {"k": 1, "auth_method": "certificate"}
    assert built(job_metadata="t").job["job_metadata"] == {"label": "t", "auth_method": "certificate"}


def test_of_replicas_the_one_with_the_shortest_queue_starts() -> None:
    longer, shorter = "davs://a-long-name.example.org/x", "davs://short.org/x"
    made = built(entry(sources=[longer, shorter]))
    assert made.job["job_type"] == "R"
    assert {f["source_surl"]: f["file_state"] for f in made.files} == {
        longer: "NOT_USED",
        shorter: "SUBMITTED",
    }


def test_a_replica_job_holds_one_file_only() -> None:
    two = entry(sources=[SOURCE, "davs://three.example.org/x"])
    assert refusal(two, entry())[1] == "Multiple replica jobs must only have one unique file"


def test_only_the_first_hop_starts() -> None:
    made = built(entry(), entry(sources=[TARGET], destinations=["davs://three.example.org/x"]), multihop=True)
    assert (made.job["job_type"], made.job["source_se"], made.job["dest_se"]) == (
        "H",
        "davs://one.example.org",
        "davs://three.example.org",
    )
    assert [f["file_state"] for f in made.files] == ["SUBMITTED", "NOT_USED"]


def test_staging_jobs_start_with_staging() -> None:
    made = built(bring_online=60)
    assert (made.job["job_state"], made.files[0]["file_state"]) == ("STAGING", "STAGING")


def test_protocol_parameters_are_kept_as_text() -> None:
    made = built(nostreams=1, timeout=60, strict_copy=True, disable_cleanup=True, ipv6=True)
    assert made.job["internal_job_params"] == "nostreams:1,timeout:60,strict,disable-cleanup,ipv6"
