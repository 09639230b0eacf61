"""Spec dataclasses to JSON and back, by their type annotations.

Fields that are missing take their defaults, fields that this version does not know are left out; so specs
written by an older version can be read.
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable
from dataclasses import is_dataclass
from enum import Enum
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from agent.model.spec import (
    AlertSpec,
    DestinationSpec,
    Kind,
    MappingSpec,
    PriorityLanesSpec,
    ServerSpec,
    ShareSpec,
    Spec,
    as_json,
)

_CLASSES: dict[Kind, type[Any]] = {
    Kind.SERVER: ServerSpec,
    Kind.PRIORITY_LANES: PriorityLanesSpec,
    Kind.DESTINATION: DestinationSpec,
    Kind.MAPPING: MappingSpec,
    Kind.SHARE: ShareSpec,
    Kind.ALERT: AlertSpec,
}


def kind_of(spec: Spec) -> Kind:
    return next(kind for kind, cls in _CLASSES.items() if isinstance(spec, cls))


def to_json(spec: Spec) -> str:
    return as_json(spec)


def from_json(kind: Kind, text: str) -> Spec:
    """Raises ValueError when the text is not such a spec."""
    try:
        spec: Spec = _decoder(_CLASSES[kind])(json.loads(text))  # type: ignore[arg-type]
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not a {kind} spec: {error}") from error
    return spec


Decoder = Callable[[Any], Any]


@cache
def _decoder(hint: Any) -> Decoder:
    """What makes a value of this type from JSON. Made once: ten thousand specs are read at every start."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _optional(_decoder(next(arm for arm in get_args(hint) if arm is not type(None))))
    if origin is tuple:
        return _tuple(get_args(hint))
    if is_dataclass(hint):
        return _dataclass(hint)  # type: ignore[arg-type]
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint
    return _plain(hint)


def _optional(decode: Decoder) -> Decoder:
    return lambda value: None if value is None else decode(value)


def _dataclass(cls: type[Any]) -> Decoder:
    decoders = {name: _decoder(hint) for name, hint in get_type_hints(cls).items()}

    def decode(value: Any) -> Any:
        return cls(**{name: decoders[name](item) for name, item in value.items() if name in decoders})

    return decode


def _plain(hint: type[Any]) -> Decoder:
    def decode(value: Any) -> Any:
        if hint is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if not isinstance(value, hint):
            raise TypeError(f"{type(value).__name__} where {hint.__name__} belongs")
        return value

    return decode


def _tuple(arms: tuple[Any, ...]) -> Decoder:
    endless = len(arms) == 2 and arms[1] is Ellipsis
    decoders = [_decoder(arm) for arm in arms if arm is not Ellipsis]

    def decode(value: Any) -> Any:
        if not isinstance(value, list):
            raise TypeError(f"{type(value).__name__} where a list belongs")
        if endless:
            return tuple(map(decoders[0], value))
        return tuple(one(item) for one, item in zip(decoders, value, strict=True))

    return decode
