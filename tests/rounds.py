"""Rounds of a fault test, each with a seed of its own: few of them in `make test`, many in `make soak`."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

BASE = int(os.environ.get("FAULT_SEED", "1"))
FACTOR = float(os.environ.get("FAULT_FACTOR", "1"))
ONLY = int(os.environ.get("FAULT_ROUNDS", "0"))


def limit(seconds: float) -> pytest.MarkDecorator:
    """How long a test of rounds may take."""
    return pytest.mark.timeout(seconds * max(1.0, FACTOR))


def rounds(count: int) -> Iterator[random.Random]:
    """Chance for each of `count` rounds, times FAULT_FACTOR. What a test prints is shown when it fails."""
    for number in range(ONLY or max(1, round(count * FACTOR))):
        seed = BASE + number
        print(f"round {number}: FAULT_SEED={seed} FAULT_ROUNDS=1 repeats it")
        yield random.Random(seed)
