"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

# A busy machine makes no law untrue.
settings.register_profile("lanesync", deadline=None)
settings.load_profile("lanesync")
