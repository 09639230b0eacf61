"""Identity of specs that are no commit: the same objects in any order and layout are the same revision."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from agent.model.spec import MappingSpec, Spec

canonical_text = json.JSONEncoder(sort_keys=True, ensure_ascii=True).encode
"""Of the data of one document."""


def content_revision(documents: Iterable[str], objects: Iterable[Spec]) -> str:
    """Of all documents, and of the objects that are valid among them: where a document lies says what its
    relative sources are."""
    sources = (
        f"{spec.name} {entry.destination} {entry.source}"
        for spec in objects
        if isinstance(spec, MappingSpec)
        for entry in spec.paths
    )
    parts = sorted([*documents, *sources])
    return "digest:" + hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:12]
