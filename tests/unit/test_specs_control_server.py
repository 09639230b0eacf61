"""A control server is a JetStream server of the receiving side, for a sender that needs one."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.model.observed import Capabilities
from agent.model.spec import Drift, DriftPolicy, MappingSpec, Verify, VerifyMode
from agent.planning.unsupported import unsupported_of_mapping
from agent.specs.load import Loaded, load

SPECS = """
apiVersion: lanesync/v1
kind: Server
metadata: {{name: studio}}
spec: {{engine: {sender}}}
---
apiVersion: lanesync/v1
kind: Server
metadata: {{name: archive-ctl}}
spec: {{engine: {control}}}
---
apiVersion: lanesync/v1
kind: Destination
metadata: {{name: archive}}
spec: {{server: studio, address: archive.example.org, controlServer: {name}}}
"""
JETSTREAM = "jetstream, address: archive.example.org, client: vendor"
FTS3 = 'fts3, endpoint: "https://fts3.example.org:8446", auth: {token: {env: T}}, storage: [{path: /d, url: "davs://se/d"}]'


def read(
    tmp_path: Path, name: str = "archive-ctl", sender: str = JETSTREAM, control: str = JETSTREAM
) -> Loaded:
    (tmp_path / "specs.yaml").write_text(SPECS.format(sender=sender, control=control, name=name))
    return load([tmp_path])


def test_a_jetstream_server_is_named(tmp_path: Path) -> None:
    loaded = read(tmp_path)
    assert list(loaded.errors) == []
    assert loaded.desired is not None
    assert loaded.desired.destinations["archive"].control_server == "archive-ctl"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "archive-ctrl"}, "there is no Server `archive-ctrl`; did you mean `archive-ctl`"),
        ({"name": "studio"}, "is the one that sends"),
        ({"control": "embedded"}, "has engine embedded; a control server has engine jetstream"),
        ({"control": FTS3}, "has engine fts3; a control server has engine jetstream"),
        ({"sender": "embedded"}, "needs no control server; leave it out"),
    ],
)
def test_another_one_is_refused_by_name(tmp_path: Path, given: dict[str, str], said: str) -> None:
    """At the field, with what to do."""
    texts = [str(error) for error in read(tmp_path, **given).errors]
    assert len(texts) == 1
    assert "spec.controlServer" in texts[0]
    assert said in texts[0]


def test_what_asks_to_look_at_a_destination_that_cannot_tell_is_said() -> None:
    """Only where somebody wrote it; with a control server all but digests."""
    blind, sees, controlled = (
        Capabilities(delete=True),
        Capabilities(delete=True, inventory=True),
        Capabilities(delete=True, inventory=True, digests=False),
    )
    plain = MappingSpec("m", ("a",), ())
    drift = MappingSpec("m", ("a",), (), drift=Drift(DriftPolicy.CORRECT))
    verify = MappingSpec("m", ("a",), (), verify=Verify(60.0, VerifyMode.CHECKSUM))
    assert [unsupported_of_mapping(spec, blind) == () for spec in (plain, drift, verify)] == [
        True,
        False,
        False,
    ]
    assert "`drift` has no effect" in unsupported_of_mapping(drift, blind)[0]
    assert "`verify` has no effect" in unsupported_of_mapping(verify, blind)[0]
    assert [unsupported_of_mapping(spec, sees) for spec in (plain, drift, verify)] == [()] * 3
    assert unsupported_of_mapping(drift, controlled) == ()
    assert "`verify.mode: checksum`" in unsupported_of_mapping(verify, controlled)[0]
