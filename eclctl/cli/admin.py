"""`eclctl status` and `eclctl reload`: the admin socket from the command line."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from eclctl.cli.check import seconds
from eclctl.cli.text import printable
from eclctl.client import ADMIN_SOCKET, TIMEOUT, Client, NoAnswerError, Question

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_FAILED, _NO_ANSWER = 1, 3

_STATUS_EXAMPLES = """exit status: 0 a policy is in force and the last load succeeded, 1 not so, 2 usage, 3 no answer

examples:
  eclctl status
  eclctl status --json | jq .cache
"""
_RELOAD_EXAMPLES = """exit status: 0 the new policy is in force, 1 the old one stays, 2 usage, 3 no answer

examples:
  eclctl policy check /etc/eclctl/policies.d && eclctl reload
  eclctl reload --json | jq -r '.errors[]'
"""


def status(argv: list[str]) -> int:
    """Run `eclctl status`; return its exit status."""
    options = _parser("status", "Shows what the daemon is doing.", _STATUS_EXAMPLES).parse_args(argv)
    result = _ask("status", options)
    if result is None:
        return _NO_ANSWER
    _print(result, _status_lines(result), as_json=options.json)
    last = result.get("last_reload") or {}
    return 0 if result.get("policy_loaded") and last.get("ok") else _FAILED


def reload(argv: list[str]) -> int:
    """Run `eclctl reload`; return its exit status."""
    text = "Has the daemon read policies and keyrings again. With errors, the last good policy stays in force."
    options = _parser("reload", text, _RELOAD_EXAMPLES).parse_args(argv)
    result = _ask("reload", options)
    if result is None:
        return _NO_ANSWER
    _print(result, _reload_lines(result), as_json=options.json)
    return 0 if result.get("ok") else _FAILED


def _parser(name: str, text: str, examples: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"eclctl {name}",
        description=text,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--socket", metavar="PATH", default=ADMIN_SOCKET, help="the daemon's admin socket")
    parser.add_argument("--timeout", metavar="SECS", type=seconds, default=TIMEOUT, help="how long to wait")
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


def _status_lines(result: Mapping[str, Any]) -> Iterator[str]:
    cache, waiting = result["cache"], result["waiting"]
    yield f"eclctl {_text(result['version'])}, process {result['pid']}, since {_text(result['started'])}"
    if result["policy_loaded"]:
        yield f"policy      generation {result['generation']}, loaded {_text(result['loaded_at'])}"
        yield f"            {_text(result['policy'])}"
    else:
        yield "policy      NONE: every image is denied"
    yield from _load_lines(result.get("last_reload") or {})
    yield f"clients     {result['connections']} connected, {result['in_flight']} requests in flight"
    yield f"waiting     {waiting['opening']} to be opened, {waiting['verifying']} to be verified"
    yield f"cache       {cache['entries']} images, {cache['hits']} hits, {cache['misses']} misses"
    yield f"audit log   {_text(result['audit'])}"
    for name, value in result["watch"].items():
        yield f"watch       {_text(name)}: {_text(value)}"


def _load_lines(last: Mapping[str, Any]) -> Iterator[str]:
    if last and not last.get("ok"):
        yield f"last load   FAILED {_text(last.get('at'))}"
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
