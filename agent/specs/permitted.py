"""What of a spec the policy refuses: each path, address, secret and command that the spec names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from agent.model.spec import (
    AlertSpec,
    DestinationSpec,
    EngineKind,
    MappingSpec,
    Release,
    SecretRef,
    SecretSource,
    ServerSpec,
    ShareSpec,
    Spec,
)
from agent.specs.places import Path, path_text
from agent.specs.policy import Policy
from agent.specs.policy_rules import AddressRule, PathRule, name_covered

Refusal = tuple[Path, str]
"""A field, and why it is refused."""


def refusals(spec: Spec, policy: Policy | None, *, from_git: bool = False) -> Iterator[Refusal]:
    """Nothing when all is allowed. Symbolic links are followed, so that the answer may change. `from_git`:
    other people than who runs the agent may have written the spec."""
    if policy is None:
        yield from _without_policy(spec, from_git)
    else:
        match spec:
            case ServerSpec():
                yield from _server(spec, policy)
            case DestinationSpec():
                yield from _destination(spec, policy)
            case MappingSpec():
                yield from _mapping(spec, policy)
            case ShareSpec():
                yield from _secrets(spec, policy)
            case AlertSpec():
                yield from _alert(spec, policy)


def refusal_text(spec: Spec, policy: Policy | None, *, from_git: bool = False) -> str:
    """The first refusal in one line; empty when there is none."""
    found = next(refusals(spec, policy, from_git=from_git), None)
    return f"{path_text(found[0])}: {found[1]}" if found else ""


def secrets_of(spec: Spec) -> Iterator[tuple[Path, SecretRef]]:
    """Every secret reference of a spec."""
    if isinstance(spec, ServerSpec):
        for name, ref in (("password", spec.auth.password), ("token", spec.auth.token)):
            if ref is not None:
                yield ("spec", "auth", name), ref
    if isinstance(spec, DestinationSpec) and spec.credentials is not None:
        yield ("spec", "credentials", "password"), spec.credentials.password
    if isinstance(spec, ShareSpec) and spec.password is not None:
        yield ("spec", "password"), spec.password
    if isinstance(spec, AlertSpec):
        yield ("spec", "webhook", "url"), spec.webhook.url
        if spec.webhook.secret is not None:
            yield ("spec", "webhook", "secret"), spec.webhook.secret
        if spec.heartbeat is not None:
            yield ("spec", "heartbeat", "url"), spec.heartbeat.url


def hooks_of(spec: Spec) -> Iterator[tuple[Path, str]]:
    """Every hook of a spec."""
    if isinstance(spec, MappingSpec):
        for event, name in (("onDelivered", spec.hooks.on_delivered), ("onStalled", spec.hooks.on_stalled)):
            if name is not None:
                yield ("spec", "hooks", event, "command"), name


def _without_policy(spec: Spec, from_git: bool) -> Iterator[Refusal]:
    if isinstance(spec, AlertSpec) and from_git:
        message = (
            "specs from git call a web hook only when a policy allows it: list its URL in `spec.webhooks` of "
            "a file, and start with --policy"
        )
        yield ("spec", "webhook"), message
    for where, ref in secrets_of(spec):
        if ref.source is SecretSource.COMMAND:
            yield (*where, "command"), _needs_policy("spec.secrets.commands")
    for where, _ in hooks_of(spec):
        yield where, _needs_policy("spec.hooks")
    if isinstance(spec, MappingSpec) and spec.release is Release.DELETE_SOURCE:
        message = (
            "source files are deleted only when a policy allows it: list their directories in `spec.release` "
            "of a file, and start with --policy"
        )
        yield ("spec", "release"), message


def _needs_policy(rule: str) -> str:
    return (
        f"a command runs only when a policy allows it: list it in `{rule}` of a file, and start with --policy"
    )


# -- one kind each --


def _server(spec: ServerSpec, policy: Policy) -> Iterator[Refusal]:
    files = [
        (("spec", "accounts"), spec.accounts),
        (("spec", "ca") if spec.engine is EngineKind.FTS3 else ("spec", "tls", "ca"), spec.tls.ca),
        (("spec", "auth", "certificate", "cert"), spec.auth.certificate),
        (("spec", "auth", "certificate", "key"), spec.auth.key),
    ]
    match spec.engine:
        case EngineKind.EMBEDDED:
            if (spec.address, spec.port) != ("127.0.0.1", 0):
                yield from _address(policy, "listen", ("spec", "listen"), spec.address, spec.port)
            if spec.receive_root is not None:
                yield from _path(policy, "receiveRoots", ("spec", "receiveRoot"), spec.receive_root)
        case EngineKind.JETSTREAM:
            yield from _address(policy, "addresses", ("spec", "address"), spec.address, spec.port)
        case EngineKind.FTS3:
            yield from _url(policy, ("spec", "endpoint"), spec.endpoint or "")
            for storage in spec.storage:
                yield from _url(policy, ("spec", "storage"), storage.url)
    for where, file in files:
        if file is not None:
            yield from _path(policy, "files", where, file)
    yield from _secrets(spec, policy)


def _destination(spec: DestinationSpec, policy: Policy) -> Iterator[Refusal]:
    if spec.port:
        yield from _address(policy, "addresses", ("spec", "address"), spec.address, spec.port)
    else:
        yield from _url(policy, ("spec", "url"), spec.address)
    if spec.route.relay_address:
        where = ("spec", "relay", "address")
        yield from _address(policy, "addresses", where, spec.route.relay_address, spec.route.relay_port)
    yield from _secrets(spec, policy)


def _mapping(spec: MappingSpec, policy: Policy) -> Iterator[Refusal]:
    for entry in spec.paths:
        yield from _path(policy, "sources", ("spec", "paths", entry.destination), entry.source)
    if spec.release is Release.DELETE_SOURCE:
        for entry in spec.paths:
            yield from _path(policy, "release", ("spec", "release"), entry.source)
    for where, name in hooks_of(spec):
        if name not in policy.hooks:
            yield where, f"{name} is not allowed by {_by(policy, 'hooks', ', '.join(sorted(policy.hooks)))}"


def _alert(spec: AlertSpec, policy: Policy) -> Iterator[Refusal]:
    """The URL itself is a secret: it is compared with the rules when it is used."""
    if not policy.webhooks:
        yield ("spec", "webhook"), f"a web hook is not allowed by {_by(policy, 'webhooks', '')}"
    if spec.webhook.ca is not None:
        yield from _path(policy, "files", ("spec", "webhook", "ca"), spec.webhook.ca)
    yield from _secrets(spec, policy)


# -- one rule each --


def _path(policy: Policy, rule: str, where: Path, path: str) -> Iterator[Refusal]:
    rules = {
        "sources": policy.sources,
        "files": policy.files,
        "receiveRoots": policy.receive_roots,
        "release": policy.release,
    }[rule]
    if any(known.covers(path) for known in rules):
        return
    real = os.path.realpath(path) if os.path.isabs(path) else path
    what = path if real == path else f"{path}, which leads to {real},"
    yield where, f"{what} is not allowed by {_by(policy, rule, _listed(rules))}"


def _address(policy: Policy, rule: str, where: Path, host: str, port: int) -> Iterator[Refusal]:
    rules = policy.listen if rule == "listen" else policy.addresses
    if not any(known.covers(host, port) for known in rules):
        yield where, f"{host}:{port} is not allowed by {_by(policy, rule, _listed(rules))}"


def _url(policy: Policy, where: Path, url: str) -> Iterator[Refusal]:
    if not any(known.covers_url(url) for known in policy.addresses):
        yield where, f"{url} is not allowed by {_by(policy, 'addresses', _listed(policy.addresses))}"


def _secrets(spec: Spec, policy: Policy) -> Iterator[Refusal]:
    for where, ref in secrets_of(spec):
        allowed, rule, listed = _secret(ref, policy)
        if not allowed:  # what is named is not repeated: it may be a misplaced secret
            yield (*where, str(ref.source)), f"this reference is not allowed by {_by(policy, rule, listed)}"


def _secret(ref: SecretRef, policy: Policy) -> tuple[bool, str, str]:
    """(whether it is allowed, the rule that says so, what that rule allows)"""
    match ref.source:
        case SecretSource.ENV:
            return name_covered(ref.name, policy.env), "secrets.env", ", ".join(policy.env)
        case SecretSource.CREDENTIAL:
            names = policy.credentials
            return name_covered(ref.name, names), "secrets.credentials", ", ".join(names)
        case SecretSource.FILE:
            return any(known.covers(ref.name) for known in policy.files), "files", _listed(policy.files)
        case SecretSource.COMMAND:
            programs = ", ".join(sorted({command.argv[0] for command in policy.commands}))
            return policy.command(ref.argv) is not None, "secrets.commands", programs


def _listed(rules: Iterable[PathRule] | Iterable[AddressRule]) -> str:
    return ", ".join(rule.path if isinstance(rule, PathRule) else rule.text for rule in rules)


def _by(policy: Policy, rule: str, listed: str) -> str:
    return f"the policy {policy.file}: `spec.{rule}` allows {listed or 'nothing'}"
