"""What one reconcile says about the next one, and the errors that decide it.

LaneSyncError
├── RetryableError      try again by itself, with backoff
│   └── UnreachableError    nobody answers at the other end
├── PermanentError      needs a person; trying again changes nothing
│   ├── AuthenticationError the server does not accept our credentials
│   └── PolicyError         the policy file cannot be used; the message names each mistake
├── NotFoundError       the object is gone (which is success for a delete)
└── NeedsPersonError    what is asked for cannot happen until somebody does something else first
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.model.condition import Reason


class LaneSyncError(Exception):
    """Base of everything the agent raises on purpose."""


class RetryableError(LaneSyncError):
    pass


class UnreachableError(RetryableError):
    pass


class PermanentError(LaneSyncError):
    pass


class AuthenticationError(PermanentError):
    pass


class PolicyError(PermanentError):
    pass


class NotFoundError(LaneSyncError):
    pass


class NeedsPersonError(LaneSyncError):
    pass


@dataclass(frozen=True, slots=True)
class Done:
    """In its desired state; look again after `next_in` seconds (None = only when something happens)."""

    next_in: float | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Not there yet and nothing to do now: an event, or `next_in` seconds, brings it on."""

    reason: Reason
    next_in: float | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """Failed in a way that may pass by itself: exponential backoff."""

    error: str
    reason: Reason = Reason.RETRYING


@dataclass(frozen=True, slots=True)
class Stalled:
    """Needs a person; comes back on a new revision, an approval or an explicit reconcile."""

    reason: Reason
    message: str
    next_in: float | None = None


Outcome = Done | Wait | Retry | Stalled
