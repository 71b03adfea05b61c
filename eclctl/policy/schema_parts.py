"""The parts that JSON Schemas of policy files are made of.

A number or a boolean is also taken where the loader sees a word: editors read YAML with types, and the loader does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Schema = dict[str, Any]
"""A JSON Schema, as JSON values."""

_LONGEST_TEXT = 4096
_DURATION = r"^[0-9]{1,9}[smhdw]$"
_PURPOSE = r"^[a-z0-9]([a-z0-9._-]{0,30}[a-z0-9])?$"


def mapping_schema(
    fields: Mapping[str, Schema],
    keys: Sequence[str],
    about: str = "",
    *,
    required: Sequence[str] = (),
    least: int = 0,
) -> Schema:
    """Return the schema of a mapping that may have `keys`; what each may be must be said in `fields`."""
    made: Schema = {"type": "object", "properties": {key: fields[key] for key in keys}, "additionalProperties": False}
    made |= {"required": list(required)} if required else {}
    made |= {"minProperties": least} if least else {}
    return made | ({"description": about} if about else {})


def mapping_of(value: Schema, about: str = "") -> Schema:
    """Return the schema of a mapping from any key to such values."""
    return {"type": "object", "additionalProperties": value} | ({"description": about} if about else {})


def list_of(item: Schema, about: str = "") -> Schema:
    """Return the schema of a list of at least one such item."""
    return {"type": "array", "items": item, "minItems": 1} | ({"description": about} if about else {})


def names_schema(about: str = "") -> Schema:
    """Return the schema of a list of names."""
    return list_of(word_schema(), about)


def word_schema(pattern: str | None = None) -> Schema:
    """Return the schema of a word: an editor may take it for something else, such as a fingerprint of digits."""
    made: Schema = {"type": ["string", "number", "boolean"], "minLength": 1}
    return made | ({"pattern": pattern} if pattern else {})


def text_schema(pattern: str | None = None, *, longest: int = _LONGEST_TEXT) -> Schema:
    """Return the schema of a text; a pattern that does not begin with `^` is its description."""
    made: Schema = {"type": ["string", "number", "boolean"], "minLength": 1, "maxLength": longest}
    if pattern is None:
        return made
    return made | ({"pattern": pattern} if pattern.startswith("^") else {"description": pattern})


def digest_schema() -> Schema:
    """Return the schema of a SHA-256 digest."""
    return {"type": "string", "pattern": r"^sha256:[0-9A-Fa-f]{64}$"}


def duration_schema(about: str) -> Schema:
    """Return the schema of a duration."""
    return {"type": "string", "pattern": _DURATION, "description": f"{about} A number and s, m, h, d or w."}


def purpose_schema() -> Schema:
    """Return the schema of a purpose."""
    return word_schema(_PURPOSE)


def one_of(values: Sequence[object], about: str = "") -> Schema:
    """Return the schema of one of some words; `off` is false to a reader of YAML 1.1, and so allowed as that, too."""
    words = [str(value) if isinstance(value, str) else value for value in values]
    words += [False] if "off" in words else []
    return {"enum": words} | ({"description": about} if about else {})
