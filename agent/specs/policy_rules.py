"""The rules of a policy: which address, path or name is covered. No name service is asked."""

from __future__ import annotations

import ipaddress
import os
import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from agent.specs.references import canonical_host

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

DEFAULT_PORTS = {
    "https": 443,
    "davs": 443,
    "http": 80,
    "dav": 80,
    "root": 1094,
    "xroot": 1094,
    "gsiftp": 2811,
}
_PLAIN_URL = re.compile(r"[!$%&'()*+,./0-9:;=A-Z\[\]_a-z~-]+")
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_NUMERIC = re.compile(r"(0x[0-9a-f]*|[0-9]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class AddressRule:
    """Exactly one of `host`, `network` and `url`. Without `ports` any port is covered."""

    text: str
    host: str = ""  # canonical name or address; "*" any name; "*.domain" every name below it
    network: Network | None = None
    url: SplitResult | None = None
    ports: tuple[tuple[int, int], ...] = ()

    def covers(self, host: str, port: int | None) -> bool:
        """`port` is None where none is known: then only a rule for every port covers it."""
        if self.url is not None or not self._port(port):
            return False
        address, name = address_of(host), canonical_host(host)
        if self.network is not None:
            return address is not None and address in self.network
        if address is None and not is_host_name(host):
            return False
        if address is None and self.host.startswith("*"):
            return self.host == "*" or name.endswith(self.host[1:])
        return name == self.host

    def covers_url(self, url: str) -> bool:
        parts = split_url(url)
        if parts is None:
            return False
        if self.url is None:
            port = parts.port or DEFAULT_PORTS.get(parts.scheme)
            return self.covers(parts.hostname or "", port)
        same = (parts.scheme, canonical_host(parts.hostname or ""), parts.port) == (
            self.url.scheme,
            canonical_host(self.url.hostname or ""),
            self.url.port,
        )
        return same and _below(posixpath.normpath(parts.path or "/"), self.url.path.rstrip("/") or "/")

    def _port(self, port: int | None) -> bool:
        if not self.ports:
            return True
        return port is not None and any(low <= port <= high for low, high in self.ports)


def parse_address(given: dict[str, Any]) -> AddressRule:
    """Raises ValueError."""
    ports = tuple(_ports(text) for text in given.get("ports", ()))
    text = ", ".join(str(given[key]) for key in ("host", "network", "url") if key in given)
    text += f" (ports {', '.join(str(port) for port in given['ports'])})" if ports else ""
    if "network" in given:
        return AddressRule(text, network=ipaddress.ip_network(given["network"]), ports=ports)
    if "url" in given:
        parts = split_url(given["url"])
        if parts is None or not parts.hostname:
            raise ValueError("the URL must be scheme://host/path, without user, query, fragment or `..`")
        return AddressRule(text, url=parts)
    host = given["host"]
    return AddressRule(text, host=host.lower() if host.startswith("*") else canonical_host(host), ports=ports)


def _ports(given: int | str) -> tuple[int, int]:
    low, _, high = str(given).partition("-")
    found = int(low), int(high or low)
    if not 0 <= found[0] <= found[1] <= 65535:
        raise ValueError(f"{given} is neither a port nor a range of ports such as 9000-9100")
    return found


def split_url(url: str) -> SplitResult | None:
    """None for a URL whose parts two readers might see differently: such a one is covered by no rule."""
    if not _PLAIN_URL.fullmatch(url):
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    segments = unquote(parts.path).split("/")
    return parts if parts.hostname and ".." not in segments and "%" not in unquote(parts.path) else None


def address_of(host: str) -> IpAddress | None:
    try:
        found = ipaddress.ip_address(canonical_host(host))
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found


def is_host_name(host: str) -> bool:
    """Not `127.1`, `0x7f000001` or `2130706433`, which the system takes for addresses, in no alphabet."""
    plain = _NAME.fullmatch(host) is not None
    return plain and not _NUMERIC.fullmatch(host.rstrip(".").rpartition(".")[2])


@dataclass(frozen=True, slots=True)
class PathRule:
    """A directory (or file) and everything below it. A relative one is only for relative paths."""

    path: str

    def covers(self, path: str) -> bool:
        """By its text, and by where symbolic links lead. An absolute path is looked at on the disk."""
        same_kind = os.path.isabs(path) == os.path.isabs(self.path)
        if not same_kind or not _below(posixpath.normpath(path), self.path):
            return False
        return not os.path.isabs(path) or _below(os.path.realpath(path), os.path.realpath(self.path))

    def holds(self, real: str) -> bool:
        """Of a path that has been resolved already."""
        return _below(real, os.path.realpath(self.path))


def parse_path(text: str) -> PathRule:
    return PathRule(posixpath.normpath(text))


def _below(path: str, root: str) -> bool:
    return root in (path, ".") or path.startswith(root.rstrip("/") + "/")


def name_covered(name: str, patterns: Iterable[str]) -> bool:
    """A pattern is a name, or the beginning of names and a `*`."""
    return any(
        name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern for pattern in patterns
    )


def is_program(path: str) -> bool:
    return path.startswith("/") and ".." not in path.split("/") and not path.endswith("/")
