"""The policy: what specs may name. A YAML file outside of the specs, in the hands of who runs the machine.

Whoever can push specs must not thereby own the machine. With a policy everything is refused that it does not
allow; without one commands are refused, and the rest is left to the specs. `permitted.py` applies it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from agent.model.outcome import PolicyError
from agent.model.units import parse_duration
from agent.specs.check import check_policy
from agent.specs.errors import SpecError
from agent.specs.places import Path, at, path_text
from agent.specs.policy_rules import AddressRule, PathRule, is_program, parse_address, parse_path
from agent.specs.webhooks import WebhookRule, parse_webhook
from agent.specs.yamltext import Node, documents

MAX_POLICY = 2**20
Rule = TypeVar("Rule")


@dataclass(frozen=True, slots=True)
class Command:
    """A program that the agent may run. `environment`: variables of the agent that it gets to see."""

    argv: tuple[str, ...]
    timeout: float  # seconds
    environment: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    file: str
    sources: tuple[PathRule, ...] = ()
    files: tuple[PathRule, ...] = ()
    receive_roots: tuple[PathRule, ...] = ()
    addresses: tuple[AddressRule, ...] = ()
    listen: tuple[AddressRule, ...] = ()
    env: tuple[str, ...] = ()  # names; one that ends with * stands for all that begin so
    credentials: tuple[str, ...] = ()
    commands: tuple[Command, ...] = ()  # that print a secret
    hooks: dict[str, Command] = field(default_factory=dict)
    webhooks: tuple[WebhookRule, ...] = ()
    release: tuple[PathRule, ...] = ()

    def releases(self, place: str) -> bool:
        """Whether files may be deleted in a directory, which has no symbolic link in its path."""
        return any(rule.holds(place) for rule in self.release)

    def command(self, argv: Sequence[str]) -> Command | None:
        """The command with exactly these arguments."""
        return next((command for command in self.commands if command.argv == tuple(argv)), None)


def load_policy(path: str, specs: Sequence[str] = ()) -> Policy:
    """Raises PolicyError: unreadable, writable for everybody, invalid, or one of the `specs` itself."""
    real = os.path.realpath(path)
    for place in map(os.path.realpath, specs):
        if real == place or real.startswith(place.rstrip("/") + "/"):
            raise PolicyError(
                f"the policy {path} lies among the specs that it bounds; keep it where specs cannot change it"
            )
    errors: list[SpecError] = []

    def report_yaml(line: int, column: int, message: str) -> None:
        errors.append(SpecError(path, line, column, "", message))

    found = [root for root, _ in documents(_read(path), report_yaml)]
    if not errors and len(found) != 1:
        errors.append(SpecError(path, 0, 0, "", f"must hold one document, of kind Policy; has {len(found)}"))
    policy = _build(path, found[0], errors) if found and not errors else None
    if errors or policy is None:
        raise PolicyError("the policy cannot be used: " + "; ".join(str(e) for e in sorted(errors)[:20]))
    return policy


def _read(path: str) -> bytes:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise PolicyError(f"the policy {path} is not a regular file")
            if status.st_mode & stat.S_IWOTH:
                raise PolicyError(f"the policy {path} can be written by everybody; chmod o-w it")
            data = file.read(MAX_POLICY + 1)
    except OSError as error:
        raise PolicyError(f"the policy {path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_POLICY:
        raise PolicyError(
            f"the policy {path} is larger than {MAX_POLICY // 2**20} MiB; is it the right file?"
        )
    return data


def _build(path: str, root: Node, errors: list[SpecError]) -> Policy | None:
    def report(node: Node, place: tuple[int, int] | None, where: Path, message: str) -> None:
        line, column = place or (node.line, node.column)
        errors.append(SpecError(path, line, column, path_text(where), message))

    def fail(where: Path, message: str) -> None:
        report(at(root, where), None, where, message)

    check_policy(root, report)
    if errors:
        return None
    spec = root.data["spec"]
    secrets = spec.get("secrets", {})
    return Policy(
        os.path.abspath(path),
        sources=_paths(spec, "sources"),
        files=_paths(spec, "files"),
        receive_roots=_paths(spec, "receiveRoots"),
        addresses=_each(spec, "addresses", parse_address, fail),
        listen=_each(spec, "listen", parse_address, fail),
        env=tuple(secrets.get("env", ())),
        credentials=tuple(secrets.get("credentials", ())),
        commands=tuple(
            _command(("spec", "secrets", "commands", number), given, fail)
            for number, given in enumerate(secrets.get("commands", ()))
        ),
        hooks={
            name: _command(("spec", "hooks", name), given, fail)
            for name, given in spec.get("hooks", {}).items()
        },
        webhooks=_each(spec, "webhooks", parse_webhook, fail),
        release=_paths(spec, "release"),
    )


def _paths(spec: dict[str, Any], name: str) -> tuple[PathRule, ...]:
    return tuple(parse_path(text) for text in spec.get(name, ()))


def _each(spec: dict[str, Any], name: str, parse: Callable[[Any], Rule], fail: Any) -> tuple[Rule, ...]:
    """The rules of one list; a wrong one is an error at its place."""
    rules = []
    for number, given in enumerate(spec.get(name, ())):
        try:
            rules.append(parse(given))
        except ValueError as error:
            fail(("spec", name, number), str(error))
    return tuple(rules)


def _command(where: Path, given: dict[str, Any], fail: Any) -> Command:
    command = Command(
        tuple(given["argv"]), parse_duration(given.get("timeout", "30s")), tuple(given.get("environment", ()))
    )
    if not is_program(command.argv[0]):
        fail((*where, "argv"), "must begin with the absolute path of a program")
    return command
