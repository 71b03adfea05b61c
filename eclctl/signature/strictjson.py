"""JSON read so that it can mean one thing only.

Two readers that disagree about a document are how a signature over one meaning is used for another: so a key that is
given twice, NaN, fractions, negative numbers, broken UTF-8 and deep nesting are refused (RFC 8259 section 4 leaves
the first to the reader). Nothing that is signed here has a use for them.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

__all__ = ["JsonError", "loads"]


class JsonError(ValueError):
    """The text is no JSON, or JSON that could be read in two ways. Never leaves `signature`."""


def loads(text: bytes) -> Any:
    """Return the value of a whole JSON text: dict, list, str, int, bool or None.

    Raises:
        JsonError: The text is not such JSON; the message says why.
    """
    try:
        return _DECODER.decode(text.decode("utf-8"))
    except JsonError:
        raise
    except UnicodeDecodeError:
        raise JsonError("not UTF-8") from None
    except RecursionError:
        raise JsonError("nested too deeply") from None
    except ValueError as error:
        raise JsonError(str(error)) from None


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


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_natural, parse_float=_refuse, parse_constant=_refuse)
