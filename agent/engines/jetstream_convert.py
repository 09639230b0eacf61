"""JetStream structures ↔ the model. Pure; tolerant of fields that a server does not report."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from agent.engines.port import Entry, ReceiverCredentials
from agent.jetstream import constants, marks
from agent.model.change import FileKind
from agent.model.observed import (
    FarFile,
    FileOutcome,
    FileResult,
    ObservedDefaults,
    ObservedDestination,
    ObservedTransfer,
    Tag,
    TransferState,
)
from agent.model.spec import Lane, MinCipher, Overwrite, Route

Structure = Mapping[str, Any]

_MODES = {
    Overwrite.ALWAYS: constants.OVERWRITE_ALWAYS,
    Overwrite.NEVER: constants.OVERWRITE_NEVER,
    Overwrite.NEWER: constants.OVERWRITE_ALWAYS,  # with TRANSFER_FLAG_WRITE_ONLY_NEWER
    Overwrite.SAME_SIZE_IN_PLACE: constants.OVERWRITE_IN_PLACE_SAME_SIZE,
    Overwrite.BACKUP: constants.OVERWRITE_BACKUP,
}
_FROM_MODE: dict[Any, Overwrite] = {
    mode: overwrite for overwrite, mode in _MODES.items() if overwrite is not Overwrite.NEWER
}
_DELETION_OUTCOMES = {
    "deleted": FileOutcome.DELIVERED,
    "absent": FileOutcome.DELIVERED,
    "kept": FileOutcome.SKIPPED,
}
_RENAMING_OUTCOMES = {
    "renamed": FileOutcome.DELIVERED,
    "absent": FileOutcome.VANISHED,
    "taken": FileOutcome.SKIPPED,
}
_KINDS = {"file": FileKind.FILE, "directory": FileKind.EMPTY_DIRECTORY, "link": FileKind.SYMLINK}

_CIPHERS = {
    MinCipher.NONE: constants.MIN_CIPHER_NONE,
    MinCipher.AUTHENTICATED: constants.MIN_CIPHER_UNENCRYPTED,
    MinCipher.ENCRYPTED_128: constants.MIN_CIPHER_ENCRYPTED_128,
    MinCipher.ENCRYPTED_256: constants.MIN_CIPHER_ENCRYPTED_256,
}
_FROM_CIPHER: dict[Any, MinCipher] = {number: cipher for cipher, number in _CIPHERS.items()}


def min_cipher(cipher: MinCipher | None) -> int | None:
    return None if cipher is None else _CIPHERS[cipher]


def transfer_flags(overwrite: Overwrite, preserve_mtime: bool) -> int:
    flags = constants.TRANSFER_FLAG_READ | constants.TRANSFER_FLAG_WRITE
    if preserve_mtime:
        flags |= constants.TRANSFER_FLAG_WRITE_MTIME
    if overwrite is Overwrite.NEWER:
        flags |= constants.TRANSFER_FLAG_WRITE_ONLY_NEWER
    return flags


def overwrite_mode(overwrite: Overwrite) -> int:
    return _MODES[overwrite]


def to_rate(send_rate_max: float | None) -> float:
    """kbit/s; None becomes the API's word for "not throttled"."""
    return constants.RATE_UNLIMITED if send_rate_max is None else send_rate_max


