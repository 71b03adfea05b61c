"""Which hosts a rule is for: patterns for the name of this one, compared once, when the policy loads.

`*` stands for any characters of one label and `?` for one of them. A pattern without a dot is compared with the first
label of the host's name, so that `login*` is `login1` and `login1.cluster.example`; one with dots with the whole name,
label by label. Case does not matter (RFC 4343).
"""

from __future__ import annotations

import re

_PATTERN = re.compile(r"[A-Za-z0-9_*?-]{1,63}(?:\.[A-Za-z0-9_*?-]{1,63}){0,31}")


def is_pattern(text: str) -> bool:
    """Tell whether `text` is a host name, or a pattern for some."""
    return _PATTERN.fullmatch(text) is not None


def matches(pattern: str, host: str) -> bool:
    """Tell whether a host's name matches a pattern for which `is_pattern` is true."""
    wanted, named = pattern.lower().split("."), host.lower().rstrip(".").split(".")
    if len(wanted) == 1:
        named = named[:1]
    return len(wanted) == len(named) and all(map(_label, wanted, named))


def _label(pattern: str, label: str) -> bool:
    # One run of `*` at a time takes the earliest match: linear for any pattern.
    parts = [re.escape(part).replace(r"\?", ".") for part in re.split(r"\*+", pattern)]
    first, *rest = parts
    if not rest:
        return re.fullmatch(first, label) is not None
    middle = "".join(f"(?>.*?{part})" for part in rest[:-1] if part)
    return re.fullmatch(f"{first}{middle}.*{rest[-1]}", label) is not None
