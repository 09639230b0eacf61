"""Partial files over crashes: a journal speaks of the very file that it was written for, or of none."""

from __future__ import annotations

import os
from pathlib import Path

from agent.server.data.received import ReceivedFile, ReceivedTransfer

UID = "0" * 32
IDENTITY = (100, 1, 2, 3)


def _begin(transfer: ReceivedTransfer, written: int) -> ReceivedFile:
    file = ReceivedFile(0, 1, IDENTITY, b"/f", 0)
    file.open(transfer.staging, None)
    os.pwrite(file.fd, b"x" * written, 0)
    file.ranges.add(0, written)
    transfer.files[0] = file
    return file


def test_a_partial_file_goes_on_from_its_journal(tmp_path: Path) -> None:
    """After a crash the noted ranges and their content are there."""
    root = os.fsencode(tmp_path)
    before = ReceivedTransfer(UID, root)
    _begin(before, 60)
    before.staging.write_journal(before.snapshot())
    after = ReceivedTransfer(UID, root)
    again = ReceivedFile(0, 1, IDENTITY, b"/f", 0)
    again.open(after.staging, after.partials[0])
    assert list(again.ranges.ranges()) == [(0, 60)]
    assert os.pread(again.fd, 100, 0) == b"x" * 60 + bytes(40)


def test_a_journal_of_a_published_file_never_speaks_for_its_successor(tmp_path: Path) -> None:
    """Journaled, published, crash, begun again, crash: what the journal says of the first file is not taken
    for the second, which has only its first bytes."""
    root = os.fsencode(tmp_path)
    first = ReceivedTransfer(UID, root)
    file = _begin(first, 100)
    first.staging.write_journal(first.snapshot())
    os.rename(file.name, tmp_path / "published", src_dir_fd=first.staging.fd)
    second = ReceivedTransfer(UID, root)
    assert second.partials == {}
    _begin(second, 10)
    third = ReceivedTransfer(UID, root)
    assert third.partials == {}


def test_a_dropped_file_leaves_nothing_to_go_on_from(tmp_path: Path) -> None:
    """Also when its successor exists and the journal was not written since."""
    root = os.fsencode(tmp_path)
    transfer = ReceivedTransfer(UID, root)
    _begin(transfer, 100)
    transfer.staging.write_journal(transfer.snapshot())
    transfer.drop(0)
    _begin(transfer, 10)
    assert ReceivedTransfer(UID, root).partials == {}


def test_a_file_that_is_being_published_is_not_journaled(tmp_path: Path) -> None:
    """Its partial file is about to be renamed: it is final, or it starts over."""
    transfer = ReceivedTransfer(UID, os.fsencode(tmp_path))
    _begin(transfer, 100).publishing = True
    assert transfer.snapshot() == []
