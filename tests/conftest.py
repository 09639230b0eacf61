"""What holds for every test."""

from __future__ import annotations

import compileall
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

# A busy machine makes no law untrue. Every run tries the same examples, so that a change is judged by what it
# changes; `make soak` tries others.
settings.register_profile("lanesync", deadline=None, derandomize="FAULT_SEED" not in os.environ)
settings.load_profile("lanesync")


def pytest_configure(config: pytest.Config) -> None:
    """Thousands of interpreters are started: none compiles what another has compiled, even where
    PYTHONDONTWRITEBYTECODE keeps each from leaving it to the next."""
    if not hasattr(config, "workerinput"):
        compileall.compile_dir(Path(__file__).parent.parent / "agent", quiet=2)


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """What a test sets up of the logs may write to a file that is closed after it."""
    yield
    structlog.reset_defaults()
