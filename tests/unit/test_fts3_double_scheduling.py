"""The FTS3 double's queue: limits, activities, and how jobs follow their files."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from fts3_double.outcomes import Outcome, failure, mock_copy, overwrites, tries_allowed
from fts3_double.scheduling import Limits, activity_weights, draw
from fts3_double.states import end_of_job, going_state
from hypothesis import given
from hypothesis import strategies as st

NAMES = st.sampled_from(["default", "urgent", "bulk", "other"])
WAITING = st.dictionaries(NAMES, st.integers(0, 50))


@given(WAITING, st.dictionaries(NAMES, st.floats(0, 10)), st.integers(0, 60), st.integers())
def test_a_draw_gives_every_slot_that_somebody_waits_for(
    waiting: dict[str, int], weights: dict[str, float], slots: int, seed: int
) -> None:
    drawn = draw(waiting, weights, slots, random.Random(seed))
    assert sum(drawn.values()) == min(slots, sum(waiting.values()))
    assert all(drawn[name] <= waiting[name] for name in drawn)


def test_a_draw_follows_the_weights() -> None:
    waiting = {"urgent": 10_000, "bulk": 10_000}
    drawn = draw(waiting, {"urgent": 0.7, "bulk": 0.3}, 4000, random.Random(1))
    assert drawn["urgent"] / 4000 == pytest.approx(0.7, abs=0.05)


def test_unknown_activities_divide_the_weight_of_default() -> None:
    weights = activity_weights(["urgent", "x", "y"], {"urgent": 0.7, "default": 0.2})
    assert weights == {"urgent": 0.7, "x": 0.1, "y": 0.1}


def limits(**more: object) -> Limits:
    links = [
        {"source": "*", "destination": "*", "min_active": 2, "max_active": 130},
        {"source": "a", "destination": "b", "min_active": 1, "max_active": 3},
    ]
    storages = {"b": {"se_info": {"inbound_max_active": 5}}}
    return Limits(links, storages, {}, 66)


def test_the_entry_of_the_link_itself_goes_before_the_general_one() -> None:
    assert (limits().of_link(("a", "b")), limits().of_link(("a", "c"))) == (3, 130)


def test_free_slots_are_bounded_by_link_and_by_both_storages() -> None:
    assert limits().free(("a", "b"), {("a", "b"): 1}, {}) == 2
    assert limits().free(("x", "b"), {}, {("b", "inbound"): 4}) == 1
    assert limits().free(("x", "b"), {}, {("b", "inbound"): 9}) == 0


@pytest.mark.parametrize(
    ("kind", "files", "end"),
    [
        ("N", {"FINISHED": 2}, "FINISHED"),
        ("N", {"FAILED": 2}, "FAILED"),
        ("N", {"FINISHED": 1, "FAILED": 1}, "FINISHEDDIRTY"),
        ("N", {"FINISHED": 1, "CANCELED": 1}, "CANCELED"),
        ("N", {"FINISHED": 1, "SUBMITTED": 1}, None),
        ("N", {"FINISHED": 1, "ON_HOLD": 1}, None),
        ("H", {"FAILED": 1, "NOT_USED": 2}, "FAILED"),
        ("H", {"FINISHED": 1, "NOT_USED": 1}, None),
        ("H", {"FINISHED": 3}, "FINISHED"),
        ("R", {"FAILED": 1, "FINISHED": 1, "NOT_USED": 1}, "FINISHED"),
        ("R", {"FAILED": 2}, "FAILED"),
    ],
)
def test_the_end_of_a_job_follows_from_its_files(kind: str, files: dict[str, int], end: str | None) -> None:
    assert end_of_job(kind, Counter(files)) == end


def test_a_job_turns_active_with_its_first_ready_file_and_does_not_turn_back() -> None:
    assert going_state("SUBMITTED", "N", {"READY": 1, "SUBMITTED": 5}) == "ACTIVE"
    assert going_state("ACTIVE", "N", {"SUBMITTED": 5}) == "ACTIVE"
    assert going_state("SUBMITTED", "Y", {"READY": 3}) == "READY"
    assert going_state("ACTIVE", "N", {"FINISHED": 1, "ARCHIVING": 1}) == "ARCHIVING"


@pytest.mark.parametrize(
    ("reason", "again"),
    [
        ("SOURCE [2] No such file or directory", False),
        ("DESTINATION [17] Destination file exists and overwrite is not enabled", False),
        ("DESTINATION [22] Source and destination file size mismatch", True),
        ("TRANSFER [5] Source and destination checksums do not match", True),
        ("TRANSFER [110] Connection timed out", True),
        ("TRANSFER [70] HTTP 403 : Permission denied", False),
    ],
)
def test_all_is_tried_again_that_is_not_plainly_final(reason: str, again: bool) -> None:
    assert Outcome(reason).try_again is again


def test_hops_and_replicas_are_never_tried_again() -> None:
    assert [tries_allowed(kind, 3, 5) for kind in "NYHR"] == [3, 3, 0, 0]
    assert (tries_allowed("N", 0, 5), tries_allowed("N", -1, 5)) == (5, 0)


def test_an_overwrite_on_retry_needs_a_retry() -> None:
    assert not overwrites("R", 0, last_hop=True)
    assert overwrites("R", 1, last_hop=True)
    assert overwrites("M", 0, last_hop=False)
    assert not overwrites("M", 0, last_hop=True)


@pytest.mark.parametrize(
    ("source", "destination", "mode", "checksum", "reason"),
    [
        ("?size=5", "?size_post=5", "n", "ADLER32", ""),
        ("?errno=2", "", "n", "ADLER32", "SOURCE [2] No such file or directory"),
        ("", "?transfer_errno=13", "n", "ADLER32", "TRANSFER [13] Permission denied"),
        (
            "?size=5",
            "?size_post=6",
            "n",
            "ADLER32",
            "DESTINATION [22] Source and destination file size mismatch",
        ),
        ("?size=5", "", "t", "ADLER32", "DESTINATION [22] Checksum value required if mode is not end to end"),
        ("?checksum=0a", "", "b", "ADLER32:b", "TRANSFER [5] User and source checksums do not match"),
        (
            "?checksum=a",
            "?checksum=b",
            "b",
            "ADLER32",
            "TRANSFER [5] Source and destination checksums do not match",
        ),
    ],
)
def test_a_mock_storage_does_as_its_url_says(
    source: str, destination: str, mode: str, checksum: str, reason: str
) -> None:
    ended = mock_copy("mock://a/x" + source, "mock://b/y" + destination, mode, checksum, False)
    assert ended.reason == reason


def test_a_failure_names_its_side_and_number() -> None:
    assert failure("SOURCE", 2).reason == "SOURCE [2] No such file or directory"
