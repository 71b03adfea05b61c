"""`dataclass`, the decorator of the standard library, at a third of its cost for each type.

The standard decorator compiles six functions for a frozen type with slots, which takes 0.5 ms. A command that loads 80
types spends a third of its time there. This decorator compiles `__init__` alone; the other methods are plain functions
over the names of the fields. The standard decorator collects the fields, so that `fields`, `replace` and `asdict` work,
and it is what a type checker sees.

Not supported: order, `InitVar`, and values that contain themselves.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, asdict, field, fields, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass

__all__ = ["asdict", "dataclass", "field", "fields", "replace"]


def _dataclass(
    cls: type | None = None, /, *, frozen: bool = False, slots: bool = False, eq: bool = True
) -> type | Callable[[type], type]:
    """Make a class a dataclass; the options are those of `dataclasses.dataclass`."""
    if cls is None:
        return lambda cls: _made(cls, frozen=frozen, slots=slots, eq=eq)
    return _made(cls, frozen=frozen, slots=slots, eq=eq)


if not TYPE_CHECKING:
    dataclass = _dataclass


def _made(cls: type, *, frozen: bool, slots: bool, eq: bool) -> type:
    own = dict(vars(cls))
    cls.__doc__ = cls.__doc__ or cls.__name__  # without one the standard decorator writes a signature, which is slow
    made: Any = dataclasses.dataclass(init=False, repr=False, eq=False, slots=slots)(cls)
    all_fields = fields(made)
    made.__init__ = _init(made, all_fields, frozen=frozen)
    if "__repr__" not in own:
        made.__repr__ = _repr(tuple(each.name for each in all_fields if each.repr))
    if eq and "__eq__" not in own:
        made.__eq__, value_hash = _comparison(tuple(each.name for each in all_fields if each.compare))
        if "__hash__" not in own:
            made.__hash__ = value_hash if frozen else None
    if frozen:
        made.__setattr__, made.__delattr__ = _refuse_assignment, _refuse_deletion
    return made  # type: ignore[no-any-return]


def _init(cls: type, all_fields: tuple[Field[Any], ...], *, frozen: bool) -> Callable[..., None]:
    """Return `__init__`, which is compiled: it is called for each value, and a loop takes three times as long."""
    names: dict[str, Any] = {"MISSING": MISSING, "set_field": object.__setattr__}
    positional, keyword_only, body = ["self"], ["*"], []
    for number, each in enumerate(all_fields):
        names[f"default_{number}"], names[f"factory_{number}"] = each.default, each.default_factory
        has_factory = each.default_factory is not MISSING
        value = each.name
        if each.init:
            default = f"=default_{number}" if each.default is not MISSING else "=MISSING" if has_factory else ""
            (keyword_only if each.kw_only else positional).append(each.name + default)
            if has_factory:
                value = f"factory_{number}() if {each.name} is MISSING else {each.name}"
        elif has_factory:
            value = f"factory_{number}()"
        elif each.default is not MISSING:
            value = f"default_{number}"
        else:
            continue  # __post_init__ sets it
        body.append(f"set_field(self, {each.name!r}, {value})" if frozen else f"self.{each.name} = {value}")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    parameters = ", ".join(positional + keyword_only if len(keyword_only) > 1 else positional)
    source = f"def __init__({parameters}):\n " + "\n ".join(body or ["pass"])
    exec(source, names)  # noqa: S102 - it holds names of fields, and nothing else from elsewhere
    names["__init__"].__qualname__ = f"{cls.__qualname__}.__init__"
    return names["__init__"]  # type: ignore[no-any-return]


def _repr(names: tuple[str, ...]) -> Callable[[Any], str]:
    def represent(self: Any) -> str:
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    return represent


def _comparison(names: tuple[str, ...]) -> tuple[Callable[[Any, object], bool], Callable[[Any], int]]:
    values = operator.attrgetter(*names) if names else type

    def equal(self: Any, other: object) -> bool:
        return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

    def value_hash(self: Any) -> int:
        return hash(values(self))

    return equal, value_hash


def _refuse_assignment(_self: object, name: str, _value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_deletion(_self: object, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")
