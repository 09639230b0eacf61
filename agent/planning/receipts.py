"""ASC Media Hash Lists beside what was delivered: what stands in them, and where they lie. Pure.

The folder `ascmhl` at the destination of each entry of `paths` holds one history: a manifest for each
generation and a chain file that names them all with their digests. A generation lists what was delivered
since the one before. The digests are those that the transfer has computed, which the format calls xxh3.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

from agent.model.paths import destination_prefixes, is_below, join
from agent.model.spec import MappingSpec, Receipt

FOLDER = "ascmhl"
CHAIN = "ascmhl_chain.xml"
_SUFFIX = ".receipt"
_C4 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Delivered(NamedTuple):
    """One file of a generation. `path` is relative to the folder that holds the history."""

    path: str
    size: int
    mtime_ns: int
    digest: str
    at: float  # Unix seconds of its delivery
    before: str = ""  # its digest in an earlier generation


class Generation(NamedTuple):
    number: int
    name: str
    c4: str


@dataclass(frozen=True, slots=True)
class Creator:
    """Who writes a manifest, and when (Unix seconds)."""

    host: str
    version: str
    at: float
    comment: str = ""


def owner_name(mapping: str) -> str:
    """Under this name, which no mapping can have, the receipts of a mapping are delivered and remembered."""
    return mapping + _SUFFIX


def mapping_name(name: str) -> str:
    """The mapping whose receipts have this name; any other name is its own."""
    return name.removesuffix(_SUFFIX)


def folders(spec: MappingSpec) -> tuple[str, ...]:
    """Destination paths of its histories; none when it wants no receipt."""
    if spec.receipt is Receipt.NONE:
        return ()
    return tuple(join(prefix, FOLDER) for prefix in destination_prefixes(spec))


def is_receipt(spec: MappingSpec, path: str) -> bool:
    """Whether a destination path is part of a history of this mapping: ours, though no source has it."""
    return any(is_below(path, folder) for folder in folders(spec))


def can_be_listed(path: str) -> bool:
    """XML has no way to write some names: those that are no text, and control characters."""
    return _NOT_XML.search(path) is None


def manifest_name(number: int, title: str, at: float) -> str:
    when = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d_%H%M%SZ")
    return f"{number:04d}_{title}_{when}.mhl"


def manifest(files: Iterable[Delivered], creator: Creator) -> Iterator[str]:
    """A generation as XML, in pieces."""
    yield '<?xml version="1.0" encoding="UTF-8"?>\n<hashlist version="2.0" xmlns="urn:ASC:MHL:v2.0">\n'
    yield "  <creatorinfo>\n"
    yield f"    <creationdate>{_time(creator.at)}</creationdate>\n"
    yield f"    <hostname>{escape(creator.host)}</hostname>\n"
    yield f"    <tool version={quoteattr(creator.version)}>lanesync</tool>\n"
    if creator.comment:
        yield f"    <comment>{escape(creator.comment)}</comment>\n"
    yield "  </creatorinfo>\n  <processinfo>\n    <process>transfer</process>\n    <ignore>\n"
    for pattern in (".DS_Store", FOLDER, FOLDER + "/"):
        yield f"      <pattern>{pattern}</pattern>\n"
    yield "    </ignore>\n  </processinfo>\n  <hashes>\n"
    for file in files:
        yield _hash(file)
    yield "  </hashes>\n</hashlist>\n"


def _hash(file: Delivered) -> str:
    """One file. Content that replaced another cannot be `original`, for there is one already."""
    action = "original" if not file.before else "failed"
    modified = _time(file.mtime_ns // 10**9)
    path = escape(file.path, {"\r": "&#13;", "\n": "&#10;", "\t": "&#9;"})
    return (
        f'    <hash>\n      <path size="{file.size}" lastmodificationdate="{modified}">{path}</path>\n'
        f'      <xxh3 action="{action}" hashdate="{_time(file.at)}">{file.digest}</xxh3>\n    </hash>\n'
    )


def chain(generations: Iterable[Generation]) -> str:
    """The file that names every generation with its digest."""
    entries = "".join(
        f'  <hashlist sequencenr="{generation.number}">\n    <path>{escape(generation.name)}</path>\n'
        f"    <c4>{generation.c4}</c4>\n  </hashlist>\n"
        for generation in generations
    )
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<ascmhldirectory xmlns="urn:ASC:MHL:DIRECTORY:v2.0">\n'
    return f"{head}{entries}</ascmhldirectory>\n"


class C4:
    """The C4 identity of bytes: SHA-512 in an alphabet of 58 letters, 90 characters."""

    def __init__(self) -> None:
        self._hash = hashlib.sha512()

    def update(self, data: bytes) -> None:
        self._hash.update(data)

    def text(self) -> str:
        left, letters = int.from_bytes(self._hash.digest(), "big"), ""
        while left:
            left, letter = divmod(left, len(_C4))
            letters = _C4[letter] + letters
        return "c4" + letters.rjust(88, _C4[0])


def _time(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(int(seconds), UTC).isoformat()
    except (ValueError, OverflowError, OSError):  # a year that has no name
        return datetime.fromtimestamp(0, UTC).isoformat()
