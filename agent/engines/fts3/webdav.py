"""A destination over WebDAV, and the choice between that and the service's own calls."""

from __future__ import annotations

from agent.engines.fts3.destination import (
    BusyError,
    Destination,
    ExistsError,
    NotEmptyError,
    PermissionRefusedError,
    Root,
    Stat,
)
from agent.fts3 import Client
from agent.fts3.credentials import Credential
from agent.model.outcome import PermanentError

__all__ = [
    "BusyError",
    "Destination",
    "ExistsError",
    "NotEmptyError",
    "PermissionRefusedError",
    "Stat",
    "open_destination",
]


def open_destination(
    url: str, credential: Credential = None, *, verify: bool | str = True, service: Client | None = None
) -> Destination:
    """What is at and below `url`. Sends nothing yet.

    credential: `agent.fts3.credentials.Certificate` or `Token`, or None for nobody. verify: authorities to
    trust, a PEM file or a directory; True for the system's. service: whom to ask about storages that do not speak
    WebDAV (root, srm, gsiftp, s3s); it acts with what was delegated to it.
    PermanentError when the URL cannot be a destination, or is none of WebDAV and there is no service.
    """
    root, who = Root(url), credential or service
    raise PermanentError(f"{root.url} cannot be looked at yet, as {who} or otherwise ({verify})")
