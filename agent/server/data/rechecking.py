"""Before a set is published: are its files still what was sent?

All were read before the first of them is looked at again. If each is as it was read, then at that moment the
source was, as a whole, what is published. Whatever has changed is sent anew, and all are looked at once more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.server.data.manifest import KIND_DIRECTORY, KIND_LINK, Entry
from agent.server.results import RECORD, Record

if TYPE_CHECKING:
    from agent.server.data.link import Link
    from agent.server.data.outgoing import Transfer
    from agent.server.sources import Sources

PORTION = 500  # entries that are fetched at once


def recheck(link: Link, transfer: Transfer) -> None:
    """Look at every source of a set that the receiver has; note in the transfer what differs."""
    with link.changed:
        sent = [Record._make(fields) for fields in RECORD.iter_unpack(transfer.published)]
    changed: list[Entry] = []
    gone: list[Entry] = []
    for at in range(0, len(sent), PORTION):
        portion = sent[at : at + PORTION]
        with link.changed:
            entries = transfer.manifest.fetch(record.seq for record in portion)
        for entry, record in zip(entries, portion, strict=True):
            same = _is_same(transfer.manifest.sources, entry, record)
            if same is None:
                gone.append(entry)
            elif not same:
                changed.append(entry)
    with link.changed:
        transfer.rechecked(changed, gone)


def _is_same(sources: Sources, entry: Entry, record: Record) -> bool | None:
    """None when it is not there any more."""
    if entry.kind == KIND_DIRECTORY:
        return True
    try:
        found = sources.stat(entry.path, follow=entry.kind != KIND_LINK)
    except OSError:
        return None
    return (found.st_size, found.st_mtime_ns, found.st_ctime_ns) == record[2:5]
