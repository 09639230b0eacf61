"""What a look found, as a document and in words."""

from __future__ import annotations

from typing import Any

from agent.model.condition import Reason
from agent.model.spec import DriftPolicy, MappingSpec
from agent.model.units import format_duration
from agent.planning.drift import counts_text
from agent.planning.words import count
from agent.reconcile.drift import Look

Document = dict[str, Any]

SHOWN = 3
"""Paths in a sentence."""


def document_of(look: Look, now: float) -> Document:
    """For the state, the status and `verify --output json`. `at` is Unix seconds."""
    tally = look.tally
    return {
        "at": now,
        "checksum": look.checksum,
        "checked": tally.checked,
        "verified": tally.verified,
        "missing": tally.missing,
        "changed": tally.changed,
        "damaged": tally.damaged,
        "damagedLeft": tally.damaged_left,
        "unverified": tally.unverified,
        "foreign": tally.foreign,
        "corrected": tally.corrected,
        "correcting": tally.corrected > 0,
        "held": look.held,
        "kept": look.kept,
        "lost": look.lost,
        "paths": [{"path": n.path, "what": n.what, "detail": n.detail} for n in tally.named],
        "foreignPaths": look.foreign,
    }


def differing(found: Document) -> int:
    return sum(int(found.get(name) or 0) for name in ("missing", "changed", "damaged"))


def is_open(found: Document) -> bool:
    """There are differences that nothing has put right."""
    left = differing(found) - int(found.get("corrected") or 0)
    return left > 0 or bool(found.get("correcting"))


def damage_of(verify: Document) -> Document:
    """What a verification found that no look at names and times can take back."""
    paths = [named for named in verify.get("paths") or () if named["what"] == "damaged"]
    left = {"damaged": verify.get("damagedLeft"), "paths": paths} if verify.get("damagedLeft") else {}
    return {**left, "kept": verify.get("kept"), "held": verify.get("held")} if left else {}


def reason_of(drift: Document, verify: Document) -> Reason:
    damaged = any(is_open(found) and found.get("damaged") for found in (drift, verify))
    return Reason.CORRUPTED_AT_DESTINATION if damaged else Reason.CHANGED_AT_DESTINATION


def drift_text(spec: MappingSpec, destination: str, drift: Document, verify: Document, now: float) -> str:
    """ "2 files missing, 1 changed at archive: /a, /b (4 bytes instead of 3) …; what happens next"."""
    found = drift if is_open(drift) or not verify else verify
    missing, changed = int(found.get("missing") or 0), int(found.get("changed") or 0)
    damaged = int(found.get("damaged") or 0)
    counts = counts_text(missing, changed, damaged, 0)
    return f"{counts} at {destination}: {_paths(found)}; {_next(spec, found, now)}"


def _paths(found: Document) -> str:
    named = [n for n in found.get("paths") or () if n["what"] != "not verified"]
    shown = [f"{n['path']} ({n['detail']})" if n["detail"] else n["path"] for n in named[:SHOWN]]
    more = differing(found) - len(shown)
    return ", ".join([*shown, *([f"and {more:,} more"] if more > 0 else [])])


def _next(spec: MappingSpec, found: Document, now: float) -> str:
    lost = _lost_text(int(found.get("lost") or 0))
    if lost and found["lost"] >= differing(found):
        return lost
    if spec.drift.policy is not DriftPolicy.CORRECT:
        return (f"{lost}; else " if lost else "") + (
            f"nothing is done about it (`drift.policy: {spec.drift.policy}`): put it right there, touch it at"
            " the source, or set `correct`"
        )
    parts = [lost] if lost else []
    if found.get("corrected"):
        parts.append(f"{count(int(found['corrected']), 'file')} sent again")
    if found.get("held"):
        wait = format_duration(max(0.0, round(float(found.get("correctAfter") or now) - now)))
        rounds = int(found.get("rounds") or 0)
        parts.append(
            f"somebody changes what was corrected {count(rounds, 'time')} in a row:"
            f" corrected again in {wait} at the earliest"
        )
    if found.get("kept"):
        parts.append(f"not corrected: {found['kept']}")
    return "; ".join(parts) or "sent again"


def _lost_text(lost: int) -> str:
    if not lost:
        return ""
    what = "the source of this file was" if lost == 1 else f"the sources of {lost:,} of these files were"
    return f"{what} released, so nothing can send it again: put it back from another destination or a backup"
