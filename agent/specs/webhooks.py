"""Which URLs a web hook may have: https, or http on the loopback address, and what the policy allows.

The URL is a secret, so what is said of it names its host and nothing else of it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult

from agent.specs.policy_rules import DEFAULT_PORTS, address_of, is_host_name, split_url
from agent.specs.references import canonical_host

_QUERY = re.compile(r"[!$%&'()*+,./0-9:;=?@A-Z\[\]_a-z~-]*")


@dataclass(frozen=True, slots=True)
class WebhookRule:
    """One URL, or with `below` all that lie below its path."""

    text: str
    url: SplitResult
    below: bool

    def covers(self, parts: SplitResult) -> bool:
        if _origin(parts) != _origin(self.url):
            return False
        path, own = posixpath.normpath(parts.path or "/"), self.url.path or "/"
        if not self.below:
            return (parts.path or "/") == own
        return path.startswith(own.rstrip("/") + "/")


def parse_webhook(text: str) -> WebhookRule:
    """Raises ValueError."""
    below = text.endswith("/*")
    parts = split_url(text.removesuffix("*"))
    if parts is None or "*" in parts.netloc + parts.path:
        raise ValueError(
            "must be scheme://host/path, without user, query, fragment or `..`; "
            "`*` stands only after the last /"
        )
    if problem := _unsafe(parts):
        raise ValueError(problem)
    return WebhookRule(text, parts, below)


def webhook_problem(url: str, rules: Sequence[WebhookRule] | None) -> str:
    """Why the URL is not used; empty when it may be. `rules` is None where no policy is in force."""
    plain, _, query = url.partition("?")
    parts = split_url(plain)
    if parts is None or not _QUERY.fullmatch(query):
        return "its URL must be https://host/path, without user, fragment or `..`"
    if problem := _unsafe(parts):
        return f"its URL {problem}"
    if rules is not None and not any(rule.covers(parts) for rule in rules):
        allowed = ", ".join(rule.text for rule in rules) or "nothing"
        return f"its URL, at {host_of(url)}, is not allowed by the policy: `spec.webhooks` allows {allowed}"
    return ""


def host_of(url: str) -> str:
    """What may be said of a URL."""
    parts = split_url(url.partition("?")[0])
    return "an unreadable URL" if parts is None else f"{parts.scheme}://{parts.netloc}"


def _unsafe(parts: SplitResult) -> str:
    host = parts.hostname or ""
    address = address_of(host)
    if parts.scheme not in ("https", "http"):
        return "must begin with https://"
    if address is None and not is_host_name(host):
        return "has a host that is neither a name nor an address in its usual form"
    loopback = canonical_host(host) == "127.0.0.1" or (address is not None and address.is_loopback)
    if parts.scheme == "http" and not loopback:
        return "must begin with https://; plain http is only for the loopback address"
    return ""


def _origin(parts: SplitResult) -> tuple[str, str, int | None]:
    return parts.scheme, canonical_host(parts.hostname or ""), parts.port or DEFAULT_PORTS.get(parts.scheme)
