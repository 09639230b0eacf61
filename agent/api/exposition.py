"""The text of `/metrics`, made by the standard client; what a scrape has in common with the last one is kept.

Of ten thousand mappings there are 170,000 lines. From scrape to scrape nearly all are the same, and of the
others name and labels are; checking and escaping those is most of the work.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from agent.api.metrics import CONTRACT, Family
from agent.model.spec import Kind
from agent.reconcile.measures import Measures
from agent.reconcile.meters import BUCKETS, Durations

CONTENT_TYPE = CONTENT_TYPE_PLAIN_1_0_0

Line = tuple[str, ...]
"""Suffix of the metric's name, then the values of its labels."""


class _One(Collector):
    """What the client is asked to write."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        yield self._metric


def _number(value: float) -> str:
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return text


def _written(metric: Metric) -> str:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_One(metric))
    return generate_latest(registry).decode()


class _Lines:
    """The lines of one family; those that the last scrape did not have are forgotten."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._head = _written(Metric(family.name, family.help, family.type))
        self._known: dict[Line, tuple[float, str]] = {}  # its value, and all of it
        self._labels = (*family.labels, "le") if family.type == "histogram" else family.labels

    def text(self, samples: Iterator[tuple[Line, float]]) -> str:
        """The whole family."""
        before, now = self._known, {}
        for line, value in samples:
            known = before.get(line)
            if known is None or known[0] != value:
                begin = self._begin(line) if known is None else known[1].rpartition(" ")[0]
                known = (value, f"{begin} {_number(value)}\n")
            now[line] = known
        self._known = now
        return "".join([self._head, *(known[1] for known in now.values())])

    def _begin(self, line: Line) -> str:
        """A line up to its value, as the client writes it."""
        suffix, *values = line
        # A name is text that may hold surrogates for bytes that are not UTF-8; the format is UTF-8.
        texts = [text.encode("utf-8", "replace").decode() for text in values]
        metric = Metric(self._family.name, "", self._family.type)
        labels = dict(zip(self._labels[: len(texts)], texts, strict=True))
        metric.add_sample(self._family.name + suffix, labels, 0.0)
        return _written(metric).rstrip("\n").rpartition("\n")[2].removesuffix(" 0.0")


class Exposition:
    """Everything, as text. Thread-safe: one scrape at a time."""

    def __init__(self, measure: Callable[[], Measures]) -> None:
        self._measure = measure
        self._lock = threading.Lock()
        self._families = [(family, _Lines(family)) for family in CONTRACT]

    def text(self) -> bytes:
        with self._lock:
            begun = time.perf_counter()
            measures = self._measure()
            parts = [lines.text(_samples(family, measures, begun)) for family, lines in self._families]
            return "".join(parts).encode()


def _samples(family: Family, measures: Measures, begun: float) -> Iterator[tuple[Line, float]]:
    if family.samples is not None:
        suffix = family.suffix
        for values, value in family.samples(measures):
            yield (suffix, *values), value
    elif family.type == "histogram":
        yield from _histogram(measures.durations)
    else:
        yield ("",), time.perf_counter() - begun


def _histogram(durations: dict[Kind, Durations]) -> Iterator[tuple[Line, float]]:
    for kind, found in durations.items():
        running = 0
        for bound, count in zip((*BUCKETS, float("inf")), found.counts, strict=True):
            running += count
            yield ("_bucket", kind, _number(bound)), running
        yield ("_count", kind), running
        yield ("_sum", kind), found.total
