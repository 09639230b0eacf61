"""Describing FTS3 jobs: what is sent, and what is refused before it is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.fts3 import (
    ClientError,
    JobIdGenerator,
    add_alternative_source,
    new_delete_job,
    new_job,
    new_staging_job,
    new_transfer,
)
from agent.fts3.submission import submission

SOURCE, DESTINATION = "https://localhost:8448/a/f1", "https://localhost:8448/b/f1"


def transfer(**options: Any) -> dict[str, Any]:
    return new_transfer(SOURCE, DESTINATION, **options)


def test_a_transfer_as_recorded() -> None:
    assert transfer(filesize=123, metadata={"k": "v"}) == {
        "sources": [SOURCE],
        "destinations": [DESTINATION],
        "checksum": "ADLER32",
        "filesize": 123,
        "metadata": {"k": "v"},
        "selection_strategy": "auto",
    }
    assert transfer() == {
        "sources": [SOURCE],
        "destinations": [DESTINATION],
        "checksum": "ADLER32",
        "selection_strategy": "auto",
    }


def test_every_option_of_a_transfer_is_sent_under_its_name() -> None:
    made = transfer(
        checksum="ADLER32:1a2b3c4d",
        filesize=0,
        activity="High",
        scitag=66,
        staging_metadata={"s": 1},
        archive_metadata={"a": 1},
        selection_strategy="orderly",
        source_token="one",
        destination_token="two",
    )
    assert made["filesize"] == 0
    assert (made["activity"], made["scitag"], made["selection_strategy"]) == ("High", 66, "orderly")
    assert (made["staging_metadata"], made["archive_metadata"]) == ({"s": 1}, {"a": 1})
    assert (made["source_tokens"], made["destination_tokens"]) == (["one"], ["two"])


def test_a_transfer_without_checksum_names_none() -> None:
    assert "checksum" not in transfer(checksum=None)


def test_another_source_comes_after_the_first() -> None:
    made = transfer()
    assert add_alternative_source(made, "https://other/f1") is made
    assert made["sources"] == [SOURCE, "https://other/f1"]


RECORDED = {
    "reuse": None,
    "destination_spacetoken": None,
    "bring_online": None,
    "dst_file_report": False,
    "archive_timeout": None,
    "copy_pin_lifetime": None,
    "job_metadata": {"label": "t"},
    "source_spacetoken": None,
    "overwrite": True,
    "overwrite_on_retry": False,
    "overwrite_when_only_on_disk": False,
    "overwrite_hop": False,
    "multihop": False,
    "retry": 3,
    "retry_delay": 0,
    "priority": 4,
    "strict_copy": False,
    "disable_cleanup": False,
    "max_time_in_queue": None,
    "timeout": None,
    "id_generator": "standard",
    "sid": None,
    "s3alternate": False,
    "nostreams": 1,
    "buffer_size": None,
    "unmanaged_tokens": False,
    "verify_checksum": True,
}


def test_a_job_as_recorded() -> None:
    """What is None is left out: to the service both are its own default."""
    job = new_job(
        [transfer()], verify_checksum=True, overwrite=True, retry=3, priority=4, metadata={"label": "t"}
    )
    assert {name: job["params"][name] for name in RECORDED} == RECORDED
    sent = submission(job)
    assert sent["params"] == {name: value for name, value in RECORDED.items() if value is not None}
    assert sent["files"] == [transfer()]


@pytest.mark.parametrize(
    ("wanted", "sent"),
    [(True, True), (False, "none"), *((word, word) for word in ("source", "target", "both", "none"))],
)  # fmt: skip
def test_no_verification_means_none_at_all(wanted: bool | str, sent: bool | str) -> None:
    """`false` beside a checksum, which a transfer has by default, would mean `target` to the service."""
    assert submission(new_job([transfer()], verify_checksum=wanted))["params"]["verify_checksum"] == sent


def test_every_other_parameter_of_a_job_is_sent_under_its_name() -> None:
    options = {
        "reuse": True,
        "multihop": True,
        "source_spacetoken": "S",
        "destination_spacetoken": "D",
        "bring_online": 60,
        "dst_file_report": True,
        "archive_timeout": 70,
        "copy_pin_lifetime": 80,
        "retry_delay": 90,
        "strict_copy": True,
        "disable_cleanup": True,
        "max_time_in_queue": "30m",
        "timeout": 100,
        "id_generator": JobIdGenerator.deterministic,
        "sid": "s1",
        "s3alternate": True,
        "nostreams": 4,
        "buffer_size": 1024,
        "unmanaged_tokens": True,
        "ipv4": True,
        "ipv6": False,
        "credential": "S3:cern",
        "target_qos": "disk",
    }
    sent = submission(new_job([transfer()], **options))["params"]  # type: ignore[arg-type]
    assert {name: sent[name] for name in options} == options
    assert submission(new_job([transfer()], spacetoken="T"))["params"]["destination_spacetoken"] == "T"


def test_what_belongs_to_files_is_handed_down_to_those_without() -> None:
    given = {"checksum": "MD5:0", "filesize": 7, "activity": "High", "scitag": 70, "file_metadata": {"m": 1}}
    params = {**given, "staging_metadata": {"s": 1}, "archive_metadata": {"a": 1}}
    mine = {"sources": [SOURCE], "destinations": [DESTINATION], "activity": "Low"}
    sent = submission({"files": [mine], "params": params})
    assert sent["params"] == {}
    assert sent["files"] == [
        {
            **mine,
            "checksum": "MD5:0",
            "filesize": 7,
            "scitag": 70,
            "metadata": {"m": 1},
            "staging_metadata": {"s": 1},
            "archive_metadata": {"a": 1},
        }
    ]
    assert mine == {"sources": [SOURCE], "destinations": [DESTINATION], "activity": "Low"}


def test_parameters_are_sent_even_when_there_are_none() -> None:
    """Without them the service fails at a token."""
    assert submission({"files": [transfer()]})["params"] == {}


def test_a_job_can_be_sent() -> None:
    json.dumps(submission(new_job([transfer()], metadata="text")))


@pytest.mark.parametrize(
    "flags",
    [
        {"overwrite": True, "overwrite_on_retry": True},
        {"overwrite": True, "overwrite_hop": True},
        {"overwrite_on_retry": True, "overwrite_when_only_on_disk": True, "archive_timeout": 1},
        {"overwrite_when_only_on_disk": True},
        {"overwrite_when_only_on_disk": True, "archive_timeout": 0},
    ],
)
def test_flags_that_do_not_go_together_are_refused(flags: dict[str, Any]) -> None:
    with pytest.raises(ClientError, match="overwrite"):
        new_job([transfer()], **flags)


def test_flags_that_go_together_are_taken() -> None:
    new_job([transfer()], overwrite_hop=True, overwrite_when_only_on_disk=True, archive_timeout=60)


@pytest.mark.parametrize("scitag", [64, 65536, -1, 0])
def test_a_scitag_out_of_range_is_refused(scitag: int) -> None:
    with pytest.raises(ClientError, match="scitag"):
        transfer(scitag=scitag)


def test_one_token_alone_is_refused() -> None:
    with pytest.raises(ClientError, match="tokens"):
        transfer(source_token="one")


def test_an_unknown_way_to_verify_is_refused() -> None:
    with pytest.raises(ClientError, match="verify_checksum"):
        new_job([transfer()], verify_checksum="bogus")


def test_a_job_needs_something_to_do() -> None:
    with pytest.raises(ClientError):
        new_job()


@pytest.mark.parametrize(
    ("file", "word"),
    [
        ({"sources": ["file:///etc/passwd"], "destinations": [DESTINATION]}, "local"),
        ({"sources": ["file://host/etc/passwd"], "destinations": [DESTINATION]}, "local"),
        ({"sources": ["/etc/passwd"], "destinations": [DESTINATION]}, "URL"),
        ({"sources": [SOURCE], "destinations": ["https://localhost"]}, "URL"),
        ({"sources": [SOURCE], "destinations": [DESTINATION + "x" * 1100]}, "1100"),
        ({"sources": [SOURCE], "destinations": [DESTINATION], "activity": "x" * 256}, "255"),
    ],
)
def test_what_the_service_refuses_or_fails_at_is_refused_before(file: dict[str, Any], word: str) -> None:
    with pytest.raises(ClientError, match=word):
        submission({"files": [file]})


def test_a_staging_job_copies_nothing() -> None:
    files = ["srm://se/a", {"surl": "srm://se/b", "metadata": {"m": 1}, "staging_metadata": {"s": 1}}]
    sent = submission(new_staging_job(files, bring_online=120, metadata="m", priority=2, sid="s"))
    assert [(one["sources"], one["destinations"]) for one in sent["files"]] == [
        (["srm://se/a"], ["srm://se/a"]),
        (["srm://se/b"], ["srm://se/b"]),
    ]
    assert (sent["files"][1]["metadata"], sent["files"][1]["staging_metadata"]) == ({"m": 1}, {"s": 1})
    params = {"bring_online": 120, "job_metadata": "m", "priority": 2, "id_generator": "standard", "sid": "s"}
    assert sent["params"] == params
    for odd in ({}, {"bring_online": 0}, {"bring_online": -1, "copy_pin_lifetime": 0}):
        with pytest.raises(ClientError, match="bring_online"):
            new_staging_job(files, **odd)


def test_a_deletion_job_is_described_as_the_bindings_do() -> None:
    sent = submission(new_delete_job(["srm://se/a"], spacetoken="T", metadata={"m": 1}, priority=3))
    assert sent["delete"] == ["srm://se/a"]
    assert sent["params"]["source_spacetoken"] == "T"
    assert "files" not in sent
    assert submission(new_job(deletion=["srm://se/a"]))["delete"] == ["srm://se/a"]
