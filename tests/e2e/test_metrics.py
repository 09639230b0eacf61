"""`/metrics` of a running agent, read by the real checker where it is installed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest
import requests
from agents import World, fill, world
from prometheus_client.parser import text_string_to_metric_families
from servers import eventually

from agent.api.metrics import CONTRACT

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def w(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An agent that is in sync; each test leaves it so."""
    with world(tmp_path_factory.mktemp("metrics")) as made:
        fill(made.source, 10)
        made.write(made.mapping(more="prune: true"))
        made.start()
        made.in_sync()
        yield made


@pytest.fixture(scope="module")
def url(w: World) -> str:
    return f"http://{w.status()['agent']['http']}/metrics"


def scrape(url: str) -> str:
    session = requests.Session()
    session.trust_env = False
    answer = session.get(url, timeout=60)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=1.0.0")
    return answer.text


def samples(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """name -> labels -> value"""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def test_what_was_delivered_and_what_stalls_is_measured(w: World, url: str) -> None:
    """Counts, conditions, lanes and the loop, each as it is; the text passes `promtool check metrics`."""
    size = sum(path.stat().st_size for path in w.source.rglob("*") if path.is_file())
    files = sum(path.is_file() for path in w.source.rglob("*"))
    delivery = (("destination", "archive"), ("mapping", "dailies"))
    eventually(
        lambda: (
            samples(scrape(url))["lanesync_lane_bytes_total"].get(
                (("destination", "archive"), ("lane", "Normal")), 0
            )
            >= size
        ),
        what="the bytes of the lane",
    )
    found = samples(scrape(url))
    assert found["lanesync_in_sync"] == {(): 1.0}
    assert found["lanesync_delivered_files_total"][delivery] == files
    assert found["lanesync_delivered_bytes_total"][delivery] == size
    assert found["lanesync_destination_files"][delivery] == files
    assert found["lanesync_lane_share"][(("destination", "archive"), ("lane", "High"))] == 0.7
    ready = (("kind", "Mapping"), ("name", "dailies"), ("type", "Ready"))
    assert found["lanesync_condition"][ready] == 1.0
    stalled = (*ready[:2], ("type", "Stalled"))
    assert found["lanesync_condition"][stalled] == 0.0, "every type is always there"
    assert sum(found["lanesync_reconcile_seconds_count"].values()) > 0
    assert found["lanesync_attempts_total"][(("operation", "transfer"), ("result", "complete"))] >= 1

    w.source.rename(w.source.with_name("away"))
    w.call("reconcile", "Mapping/dailies")
    eventually(lambda: samples(scrape(url))["lanesync_condition"][stalled] == 1.0, what="the suspect source")
    found = samples(scrape(url))
    reason = (("kind", "Mapping"), ("name", "dailies"), ("reason", "SourceSuspect"))
    assert found["lanesync_stalled_reason"][reason] == 1.0
    assert found["lanesync_in_sync"] == {(): 0.0}
    w.source.with_name("away").rename(w.source)
    w.in_sync()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed here")
def test_the_format_is_what_prometheus_reads(url: str) -> None:
    """`promtool check metrics` finds no fault and has no advice."""
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=scrape(url), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_metric_of_the_contract_has_its_label_set(url: str) -> None:
    """No label beside those promised, and nothing measured that is not promised."""
    promised = {family.name: set(family.labels) for family in CONTRACT}
    for family in text_string_to_metric_families(scrape(url)):
        name = family.name.removesuffix("_info")
        assert name in promised, name
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == promised[name], sample
