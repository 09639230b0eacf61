"""What is whole gets its name: at once, once it is on storage, or with its set."""

from __future__ import annotations

import os
from collections.abc import Iterator

from agent.server.confine import Directories, FileError, Parts
from agent.server.data.newfolders import NewFolders
from agent.server.data.publish import Staged, publish
from agent.server.data.received import ReceivedFile, ReceivedTransfer
from agent.server.data.sets import Member
from agent.server.data.staging import Partial
from agent.server.data.strict import StrictBatch, Unnamed
from agent.server.data.syncer import Syncer
from agent.server.results import Outcome


class Naming:
    """Of one stream and root, in its thread."""

    def __init__(self, directories: Directories, syncer: Syncer) -> None:
        self._directories = directories
        self._syncer = syncer

    def batch(self, transfer: ReceivedTransfer) -> StrictBatch | None:
        """Where files wait for their names until they are on storage, if they have to."""
        if not transfer.policy.stored_first or transfer.policy.as_set:
            return None
        return StrictBatch(transfer.root, transfer.staging.fd, self._directories)

    def finish(self, transfer: ReceivedTransfer, batch: StrictBatch) -> Iterator[tuple[int, Outcome | str]]:
        """What became of the files of a batch, by number. OSError when storage does not take them: those
        that have no name yet are removed then."""
        try:
            yield from batch.finish(lambda file: self._name(transfer, file))
        except OSError:
            batch.give_up()
            raise

    def directory(
        self, transfer: ReceivedTransfer, directory: Parts, seq: int, batch: StrictBatch | None
    ) -> Outcome:
        """An empty one is to be there."""
        if not transfer.policy.publishes:
            return Outcome.DELIVERED
        if transfer.policy.as_set:
            transfer.staged.hold(Member(seq, b"", directory[:-1], directory[-1], 0), transfer.staging.fd)
            return Outcome.DELIVERED
        self._directories.get(directory)
        if batch is not None:
            batch.changed(directory)
        self._syncer.published(directory, None)
        return Outcome.DELIVERED

    def folders(self, transfer: ReceivedTransfer) -> NewFolders:
        """Where files of a pack wait for the names of their directories, if those are new."""

        def name(file: Unnamed, lies_in: int) -> Outcome:
            return self._name(transfer, file, lies_in)

        return NewFolders(transfer, self._directories, self._syncer, name)

    def publish(self, transfer: ReceivedTransfer, file: Unnamed, known: Partial | None = None) -> Outcome:
        """A file or link under its temporary name. `known`: what a journal says of it while its set waits."""
        if not transfer.policy.publishes:
            os.unlink(file.temporary, dir_fd=transfer.staging.fd)
            return Outcome.DELIVERED
        if transfer.policy.as_set:
            transfer.staged.hold(Member(*file, known), transfer.staging.fd)
            return Outcome.DELIVERED
        return self._name(transfer, file)

    def _name(self, transfer: ReceivedTransfer, file: Unnamed, lies_in: int | None = None) -> Outcome:
        """`lies_in`: the directory where it is, if that is not the staging directory."""
        lies_in = transfer.staging.fd if lies_in is None else lies_in
        directory = self._directories.get(file.directory)
        staged = Staged(lies_in, file.temporary, directory, file.name, file.mtime_ns)
        try:
            outcome = publish(transfer.policy, staged)
        except FileNotFoundError:  # the directory was removed since we opened it
            self._directories.forget(file.directory)
            outcome = publish(
                transfer.policy, staged._replace(directory=self._directories.get(file.directory))
            )
        if outcome is Outcome.DELIVERED:
            self._syncer.published(file.directory, file.name)
        return outcome

    def publish_large(self, transfer: ReceivedTransfer, file: ReceivedFile, unnamed: Unnamed) -> Outcome:
        batch = self.batch(transfer)
        if batch is None:
            whole = Partial(file.seq, file.generation, file.identity, ((0, file.size),), file.name)
            return self.publish(transfer, unnamed, whole)
        batch.hold(unnamed)
        ((_, result),) = batch.finish(lambda file: self._name(transfer, file))
        if isinstance(result, Outcome):
            return result
        raise FileError(result)
