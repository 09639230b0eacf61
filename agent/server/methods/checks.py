"""Rules about parameters that several methods share. Each broken rule names itself in a CommandError."""

from __future__ import annotations

from typing import Any

from agent.jetstream import constants, keys
from agent.lanes import validate_lanes
from agent.server.data import pacing
from agent.server.errors import CommandError
from agent.server.options import is_loopback
from agent.server.session import Session
from agent.server.store.destinations import Destination, Lanes

_FLAGS = (
    constants.TRANSFER_FLAG_READ
    | constants.TRANSFER_FLAG_WRITE
    | constants.TRANSFER_FLAG_WRITE_MTIME
    | constants.TRANSFER_FLAG_WRITE_ONLY_NEWER
    | constants.TRANSFER_FLAG_SKIP_VANISHED
    | constants.TRANSFER_FLAG_STRICT
    | constants.TRANSFER_FLAG_SET
    | constants.TRANSFER_FLAG_EARLY
)
_OVERWRITE = range(constants.OVERWRITE_IN_PLACE_NEVER, constants.OVERWRITE_BACKUP + 1)
MAX_LANES = 64


def superuser(session: Session, method: str) -> None:
    """CommandError unless the session was raised to superuser; without accounts everybody is one."""
    if not session.superuser and not session.everything:
        raise CommandError(
            f"{method} is for superusers; call superuser() after logging in (lanesync api: --superuser)"
        )


def unlimited(rate: float | None) -> float | None:
    """-1 is the API's word for no limit; None is ours."""
    return None if rate == constants.RATE_UNLIMITED else rate


def transfer_flags(flags: int | None) -> None:
    if flags is not None and (flags < 0 or flags & ~_FLAGS):
        raise CommandError(
            f"transferFlags {flags} has unknown bits; the TRANSFER_FLAG_* constants are 1, 2, 4 … 128"
        )


def overwrite_mode(mode: int | None) -> None:
    if mode is not None and mode not in _OVERWRITE:
        raise CommandError(f"overwriteMode {mode} is unknown; use one of the OVERWRITE_* constants (0 to 5)")


def credentials(user: str | None, password: str | None, token: str | None) -> None:
    """What the receiving server is to be shown."""
    if user is not None and token is not None:
        raise CommandError("userName and token exclude each other; give one of them")
    if password is not None and user is None and token is None:
        raise CommandError("password needs the userName or token that it belongs to")
    if user == "" or token == "":
        raise CommandError(f"{'token' if user is None else 'userName'} must not be empty")


def transfer_log(wanted: bool, folder: object) -> None:
    if wanted and folder is None:
        raise CommandError("transferLog needs a server that was started with --log-transfer-dir DIR")


def min_cipher(cipher: int | None, least: int) -> None:
    """`least`: of this server."""
    if cipher is None:
        return
    if not constants.MIN_CIPHER_NONE <= cipher <= constants.MIN_CIPHER_ENCRYPTED_256:
        raise CommandError(f"minCipher {cipher} is unknown; use one of the MIN_CIPHER_* constants (0 to 3)")
    if cipher < least:
        raise CommandError(
            f"minCipher {cipher} is below {least}, the least that this server sends with (--min-cipher); "
            f"ask for {least} or better"
        )


def destination_key(key: str | None, authenticate: bool | None) -> tuple[str | None, bool]:
    """(the key that a receiver has to show, whether it is checked). One that is given is checked unless that
    is refused in so many words."""
    if key is None:
        if authenticate:
            raise CommandError(
                "authenticateDestination needs destinationPublicKey: the key that the destination has to "
                "show, as its getServerInfo or `lanesync keygen --show` prints it"
            )
        return None, False
    try:
        return keys.normalise(key), authenticate is not False
    except ValueError as error:
        raise CommandError(f"destinationPublicKey must be {error}") from None


def default_cipher(destination: Destination) -> int:
    """minCipher of transfers that ask for none. A name counts as another host's wherever it leads today."""
    address = destination.address.lower()
    try:
        local = address == "localhost" or is_loopback(address)
    except ValueError:
        local = False
    near = local and not destination.relay_address
    return constants.MIN_CIPHER_NONE if near else constants.MIN_CIPHER_ENCRYPTED_256


def confidential(destination: Destination, cipher: int, *secrets: str | None) -> None:
    """What the receiver is shown must not travel in the clear."""
    if any(secrets) and cipher == constants.MIN_CIPHER_NONE and default_cipher(destination) > cipher:
        raise CommandError(
            f"password and token are not sent to {destination.address} in the clear; leave minCipher out, or "
            "make it 2 or better"
        )


def connection_rates(floor: float | None, rate: float | None, ceiling: float | None) -> None:
    """Every broken rule of a connection's rates (kbit/s, None = none)."""
    broken = []
    if floor is not None and ceiling is not None and floor > ceiling:
        broken.append(f"sendRateMin ({floor:g}) must not be above sendRateMax ({ceiling:g})")
    if rate is not None and ceiling is not None and rate > ceiling:
        broken.append(f"sendRate ({rate:g}) must not be above sendRateMax ({ceiling:g})")
    if rate is not None and floor is not None and rate < floor:
        broken.append(f"sendRate ({rate:g}) must not be below sendRateMin ({floor:g})")
    if broken:
        raise CommandError("; ".join(broken))


def rate_method(method: int | None) -> None:
    if method is None:
        return
    if not constants.RATE_CONTROL_BEST <= method <= constants.RATE_CONTROL_BBR:
        raise CommandError(
            f"rateControlMethod {method} is unknown; use one of the RATE_CONTROL_* constants (0 to 3)"
        )
    problem = pacing.unavailable(method)
    if problem:
        raise CommandError(f"rateControlMethod {method}: {problem}")


def lane(destination: Destination, name: str | None) -> None:
    names = [known for known, _ in destination.lanes]
    if name is not None and name not in names:
        raise CommandError(f"destination {destination.id} has no lane {name!r}; it has {', '.join(names)}")


def lanes(mapping: dict[str, Any]) -> Lanes:
    """Name -> proportion as an ordered tuple."""
    if len(mapping) > MAX_LANES:
        raise CommandError(f"priorityLanes: there may be at most {MAX_LANES} lanes")
    for name in mapping:
        if len(name) > 255 or not name.isprintable():
            raise CommandError(f"priorityLanes: {name[:80]!r} is not a lane name")
    broken = validate_lanes(tuple(mapping.items()))
    if broken:
        raise CommandError(f"priorityLanes: {'; '.join(broken)}")
    return tuple((name, float(share)) for name, share in mapping.items())


def lanes_change(old: Lanes, new: Lanes, in_use: set[str]) -> None:
    """What may not change while transfers are in progress (`in_use`: their lanes)."""
    if not in_use:
        return
    if len(old) != len(new):
        raise CommandError(
            f"priorityLanes: the number of lanes cannot be changed (from {len(old)} to {len(new)}) while "
            "transfers are in progress; wait for them, or suspend and delete them"
        )
    gone = sorted(in_use - {name for name, _ in new})
    if gone:
        raise CommandError(
            f"priorityLanes: lane {gone[0]!r} has a transfer in progress, so its name cannot be changed"
        )
