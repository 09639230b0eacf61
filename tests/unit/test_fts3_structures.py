"""Reading what the FTS3 service answers: exact where it is as known, tolerant where it is not."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.fts3_service import BASE_ID, ENDPOINT, FILE, JOB, JOB_ID, NOBODY, WHOAMI

from agent.fts3 import (
    ClientError,
    EndpointInfo,
    FileState,
    Job,
    JobState,
    Reason,
    ServerError,
    Side,
    TransferFile,
    WhoAmI,
    deterministic_job_id,
    storage_element,
)
from agent.fts3.ids import job_path_part, path_part
from agent.fts3.structures import Version, objects, parse_time

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def test_a_job_as_recorded() -> None:
    job = Job.read(JOB)
    assert (job.job_id, job.state, job.job_type, job.priority) == (JOB_ID, JobState.SUBMITTED, "N", 4)
    assert job.submit_time == datetime(2026, 11, 22, 12, 40, 42, tzinfo=UTC)
    assert (job.finished, job.files, job.unchanged, job.reason) == (None, None, False, "")
    assert job.metadata == {"label": "t", "auth_method": "certificate"}
    assert job.raw is JOB


def test_a_file_as_recorded() -> None:
    file = TransferFile.read(FILE)
    assert (file.file_id, file.file_index, file.state) == (8872390430, 0, FileState.SUBMITTED)
    assert (file.filesize, file.user_filesize, file.throughput) == (None, 123, None)
    assert file.dest_surl == "https://localhost:8448/b/f1"


def test_a_service_as_recorded() -> None:
    info = EndpointInfo.read({**ENDPOINT, "url": "https://fts3.example.org:8446"})
    assert (info.api, info.core, info.schema) == (Version(3, 13, 4), None, Version(9, 1, 0))
    assert str(info.api) == "3.13.4"
    assert info.api is not None
    assert info.api >= Version(3, 12, 0)


def test_a_token_that_is_not_accepted_shows_as_nobody() -> None:
    assert WhoAmI.read(NOBODY).anonymous
    assert not WhoAmI.read(WHOAMI).anonymous


@given(st.dictionaries(st.sampled_from([*JOB, "files", "finish_time"]), anything))
def test_any_job_with_an_id_is_read(fields: dict[str, object]) -> None:
    raw = {**fields, "job_id": JOB_ID}
    if isinstance(raw.get("files"), list):
        raw["files"] = [{"file_state": one} for one in raw["files"]]
    job = Job.read(raw)
    assert isinstance(job.state, JobState)


@given(st.dictionaries(st.sampled_from(list(FILE)), anything))
def test_any_file_is_read(fields: dict[str, object]) -> None:
    file = TransferFile.read(fields)
    assert isinstance(file.state, FileState)
    assert isinstance(file.why, Reason)


@given(st.dictionaries(st.sampled_from(list(WHOAMI)), anything))
def test_any_user_is_read(fields: dict[str, object]) -> None:
    assert isinstance(WhoAmI.read(fields).anonymous, bool)


@pytest.mark.parametrize("odd", [None, [], "x", {}, {"job_id": None}, {"job_id": 7}])
def test_what_is_no_job_is_an_error(odd: object) -> None:
    with pytest.raises(ServerError):
        Job.read(odd)


@pytest.mark.parametrize("odd", [None, {}, "x", [1], [None]])
def test_what_is_no_list_of_objects_is_an_error(odd: object) -> None:
    with pytest.raises(ServerError):
        objects(odd)


def test_words_of_states_that_are_not_known_are_unknown() -> None:
    assert JobState.read("DELETE") is JobState.UNKNOWN
    assert JobState.read("UNKNOWN") is JobState.UNKNOWN
    assert FileState.read(None) is FileState.UNKNOWN
    assert FileState.read("ON_HOLD_STAGING") is FileState.ON_HOLD_STAGING


def test_which_states_are_the_end() -> None:
    assert {one.value for one in JobState if one.over} == {"FINISHED", "FAILED", "FINISHEDDIRTY", "CANCELED"}
    assert {one.value for one in FileState if one.over} == {"FINISHED", "FAILED", "CANCELED"}


@pytest.mark.parametrize(
    ("reason", "side", "code", "final"),
    [
        ("SOURCE [2] No such file or directory", Side.SOURCE, 2, True),
        ("DESTINATION [17] Destination file exists and overwrite is not enabled", Side.DESTINATION, 17, True),
        ("DESTINATION [22] Source and destination file size mismatch", Side.DESTINATION, 22, False),
        ("TRANSFER [5] Source and destination checksums do not match", Side.TRANSFER, 5, False),
        ("TRANSFER [13] Permission denied", Side.TRANSFER, 13, True),
        ("TRANSFER [110] Connection timed out", Side.TRANSFER, 110, False),
        ("SOURCE [70] HTTP 403 : Permission denied", Side.SOURCE, 70, True),
        ("Storage banned", Side.UNKNOWN, 0, False),
        ("", Side.UNKNOWN, 0, False),
    ],
)
def test_a_reason_tells_the_side_the_number_and_whether_it_is_final(
    reason: str, side: Side, code: int, final: bool
) -> None:
    found = Reason.read(reason)
    assert (found.side, found.code, found.final) == (side, code, final)


def test_times_are_utc_whether_they_say_so_or_not() -> None:
    noon = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
    assert parse_time("2026-11-22T12:00:00") == noon
    assert parse_time("2026-11-22T13:00:00+01:00") == noon
    assert [parse_time(odd) for odd in (None, "", "soon", 7)] == [None] * 4


def test_the_id_of_a_job_is_known_beforehand() -> None:
    """The VO's part is what the service itself names in whoami."""
    vo_id = uuid.UUID(WHOAMI["vos_id"][0])
    assert deterministic_job_id(BASE_ID, "farm", "s1") == str(uuid.uuid5(vo_id, "s1"))
    with pytest.raises(ClientError):
        deterministic_job_id("nonsense", "farm", "s1")


@pytest.mark.parametrize("odd", ["", "all", "ALL", "vo", "..", "a/b", "a,b", "a?b", "-a", "x" * 200, None, 7])
def test_what_is_no_job_id_does_not_get_into_a_path(odd: object) -> None:
    with pytest.raises(ClientError):
        job_path_part(odd)


def test_names_stay_one_part_of_a_path() -> None:
    assert path_part("a/b c?") == "a%2Fb%20c%3F"
    for odd in ("", ".", ".."):
        with pytest.raises(ClientError):
            path_part(odd)


def test_a_storage_element_has_neither_port_nor_path() -> None:
    assert storage_element("davs://se.example.org:8443/a/b") == "davs://se.example.org"
    with pytest.raises(ClientError):
        storage_element("se.example.org")
