"""Shared tokens of a JetStream server. Implements agent.engines.port.Sharing with the documented API alone.

A token's text is its secret, so what the rest of the agent knows it by is a digest of it.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import Any

from agent.engines import jetstream_convert as convert
from agent.engines.jetstream_session import Api, Session, agent_errors
from agent.engines.port import ObservedShare, ShareRequest
from agent.jetstream import CommandError, JetstreamError
from agent.jetstream.structures import Token
from agent.model import outcome
from agent.model.observed import Tag


class ShareVerbs:
    """The part of the port that is about shared tokens."""

    _session: Session

    def _wait_for_manifest(self, api: Api, manifest: str) -> None:
        raise NotImplementedError

    def shares(self, agent: str) -> tuple[ObservedShare, ...]:
        api = self._session.api()
        found = [_observed(token, _tag(api, token)) for token in self._tokens(api)]
        return tuple(share for share in found if share.tag is not None and share.tag.agent == agent)

    def create_share(self, request: ShareRequest) -> ObservedShare:
        api = self._session.api()
        with agent_errors():
            manifest = api.send.createManifest(
                mappings={entry.path: convert.to_mapping(entry) for entry in request.files}
            )["manifestId"]
            try:
                self._wait_for_manifest(api, manifest)
                _set_tag(api, manifest, request.tag)  # a token that is never tagged is known by its manifest
                token = api.send.createSharedToken(
                    manifest,
                    password=request.password,
                    downloadLimit=request.download_limit,
                    timeLimitSeconds=request.expires_in,
                    description=request.description or None,
                )
            except (CommandError, outcome.LaneSyncError):
                with contextlib.suppress(JetstreamError):
                    api.send.deleteManifest(manifest)
                raise
            _set_tag(api, token, request.tag)
        return _observed(token, request.tag)

    def update_share(self, share_id: str, expires_in: float | None, description: str) -> None:
        api = self._session.api()
        token = self._token(api, share_id)
        with agent_errors():
            api.send.updateSharedToken(token, timeLimitSeconds=expires_in, description=description)

    def delete_share(self, share_id: str) -> None:
        api = self._session.api()
        with contextlib.suppress(outcome.NotFoundError):
            token = self._token(api, share_id)
            with agent_errors():
                api.send.deleteSharedToken(token)
            with contextlib.suppress(outcome.NotFoundError), agent_errors():
                api.send.deleteManifest(token["manifestId"])

    def share_token(self, share_id: str) -> str:
        return str(self._token(self._session.api(), share_id)["token"])

    def _token(self, api: Api, share_id: str) -> Token:
        for token in self._tokens(api):
            if _id(token) == share_id:
                return token
        raise outcome.NotFoundError("the server has this token no more")

    def _tokens(self, api: Api) -> list[Token]:
        with agent_errors():
            found: list[Token] = api.send.getSharedTokens()
        return found


def _id(token: Token) -> str:
    return hashlib.sha256(token["token"].encode()).hexdigest()[:16]


def _tag(api: Api, token: Token) -> Tag | None:
    """Its own, or when its making was cut off, that of its manifest."""
    tag = Tag.from_user_data(dict(token.get("userData") or {}))
    if tag is not None:
        return tag
    try:
        with agent_errors():
            return Tag.from_user_data(dict(api.send.getManifest(token["manifestId"]).get("userData") or {}))
    except outcome.NotFoundError:
        return None


def _set_tag(api: Api, thing: Any, tag: Tag) -> None:
    for key, value in tag.to_user_data().items():
        api.send.updateObjectUserData(thing, key, value)


def _observed(token: Token, tag: Tag | None) -> ObservedShare:
    expires = token.get("expiryTime")
    return ObservedShare(
        _id(token),
        tag,
        created=token["creationTime"] / 1e6,
        expires=None if expires is None else expires / 1e6,
        downloads=token.get("downloadCount") or 0,
        download_limit=token.get("downloadLimit"),
        description=token.get("description") or "",
    )
