"""SendInterface, the part about manifests and shared tokens."""

from __future__ import annotations

from typing import Any

from agent.jetstream.interface import Interface, object_id
from agent.jetstream.structures import Id, Manifest, ManifestFiles, Token


def _manifest(value: Id | None) -> Any:
    return object_id(value, "manifestId")


class ManifestMethods(Interface):
    """Every method raises NotFoundError when the manifest or token does not exist."""

    namespace = "send"

    def createManifest(
        self,
        fileMappings: dict[str, str] | None = None,
        mappings: dict[str, Any] | None = None,
        symlinkOptions: int | None = None,
    ) -> Manifest:
        """Start to make a manifest; usable once its `processing` is False and its `status` complete.

        mappings: destination path -> source path, or -> {"src", "size", "flags", "access", "include",
        "exclude"}; with size or flags the server looks at nothing, with neither and no patterns it is an
        empty directory. fileMappings: deprecated, source path -> destination path. symlinkOptions:
        constants.SYMLINKS_*.
        """
        manifest: Manifest = self._call(
            "createManifest", fileMappings=fileMappings, mappings=mappings, symlinkOptions=symlinkOptions
        )
        return manifest

    def getManifest(self, manifestId: Id) -> Manifest:
        manifest: Manifest = self._call("getManifest", manifestId=_manifest(manifestId))
        return manifest

    def getManifests(
        self, before: Id | None = None, after: Id | None = None, limit: int | None = None
    ) -> list[Manifest]:
        """All manifests, or those before or after one (exclusive), at most `limit`."""
        manifests: list[Manifest] = self._call(
            "getManifests", before=_manifest(before), after=_manifest(after), limit=limit
        )
        return manifests

    def getManifestFiles(self, manifestId: Id, limit: int | None = None) -> ManifestFiles:
        files: ManifestFiles = self._call("getManifestFiles", manifestId=_manifest(manifestId), limit=limit)
        return files

    def deleteManifest(self, manifestId: Id) -> None:
        """Allowed at any time, even while a transfer uses it."""
        self._call("deleteManifest", manifestId=_manifest(manifestId))

    def waitForManifest(self, manifestId: Id) -> Manifest:
        """Block until the manifest is complete or has failed."""
        manifest: Manifest = self._call("waitForManifest", manifestId=_manifest(manifestId), blocking=True)
        return manifest

    def createSharedToken(
        self,
        manifestId: Id,
        password: str | None = None,
        downloadLimit: int | None = None,
        timeLimitSeconds: float | None = None,
        description: str | None = None,
    ) -> Token:
        token: Token = self._call(
            "createSharedToken",
            manifestId=_manifest(manifestId),
            password=password,
            downloadLimit=downloadLimit,
            timeLimitSeconds=timeLimitSeconds,
            description=description,
        )
        return token

    def getSharedToken(self, token: Id) -> Token:
        found: Token = self._call("getSharedToken", token=object_id(token, "token"))
        return found

    def getSharedTokens(self, limit: int | None = None) -> list[Token]:
        found: list[Token] = self._call("getSharedTokens", limit=limit)
        return found

    def updateSharedToken(
        self, token: Id, timeLimitSeconds: float | None = None, description: str | None = None
    ) -> None:
        self._call(
            "updateSharedToken",
            token=object_id(token, "token"),
            timeLimitSeconds=timeLimitSeconds,
            description=description,
        )

    def deleteSharedToken(self, token: Id) -> None:
        """Does not stop a transfer or session that uses it."""
        self._call("deleteSharedToken", token=object_id(token, "token"))
