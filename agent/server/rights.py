"""What a login may call, as pure rules: before it, with an account, with a token."""

from __future__ import annotations

from agent.jetstream.constants import (
    ERROR_COMMAND,
    PERMISSION_DOWNLOAD,
    PERMISSION_MODIFY,
    PERMISSION_SHARE,
    PERMISSION_UPLOAD,
)
from agent.server.errors import CommandError, not_authenticated
from agent.server.session import Session

LOG_IN = frozenset({"server.auth", "server.authToken"})
_ANYBODY = LOG_IN | {"server.echo", "server.getServerInfo"}
_REQUESTS = frozenset({"server.getRequestStatus", "server.getRequestResult"})
_EVERY_TOKEN = _ANYBODY | _REQUESTS | {"server.sleep"}
_SHARED = frozenset(
    {
        *("getManifest", "getManifests", "getManifestFiles", "waitForManifest"),
        *("createDestination", "getDestination", "getDestinations", "deleteDestination"),
        *("setSendRateMax", "setPriorityLanes", "updateTransferDefaults", "schedulePing"),
        *("getConnection", "getConnections", "updateConnectionParams"),
        *("createTransfer", "getTransfer", "getTransfers", "waitForTransfer", "deleteTransfer"),
        *("suspendTransfer", "resumeTransfer", "failTransfer"),
        *("setTransferPriority", "setTransferSendRateMax", "updateObjectUserData", "deleteObjectUserData"),
    }
)
_FOR_TOKENS = {
    "server.ls": PERMISSION_DOWNLOAD,
    "server.lsRoots": PERMISSION_DOWNLOAD,
    "server.du": PERMISSION_DOWNLOAD,
    "server.mkdir": PERMISSION_MODIFY,
    "server.mv": PERMISSION_MODIFY,
    "server.rm": PERMISSION_MODIFY,
    "lanesync.deletePaths": PERMISSION_MODIFY,
    "lanesync.renamePaths": PERMISSION_MODIFY,
}
_NAMESPACES = {"send": PERMISSION_DOWNLOAD, "lanesync": PERMISSION_DOWNLOAD, "recv": PERMISSION_UPLOAD}
_NAMES = {
    PERMISSION_UPLOAD: "PERMISSION_UPLOAD",
    PERMISSION_DOWNLOAD: "PERMISSION_DOWNLOAD",
    PERMISSION_MODIFY: "PERMISSION_MODIFY",
    PERMISSION_SHARE: "PERMISSION_SHARE",
}


def needed(method: str) -> int | None:
    """The permissions that let an API token call the method; 0 = none is needed, None = no token may."""
    name = method.removesuffix("Async")
    namespace, _, short = name.partition(".")
    if name in _EVERY_TOKEN:
        return 0
    if "SharedToken" in short and namespace == "send":
        return PERMISSION_SHARE | PERMISSION_DOWNLOAD  # nobody shares what they may not have
    return _FOR_TOKENS.get(name, _NAMESPACES.get(namespace))


def check(session: Session, method: str, *, only_token: bool) -> None:
    """CommandError when the session may not call the method. `only_token`: the server is commanded by its
    control token alone, and tells others nothing."""
    if session.user is None:
        _check_stranger(session, method, only_token=only_token)
    elif session.manifest is not None:
        _check_shared(method)
    elif session.token is not None:
        _check_token(session, method)


def _check_stranger(session: Session, method: str, *, only_token: bool) -> None:
    if only_token:
        if method != "server.authToken":
            raise not_authenticated("this server takes commands only after server.authToken")
    elif method.removesuffix("Async") not in _ANYBODY and not (method in _REQUESTS and session.requests):
        raise not_authenticated(
            f"{method} needs a login; call server.auth first (lanesync api: --user or --token)"
        )


def _check_shared(method: str) -> None:
    name = method.removesuffix("Async")
    namespace, _, short = name.partition(".")
    if name in _EVERY_TOKEN or (namespace == "send" and short in _SHARED):
        return
    if name in ("lanesync.waitEvents", "lanesync.getTransferResults"):
        return
    raise CommandError(
        f"a shared token does not allow {method}: it is for sending its manifest to a destination",
        ERROR_COMMAND,
    )


def _check_token(session: Session, method: str) -> None:
    permissions = needed(method)
    if permissions is None:
        raise CommandError(f"{method} needs a login with an account, not with a token")
    missing = [name for bit, name in _NAMES.items() if permissions & ~session.permissions & bit]
    if missing:
        raise CommandError(f"{method} needs a token with {' and '.join(missing)}; this one does not have it")
