"""`eclctl status` and `eclctl reload`: the admin socket from the command line."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from eclctl.cli.admin.status_page import load_lines, status_lines
from eclctl.cli.terminal.exit_codes import FAILED, NO_RESULT, OK
from eclctl.cli.terminal.output import print_failure, print_json
from eclctl.cli.terminal.parser import Parser, timeout
from eclctl.client import ADMIN_SOCKET, TIMEOUT, Client, ClientRequest, NoAnswerError
from eclctl.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_STATUS = """Shows on one page what the daemon is doing: the policy in force, what is wrong,
what each rule has decided since that policy came into force and how the images
that are known stand under it now, which keys expire within 30 days and how many
images that changes, what responders say, and the watched directories."""
_STATUS_EXAMPLES = """exit status:
  0  a policy is in force, and the last load succeeded
  1  there is no policy, or the last load failed
  2  the command line is wrong
  3  there is no answer

examples:
  eclctl status
  eclctl status --json | jq -r '.attention[].message'
  eclctl status --json | jq '.rules.listed[] | {name, would_deny}'
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
    options = _parser("status", _STATUS, _STATUS_EXAMPLES).parse_args(argv)
    result = _ask("status", options)
    if result is None:
        return NO_RESULT
    if options.json:
        print_json(result)
    else:
        print("\n".join(status_lines(result)))
    last = result.get("last_reload") or {}
    return OK if result.get("policy_loaded") and last.get("ok") else FAILED


def reload(argv: list[str]) -> int:
    """Run `eclctl reload`; return its exit status."""
    text = "Has the daemon read policies and keyrings again. With errors, the last good\npolicy stays in force."
    options = _parser("reload", text, _RELOAD_EXAMPLES).parse_args(argv)
    result = _ask("reload", options)
    if result is None:
        return NO_RESULT
    if options.json:
        print_json(result)
    else:
        print("\n".join(_reload_lines(result)))
    return OK if result.get("ok") else FAILED


def _parser(name: str, text: str, examples: str) -> Parser:
    parser = Parser(f"eclctl {name}", text, examples)
    parser.add_argument("-j", "--json", action="store_true", help="print one JSON object")
    parser.add_argument("--socket", metavar="PATH", default=ADMIN_SOCKET, help=f"the admin socket ({ADMIN_SOCKET})")
    parser.add_argument("--timeout", metavar="SECS", type=timeout, default=TIMEOUT, help="how long to wait (40)")
    return parser


def _ask(method: str, options: argparse.Namespace) -> dict[str, Any] | None:
    try:
        with Client(options.socket, options.timeout) as client:
            return client.ask(ClientRequest(method))
    except NoAnswerError as error:
        print_failure(f"eclctl {method}", error, as_json=options.json)
        return None


def _reload_lines(result: Mapping[str, Any]) -> Iterator[str]:
    if result["ok"]:
        yield f"generation {result['generation']} is in force: {printable(str(result['policy']))}"
    elif result["policy"] is None:
        yield "the policy did not load, and there is none in force: every image is denied"
    else:
        yield f"the policy did not load; generation {result['generation']} stays in force"
    yield from load_lines({**result, "ok": True})
