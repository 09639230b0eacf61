"""The starter repository that `lanesync init` writes: the smallest useful specs, all else as comments.

A line of prose begins with `# `; a field that is off is a line whose `#` stands at the column of the fields
around it, so that taking the `#` away turns it on.
"""

from __future__ import annotations

import json
import textwrap
from typing import Any

from agent.specs.schemas import NEEDS_POLICY, UNSUPPORTED, Schema, combined, schemas
from agent.specs.starter_checks import CHECKS

SCHEMA_FILE = "lanesync.schema.json"
_HEAD = f"# yaml-language-server: $schema=../{SCHEMA_FILE}\n"

README = """\
# File delivery

What has to be where, as specs for LaneSync. Edit, review, commit; then:

    lanesync validate specs       every error at once
    lanesync plan specs           what would be done
    lanesync apply specs          do it, and exit when everything is in sync
    lanesync run specs            the service: deliver, watch, stay
    lanesync status               is everything in sync, and why not

An agent can follow this repository by itself: `lanesync run --git URL --ref main --subdir specs`.

On the host that receives:

    lanesync user add ingest --accounts /etc/lanesync/accounts
    lanesync serve --listen 0.0.0.0:8886 --receive-root /srv/incoming --accounts /etc/lanesync/accounts

It prints its public key when it listens. Key and account go into `specs/archive.yaml` (`identity`,
`credentials`). To try it on one machine, `lanesync serve --receive-root /tmp/incoming` is enough.

| file | what it is |
|---|---|
| `specs/archive.yaml` | a destination: where files go |
| `specs/documents.yaml` | a mapping: which files go there |
| `specs/more.yaml` | what else there is, all of it switched off |
| `lanesync.schema.json` | completion and checks in an editor; made by `lanesync schema` |
| `.pre-commit-config.yaml` | checks before each commit; `pre-commit install` turns it on |
| `.github/workflows/specs.yml`, `.gitlab-ci.yml` | checks of each change; keep one of them |

In the specs a line like `#priority: 10` is a field that is off: take the `#` away. Secrets never stand
here, only references to them. Keep source directories outside this repository: every `*.yaml` in it is
read as a spec, but for hidden ones. What the checks need to know (where pip gets LaneSync from, which runner
may plan) are variables; they are told of at the top of each file.

Editors with the YAML language server (VS Code with the extension YAML by Red Hat, Neovim, Emacs) complete and
check by the first line of each spec.
"""

_NOT_ALONE = frozenset({"controlServer", "marker"})
"""Fields that mean something only beside another object or field."""

GITIGNORE = "# state of an agent that runs here, and what the checks write\n.lanesync/\nplan.txt\nplan.md\n"


def starter_files() -> dict[str, str]:
    """Relative path -> content."""
    server = _document("Server", "studio", {"engine": "embedded"}, off=True)
    lanes = {"lanes": schemas()["PriorityLanes"]["properties"]["spec"]["examples"][0]["lanes"]}
    alert = schemas()["Alert"]["properties"]["spec"]["examples"][0]
    more = "#---\n".join(
        (
            server,
            _document("PriorityLanes", "studio-lanes", lanes, off=True),
            _document("Alert", "ops", alert, off=True),
            _document("Share", "review", {"mapping": "documents", "expiresIn": "7d"}, off=True),
        )
    )
    return {
        "README.md": README,
        ".gitignore": GITIGNORE,
        SCHEMA_FILE: json.dumps(combined(), indent=2, ensure_ascii=False) + "\n",
        "specs/archive.yaml": _HEAD + _document("Destination", "archive", {"address": "127.0.0.1"}),
        "specs/documents.yaml": _HEAD
        + _document(
            "Mapping", "documents", {"destination": "archive", "paths": {"/documents": "/srv/documents"}}
        ),
        "specs/more.yaml": _HEAD + more,
        **CHECKS,
    }


def _document(kind: str, name: str, given: dict[str, Any], *, off: bool = False) -> str:
    schema = schemas()[kind]
    spec = schema["properties"]["spec"]
    mark = "#" if off else ""
    lines = [f"# {schema['description']}"] if not off else [*_prose(schema["description"], "")]
    lines += [
        f"{mark}apiVersion: lanesync/v1",
        f"{mark}kind: {kind}",
        f"{mark}metadata:",
        f"{mark}  name: {name}",
    ]
    lines.append(f"{mark}spec:")
    alternatives = {key for branch in spec.get("oneOf", ()) for key in branch["required"]} - set(given)
    engine = given.get("engine")
    for key, field in spec["properties"].items():
        other_engine = engine and engine not in field.get("x-lanesync-engines", [engine])
        refused = field.get(UNSUPPORTED) or field.get(NEEDS_POLICY)
        if key in alternatives | _NOT_ALONE or refused or other_engine:
            continue
        if not lines[-1].endswith("spec:"):
            lines.append("#" if off else "")
        later = ", ".join(field.get("x-lanesync-unsupportedValues", ()))
        prose = field["description"] + (f" Not supported yet: {later}." if later else "")
        lines += _prose(prose, "#" if off else "  ", indent=off)
        text = _value(key, given.get(key), field)
        if off:
            lines += [f"#  {line}" for line in text]
        else:
            lines += [f"  {'' if key in given else '#'}{line}" for line in text]
    return "\n".join(lines) + "\n"


def _prose(text: str, margin: str, *, indent: bool = False) -> list[str]:
    lead = f"{margin}  # " if indent else f"{margin}# "
    return [f"{lead}{line}" for line in textwrap.wrap(text.replace("`", ""), 96)]


def _value(key: str, given: Any, field: Schema) -> list[str]:
    """`key: value` in YAML, block style for objects; the default or the example where none is given."""
    structured = "properties" in field and not field.get("x-lanesync-secret")
    if given is None and field.get("type") == "object" and structured:
        inner = [
            line
            for name, sub in field["properties"].items()
            if not sub.get(UNSUPPORTED)
            for line in _value(name, None, sub)
        ]
        return [f"{key}:", *(f"  {line}" for line in inner)]
    value = given if given is not None else field.get("default", field["examples"][0])
    if isinstance(value, dict):
        return [f"{key}:", *(f"  {name}: {_scalar(item)}" for name, item in value.items())]
    if isinstance(value, list) and value:
        return [f"{key}:", *(f"  - {_scalar(item)}" for item in value)]
    return [f"{key}: {_scalar(value)}"]


def _scalar(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_scalar(item)}" for key, item in value.items()) + "}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
