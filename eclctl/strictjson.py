"""JSON read so that it can mean one thing only.

Two readers that disagree about a document are how a signature over one meaning is used for another: so a key that is
given twice, NaN, fractions, negative numbers, broken UTF-8 and deep nesting are refused (RFC 8259 section 4 leaves
the first to the reader). Nothing that is signed here has a use for them, but for what people write into the free part
of a cosign payload.

Go's decoder, which launchers use, also takes a key in other letters for the one it looks for: see `variant`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NoReturn

MAX_DEPTH = 64
"""How deep arrays and objects may be nested. The interpreter's own limit varies with its version and its stack."""


class JsonError(ValueError):
    """The text is no JSON, or JSON that could be read in two ways. Never leaves the module that asked."""


class MembersError(ValueError):
    """The text is JSON with other members or values than are looked for. Never leaves the module that asked."""


def loads(text: bytes, *, any_number: bool = False) -> Any:
    """Return the value of a whole JSON text: dict, list, str, int, bool or None.

    Args:
        text: The JSON text, UTF-8.
        any_number: Also take negative numbers and fractions, which become float.

    Raises:
        JsonError: The text is not such JSON; the message says why.
    """
    decoder = _LENIENT if any_number else _DECODER
    try:
        value = decoder.decode(text.decode("utf-8"))
    except JsonError:
        raise
    except UnicodeDecodeError:
        raise JsonError("not UTF-8") from None
    except RecursionError:
        raise JsonError("nested too deeply") from None
    except ValueError as error:
        raise JsonError(str(error)) from None
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH:
        _check_depth(value)
    return value


def members(value: Any, needed: Sequence[str], allowed: Sequence[str] = ()) -> dict[str, Any]:
    """Return a JSON object that has all the needed members and no others but the allowed ones.

    Raises:
        MembersError: It is another value.
    """
    if not isinstance(value, dict):
        raise MembersError(f"an object with {', '.join(needed)} is needed")
    missing = next((name for name in needed if name not in value), None)
    if missing is not None:
        raise MembersError(f"{missing!r} is missing")
    odd = next((name for name in value if name not in needed and name not in allowed), None)
    if odd is not None:
        raise MembersError(f"{odd[:64]!r} is unknown")
    return value


def variant(members: Iterable[str], names: Collection[str]) -> str | None:
    """Return the first member that is none of `names`, but would be one in other letters.

    Go's encoding/json folds more than ASCII: U+017F is an s there and U+212A a k, as for `str.casefold`.
    """
    folded = {name.casefold() for name in names}
    return next((name for name in members if name not in names and name.casefold() in folded), None)


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        inner: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                inner.extend(each.values())
            elif isinstance(each, list):
                inner.extend(each)
        if not inner:
            return
        level = inner
    raise JsonError("nested too deeply")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise JsonError("the same key twice in one object")
    return members


def _natural(text: str) -> int:
    if text.startswith("-"):
        raise JsonError("a negative number")
    return int(text)


def _refuse(text: str) -> NoReturn:
    raise JsonError(f"the number {text[:32]}, which is no integer")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise JsonError(f"the number {text[:32]}, which is too large")
    return number


_LENIENT = json.JSONDecoder(object_pairs_hook=_object, parse_float=_finite, parse_constant=_refuse)
_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_natural, parse_float=_refuse, parse_constant=_refuse)
