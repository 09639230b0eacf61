"""What a spec asks and its engine cannot do: never silence, always a sentence with the field and the remedy.

Only what somebody wrote counts. A default that an engine does not know (such as keeping modification times)
is no wish, and is told in the documentation of the engine. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from agent.model.observed import Capabilities
from agent.model.spec import (
    DestinationSpec,
    Drift,
    Durability,
    MappingSpec,
    Overwrite,
    Publish,
    Receipt,
    Release,
    Route,
    Symlinks,
    TransferDefaults,
    Verify,
    VerifyMode,
)

_DEFAULTS = TransferDefaults()


def unsupported_of_destination(spec: DestinationSpec, can: Capabilities) -> tuple[str, ...]:
    found: list[str] = []
    defaults = spec.transfer_defaults
    if not can.rates:
        if spec.send_rate_max is not None:
            found.append(f"`sendRateMax` {_NO_RATES}")
        if any(window.send_rate_max is not None for window in spec.windows):
            found.append(f"`windows[].sendRateMax` {_NO_RATES}; use `pause` instead")
    found += _overwrite("transferDefaults.overwrite", defaults.overwrite, can)
    if defaults.durability is Durability.STRICT and not can.strict:
        found.append(f"`transferDefaults.durability: strict` {_NOTHING_SENT}; leave it out")
    if not can.ciphers:
        if defaults.min_cipher is not None:
            found.append("`transferDefaults.minCipher` has no effect: the URL decides (davs:// is encrypted)")
        if spec.route != Route():
            found.append("`publicKey`, `authenticate` and `relay` have no effect: leave them out")
    if spec.credentials is not None and not can.credentials:
        found.append("`credentials` has no effect: the server's own credential is delegated; leave it out")
    if not can.fine_times:
        for name, value, usual in (
            ("checkpointInterval", defaults.checkpoint_interval, _DEFAULTS.checkpoint_interval),
            (
                "modificationTimeTolerance",
                defaults.modification_time_tolerance,
                _DEFAULTS.modification_time_tolerance,
            ),
        ):
            if value != usual:
                found.append(f"`transferDefaults.{name}` has no effect: leave it out")
    return tuple(found)


def unsupported_of_mapping(spec: MappingSpec, can: Capabilities) -> tuple[str, ...]:
    found: list[str] = []
    if spec.send_rate_max is not None and not can.rates:
        found.append(f"`sendRateMax` {_NO_RATES}")
    if spec.overwrite is not None:
        found += _overwrite("overwrite", spec.overwrite, can)
    if spec.prune and not can.delete:
        found.append("`prune` cannot be carried out: the server has no way to delete; set `prune: false`")
    elif spec.prune and spec.deletions.trash and not can.rename:
        found.append(
            "`deletions.trash` cannot be carried out, and nothing is deleted: the server cannot rename;"
            " set `trash: false` to have files deleted"
        )
    if spec.publish is Publish.SET and not can.sets:
        found.append(f"`publish: set` {_NOTHING_SENT}; set `publish: file`")
    if spec.symlinks is Symlinks.PRESERVE and not can.links:
        found.append(f"`symlinks: preserve` {_NOTHING_SENT}; use `copyContents` or `ignore`")
    found += _looking(spec, can)
    if spec.release is Release.DELETE_SOURCE and not (can.inventory and can.digests):
        found.append(
            "`release: deleteSource` cannot be carried out, and nothing is deleted at the source: the server"
            " cannot tell checksums of what is at the destination; set `release: keep`"
        )
    if spec.receipt is not Receipt.NONE and not can.file_results:
        found.append("`receipt` cannot be carried out: the server tells no digests; set `receipt: none`")
    return tuple(found)


_NOTHING_SENT = "cannot be carried out, and nothing is sent that needs it"
_NO_RATES = "has no effect: the engine has no rate limits; limit the storage or the link there"


def _looking(spec: MappingSpec, can: Capabilities) -> Iterator[str]:
    """What asks to look at the destination."""
    asked = (("drift", spec.drift != Drift()), ("verify", spec.verify != Verify()))
    for name in (name for name, wanted in asked if wanted and not can.inventory):
        yield f"`{name}` has no effect: the server cannot tell what is at the destination; leave it out"
    if can.inventory and not can.digests and spec.verify.mode is VerifyMode.CHECKSUM:
        yield "`verify.mode: checksum` has no effect: the server tells no digests, so sizes and times decide"


def _overwrite(field: str, mode: Overwrite, can: Capabilities) -> list[str]:
    if mode in can.overwrites:
        return []
    usable = " or ".join(f"`{known}`" for known in Overwrite if known in can.overwrites)
    return [f"`{field}: {mode}` cannot be carried out, and nothing is sent with it: use {usable}"]
