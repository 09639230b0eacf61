"""ServerInterface: the server itself, authentication, and the results of asynchronous requests.

The public documents give the parameters of `auth` only; the other parameter names are ours. Methods which
the bundled server does not carry out yet raise NotSupportedError or "unknown method" with its message.
"""

from __future__ import annotations

from typing import Any

from agent.jetstream.interface import Caller, Interface, object_id
from agent.jetstream.structures import GarbageCollect, Id, Request, RequestStatus, ServerInfo, Token


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
        self._call("terminate")

    def getEventLog(self) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = self._call("getEventLog")
        return events

    def getThirdPartyLicenses(self) -> Any:
        return self._call("getThirdPartyLicenses")

    def setLicenseKeyAsync(self, licenseKey: str) -> Request:
        request: Request = self._call("setLicenseKeyAsync", licenseKey=licenseKey)
        return request

    def updateBandwidthLimits(
        self,
        incomingRateLimit: float | None = None,
        outgoingRateLimit: float | None = None,
        borrowIncomingRate: bool | None = None,
        borrowOutgoingRate: bool | None = None,
    ) -> None:
        """Limits of the whole server, kbit/s."""
        self._call(
            "updateBandwidthLimits",
            incomingRateLimit=incomingRateLimit,
            outgoingRateLimit=outgoingRateLimit,
            borrowIncomingRate=borrowIncomingRate,
            borrowOutgoingRate=borrowOutgoingRate,
        )

    # Clean-up

    def garbageCollect(self) -> None:
        """Run the clean-up now."""
        self._call("garbageCollect")

    def getGarbageCollectSettings(self) -> GarbageCollect:
        settings: GarbageCollect = self._call("getGarbageCollectSettings")
        return settings

    def updateGarbageCollectSettings(
        self, intervalSeconds: int | None = None, timeLimitSeconds: int | None = None
    ) -> GarbageCollect:
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
        """`mapping`: virtual path -> path or sandbox object; the user "" means everybody."""
        self._call("setSandboxMapping", user=user, mapping=mapping)

    def getSandboxMappings(self, user: str | None = None) -> Any:
        return self._call("getSandboxMappings", user=user)

    def deleteSandboxMapping(self, user: str) -> None:
        self._call("deleteSandboxMapping", user=user)

    # Files of the server's host

    def lsAsync(self, path: str) -> Request:
        return self._request("lsAsync", path=path)

    def lsRootsAsync(self) -> Request:
        return self._request("lsRootsAsync")

    def duAsync(self, path: str) -> Request:
        return self._request("duAsync", path=path)

    def mkdirAsync(self, path: str) -> Request:
        return self._request("mkdirAsync", path=path)

    def mvAsync(self, source: str, destination: str) -> Request:
        return self._request("mvAsync", source=source, destination=destination)

    def rmAsync(self, path: str) -> Request:
        return self._request("rmAsync", path=path)

    # Address discovery

    def sendDiscoverPacketAsync(self, address: str, port: int) -> Request:
        return self._request("sendDiscoverPacketAsync", address=address, port=port)

    def recvDiscoverPacketAsync(self) -> Request:
        return self._request("recvDiscoverPacketAsync")

    def _request(self, method: str, **params: Any) -> Request:
        request: Request = self._call(method, **params)
        return request
