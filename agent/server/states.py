"""The life of a transfer, as pure rules.

    pending ──► sending ──► complete
       │           │   └──► error
       └────┬──────┘
            ▼
        suspended ──► resuming ──► sending …

`pending`, `sending` and `resuming` are active: the sender works on them. A restart of the server turns
`sending` into `resuming`.
"""

from __future__ import annotations

from agent.server.errors import CommandError

PENDING = "pending"
SENDING = "sending"
SUSPENDED = "suspended"
RESUMING = "resuming"
COMPLETE = "complete"
ERROR = "error"

ACTIVE = frozenset({PENDING, SENDING, RESUMING})


def require_suspendable(transfer_id: int, status: str) -> None:
    if status not in ACTIVE:
        raise CommandError(f"transfer {transfer_id} cannot be suspended: {_what(status)}", status=status)


def require_resumable(transfer_id: int, status: str) -> None:
    if status != SUSPENDED:
        raise CommandError(
            f"transfer {transfer_id} cannot be resumed: only suspended transfers can, and {_what(status)}",
            status=status,
        )


def require_failable(transfer_id: int, status: str) -> None:
    if status not in ACTIVE:
        raise CommandError(f"transfer {transfer_id} cannot be failed: {_what(status)}", status=status)


def require_deletable(transfer_id: int, status: str) -> None:
    if status in ACTIVE:
        raise CommandError(
            f"transfer {transfer_id} is active; suspend it with suspendTransfer first, then delete it",
            status=status,
        )


def _what(status: str) -> str:
    return {
        SUSPENDED: "it is suspended",
        COMPLETE: "it is complete",
        ERROR: "it has failed",
    }.get(status, f"it is active ({status})")
