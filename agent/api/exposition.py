"""The text of `/metrics`, as the standard client writes it.

Of ten thousand mappings there are 170,000 lines. The client makes one of each shape, for it takes long over
each; nothing is kept from scrape to scrape but these, and of an answer no more than a piece at once.
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
PIECE_LINES = 1000

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
    """The lines of one family. The client writes one of each shape; the others differ in values alone."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._head = _written(Metric(family.name, family.help, family.type))
        self._labels = (*family.labels, "le") if family.type == "histogram" else family.labels
        self._shapes: dict[tuple[str, int], Callable[[Line], str]] = {}

    def pieces(self, samples: Iterator[tuple[Line, float]], escaped: Escaped) -> Iterator[bytes]:
        """The whole family."""
        shapes, parts = self._shapes, [self._head]
        for (suffix, *values), value in samples:
            begin = shapes.get((suffix, len(values)))
            if begin is None:
                begin = shapes[suffix, len(values)] = self._shape(suffix, len(values))
            parts.append(f"{begin(tuple([escaped[text] for text in values]))} {_number(value)}\n")
            if len(parts) >= PIECE_LINES:
                yield "".join(parts).encode()
                parts.clear()
        yield "".join(parts).encode()

    def _shape(self, suffix: str, count: int) -> Callable[[Line], str]:
        """Makes a line up to its value from the escaped values of its labels."""
        metric = Metric(self._family.name, "", self._family.type)
        places = {label: f"\0{number}\0" for number, label in enumerate(self._labels[:count])}
        metric.add_sample(self._family.name + suffix, places, 0.0)
        line = _written(metric).rstrip("\n").rpartition("\n")[2].removesuffix(" 0.0")
        pieces = line.split("\0")
        template = "%s".join(piece.replace("%", "%%") for piece in pieces[::2])
        order = [int(place) for place in pieces[1::2]]
        return lambda values: template % tuple([values[place] for place in order])


class Escaped(dict[str, str]):
    """What stands in the place of a text between quotes. A name may hold surrogates for bytes that are not
    UTF-8; the format is UTF-8."""

    def __missing__(self, text: str) -> str:
        clean = text.encode("utf-8", "replace").decode()
        self[text] = clean.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
        return self[text]


class Exposition:
    """Everything, as text. Thread-safe: one at a time is measured."""

    def __init__(self, measure: Callable[[], Measures]) -> None:
        self._measure = measure
        self._lock = threading.Lock()
        self._families = [(family, _Lines(family)) for family in CONTRACT]

    def pieces(self) -> Iterator[bytes]:
        """What is so now, written while it is read. Raises what measuring raises, at once."""
        begun = time.perf_counter()
        with self._lock:
            measures = self._measure()
        return self._written(measures, time.perf_counter() - begun)

    def _written(self, measures: Measures, spent: float) -> Iterator[bytes]:
        """`spent`: seconds so far. That the reader takes his time does not count."""
        escaped = Escaped()
        for family, lines in self._families:
            resumed = time.perf_counter()
            for piece in lines.pieces(_samples(family, measures, spent), escaped):
                spent += time.perf_counter() - resumed
                yield piece
                resumed = time.perf_counter()


def _samples(family: Family, measures: Measures, spent: float) -> Iterator[tuple[Line, float]]:
    if family.samples is not None:
        suffix = family.suffix
        for values, value in family.samples(measures):
            yield (suffix, *values), value
    elif family.type == "histogram":
        yield from _histogram(measures.durations)
    else:
        yield ("",), spent


def _histogram(durations: dict[Kind, Durations]) -> Iterator[tuple[Line, float]]:
    for kind, found in durations.items():
        running = 0
        for bound, count in zip((*BUCKETS, float("inf")), found.counts, strict=True):
            running += count
            yield ("_bucket", kind, _number(bound)), running
        yield ("_count", kind), running
        yield ("_sum", kind), found.total
