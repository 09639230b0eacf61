"""What holds for every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

# A busy machine makes no law untrue.
settings.register_profile("lanesync", deadline=None)
settings.load_profile("lanesync")


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """What a test sets up of the logs may write to a file that is closed after it."""
    yield
    structlog.reset_defaults()
