"""The packed form of per-file results."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.server.results import RECORD, Outcome, Record, ResultsError, count, pack, unpack

_records = st.builds(
    Record,
    seq=st.integers(0, 2**32 - 1),
    outcome=st.sampled_from([outcome.value for outcome in Outcome]),
    size=st.integers(0, 2**64 - 1),
    mtime_ns=st.integers(-(2**63), 2**63 - 1),
    ctime_ns=st.integers(-(2**63), 2**63 - 1),
    digest=st.integers(0, 2**64 - 1),
)


@given(st.lists(_records))
def test_records_survive_packing(records: list[Record]) -> None:
    """What is packed is unpacked, in order."""
    data = pack(records)
    assert list(unpack(data)) == records
    assert count(data) == len(records)


def test_a_torn_record_is_refused_before_any_is_told() -> None:
    """Bytes that are not whole records raise instead of losing the rest."""
    with pytest.raises(ResultsError, match="37-byte"):
        unpack(b"\0" * (RECORD.size + 1))
