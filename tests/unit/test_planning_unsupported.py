"""What a spec asks beyond its engine is told by field; what nobody wrote is not."""

from __future__ import annotations

from agent.model.observed import Capabilities
from agent.model.spec import (
    Credentials,
    DestinationSpec,
    MappingSpec,
    MinCipher,
    Overwrite,
    Route,
    SecretRef,
    SecretSource,
    TransferDefaults,
    Window,
)
from agent.planning.unsupported import unsupported_of_destination, unsupported_of_mapping

EVERYTHING = Capabilities(delete=True)
LITTLE = Capabilities(
    rates=False,
    overwrites=frozenset({Overwrite.ALWAYS, Overwrite.NEVER}),
    ciphers=False,
    credentials=False,
    fine_times=False,
)
ASKS_MUCH = DestinationSpec(
    "archive",
    "davs://se/x",
    0,
    send_rate_max=100.0,
    transfer_defaults=TransferDefaults(
        checkpoint_interval=5.0,
        overwrite=Overwrite.NEWER,
        modification_time_tolerance=2.0,
        min_cipher=MinCipher.ENCRYPTED_128,
    ),
    route=Route(relay_address="relay", relay_port=1),
    credentials=Credentials("user", SecretRef(SecretSource.ENV, "X")),
    windows=(Window((0,), 0, 60, send_rate_max=5.0),),
)
ASKS_TOO = MappingSpec("m", ("archive",), (), send_rate_max=5.0, overwrite=Overwrite.BACKUP, prune=True)


def test_each_field_is_named_once_with_what_to_do() -> None:
    told = unsupported_of_destination(ASKS_MUCH, LITTLE)
    for name in (
        "`sendRateMax`",
        "`windows[].sendRateMax`",
        "`transferDefaults.overwrite: newer`",
        "`transferDefaults.minCipher`",
        "`relay`",
        "`credentials`",
        "`transferDefaults.checkpointInterval`",
        "`transferDefaults.modificationTimeTolerance`",
    ):
        assert len([text for text in told if name in text]) == 1, name
    assert all(":" in text or ";" in text for text in told)
    mapping = unsupported_of_mapping(ASKS_TOO, LITTLE)
    assert [text.split("`")[1] for text in mapping] == ["sendRateMax", "overwrite: backup", "prune"]
    assert "`always` or `never`" in mapping[1]


def test_defaults_are_no_wishes() -> None:
    assert unsupported_of_destination(DestinationSpec("a", "davs://se/x", 0), LITTLE) == ()
    assert unsupported_of_mapping(MappingSpec("m", ("a",), ()), LITTLE) == ()


def test_an_engine_that_can_do_everything_says_nothing() -> None:
    assert unsupported_of_destination(ASKS_MUCH, EVERYTHING) == ()
    assert unsupported_of_mapping(ASKS_TOO, EVERYTHING) == ()
