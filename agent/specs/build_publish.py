"""`publish`, `marker` and `release` of a mapping."""

from __future__ import annotations

from typing import Any

from agent.model.patterns import pattern_problem
from agent.model.spec import Overwrite, Publish, Release
from agent.specs.build_server import Report

IN_PLACE = (
    "`publish: set` shows nothing of a file before its set is whole, and `overwrite: sameSizeInPlace` writes "
    "where readers look; use another mode"
)


def build_publish(spec: dict[str, Any], fail: Report) -> tuple[Publish, str | None]:
    publish, marker = Publish(spec.get("publish", Publish.FILE)), spec.get("marker")
    if publish is Publish.SET and spec.get("overwrite") == Overwrite.SAME_SIZE_IN_PLACE:
        fail(("spec", "overwrite"), IN_PLACE)
    if marker is not None and publish is not Publish.SET:
        fail(("spec", "marker"), "belongs to `publish: set`, which is missing")
    if marker is not None and (problem := pattern_problem(marker)):
        fail(("spec", "marker"), problem)
    return publish, marker


def build_release(spec: dict[str, Any], fail: Report) -> Release:
    release = Release(spec.get("release", Release.KEEP))
    if release is Release.DELETE_SOURCE and spec.get("prune", False):
        fail(
            ("spec", "release"),
            "`deleteSource` and `prune: true` contradict each other: what goes at the source would have "
            "to be deleted at the destination, too; take `prune: false`",
        )
    return release
