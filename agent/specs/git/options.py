"""Which repository, which ref, how to show who we are. Everything that git will see is checked here. Pure."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from agent.model.printable import printable

DEFAULT_REF = "HEAD"
DEFAULT_INTERVAL = 60.0
MIN_INTERVAL = 1.0
MAX_TEXT = 4096

_SCP = re.compile(r"(?:[A-Za-z0-9._-]+@)?(?!-)[A-Za-z0-9._-]+:(?!//|:)[^\s]+\Z")
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
_BAD_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(?:/|\Z)")


class GitUsageError(ValueError):
    """The repository, the ref or the directory cannot be meant like this; the message says why."""


@dataclass(frozen=True, slots=True)
class GitOptions:
    """Checked when made; GitUsageError says what is wrong, and never shows a URL that may hold a secret."""

    url: str
    ref: str = DEFAULT_REF
    subdir: str = ""
    interval: float = DEFAULT_INTERVAL  # seconds between looks
    credentials_file: str | None = None  # in the form of git's credential store
    ssh_key: str | None = None
    keyring: str | None = None  # whose signatures are accepted; None: none is asked for

    def __post_init__(self) -> None:
        _check_url(self.url, signed=self.keyring is not None)
        _check_ref(self.ref)
        object.__setattr__(self, "subdir", _normal_subdir(self.subdir))
        if self.interval < MIN_INTERVAL:
            raise GitUsageError(f"the interval must be at least {MIN_INTERVAL:g}s")
        if self.credentials_file is not None and self.scheme not in ("https", "http"):
            raise GitUsageError("a credentials file is for https; a ssh URL takes a key")
        if self.ssh_key is not None and self.scheme != "ssh":
            raise GitUsageError("a ssh key is for a ssh URL, for example git@git.example.org:site.git")

    @property
    def scheme(self) -> str:
        """ssh, https, http, git or file: the one protocol that git is allowed to speak."""
        if self.url.startswith("/"):
            return "file"
        return urlsplit(self.url).scheme if "://" in self.url else "ssh"

    @property
    def pinned(self) -> bool:
        """The ref is a commit: it never changes."""
        return bool(_COMMIT.match(self.ref))

    def __str__(self) -> str:
        below = f", below {self.subdir}" if self.subdir else ""
        return f"{self.ref} of {printable(self.url)}{below}"


def _check_url(url: str, *, signed: bool) -> None:
    if not url or len(url) > MAX_TEXT or not url.isprintable() or url.startswith("-"):
        raise GitUsageError("this is not the URL of a repository")
    if url.startswith("/") or ("://" not in url and _SCP.match(url)):
        return
    try:
        parts = urlsplit(url)
        host, password = parts.hostname, parts.password
        _ = parts.port
    except ValueError:
        raise GitUsageError("this is not the URL of a repository") from None
    if "://" not in url or parts.scheme not in ("ssh", "https", "http", "git", "file"):
        raise GitUsageError(
            "the repository must be https://…, ssh://…, USER@HOST:PATH, file://… or an absolute path"
        )
    _check_no_secret(parts.scheme, parts.username, password, bool(parts.query or parts.fragment))
    if parts.scheme != "file" and (not host or host.startswith("-")):
        raise GitUsageError("the URL of the repository has no host")
    if parts.scheme in ("http", "git") and not signed and not _is_loopback(host or ""):
        raise GitUsageError(
            f"over {parts.scheme}:// anybody on the way decides what is delivered; "
            "use https or ssh, or ask for signed commits with --verify-signatures"
        )


def _check_no_secret(scheme: str, user: str | None, password: str | None, has_query: bool) -> None:
    """The command line and the logs show the URL: it must not hold what lets anybody in."""
    if password is not None:
        raise GitUsageError(
            "the URL holds a password, which the process list and logs would show; "
            "take it out and name a file with --git-credentials-file"
        )
    if scheme in ("https", "http", "git") and user is not None:
        raise GitUsageError(
            "the URL holds a user name, which may be a token; take it out and put user and token into a file "
            "for --git-credentials-file, as one line https://USER:TOKEN@HOST"
        )
    if has_query:
        raise GitUsageError("the URL must not have a query or fragment (`?`, `#`)")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_ref(ref: str) -> None:
    bad = _BAD_REF.search(ref) or ref.startswith(("-", "/", ".")) or ref.endswith(("/", "."))
    if not ref or len(ref) > MAX_TEXT or bad or ref == "@":
        raise GitUsageError("the ref must be a branch, a tag, or a commit with all its hex digits")


def _normal_subdir(text: str) -> str:
    """`./site//paris/` -> `site/paris`."""
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if text.startswith("/") or ".." in parts or not text.isprintable() or len(text) > MAX_TEXT:
        raise GitUsageError("the directory must be relative to the root of the repository, without `..`")
    if any(part.startswith(".") for part in parts):
        raise GitUsageError("the directory must not be hidden")
    return "/".join(parts)
