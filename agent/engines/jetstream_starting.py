"""Starting a transfer on a server with the JetStream API: its manifest, and what it asks for beyond."""

from __future__ import annotations

from agent.engines import jetstream_convert as convert
from agent.engines.jetstream_session import Api
from agent.engines.port import TransferRequest
from agent.jetstream import CommandError, constants
from agent.model import outcome
from agent.model.spec import Durability
from agent.planning.batches import batches


def flags(request: TransferRequest, extensions: frozenset[str]) -> int:
    found = convert.transfer_flags(request.overwrite, request.preserve_mtime)
    if "skipVanished" in extensions:  # a file that was removed since is told in the results, and no failure
        found |= constants.TRANSFER_FLAG_SKIP_VANISHED
    if request.durability is Durability.STRICT:
        found |= constants.TRANSFER_FLAG_STRICT
    if request.as_set:
        found |= constants.TRANSFER_FLAG_SET
    return found


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
