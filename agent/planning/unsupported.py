"""What a spec asks and its engine cannot do: never silence, always a sentence with the field and the remedy.

Only what somebody wrote counts. A default that an engine does not know (such as keeping modification times)
is no wish, and is told in the documentation of the engine. Pure.
"""

from __future__ import annotations

from agent.model.observed import Capabilities
from agent.model.spec import DestinationSpec, MappingSpec, Overwrite, Receipt, Route, TransferDefaults

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
    if spec.receipt is not Receipt.NONE and not can.file_results:
        found.append("`receipt` cannot be carried out: the server tells no digests; set `receipt: none`")
    return tuple(found)


_NO_RATES = "has no effect: the engine has no rate limits; limit the storage or the link there"


def _overwrite(field: str, mode: Overwrite, can: Capabilities) -> list[str]:
    if mode in can.overwrites:
        return []
    usable = " or ".join(f"`{known}`" for known in Overwrite if known in can.overwrites)
    return [f"`{field}: {mode}` cannot be carried out, and nothing is sent with it: use {usable}"]
