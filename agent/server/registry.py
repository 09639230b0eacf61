"""The table of API methods: how a name and JSON parameters become a call.

Methods are functions `async (session, **parameters)` marked with `@command(name)`, their parameters
annotated with the kinds of `params`. Names ending in `Async` come from the marker itself: the same function
under its blocking name, and run as a request under the `Async` name.
"""

from __future__ import annotations

import difflib
import inspect
import types
import typing
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from agent.jetstream.constants import ERROR_INVALID_PARAMS, ERROR_METHOD_NOT_FOUND
from agent.server.errors import RpcError
from agent.server.params import Convert

Function = Callable[..., Awaitable[Any]]
F = TypeVar("F", bound=Function)
_MISSING = inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    default: Any
    convert: Convert


@dataclass(frozen=True, slots=True)
class Command:
    """One method of the API. `check` (async-named ones only) runs before the request is queued, so that
    what is plainly wrong is refused at the call."""

    name: str
    function: Function
    parameters: tuple[Parameter, ...]
    queued: bool = False
    check: Function | None = None
    waits: bool = False  # changes nothing, may take for ever: dropped when its caller leaves

    def bind(self, params: object) -> dict[str, Any]:
        """Typed arguments from a JSON object or array; RpcError (-32602) naming what is wrong."""
        given = self._named(params)
        bound: dict[str, Any] = {}
        for parameter in self.parameters:
            value = given.get(parameter.name)
            if value is None:
                if parameter.default is _MISSING:
                    raise self._invalid(f"{parameter.name} is missing")
                bound[parameter.name] = parameter.default
                continue
            try:
                bound[parameter.name] = parameter.convert(value)
            except ValueError as error:
                raise self._invalid(f"{parameter.name} must be {error}", parameter.name) from None
        return bound

    def _named(self, params: object) -> Mapping[str, Any]:
        names = [parameter.name for parameter in self.parameters]
        if params is None:
            return {}
        if isinstance(params, list):
            if len(params) > len(names):
                raise self._invalid(f"takes at most {len(names)} parameters: {', '.join(names) or 'none'}")
            return dict(zip(names, params, strict=False))
        if not isinstance(params, dict):
            raise self._invalid("params must be an object or an array")
        for name in params:
            if name not in names:
                raise self._invalid(f"has no parameter {name[:80]!r}{hint(name, names)}", name[:80])
        return params

    def _invalid(self, text: str, parameter: str | None = None) -> RpcError:
        data: dict[str, object] = {"method": self.name}
        if parameter is not None:
            data["parameter"] = parameter
        return RpcError(ERROR_INVALID_PARAMS, f"{self.name}: {text}", data)


@dataclass(frozen=True, slots=True)
class _Mark:
    name: str
    twin: bool
    check: str | None
    waits: bool


def command(
    name: str, *, twin: bool = False, check: str | None = None, waits: bool = False
) -> Callable[[F], F]:
    """Mark a method as API method `name`; with `twin` also as `nameAsync`, `check` naming the method of the
    same class that refuses early."""

    def mark(function: F) -> F:
        function.__dict__["command_mark"] = _Mark(name, twin, check, waits)
        return function

    return mark


class Registry:
    """All methods of a server by name."""

    def __init__(self) -> None:
        self._commands: dict[str, Command] = {}

    def add_all(self, instance: object) -> None:
        """Register every marked method of `instance`."""
        for _, function in inspect.getmembers(instance, inspect.ismethod):
            mark = function.__func__.__dict__.get("command_mark")
            if isinstance(mark, _Mark):
                self._add(instance, mark, function)

    def _add(self, instance: object, mark: _Mark, function: Function) -> None:
        parameters = _parameters(function)
        self._commands[mark.name] = Command(mark.name, function, parameters, waits=mark.waits)
        if mark.twin:
            name = mark.name + "Async"
            check = None if mark.check is None else getattr(instance, mark.check)
            self._commands[name] = Command(name, function, parameters, queued=True, check=check)

    def find(self, name: str) -> Command:
        """RpcError (-32601) with the nearest known name when there is none."""
        found = self._commands.get(name)
        if found is None:
            known = list(self._commands)
            raise RpcError(
                ERROR_METHOD_NOT_FOUND,
                f"there is no method {name[:80]!r}{hint(name, known)}",
                {"method": name[:80]},
            )
        return found

    def names(self) -> list[str]:
        return sorted(self._commands)


def hint(name: str, known: list[str]) -> str:
    """`; did you mean 'x'?` or nothing."""
    near = difflib.get_close_matches(name[:80], known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _parameters(function: Function) -> tuple[Parameter, ...]:
    signature = inspect.signature(function)
    hints = typing.get_type_hints(function, include_extras=True)
    return tuple(
        Parameter(name, parameter.default, _converter(hints[name]))
        for name, parameter in signature.parameters.items()
        if name != "session"
    )


def _converter(annotation: Any) -> Convert:
    """The `Convert` of `Kind` or `Kind | None`."""
    candidates = [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        candidates = list(typing.get_args(annotation))
    for candidate in candidates:
        for metadata in getattr(candidate, "__metadata__", ()):
            if isinstance(metadata, Convert):
                return metadata
    raise TypeError(f"parameter kind {annotation!r} has no converter")
