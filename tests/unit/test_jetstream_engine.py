"""The JetStream adapter's pure part, and its errors, without a server."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.engines import jetstream_convert as convert
from agent.engines.jetstream import Credentials, JetstreamEngine
from agent.engines.jetstream_session import agent_errors
from agent.engines.port import Entry
from agent.jetstream import (
    AuthenticationError,
    CommandError,
    NotFoundError,
    ProtocolError,
    RequestTimeoutError,
    ServerFaultError,
    constants,
)
from agent.model import outcome
from agent.model.observed import FileOutcome, Tag, TransferState
from agent.model.spec import Lane, Overwrite


def test_what_did_not_have_to_be_sent_counts_as_done() -> None:
    """Holes, and what the destination had in an older version; but never more than there is."""
    sending = {"transferId": "1", "status": "sending", "totalBytes": 1000, "bytesSent": 10, "blockSize": 256}
    assert convert.transfer(sending).done_bytes == 10
    assert convert.transfer(sending | {"blocksSent": 3}).done_bytes == 768
    assert convert.transfer(sending | {"blocksSent": 4}).done_bytes == 1000
    assert convert.transfer(sending | {"bytesSent": 900, "blocksSent": 1}).done_bytes == 900


def test_entries_need_no_look_at_the_file_system() -> None:
    """Files carry size and flags, empty directories neither, and only executables an access."""
    assert convert.to_mapping(Entry("/a", "/s", 0, False, False)) == {
        "src": "/s",
        "size": 0,
        "flags": constants.FILETYPE_REGULAR_FILE,
    }
    assert convert.to_mapping(Entry("/a", "/s", 9, False, True))["access"] == "x"
    assert convert.to_mapping(Entry("/a", "/s", 0, True, False)) == {"src": "/s"}


@pytest.mark.parametrize("overwrite", list(Overwrite))
def test_every_overwrite_mode_survives_the_round_trip(overwrite: Overwrite) -> None:
    """What was set as a default is observed as the same."""
    seen = convert.destination(
        {
            "destinationId": "1",
            "transferDefaults": {
                "overwriteMode": convert.overwrite_mode(overwrite),
                "transferFlags": convert.transfer_flags(overwrite, preserve_mtime=True),
            },
        }
    )
    assert seen.defaults.overwrite is overwrite


def test_what_a_server_does_not_report_is_unknown() -> None:
    """Only the documented fields: lanes and defaults are None, never invented."""
    seen = convert.destination({"destinationId": 7, "destinationAddress": "h", "destinationPort": 8886})
    assert (seen.id, seen.tag, seen.lanes, seen.send_rate_max) == ("7", None, None, None)
    assert seen.defaults.priority is seen.defaults.overwrite is seen.defaults.checkpoint_interval is None
    bare = convert.transfer({"transferId": 13, "status": "pending"})
    assert (bare.id, bare.state, bare.total_bytes, bare.lane) == ("13", TransferState.PENDING, 0, "")


def test_disabled_checkpoints_are_zero() -> None:
    """The API reports them as null, a spec says 0."""
    seen = convert.destination(
        {"destinationId": "1", "transferDefaults": {"checkpointFrequencySeconds": None}}
    )
    assert seen.defaults.checkpoint_interval == 0.0


@given(st.text() | st.none() | st.integers())
def test_an_unknown_status_is_never_success(status: Any) -> None:
    """A state this version has no word for is UNKNOWN."""
    seen = convert.transfer({"transferId": "1", "status": status})
    assert seen.state is TransferState.UNKNOWN or str(seen.state) == status


def test_lanes_keep_their_order() -> None:
    """The first lane stays the first."""
    assert convert.lanes_of({"Z": 0.5, "A": 0.5}) == (Lane("Z", 0.5), Lane("A", 0.5))


@given(
    st.builds(
        Tag,
        agent=st.text(min_size=1),
        spec=st.text(min_size=1),
        revision=st.text(),
        spec_digest=st.text(),
        attempt=st.integers(0, 2**63),
        change_digest=st.text(),
    )
)
def test_a_tag_survives_as_user_data(tag: Tag) -> None:
    """Ownership is never lost on the way."""
    assert convert.tag_of({"userData": tag.to_user_data()}) == tag


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("deleted", FileOutcome.DELIVERED),
        ("absent", FileOutcome.DELIVERED),
        ("kept", FileOutcome.SKIPPED),
        ("failed", FileOutcome.FAILED),
        ("some new word", FileOutcome.FAILED),
    ],
)
def test_a_deletion_counts_as_done_only_when_the_path_is_gone(state: str, expected: FileOutcome) -> None:
    """Words that are not understood are failures."""
    assert convert.deletion_result(["/p", state, "why"]).outcome is expected


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (RequestTimeoutError("slow"), outcome.UnreachableError),
        (AuthenticationError("who?"), outcome.AuthenticationError),
        (NotFoundError("gone"), outcome.NotFoundError),
        (CommandError("transfer 9 was not found"), outcome.NotFoundError),
        (CommandError("no"), outcome.PermanentError),
        (ServerFaultError("oops"), outcome.RetryableError),
        (ProtocolError("what?"), outcome.PermanentError),
    ],
)
def test_client_errors_become_the_agents(raised: Exception, expected: type[Exception]) -> None:
    """The kind decides whether the agent tries again; the text is kept."""
    with pytest.raises(outcome.LaneSyncError, match=str(raised)) as caught, agent_errors():
        raise raised
    assert type(caught.value) is expected


def test_nobody_listening_is_unreachable() -> None:
    """Every call says where it looked."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    engine = JetstreamEngine("127.0.0.1", port)
    for call in (engine.connect, lambda: engine.observe("a"), lambda: engine.transfer("1")):
        with pytest.raises(outcome.UnreachableError, match=f"127.0.0.1:{port}"):
            call()
    engine.close()
    engine.close()


def test_credentials_do_not_print_their_secrets() -> None:
    """Neither in logs nor in tracebacks."""
    text = repr(Credentials("jsmith", "the password", "the token"))
    assert "jsmith" in text
    assert "the password" not in text
    assert "the token" not in text
