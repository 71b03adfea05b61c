"""HTML that cannot be broken out of: every text is escaped, unless it was made here."""

from __future__ import annotations

from html import escape

from eclctl.text import printable_message

_EMPTY = frozenset({"meta", "br", "hr"})


class Markup(str):
    """HTML that is safe to put into a page as it is."""

    __slots__ = ()


def html_text(value: object) -> Markup:
    """Return a value as HTML text.

    Characters that cannot be seen, or that reorder what is around them, are written as escapes: names and paths come
    from the author of the image.
    """
    return value if isinstance(value, Markup) else Markup(escape(printable_message(str(value)), quote=True))


def join(*parts: object) -> Markup:
    """Return parts one after the other."""
    return Markup("".join(html_text(part) for part in parts))


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """Return an element. An attribute of None is left out, True has no value; `class_` and `data_x` lose the line."""
    given = "".join(_attribute(key, value) for key, value in attributes.items() if value is not None)
    opening = f"<{name}{given}>"
    return Markup(opening if name in _EMPTY else f"{opening}{join(*children)}</{name}>")


def _attribute(key: str, value: object) -> str:
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html_text(value)}"'