def from_rate(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        return None
    return float(value)


def to_mapping(entry: Entry) -> dict[str, Any]:
    """The object form, with which the server looks at no file before its turn comes."""
    if entry.is_directory:
        return {"src": entry.source}  # neither size nor flags: an empty directory
    if entry.link:
        return {"src": entry.source, "size": entry.size, "flags": constants.FILETYPE_SYMLINK}
    mapping: dict[str, Any] = {
        "src": entry.source,
        "size": entry.size,
        "flags": constants.FILETYPE_REGULAR_FILE,
    }
    if entry.executable:
        mapping["access"] = "x"
    return mapping


def credentials(given: ReceiverCredentials | None) -> dict[str, str]:
    return {} if given is None else {"userName": given.user_name, "password": given.password}


def tag_of(structure: Structure) -> Tag | None:
    data = structure.get("userData")
    if not isinstance(data, dict):
        return None
    return Tag.from_user_data({str(key): str(value) for key, value in data.items()})


def destination(structure: Structure) -> ObservedDestination:
    lanes = structure.get("priorityLanes")
    return ObservedDestination(
        id=str(structure["destinationId"]),
        address=str(structure.get("destinationAddress") or ""),
        port=int(structure.get("destinationPort") or constants.DEFAULT_API_PORT),
        tag=tag_of(structure),
        lanes=lanes_of(lanes) if isinstance(lanes, dict) else None,
        send_rate_max=from_rate(structure.get("sendRateMax")),
        defaults=_defaults(structure.get("transferDefaults")),
        connected=structure.get("encryptedConnectionState") == "connected",
        last_error=str(structure.get("lastErrorMessage") or ""),
        full=marks.is_no_space(str(structure.get("lastErrorMessage") or "")),
        refused=marks.is_refused(str(structure.get("lastErrorMessage") or "")),
        route=_route(structure),
    )


def _route(structure: Structure) -> Route | None:
    """None for a server that reports no relay: the documents do not promise these fields."""
    if "relayAddress" not in structure:
        return None
    return Route(
        public_key=structure.get("permittedDestinationPublicKey") or None,
        authenticate=bool(structure.get("authenticateDestination")),
        relay_address=str(structure.get("relayAddress") or ""),
        relay_port=int(structure.get("relayPort") or 0),
    )


def lanes_of(lanes: Mapping[str, Any]) -> tuple[Lane, ...]:
    """In the server's order, which is the order they were set in."""
    return _lanes(tuple(lanes.items()))


@lru_cache(maxsize=256)
def _lanes(pairs: tuple[tuple[Any, Any], ...]) -> tuple[Lane, ...]:
    """Many destinations have the same ones, and each look is told of all destinations."""
    return tuple(Lane(str(name), float(share)) for name, share in pairs)


def _defaults(found: Any) -> ObservedDefaults:
    if not isinstance(found, dict):
        return ObservedDefaults()
    # Reported as null where checkpoints are disabled, which a spec says with 0.
    checkpoint = found.get("checkpointFrequencySeconds", -1) or 0
    resolution = found.get("fileTimeResolutionMicroseconds")
    overwrite = _FROM_MODE.get(found.get("overwriteMode"))
    if (found.get("transferFlags") or 0) & constants.TRANSFER_FLAG_WRITE_ONLY_NEWER:
        overwrite = Overwrite.NEWER
    return ObservedDefaults(
        priority=found.get("priority"),
        lane=found.get("priorityLane"),
        checkpoint_interval=None if checkpoint < 0 else float(checkpoint),
        overwrite=overwrite,
        modification_time_tolerance=None if resolution is None else resolution / 1e6,
        min_cipher=_FROM_CIPHER.get(found.get("minCipher")),
    )


def transfer(structure: Structure) -> ObservedTransfer:
    try:
        state = TransferState(str(structure.get("status")))
    except ValueError:
        state = TransferState.UNKNOWN
    total = int(structure.get("totalBytes") or 0)
    return ObservedTransfer(
        id=str(structure["transferId"]),
        destination_id=str(structure.get("destinationId") or ""),
        manifest_id=str(structure.get("manifestId") or ""),
        tag=tag_of(structure),
        state=state,
        lane=str(structure.get("priorityLane") or ""),
        priority=int(structure.get("priority") or 0),
        send_rate_max=from_rate(structure.get("sendRateMax")),
        total_bytes=total,
        done_bytes=total if state is TransferState.COMPLETE else _done_bytes(structure, total),
        total_files=int(structure.get("totalFiles") or 0),
        done_files=int(structure.get("filesComplete") or 0),
        error=str(structure.get("errorMessage") or ""),
    )


def _done_bytes(structure: Structure, total: int) -> int:
    """How far it is, for people: what was sent, or did not have to be. What is acknowledged is counted by
    whole files."""
    blocks = int(structure.get("blocksSent") or 0) * int(structure.get("blockSize") or 0)
    return min(total, max(blocks, int(structure.get("bytesSent") or 0)))


def lost_transfer(transfer_id: str, reason: str) -> ObservedTransfer:
    return ObservedTransfer(transfer_id, "", "", None, TransferState.LOST, error=reason)


def file_result(found: Structure) -> FileResult:
    return FileResult(
        path=str(found["path"]),
        outcome=FileOutcome(found["outcome"]),
        size=int(found.get("size") or 0),
        mtime_ns=int(found.get("mtimeNs") or 0),
        ctime_ns=int(found.get("ctimeNs") or 0),
        digest=str(found.get("digest") or ""),
        error=str(found.get("error") or ""),
    )


def deletion_result(found: list[str]) -> FileResult:
    """Deleted or absent already: DELIVERED (the wanted state). Kept: SKIPPED. All else: FAILED."""
    path, state, message = found
    return FileResult(path, _DELETION_OUTCOMES.get(state, FileOutcome.FAILED), error=message or "")


def renaming_result(found: list[str]) -> FileResult:
    path, state, message = found
    return FileResult(path, _RENAMING_OUTCOMES.get(state, FileOutcome.FAILED), error=message or "")


def far_file(found: Structure) -> FarFile | None:
    """None for what the agent knows nothing of: devices, pipes, sockets."""
    kind = _KINDS.get(str(found["kind"]))
    if kind is None:
        return None
    return FarFile(
        path=str(found["path"]),
        kind=kind,
        size=int(found["size"]),
        mtime_ns=int(found["mtimeNs"]),
        digest=str(found.get("digest") or ""),
        executable=bool(found.get("executable")),
    )
