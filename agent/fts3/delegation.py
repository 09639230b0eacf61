"""Handing the service a proxy of our certificate, so that it can act at the storages for us.

The service keeps one delegation for each user. It refuses submissions when less than an hour of it is left,
so it is renewed well ahead. With a bearer token there is nothing to hand over.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta

from agent.fts3 import proxy
from agent.fts3.context import Context
from agent.fts3.errors import NeedDelegation, Unauthorized
from agent.fts3.ids import path_part
from agent.fts3.structures import WhoAmI, parse_time

LIFETIME = timedelta(hours=7)
RENEW_BEFORE = timedelta(hours=2)
# A renewal that gains less than this is none: the certificate itself ends soon.
_WORTHWHILE = timedelta(minutes=5)


class Delegation:
    def __init__(self, context: Context) -> None:
        self._context = context

    def whoami(self, *, fresh: bool = True) -> WhoAmI:
        """How the service sees us. fresh=False: as it was when last asked with this credential."""
        memory = self._context.memory
        if fresh or memory.whoami is None:
            memory.whoami = WhoAmI.read(self._context.get("/whoami"))
        return memory.whoami

    def ends(self) -> datetime | None:
        """When the service's delegation of ours ends, UTC; None while there is none."""
        delegation_id = self._id()
        found = self._context.get(f"/delegation/{path_part(delegation_id)}")
        ends = parse_time(found.get("termination_time")) if isinstance(found, dict) else None
        self._context.memory.delegated_until = ends
        return ends

    def delegate(
        self,
        lifetime: timedelta = LIFETIME,
        force: bool = False,
        renew_before: timedelta = RENEW_BEFORE,
        *,
        fresh: bool = True,
    ) -> str:
        """See to it that the service holds a delegation with `renew_before` left; returns the delegation id.

        force: renew whatever is left. fresh=False: trust what was learned before, without asking.
        With a token or without any credential: "" and nothing is sent.
        Raises Unauthorized if the service does not know us, BadCredential if the certificate cannot be used.
        """
        if self._context.access_method != "X509":
            return ""
        with self._context.delegating:
            delegation_id = self._id()
            if force or not self._lasts(min(renew_before, lifetime / 2), fresh):
                self._renew(delegation_id, lifetime)
            return delegation_id

    def withdraw(self) -> None:
        """Delete the service's delegation. NotFound if there is none."""
        delegation_id = self._id()
        self._context.memory.delegated_until = None
        self._context.delete(f"/delegation/{path_part(delegation_id)}")

    def add_voms(self, attributes: list[str]) -> str:
        """Ask for VOMS attributes on the delegation, such as `dteam:/dteam/Role=production`.

        Returns the new end as the service writes it. NeedDelegation when nothing is delegated (the service
        itself fails then), FailedDependency when the VOMS server refuses.
        """
        if self.ends() is None:
            raise NeedDelegation("there is no delegation to add attributes to; delegate first")
        path = f"/delegation/{path_part(self._id())}/voms"
        answer = self._context.request("POST", path, body=json.dumps(attributes).encode())
        return answer.body.decode("utf-8", "replace").strip()

    def _id(self) -> str:
        who = self.whoami(fresh=False)
        if not who.delegation_id:
            self._context.memory.whoami = None
            raise Unauthorized("the service does not know us, so there is nobody to delegate for")
        return who.delegation_id

    def _lasts(self, at_least: timedelta, fresh: bool) -> bool:
        ends = self.ends() if fresh else self._context.memory.delegated_until or self.ends()
        if ends is None:
            return False
        now = self._context.runtime.now()
        if ends - now >= at_least:
            return True
        best = self._context.certificate.load(now).ends
        return ends > now and best - ends < _WORTHWHILE

    def _renew(self, delegation_id: str, lifetime: timedelta) -> None:
        now = self._context.runtime.now()
        path = f"/delegation/{path_part(delegation_id)}"
        signer = self._context.certificate.load(now)
        request = self._context.request("GET", f"{path}/request")
        chain = proxy.sign(request.body, signer, now, lifetime)
        # The same proxy twice is one delegation: safe to repeat.
        self._context.request(
            "PUT", f"{path}/credential", body=chain, content_type="application/x-pem-file", safe=True
        )
        self._context.memory.delegated_until = min(now + lifetime, signer.ends)
