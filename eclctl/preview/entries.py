"""The file that `eclctl policy withdraw` keeps: one more entry in it, and every other character as it was.

The file is changed as text, so that comments and order stay, and the result is read again: unless it says what the file
said before and the new entry, and nothing else, it is refused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TypeAlias

from eclctl.config.document import ListNode, MapNode, Node, Report, Scalar, is_null, read_document
from eclctl.errors import ConfigError

SORTS = ("signers", "keys", "objects", "manifests")
"""What can be withdrawn: keys of `withdrawn` in a policy."""

_HEADER = """\
# What may not run, under any rule. `eclctl policy withdraw` adds to this
# file; comments stay. To take a withdrawal back, remove its line. Either way,
# `eclctl reload` puts it into force.
version: 1
"""
_Plain: TypeAlias = "str | list[_Plain] | dict[str, _Plain]"


def with_entry(path: str, text: bytes | None, sort: str, name: str, comment: str) -> bytes | None:
    """Return the content of a policy file with one more withdrawal.

    Args:
        path: the file's, for messages.
        text: its content; None when there is no such file yet.
        sort: one of `SORTS`.
        name: the signer, key or digest.
        comment: one line that is put above the entry.

    Returns:
        The new content, or None when the file has this withdrawal already.

    Raises:
        ConfigError: the file does not load, or is written so that nothing can be added to it without changing more.
    """
    content = _HEADER.encode() if text is None else text
    root = _root(path, content)
    before = content.decode().splitlines(keepends=True)
    plain = _plain(root)
    assert isinstance(plain, dict)
    known = plain.get("withdrawn")
    listed = known.get(sort) if isinstance(known, dict) else None
    if isinstance(listed, list) and name in listed:
        return None
    place, new = _addition(path, root, before, sort, [f"# {comment}", f"- {json.dumps(name, ensure_ascii=False)}"])
    if before and not before[-1].endswith("\n"):
        before[-1] += "\n"
    after = "".join([*before[:place], *new, *before[place:]])
    wanted = {**plain, "withdrawn": {**(known if isinstance(known, dict) else {}), sort: [*(listed or []), name]}}
    report = Report()
    found = read_document(path, after.encode(), report)
    if found is None or report.errors or _plain(found) != wanted:
        raise _unfit(path, sort, name)
    return after.encode()


def _addition(path: str, root: MapNode, lines: Sequence[str], sort: str, entry: Sequence[str]) -> tuple[int, list[str]]:
    """Return before which line to put which lines."""
    key, withdrawn = _child(root, "withdrawn")
    if key is None or withdrawn is None:
        return len(lines), _indented([(0, "withdrawn:"), (2, f"{sort}:"), *((4, line) for line in entry)])
    if isinstance(withdrawn, Scalar) and is_null(withdrawn):
        return key.mark.line, _indented([(2, f"{sort}:"), *((4, line) for line in entry)])
    if not isinstance(withdrawn, MapNode) or not withdrawn.pairs:
        raise _unfit(path, sort, entry[-1])
    _, listed = _child(withdrawn, sort)
    if listed is None:
        first = withdrawn.pairs[0][0].mark.column - 1
        return key.mark.line, _indented([(first, f"{sort}:"), *((first + 2, line) for line in entry)])
    if not isinstance(listed, ListNode) or not listed.items:
        raise _unfit(path, sort, entry[-1])
    last = listed.items[-1].mark
    dash = lines[last.line - 1][: last.column - 1].rfind("-")
    if dash < 0:
        raise _unfit(path, sort, entry[-1])
    return last.line, _indented([(dash, line) for line in entry])


def _indented(lines: Sequence[tuple[int, str]]) -> list[str]:
    return [f"{' ' * depth}{line}\n" for depth, line in lines]


def _child(node: MapNode, name: str) -> tuple[Scalar | None, Node | None]:
    for key, value in node.pairs:
        if isinstance(key, Scalar) and key.text == name:
            return key, value
    return None, None


def _root(path: str, content: bytes) -> MapNode:
    report = Report()
    root = read_document(path, content, report)
    if report.errors:
        raise ConfigError(f"{report.errors[0]}")
    if not isinstance(root, MapNode):
        raise ConfigError(f"{path} is no policy: it is not a mapping")
    return root


def _plain(node: Node) -> _Plain:
    """Return what a node says, without where."""
    if isinstance(node, Scalar):
        return node.text
    if isinstance(node, ListNode):
        return [_plain(item) for item in node.items]
    return {key.text if isinstance(key, Scalar) else "": _plain(value) for key, value in node.pairs}


def _unfit(path: str, sort: str, entry: str) -> ConfigError:
    by_hand = f"write it by hand under withdrawn, {sort}: {entry}"
    return ConfigError(f"{path}: nothing can be added without changing more than that; {by_hand}")
