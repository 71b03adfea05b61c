"""`eclctl status` and `eclctl reload`: the admin socket from the command line."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from eclctl.cli.options import Parser, timeout
from eclctl.cli.text import printable
from eclctl.client import ADMIN_SOCKET, TIMEOUT, Client, NoAnswerError, Question

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_FAILED, _NO_ANSWER = 1, 3

_STATUS_EXAMPLES = """exit status:
  0  a policy is in force, and the last load succeeded
  1  there is no policy, or the last load failed
  2  the command line is wrong
  3  there is no answer

examples:
  eclctl status
  eclctl status --json | jq '.watch.trees[].last_rescan'
"""
_RELOAD_EXAMPLES = """exit status:
  0  the new policy is in force
  1  it did not load, and the old one stays
  2  the command line is wrong
  3  there is no answer

examples:
  eclctl policy check && eclctl reload
  eclctl reload --json | jq -r '.errors[]'
"""


def status(argv: list[str]) -> int:
    """Run `eclctl status`; return its exit status."""
    options = _parser("status", "Shows what the daemon is doing.", _STATUS_EXAMPLES).parse_args(argv)
    result = _ask("status", options)
    if result is None:
        return _NO_ANSWER
    _print(result, status_lines(result), as_json=options.json)
    last = result.get("last_reload") or {}
    return 0 if result.get("policy_loaded") and last.get("ok") else _FAILED


def reload(argv: list[str]) -> int:
    """Run `eclctl reload`; return its exit status."""
    text = "Has the daemon read policies and keyrings again. With errors, the last good\npolicy stays in force."
    options = _parser("reload", text, _RELOAD_EXAMPLES).parse_args(argv)
    result = _ask("reload", options)
    if result is None:
        return _NO_ANSWER
    _print(result, _reload_lines(result), as_json=options.json)
    return 0 if result.get("ok") else _FAILED


def _parser(name: str, text: str, examples: str) -> Parser:
    parser = Parser(f"eclctl {name}", text, examples)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--socket", metavar="PATH", default=ADMIN_SOCKET, help=f"the admin socket ({ADMIN_SOCKET})")
    parser.add_argument("--timeout", metavar="SECS", type=timeout, default=TIMEOUT, help="how long to wait (40)")
    return parser


def _ask(method: str, options: argparse.Namespace) -> dict[str, Any] | None:
    try:
        with Client(options.socket, options.timeout) as client:
            return client.ask(Question(method))
    except NoAnswerError as error:
        print(f"eclctl {method}: {printable(str(error))}", file=sys.stderr)
        if options.json:
            print(json.dumps({"v": 1, "error": {"code": error.code, "message": str(error)}}))
        return None


def _print(result: Mapping[str, Any], lines: Iterator[str], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"v": 1} | dict(result)).replace("\x7f", "\\u007f"))
    else:
        print("\n".join(lines))


def _text(value: object) -> str:
    return "none" if value is None else printable(str(value))


def status_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """The result of `status` for a person, its texts made safe for a terminal."""
    cache, waiting = result["cache"], result["waiting"]
    yield f"eclctl {_text(result['version'])}, process {result['pid']}, since {_when(result['started'])}"
    if result["policy_loaded"]:
        yield f"policy      generation {result['generation']}, loaded {_when(result['loaded_at'])}"
        yield f"            {_text(result['policy'])}"
    else:
        yield "policy      NONE: every image is denied"
    yield from _load_lines(result.get("last_reload") or {})
    in_flight = _count(result["in_flight"], "request")
    yield f"clients     {_count(result['connections'], 'connection')}, {in_flight} in flight, with this one"
    yield f"waiting     {_count(waiting['opening'], 'image')} to be opened, {waiting['verifying']} to be verified"
    yield f"cache       {_count(cache['entries'], 'image')}, {cache['hits']} hits, {cache['misses']} misses"
    yield f"audit log   {'none: decisions are not recorded' if result['audit'] is None else _text(result['audit'])}"
    yield from _watch_lines(result["watch"].get("trees") or [])


def _watch_lines(trees: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A table of the watched directories; the path, which has any length, comes last."""
    if not trees:
        yield "watching    nothing: images are verified when they are first asked for"
        return
    yield f"watching    {_count(len(trees), 'directory', 'directories')}"
    yield "  QUEUED  OVERDUE  BY        LAST RESCAN           TOOK      DIRECTORY"
    for tree in trees:
        overdue, took = f"{tree['overdue_seconds']:.0f} s", tree["last_rescan_seconds"]
        last = "under way" if tree["rescanning"] else _when(tree["last_rescan"])
        took = "-" if took is None else f"{took:.3f} s"
        path = _text(tree["path"]) + ("" if tree["recursive"] else " (not below)")
        yield f"  {tree['queued']:<7} {overdue:<8} {_text(tree['mode']):<9} {last:<21} {took:<9} {path}"
    if any(tree["watch_limit_reached"] for tree in trees):
        yield "  The kernel gives out no more watches (fs.inotify.max_user_watches): rescans find changes."


def _when(time: object) -> str:
    """A time of the daemon's, in whole seconds of UTC."""
    try:
        return datetime.fromisoformat(str(time)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        return "never" if time is None else _text(time)


def _count(number: int, noun: str, several: str | None = None) -> str:
    return f"{number} {noun if number == 1 else several or noun + 's'}"


def _load_lines(last: Mapping[str, Any]) -> Iterator[str]:
    if last and not last.get("ok"):
        yield f"last load   FAILED at {_when(last.get('at'))}"
    for problem in last.get("errors") or ():
        yield f"  error: {_text(problem)}"
    for problem in last.get("warnings") or ():
        yield f"  warning: {_text(problem)}"


def _reload_lines(result: Mapping[str, Any]) -> Iterator[str]:
    if result["ok"]:
        yield f"generation {result['generation']} is in force: {_text(result['policy'])}"
    elif result["policy"] is None:
        yield "the policy did not load, and there is none in force: every image is denied"
    else:
        yield f"the policy did not load; generation {result['generation']} stays in force"
    yield from (line for line in _load_lines({**result, "ok": True}))
