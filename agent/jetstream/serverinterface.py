"""ServerInterface: the server itself, authentication, and the results of asynchronous requests.

The public documents give the parameters of `auth` only; the other parameter names are ours.
"""

from __future__ import annotations

from typing import Any

from agent.jetstream.interface import Caller, Interface, object_id
from agent.jetstream.structures import (
    BandwidthLimits,
    Event,
    GarbageCollect,
    Id,
    Listing,
    Request,
    RequestStatus,
    ServerInfo,
    Token,
    Usage,
)


def request_status(api: Caller, requestId: Id) -> RequestStatus:
    status: RequestStatus = api.call(
        "server.getRequestStatus", {"requestId": object_id(requestId, "requestId")}
    )
    return status


def request_result(api: Caller, requestId: Id) -> Any:
    return api.call(
        "server.getRequestResult", {"requestId": object_id(requestId, "requestId")}, blocking=True
    )


class ServerInterface(Interface):
    namespace = "server"

    # Sessions

    def auth(self, user: str, password: str) -> None:
        """Log in. Raises AuthenticationError when the server does not accept it."""
        self._call("auth", user=user, password=password)

    def authAsync(self, user: str, password: str) -> Request:
        """Log in; the request's result is None."""
        request: Request = self._call("authAsync", user=user, password=password)
        return request

    def authToken(self, token: str, password: str | None = None) -> None:
        """Log in with a shared token, an API token or a control token. Raises AuthenticationError."""
        self._call("authToken", token=token, password=password)

    def authTokenAsync(self, token: str, password: str | None = None) -> Request:
        """The same; the request's result is None."""
        request: Request = self._call("authTokenAsync", token=token, password=password)
        return request

    def superuser(self) -> None:
        """Raise this session to superuser: it sees and changes what others have. Raises CommandError."""
        self._call("superuser")

    # Requests

    def getRequestStatus(self, requestId: Id) -> RequestStatus:
        """How a request is doing; answers at once. Raises NotFoundError when its record has expired."""
        return request_status(self._api, requestId)

    def getRequestResult(self, requestId: Id) -> Any:
        """Wait until a request is over and return its result. Raises CommandError if it failed."""
        return request_result(self._api, requestId)

    # The server

    def getServerInfo(self) -> ServerInfo:
        """What the server is and can do; before log-in only the part that is needed to log in."""
        info: ServerInfo = self._call("getServerInfo")
        return info

    def echo(self, text: str) -> str:
        answer: str = self._call("echo", text=text)
        return answer

    def sleep(self, milliseconds: float) -> None:
        """Answer after so many milliseconds; other calls go on meanwhile."""
        self._call("sleep", milliseconds=milliseconds, blocking=True)

    def terminate(self) -> None:
        """End the server in an orderly way. For superusers."""
        self._call("terminate")

    def getEventLog(self, limit: int | None = None) -> list[Event]:
        """What happened since the server's launch, the latest `limit` that the caller may see, oldest
        first."""
        events: list[Event] = self._call("getEventLog", limit=limit)
        return events

    def getThirdPartyLicenses(self) -> list[dict[str, str]]:
        """`name`, `version` and `license` of what the server is made with."""
        found: list[dict[str, str]] = self._call("getThirdPartyLicenses")
        return found

    def setLicenseKeyAsync(self, licenseKey: str) -> Request:
        return self._request("setLicenseKeyAsync", licenseKey=licenseKey)

    def setLicenseKey(self, licenseKey: str) -> dict[str, Any]:
        """The bundled server needs no key, and says so. For superusers."""
        answer: dict[str, Any] = self._call("setLicenseKey", licenseKey=licenseKey)
        return answer

    def updateBandwidthLimits(
        self,
        incomingRateLimit: float | None = None,
        outgoingRateLimit: float | None = None,
        borrowIncomingRate: bool | None = None,
        borrowOutgoingRate: bool | None = None,
    ) -> BandwidthLimits:
        """Limits of the whole server, kbit/s; -1 lifts one, None leaves it. For superusers."""
        limits: BandwidthLimits = self._call(
            "updateBandwidthLimits",
            incomingRateLimit=incomingRateLimit,
            outgoingRateLimit=outgoingRateLimit,
            borrowIncomingRate=borrowIncomingRate,
            borrowOutgoingRate=borrowOutgoingRate,
        )
        return limits

    # Clean-up

    def garbageCollect(self) -> dict[str, int]:
        """Run the clean-up now; how many of each kind were removed. For superusers."""
        counts: dict[str, int] = self._call("garbageCollect", blocking=True)
        return counts

    def garbageCollectAsync(self) -> Request:
        return self._request("garbageCollectAsync")

    def getGarbageCollectSettings(self) -> GarbageCollect:
        settings: GarbageCollect = self._call("getGarbageCollectSettings")
        return settings

    def updateGarbageCollectSettings(
        self, intervalSeconds: int | None = None, timeLimitSeconds: int | None = None
    ) -> GarbageCollect:
        """Seconds between two runs, and for how long what is over is kept. For superusers."""
        settings: GarbageCollect = self._call(
            "updateGarbageCollectSettings", intervalSeconds=intervalSeconds, timeLimitSeconds=timeLimitSeconds
        )
        return settings

    # API tokens

    def createAPIToken(
        self,
        password: str | None = None,
        permissions: int | None = None,
        path: str | None = None,
        timeLimitSeconds: float | None = None,
        description: str | None = None,
    ) -> Token:
        """A credential that acts as this account: permissions are constants.PERMISSION_* (None = all), `path`
        is the folder that it is held to."""
        token: Token = self._call(
            "createAPIToken",
            password=password,
            permissions=permissions,
            path=path,
            timeLimitSeconds=timeLimitSeconds,
            description=description,
        )
        return token

    def deleteAPIToken(self, token: Id) -> None:
        """Revoke it at once, with what was shared with it."""
        self._call("deleteAPIToken", token=object_id(token, "token"))

    def getAPIToken(self, token: Id) -> Token:
        found: Token = self._call("getAPIToken", token=object_id(token, "token"))
        return found

    def getAPITokens(self, limit: int | None = None) -> list[Token]:
        found: list[Token] = self._call("getAPITokens", limit=limit)
        return found

    # Sandboxes

    def setSandboxMapping(self, user: str, mapping: dict[str, Any]) -> None:
        """`mapping`: name of a root -> directory, or {"type": "file", "path": …}; replaces what the user
        had. The user "" means everybody without a mapping of their own. For superusers, as all three."""
        self._call("setSandboxMapping", user=user, mapping=mapping)

    def getSandboxMappings(self, user: str | None = None) -> dict[str, dict[str, dict[str, str]]]:
        """User -> root -> sandbox, of one user or of all."""
        found: dict[str, dict[str, dict[str, str]]] = self._call("getSandboxMappings", user=user)
        return found

    def deleteSandboxMapping(self, user: str) -> None:
        self._call("deleteSandboxMapping", user=user)

    # Files of the server's host, below the caller's roots

    def lsRootsAsync(self) -> Request:
        return self._request("lsRootsAsync")

    def lsRoots(self) -> list[dict[str, str]]:
        """The roots: [{"path": "/media", "type": "file"}, …]."""
        roots: list[dict[str, str]] = self._call("lsRoots")
        return roots

    def lsAsync(self, path: str = "/", limit: int | None = None, after: str | None = None) -> Request:
        return self._request("lsAsync", path=path, limit=limit, after=after)

    def ls(self, path: str = "/", limit: int | None = None, after: str | None = None) -> Listing:
        """What is in a directory, by name; go on with `after` = `next` until that is None."""
        listing: Listing = self._call("ls", path=path, limit=limit, after=after, blocking=True)
        return listing

    def duAsync(self, path: str = "/", timeoutSeconds: float | None = None) -> Request:
        return self._request("duAsync", path=path, timeoutSeconds=timeoutSeconds)

    def du(self, path: str = "/", timeoutSeconds: float | None = None) -> Usage:
        """Bytes, files and directories below a path; `complete` is False when the time was over first."""
        usage: Usage = self._call("du", path=path, timeoutSeconds=timeoutSeconds, blocking=True)
        return usage

    def mkdirAsync(self, path: str) -> Request:
        return self._request("mkdirAsync", path=path)

    def mkdir(self, path: str) -> None:
        """Make a directory and its parents; harmless when it is there."""
        self._call("mkdir", path=path)

    def mvAsync(self, source: str, destination: str) -> Request:
        return self._request("mvAsync", source=source, destination=destination)

    def mv(self, source: str, destination: str) -> None:
        """Move or rename. Raises CommandError when the new name is taken."""
        self._call("mv", source=source, destination=destination)

    def rmAsync(self, path: str, recursive: bool | None = None) -> Request:
        return self._request("rmAsync", path=path, recursive=recursive)

    def rm(self, path: str, recursive: bool | None = None) -> dict[str, int]:
        """Remove a file; a directory with all that is in it, if `recursive`. How much was removed."""
        removed: dict[str, int] = self._call("rm", path=path, recursive=recursive, blocking=True)
        return removed

    # Address discovery

    def sendDiscoverPacketAsync(self, address: str, port: int) -> Request:
        return self._request("sendDiscoverPacketAsync", address=address, port=port)

    def sendDiscoverPacket(self, address: str, port: int) -> dict[str, Any]:
        """From which address and port the server at `address` sees this one."""
        seen: dict[str, Any] = self._call("sendDiscoverPacket", address=address, port=port)
        return seen

    def recvDiscoverPacketAsync(self, timeoutSeconds: float | None = None) -> Request:
        return self._request("recvDiscoverPacketAsync", timeoutSeconds=timeoutSeconds)

    def recvDiscoverPacket(self, timeoutSeconds: float | None = None) -> dict[str, Any] | None:
        """Wait for the next discover packet; from where it came, None when the time was over first."""
        seen: dict[str, Any] | None = self._call(
            "recvDiscoverPacket", timeoutSeconds=timeoutSeconds, blocking=True
        )
        return seen

    def _request(self, method: str, **params: Any) -> Request:
        request: Request = self._call(method, **params)
        return request
