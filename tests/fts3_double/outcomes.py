"""How a copy ended and what follows from it: end, another try, archiving. Also the `mock` storage. Pure."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

FINAL_ERRORS = frozenset(
    {
        errno.ENOENT,
        errno.EPERM,
        errno.EACCES,
        errno.EEXIST,
        errno.ENOSPC,
        errno.EISDIR,
        errno.EROFS,
        errno.ENAMETOOLONG,
        errno.EPROTONOSUPPORT,
    }
)
FINAL_TEXTS = ("No such file", "Permission denied", "File exists", "CHECKSUM MISMATCH")
NUMBER = re.compile(r"\[(\d+)\]")
MIB = 1 << 20

EXISTS = "DESTINATION [17] Destination file exists and overwrite is not enabled"
SIZES_DIFFER = "DESTINATION [22] Source and destination file size mismatch"
NO_VALUE = "[22] Checksum value required if mode is not end to end"
ENDS_DIFFER = "TRANSFER [5] Source and destination checksums do not match"
USER_AND = "TRANSFER [5] User and {} checksums do not match"
TIMED_OUT = "TRANSFER [110] Connection timed out"


@dataclass(frozen=True)
class Outcome:
    """The end of one copy; `reason` is empty when it went well."""

    reason: str = ""
    size: int = 0
    seconds: float = 0.0
    recoverable: bool | None = None
    existing: dict[str, Any] | None = None  # what is known of the file that was in the way

    @property
    def throughput(self) -> float:
        """MiB a second."""
        return self.size / MIB / self.seconds if self.seconds > 0 else 0.0

    @property
    def try_again(self) -> bool:
        """Everything is tried again that is not plainly final."""
        if self.recoverable is not None:
            return self.recoverable
        number = NUMBER.search(self.reason)
        final = number is not None and int(number[1]) in FINAL_ERRORS
        return not final and not any(text in self.reason for text in FINAL_TEXTS)


def failure(side: str, number: int, text: str = "") -> Outcome:
    return Outcome(f"{side} [{number}] {text or os.strerror(number)}")


def tries_allowed(job_type: str, retry: int, server_default: int) -> int:
    """How often a file may be tried again; hops and replicas never are."""
    if job_type in "HR" or retry < 0:
        return 0
    return retry or server_default


def overwrites(flag: str | None, tries: int, *, last_hop: bool) -> bool:
    """Whether an existing destination may be replaced. All storages here are disks, so D always applies."""
    return (
        flag in ("Y", "D")
        or (flag == "R" and tries > 0)
        or (flag in ("M", "Q") and not last_hop)
        or (flag == "Q" and last_hop)
    )


def checks(mode: str, value: str) -> set[str]:
    """What a checksum mode compares: `source` and `target` with the user's value, `ends` with each other."""
    if mode == "b":
        return {"ends"} | ({"source"} if value else set())
    return {"s": {"source"}, "t": {"target"}}.get(mode, set())


def missing_value(mode: str, value: str) -> str:
    """The reason of a copy whose mode needs a value that the user has not given; found out at the end."""
    if value or mode not in "st":
        return ""
    return f"{'SOURCE' if mode == 's' else 'DESTINATION'} {NO_VALUE}"


def split_checksum(text: str | None) -> tuple[str, str]:
    """`ADLER32:1a2b` → algorithm in lower case, value."""
    algorithm, _, value = (text or "").partition(":")
    return algorithm.lower() or "adler32", value


def _figures(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


def mock_copy(source: str, destination: str, mode: str, checksum: str, overwrite: bool) -> Outcome:
    """A copy between `mock://` URLs, whose queries say what happens: size, time, errno, checksum, …"""
    here, there = _figures(source), _figures(destination)
    size = int(here.get("size", 0))
    algorithm_and_value = split_checksum(checksum)
    value = algorithm_and_value[1].lstrip("0").lower()
    if int(here.get("errno", 0)):
        return failure("SOURCE", int(here["errno"]))
    if int(there.get("size_pre", 0)) and not overwrite:
        return Outcome(EXISTS)
    if int(there.get("errno", 0)):
        return failure("DESTINATION", int(there["errno"]))
    if int(there.get("transfer_errno", 0)):
        return failure("TRANSFER", int(there["transfer_errno"]))
    if int(there.get("size_post", size)) != size:
        return Outcome(SIZES_DIFFER)
    sums = {"source": here.get("checksum", ""), "target": there.get("checksum", "")}
    wanted = checks(mode, value)
    for side, shown in (("source", "source"), ("target", "destination")):
        if side in wanted and value and sums[side] and sums[side].lstrip("0").lower() != value:
            return Outcome(USER_AND.format(shown))
    if "ends" in wanted and sums["source"] != sums["target"] and all(sums.values()):
        return Outcome(ENDS_DIFFER)
    if reason := missing_value(mode, value):
        return Outcome(reason)
    return Outcome("", size, mock_seconds(destination))


def mock_seconds(destination: str) -> float:
    return float(_figures(destination).get("time", 0))


def mock_number(url: str, name: str) -> float:
    """One of a mock URL's figures, 0 when it is not there or the URL is another."""
    return float(_figures(url).get(name, 0)) if url.startswith("mock:") else 0.0
