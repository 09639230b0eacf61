"""What an OPEN frame asks for. Pure."""

from __future__ import annotations

import os
from typing import NamedTuple

from agent.jetstream import constants
from agent.server.confine import PATH_MAX
from agent.server.data.publish import Policy
from agent.server.data.wire import Json, WireError

_HEX = frozenset("0123456789abcdef")


class Wishes(NamedTuple):
    uid: str
    destination: bytes
    policy: Policy
    total: int


def wishes(value: Json) -> Wishes:
    """WireError when the frame makes no sense."""
    try:
        uid = str(value["uid"])
        destination = os.fsencode(str(value["destinationPath"]))
        overwrite, flags = int(value["overwriteMode"]), int(value["flags"])
        resolution_ns = int(value["timeResolutionUs"]) * 1000
        total = int(value.get("totalSize", 0))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise WireError("an OPEN frame is malformed") from error
    if len(uid) != 32 or not _HEX.issuperset(uid):
        raise WireError("an OPEN frame names no transfer")
    if len(destination) > PATH_MAX or not 0 <= total < 1 << 63 or not 0 <= resolution_ns < 1 << 63:
        raise WireError("an OPEN frame is malformed")
    if not constants.OVERWRITE_IN_PLACE_NEVER <= overwrite <= constants.OVERWRITE_BACKUP:
        raise WireError(f"overwrite mode {overwrite} is not supported by this server")
    return Wishes(uid, destination, _policy(overwrite, flags, resolution_ns), total)


def _policy(overwrite: int, flags: int, resolution_ns: int) -> Policy:
    policy = Policy(
        overwrite,
        bool(flags & constants.TRANSFER_FLAG_READ),
        bool(flags & constants.TRANSFER_FLAG_WRITE),
        bool(flags & constants.TRANSFER_FLAG_WRITE_MTIME),
        bool(flags & constants.TRANSFER_FLAG_WRITE_ONLY_NEWER),
        resolution_ns,
        strict=bool(flags & constants.TRANSFER_FLAG_STRICT),
    )
    return policy.with_set(as_set=bool(flags & constants.TRANSFER_FLAG_SET))


def min_cipher(value: Json) -> int:
    """A sender that names none asks for nothing. WireError when the frame makes no sense."""
    found = value.get("minCipher", 0)
    if not isinstance(found, int) or not 0 <= found <= constants.MIN_CIPHER_ENCRYPTED_256:
        raise WireError("an OPEN frame is malformed")
    return found
