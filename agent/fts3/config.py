"""Configuring the service, for those with the `config` right.

Left out on purpose: the keys of cloud storages, which the service hands out in the clear to every reader.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.fts3.context import Context, encoded
from agent.fts3.errors import ClientError, ServerError
from agent.fts3.ids import path_part
from agent.fts3.structures import Json, objects, without_none
from agent.fts3.submission import storage_element


class Config:
    def __init__(self, context: Context) -> None:
        self._context = context

    def links(self) -> list[Json]:
        return objects(self._context.get("/config/links"))

    def link(self, name: str) -> Json:
        """NotFound if there is none of that name."""
        return _object(self._context.get(f"/config/links/{path_part(name)}"))

    def set_link(
        self,
        name: str,
        source: str = "*",
        destination: str = "*",
        *,
        min_active: int,
        max_active: int,
        optimizer_mode: int | None = None,
        nostreams: int | None = None,
        tcp_buffer_size: int | None = None,
        no_delegation: bool | None = None,
    ) -> None:
        """How many transfers a link carries at once: the optimizer moves between the two numbers.

        source, destination: storage elements, or `*`. optimizer_mode: 0 off to 3.
        """
        if not 0 < min_active <= max_active:
            raise ClientError("a link needs 0 < min_active <= max_active")
        body = {
            "symbolicname": name,
            "source": source,
            "destination": destination,
            "min_active": min_active,
            "max_active": max_active,
            "optimizer_mode": optimizer_mode,
            "nostreams": nostreams,
            "tcp_buffer_size": tcp_buffer_size,
            "no_delegation": no_delegation,
        }
        self._change("/config/links", without_none(body))

    def delete_link(self, name: str) -> None:
        """None there is success."""
        self._context.delete(f"/config/links/{path_part(name)}")

    def storages(self, storage: str | None = None) -> Json:
        """Storage element -> `se_info` and `operations`; all of them, or the one."""
        return _object(self._context.get("/config/se", {"se": storage} if storage else None))

    def set_storage(
        self,
        storage: str,
        se_info: Mapping[str, Any] | None = None,
        operations: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        """Limits of a storage, the given ones only.

        se_info: inbound_max_active, outbound_max_active, inbound_max_throughput, outbound_max_throughput
        (MiB/s), tpc_support and others. operations: VO -> {"staging": n, "delete": n}; 0 removes a limit.
        """
        element = storage_element(storage) if storage != "*" else "*"
        if element != storage:
            raise ClientError(f"limits of {storage[:200]!r} would have no effect; set those of {element!r}")
        parts = without_none({"se_info": se_info, "operations": operations})
        if not parts:
            raise ClientError("nothing was given to set; give se_info or operations")
        self._change("/config/se", {storage: parts})

    def delete_storage(self, storage: str) -> None:
        self._context.delete("/config/se", {"se": storage})

    def activity_shares(self) -> dict[str, Json]:
        """VO -> {"share": {activity: weight}, "active": bool}."""
        return _object(self._context.get("/config/activity_shares"))

    def set_activity_shares(self, vo: str, share: Mapping[str, float], active: bool = True) -> None:
        """Weights of a VO's activities; what is not named counts as `default`. Needs a certificate."""
        if not share or any(weight < 0 for weight in share.values()):
            raise ClientError("activity shares are a weight of 0 or more for each name")
        self._change("/config/activity_shares", {"vo": vo, "share": dict(share), "active": active})

    def delete_activity_shares(self, vo: str) -> None:
        """NotFound if the VO has none."""
        self._context.delete(f"/config/activity_shares/{path_part(vo)}")

    def shares(self) -> list[Json]:
        """The weights of VOs on links: objects with source, destination, vo, share."""
        return objects(self._context.get("/config/shares"))

    def set_share(self, source: str, destination: str, vo: str, share: int) -> None:
        """The weight of a VO on a link. ClientError if the service answered yes without storing it."""
        body = {"source": storage_element(source), "destination": storage_element(destination), "vo": vo}
        self._change("/config/shares", {**body, "share": share})
        stored = any(
            all(one.get(key) == value for key, value in body.items()) and one.get("share") == share
            for one in self.shares()
        )
        if not stored:
            raise ClientError("the share was not stored; the two storages need a link of their own first")

    def delete_share(self, source: str, destination: str, vo: str) -> None:
        query = {"source": storage_element(source), "destination": storage_element(destination), "vo": vo}
        self._context.delete("/config/shares", query)

    def set_drain(self, hostname: str, drain: bool = True) -> None:
        """Whether a host of the service starts nothing new. ClientError for an unknown host."""
        self._change("/config/drain", {"hostname": hostname, "drain": drain})

    def global_settings(self) -> Any:
        return self._context.get("/config/global")

    def set_global(
        self,
        vo: str = "*",
        *,
        retry: int | None = None,
        max_time_queue: int | None = None,
        global_timeout: int | None = None,
        sec_per_mb: int | None = None,
        show_user_dn: bool | None = None,
        no_streaming: bool | None = None,
    ) -> None:
        """Settings of a VO, or of all: tries, hours in the queue, seconds for a transfer and for each MB."""
        body = {
            "vo_name": vo,
            "retry": retry,
            "max_time_queue": max_time_queue,
            "global_timeout": global_timeout,
            "sec_per_mb": sec_per_mb,
            "show_user_dn": show_user_dn,
            "no_streaming": no_streaming,
        }
        self._change("/config/global", without_none(body))

    def delete_global(self, vo: str) -> None:
        self._context.delete("/config/global", {"vo_name": vo})

    def rights(self) -> list[Json]:
        """Which users were given which operations. Needs a certificate, as do the next two."""
        return objects(self._context.get("/config/authorize"))

    def grant(self, dn: str, operation: str) -> None:
        """operation: transfer, deleg, config or datamanagement; the service takes any other word, too."""
        if operation not in ("transfer", "deleg", "config", "datamanagement"):
            raise ClientError(f"{operation[:80]!r} is no operation that can be granted")
        self._change("/config/authorize", {"dn": dn, "operation": operation})

    def revoke(self, dn: str, operation: str) -> None:
        self._context.delete("/config/authorize", {"dn": dn, "operation": operation})

    def audit(self) -> list[Json]:
        """The latest changes to the configuration."""
        return objects(self._context.get("/config/audit"))

    def _change(self, path: str, body: Json) -> None:
        """Setting the same twice is setting it once. The status tells all: some answers here break off early
        though the change is made, others give JSON another name."""
        self._context.request("POST", path, body=encoded(body), safe=True)


def _object(value: Any) -> Json:
    if not isinstance(value, dict):
        raise ServerError("the service answered with something that is no object")
    return value
