"""The text of `/metrics`: as the standard client writes it, and cheap to write again."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from agent.api import exposition
from agent.api.exposition import Exposition
from agent.api.metrics import CONTRACT
from agent.model.condition import Condition, ConditionType, Reason
from agent.model.spec import Key, Kind
from agent.reconcile.delivered import Tally
from agent.reconcile.measures import Measures
from agent.reconcile.meters import Durations
from agent.reconcile.status import ObjectStatus
from agent.state.attempts import Load

TRICKY = ("plain", 'with "quotes"', "back\\slash", "line\nbreak", "größe", "bytes \udcff")


def _status(name: str) -> ObjectStatus:
    delivery = {"destination": "archive", "files": 3, "bytes": 12_345_678_901}
    ready = Condition(ConditionType.READY, True, Reason.IN_SYNC, "in sync", 1.0)
    return ObjectStatus(Key(Kind.MAPPING, name), (ready,), {"deliveries": [delivery]}, "r", 1.0, 1.7e9)


def _measures(names: tuple[str, ...] = TRICKY) -> Measures:
    durations = Durations()
    for seconds in (0.001, 0.3, 1000.0):
        durations.add(seconds)
    return Measures(
        now=1.7e9,
        version="1.2.3",
        in_sync=True,
        revisions={"attempted": "a", "applied": "a", "held": ""},
        source={},
        statuses=[_status(name) for name in names],
        load=(Load("plain", "archive", 2, 2_000_000, 1.6e9),),
        delivered={(name, "archive"): Tally(1, 10) for name in names},
        ended={("transfer", "complete"): 4},
        lanes=[],
        suspended={},
        queue_depth=0,
        durations={Kind.MAPPING: durations},
        results={(Kind.MAPPING, "done"): 3},
        longest_running=0.0,
    )


def _by_the_client(measures: Measures) -> str:
    """All but histograms and the measure of the scrape itself, in the client's own way."""

    class Everything:
        def collect(self):  # type: ignore[no-untyped-def]
            for family in CONTRACT:
                metric = Metric(family.name, family.help, family.type)
                for values, value in family.samples(measures) if family.samples else ():
                    texts = [text.encode("utf-8", "replace").decode() for text in values]
                    metric.add_sample(
                        family.name + family.suffix, dict(zip(family.labels, texts, strict=True)), value
                    )
                yield metric

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Everything())  # type: ignore[arg-type]
    return generate_latest(registry).decode()


def _without_own(text: str) -> list[str]:
    own = ("lanesync_reconcile_seconds_", "lanesync_metrics_seconds ")
    return [line for line in text.splitlines() if not line.startswith(own)]


def _whole(exposition: Exposition) -> str:
    return b"".join(exposition.pieces()).decode()


def test_the_text_is_what_the_client_writes() -> None:
    """Line for line, whatever the names are, the first time and when it is asked again."""
    now = _measures()
    text = Exposition(lambda: now)
    assert _without_own(_whole(text)) == _without_own(_by_the_client(now))
    now = replace(now, in_sync=False, statuses=now.statuses[1:], load=())
    assert _without_own(_whole(text)) == _without_own(_by_the_client(now))
    now = _measures()
    assert _without_own(_whole(text)) == _without_own(_by_the_client(now))


def test_alerts_shares_and_reasons_have_their_figures() -> None:
    """A reason that two things have is one series; what there is not has none."""
    limited = Condition(ConditionType.LIMITED, True, Reason.WEBHOOK_FAILED, "no answer", 1.0)
    pager, sends = Key(Kind.ALERT, "pager"), Reason.TRANSFERRING
    sending = (
        Condition(ConditionType.READY, False, sends, "", 1.0),
        Condition(ConditionType.RECONCILING, True, sends, "", 1.0),
        Condition(ConditionType.SUSPENDED, False, Reason.OUTSIDE_WINDOW, "", 1.0),
    )
    measures = replace(
        _measures(()),
        statuses=[
            ObjectStatus(
                pager, (limited, replace(limited, message="heartbeat")), {"firing": 2, "lastSent": None}
            ),
            ObjectStatus(Key(Kind.MAPPING, "reels"), sending, {}),
            ObjectStatus(Key(Kind.SHARE, "dailies"), (), {"downloads": 3, "expiresAt": 1.8e9}),
        ],
        polled={"nfs": 30.0},
    )
    lines = _whole(Exposition(lambda: measures)).splitlines()
    of_interest = (
        "lanesync_condition_reason{",
        "lanesync_alert_",
        "lanesync_share_",
        "lanesync_watch_poll_seconds{",
    )
    assert [line for line in lines if line.startswith(of_interest)] == [
        'lanesync_condition_reason{kind="Alert",name="pager",reason="WebhookFailed",type="Limited"} 1.0',
        'lanesync_condition_reason{kind="Mapping",name="reels",reason="Transferring",type="Reconciling"} 1.0',
        'lanesync_watch_poll_seconds{mapping="nfs"} 30.0',
        'lanesync_alert_firing{alert="pager"} 2.0',
        'lanesync_share_downloads{share="dailies"} 3.0',
        'lanesync_share_expires_timestamp_seconds{share="dailies"} 1.8e+09',
    ]


def test_the_histogram_is_cumulative() -> None:
    (family,) = (
        f
        for f in text_string_to_metric_families(_whole(Exposition(_measures)))
        if f.name == "lanesync_reconcile_seconds"
    )
    found = {(s.name[27:], s.labels.get("le")): s.value for s in family.samples}
    assert family.type == "histogram"
    assert found["bucket", "0.005"] == 1
    assert found["bucket", "0.5"] == found["bucket", "300.0"] == 2
    assert found["bucket", "+Inf"] == found["count", None] == 3
    assert found["sum", None] == pytest.approx(1000.301)


def test_a_scrape_keeps_nothing_of_the_names_it_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """And asks the client for one line of each shape, however many there are."""
    asked: list[Metric] = []
    written = exposition._written
    monkeypatch.setattr(exposition, "_written", lambda metric: asked.append(metric) or written(metric))
    text = Exposition(lambda: _measures(tuple(f"m{number}" for number in range(500))))
    _whole(text)
    assert len(asked) < 150
    del asked[:]
    _whole(text)
    assert asked == []


def test_a_scrape_of_many_objects_is_never_in_memory_as_a_whole() -> None:
    measures = _measures(tuple(f"m{number}" for number in range(3000)))
    text = Exposition(lambda: measures)
    size = len(_whole(text))
    tracemalloc.start()
    try:
        assert sum(map(len, text.pieces())) > 0.99 * size
        assert tracemalloc.get_traced_memory()[1] < size / 2
    finally:
        tracemalloc.stop()
