"""Spec dataclasses to JSON and back, by their type annotations.

Fields that are missing take their defaults, fields that this version does not know are left out; so specs
written by an older version can be read.
"""

from __future__ import annotations

import json
import types
from dataclasses import fields, is_dataclass
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
    return json.dumps(_encode(spec), ensure_ascii=True, sort_keys=True)


def from_json(kind: Kind, text: str) -> Spec:
    """Raises ValueError when the text is not such a spec."""
    try:
        spec: Spec = _decode(_CLASSES[kind], json.loads(text))
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not a {kind} spec: {error}") from error
    return spec


def _encode(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _encode(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [_encode(item) for item in value]
    return value


@cache
def _hints(cls: type[Any]) -> dict[str, Any]:
    return get_type_hints(cls)


def _decode(hint: Any, value: Any) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        return _decode(next(arm for arm in get_args(hint) if arm is not type(None)), value)
    if origin is tuple:
        return _decode_tuple(get_args(hint), value)
    if is_dataclass(hint):
        hints = _hints(hint)  # type: ignore[arg-type]
        return hint(**{name: _decode(hints[name], item) for name, item in value.items() if name in hints})  # type: ignore[operator]
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(value)
    return _decode_plain(hint, value)


def _decode_plain(hint: Any, value: Any) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint):
        raise TypeError(f"{type(value).__name__} where {hint.__name__} belongs")
    return value


def _decode_tuple(arms: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise TypeError(f"{type(value).__name__} where a list belongs")
    if len(arms) == 2 and arms[1] is Ellipsis:
        return tuple(_decode(arms[0], item) for item in value)
    return tuple(_decode(arm, item) for arm, item in zip(arms, value, strict=True))
