"""Banning storages and users, for those with the `config` right."""

from __future__ import annotations

from typing import Any

from agent.fts3.context import Context
from agent.fts3.errors import ClientError, ServerError
from agent.fts3.structures import Json, objects
from agent.fts3.submission import storage_element


class Bans:
    def __init__(self, context: Context) -> None:
        self._context = context

    def ban_se(
        self,
        storage: str,
        status: str = "cancel",
        timeout: int = 0,
        allow_submit: bool = False,
        *,
        message: str = "",
    ) -> list[str]:
        """Ban a storage for the first VO of whoever bans; returns the ids of the jobs hit.

        storage: `scheme://host`; with a port or a path the service takes it and nothing comes of it, so
        that is refused here. status: `cancel` ends what waits and runs, `wait` holds what waits; with
        allow_submit new jobs are taken and held. timeout: seconds; sent, but services of today ignore it.
        """
        element = storage_element(storage)
        if storage != element:
            raise ClientError(f"a ban of {storage[:200]!r} would have no effect; ban {element!r}")
        if status not in ("cancel", "wait"):
            raise ClientError("the status of a ban is cancel or wait")
        if allow_submit and status == "cancel":
            raise ClientError("allow_submit goes with the status wait only")
        body: Json = {"storage": storage, "status": status, "timeout": timeout, "allow_submit": allow_submit}
        if message:
            body["message"] = message
        return _ids(self._context.post("/ban/se", body))

    def unban_se(self, storage: str) -> None:
        """Lift a ban, however it was written; none there is success."""
        self._context.delete("/ban/se", {"storage": storage})

    def banned_ses(self) -> list[Json]:
        """Objects with se, vo, status (CANCEL, WAIT, WAIT_AS), message, addition_time, admin_dn."""
        return objects(self._context.get("/ban/se"))

    def ban_dn(self, dn: str, *, message: str = "") -> list[str]:
        """Ban a user and end his jobs; returns their ids. Conflict for oneself."""
        body = {"user_dn": dn}
        if message:
            body["message"] = message
        return _ids(self._context.post("/ban/dn", body))

    def unban_dn(self, dn: str) -> None:
        """Lift a ban; none there is success. The service may go on refusing the user for a while."""
        self._context.delete("/ban/dn", {"user_dn": dn})

    def banned_dns(self) -> list[Json]:
        """Objects with dn, message, addition_time, admin_dn."""
        return objects(self._context.get("/ban/dn"))


def _ids(answer: Any) -> list[str]:
    if not isinstance(answer, list):
        raise ServerError("the service did not answer with a list of jobs")
    return [str(one) for one in answer]
