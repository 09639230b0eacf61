"""Conditions and their reasons: the closed vocabulary in which the agent says how an object is doing.

`Ready` is always present. `Reconciling`, `Stalled`, `Suspended`, `Drifted`, `WatchDegraded` and `Limited`
are present only when true.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class ConditionType(StrEnum):
    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    SUSPENDED = "Suspended"
    WATCH_DEGRADED = "WatchDegraded"
    DRIFTED = "Drifted"  # the destination is not as we left it
    LIMITED = "Limited"  # works, but not all of what was asked for, or not for long


class Reason(StrEnum):
    IN_SYNC = "InSync"
    # on its way
    PROGRESSING = "Progressing"
    TRANSFERRING = "Transferring"
    SETTLING = "Settling"
    AWAITING_SENTINEL = "AwaitingSentinel"  # of `ready: {sentinel: NAME}`
    ADOPTING = "Adopting"  # what is at the destination already is looked at
    RELEASING = "Releasing"  # what every destination has is verified there and deleted at the source
    RETRYING = "Retrying"
    FETCH_FAILED = "FetchFailed"
    DESTINATION_UNREACHABLE = "DestinationUnreachable"
    NO_SPACE = "NoSpace"  # the destination's storage is full
    SERVER_UNREACHABLE = "ServerUnreachable"
    DEPENDENCY_NOT_READY = "DependencyNotReady"
    # needs a person
    INVALID_SPEC = "InvalidSpec"
    REFUSED_BY_POLICY = "RefusedByPolicy"
    POLICY_UNUSABLE = "PolicyUnusable"
    SOURCE_SUSPECT = "SourceSuspect"
    DELETIONS_HELD = "DeletionsHeld"
    AUTHENTICATION_FAILED = "AuthenticationFailed"
    SERVER_FAILED = "ServerFailed"
    FILES_FAILED = "FilesFailed"
    WEBHOOK_UNUSABLE = "WebhookUnusable"
    SHARE_IMPOSSIBLE = "ShareImpossible"
    REF_NOT_FOUND = "RefNotFound"
    SIGNATURE_NOT_VERIFIED = "SignatureNotVerified"
    COMMIT_REFUSED = "CommitRefused"
    # by intent
    SUSPENDED_IN_SPEC = "SuspendedInSpec"
    SUSPENDED_LOCALLY = "SuspendedLocally"
    OUTSIDE_WINDOW = "OutsideWindow"
    # watching
    QUEUE_OVERFLOW = "QueueOverflow"
    WATCH_LIMIT = "WatchLimit"
    WATCHER_DIED = "WatcherDied"
    NETWORK_FILE_SYSTEM = "NetworkFileSystem"
    # drift
    CHANGED_AT_DESTINATION = "ChangedAtDestination"
    CORRUPTED_AT_DESTINATION = "CorruptedAtDestination"
    NOT_LISTED = "NotListed"  # what is at the destination could not be looked at
    # limits
    UNSUPPORTED = "Unsupported"  # the engine cannot do what a field asks for
    NAME_COLLISION = "NameCollision"  # two names that are one, or look like one, at the destination
    NAME_NOT_POSSIBLE = "NameNotPossible"  # a name that the destination cannot hold
    NOT_PERMITTED = "NotPermitted"  # the service does not let us do it
    HOOK_FAILED = "HookFailed"
    LINKS_LEFT_OUT = "LinksLeftOut"
    RECEIPT_INCOMPLETE = "ReceiptIncomplete"
    WEBHOOK_FAILED = "WebhookFailed"
    SHARE_EXPIRED = "ShareExpired"
    SHARE_USED_UP = "ShareUsedUp"
    STORAGE_BANNED = "StorageBanned"
    CREDENTIAL_EXPIRES_SOON = "CredentialExpiresSoon"
    NEVER_SETTLES = "NeverSettles"  # a file has kept changing for longer than `maxWait`
    NOT_RELEASED = "NotReleased"  # files stay at the source although `release` says otherwise
    # ours
    INTERNAL_ERROR = "InternalError"
    STATE_REBUILT = "StateRebuilt"  # the agent's memory was lost and begun anew


@dataclass(frozen=True, slots=True)
class Condition:
    type: ConditionType
    status: bool
    reason: Reason
    message: str = ""
    since: float = 0.0  # Unix seconds of the last change of status or reason


def merge(before: tuple[Condition, ...], now: tuple[Condition, ...]) -> tuple[Condition, ...]:
    """Keep `since` where type, status and reason did not change."""
    old = {(c.type, c.status, c.reason): c.since for c in before}
    return tuple(replace(c, since=old.get((c.type, c.status, c.reason), c.since)) for c in now)
