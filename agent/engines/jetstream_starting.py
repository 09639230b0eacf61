"""Starting a transfer on a server with the JetStream API: its manifest, and what it asks for beyond."""

from __future__ import annotations

from typing import Any

from agent.engines import jetstream_convert as convert
from agent.engines.jetstream_session import Api
from agent.engines.port import TransferRequest
from agent.jetstream import CommandError, constants
from agent.jetstream.structures import Transfer
from agent.model import outcome
from agent.model.spec import Durability
from agent.planning.batches import batches

TAG_AGENT = "lanesync.agent"


def flags(request: TransferRequest, extensions: frozenset[str]) -> int:
    found = convert.transfer_flags(request.overwrite, request.preserve_mtime)
    if "skipVanished" in extensions:  # a file that was removed since is told in the results, and no failure
        found |= constants.TRANSFER_FLAG_SKIP_VANISHED
    if request.durability is Durability.STRICT:
        found |= constants.TRANSFER_FLAG_STRICT
    if request.as_set:
        found |= constants.TRANSFER_FLAG_SET
    return found


def parameters(request: TransferRequest, extensions: frozenset[str]) -> dict[str, Any]:
    """Of createTransfer, without the manifest."""
    return {
        "destinationId": request.destination_id,
        **convert.credentials(request.credentials),
        "priority": request.priority,
        "transferFlags": flags(request, extensions),
        "checkpointFrequencySeconds": round(request.checkpoint_interval),
        "sendRateMax": request.send_rate_max,
        "priorityLane": request.lane,
        "overwriteMode": convert.overwrite_mode(request.overwrite),
        "fileTimeResolutionMicroseconds": round(request.modification_time_tolerance * 1e6),
        "timeoutSeconds": request.timeout,
        "userData": request.tag.to_user_data(),
    }


def send_at_once(api: Api, request: TransferRequest, extensions: frozenset[str]) -> Transfer | None:
    """Manifest and transfer in one call, where the server can and one message holds it: somebody waits for
    every round trip."""
    if "sendEntries" not in extensions:
        return None
    pieces = list(batches(request.entries, lambda entry: (entry.path, entry.source)))
    if len(pieces) != 1:
        return None
    mappings = {entry.path: convert.to_mapping(entry) for entry in pieces[0]}
    owner = {TAG_AGENT: request.tag.agent}
    made: Transfer = api.lanesync.sendEntries(mappings, parameters(request, extensions), owner)
    return made


def make_manifest(api: Api, request: TransferRequest, extensions: frozenset[str]) -> str:
    """The id of a manifest of all entries, in their order; in several calls when one message cannot hold
    them. What was begun is deleted when a call is refused."""
    pieces = list(batches(request.entries, lambda entry: (entry.path, entry.source)))
    mappings = ({entry.path: convert.to_mapping(entry) for entry in piece} for piece in pieces)
    if len(pieces) <= 1:
        return str(api.send.createManifest(mappings=next(mappings, {}))["manifestId"])
    if "fillManifest" not in extensions:
        raise outcome.PermanentError(
            f"{len(request.entries)} files are too many for one transfer of this server; `publish: set` "
            "needs a server of ours of this version"
        )
    made = ""
    try:
        for number, mapping in enumerate(mappings, 1):
            last = number == len(pieces)
            made = str(api.lanesync.fillManifest(mapping, made or None, complete=last)["manifestId"])
    except CommandError:
        if made:
            api.send.deleteManifest(made)
        raise
    return made
