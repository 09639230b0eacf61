"""Names and licences of what this program is made with, from the metadata of the installed packages."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from importlib import metadata

PROGRAM = "lanesync"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_CLASSIFIER = "License :: "


def third_party() -> list[dict[str, str]]:
    """`name`, `version` and `license` of each, by name. Reads files: for a thread."""
    found = {"python": {"name": "Python", "version": platform.python_version(), "license": "PSF-2.0"}}
    for package in _needed():
        name = package.metadata["Name"]
        found[name.lower()] = {"name": name, "version": package.version, "license": _license(package)}
    return [found[key] for key in sorted(found)]


def _needed() -> Iterator[metadata.Distribution]:
    """The packages that the program needs, and those that they need."""
    waiting, seen = [PROGRAM], {PROGRAM}
    while waiting:
        name = waiting.pop()
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # needed on other platforms only
        if name != PROGRAM:
            yield package
        for requirement in package.requires or ():
            match = _NAME.match(requirement)
            if match is None or "extra ==" in requirement:
                continue
            needed = re.sub(r"[-_.]+", "-", match[0]).lower()
            if needed not in seen:
                seen.add(needed)
                waiting.append(needed)


def _license(package: metadata.Distribution) -> str:
    about = package.metadata
    for field in ("License-Expression", "License"):
        stated = str((about.get_all(field) or [""])[0]).strip()
        if stated and "\n" not in stated:  # some put the whole text there
            return stated
    classified = [text for text in about.get_all("Classifier") or () if text.startswith(_CLASSIFIER)]
    return ", ".join(text.rpartition(" :: ")[2] for text in classified) or "see the package"
