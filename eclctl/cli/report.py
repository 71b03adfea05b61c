"""`eclctl report`: rules, images, keys and recent decisions, as a page to keep or as JSON."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from eclctl.cli.terminal.exit_codes import FAILED, NO_RESULT, OK
from eclctl.cli.terminal.output import print_failure, print_json
from eclctl.cli.terminal.parser import Parser, timeout, whole_number
from eclctl.client import ADMIN_SOCKET, TIMEOUT, Client, ClientRequest, NoAnswerError
from eclctl.files.atomic import Existing, write_file
from eclctl.report.page import render
from eclctl.text import printable

if TYPE_CHECKING:
    import argparse

IMAGES = 10_000
DECISIONS = 200
_PAGE = 200
_AGAIN = 3
_OVERVIEW = """Writes what an auditor wants to keep: the policy in force and its text, what
each rule decided, how every known image stands and what it lacks, signers and
keys with their dates, exceptions, and the newest decisions of the audit log.
The page is one file that fetches nothing, is sorted by a click, and reads
without scripts.

It says which images there are and who uses them: keep it from those who may not
know. It is written for its owner alone, or with --group-readable for its group."""
_EXAMPLES = """exit status:
  0  the report is written
  1  it could not be written
  2  the command line is wrong
  3  there is no answer, or the configuration does not load

examples:
  eclctl report --html /var/lib/eclctl/report.html
  eclctl report --config /etc/eclctl/config.yaml --html audit-2026.html
  eclctl report --json | jq '.images[] | select(.stand == "pending") | .path'
"""


def run(argv: list[str]) -> int:
    """Run `eclctl report`; return its exit status."""
    parser = _parser()
    options = parser.parse_args(argv)
    if (wrong := _misused(options)) is not None:
        parser.error(wrong)
    try:
        report = _report(options)
    except NoAnswerError as error:
        print_failure("eclctl report", error, as_json=options.json)
        return NO_RESULT
    if options.json:
        print_json(report)
    if options.html is None:
        return OK
    return _write(options.html, render(report), 0o640 if options.group_readable else 0o600)


def _parser() -> Parser:
    parser = Parser("eclctl report", _OVERVIEW, _EXAMPLES)
    parser.add_argument("--html", metavar="FILE", help="write the page there")
    parser.add_argument("-j", "--json", action="store_true", help="print one JSON object")
    number, recent = whole_number(0, 999_999_999), whole_number(0, 500)  # a daemon remembers as many decisions
    text = f"at most so many images ({IMAGES})"
    parser.add_argument("--images", metavar="N", type=number, default=IMAGES, help=text)
    text = f"so many decisions, at most 500 ({DECISIONS})"
    parser.add_argument("--decisions", metavar="N", type=recent, default=DECISIONS, help=text)
    parser.add_argument("--group-readable", action="store_true", help="let the file's group read it (mode 0640)")
    parser.add_argument("--config", metavar="FILE", help="ask no daemon; verify the images in watched directories here")
    parser.add_argument("--socket", metavar="PATH", help=f"the admin socket ({ADMIN_SOCKET})")
    parser.add_argument("--timeout", metavar="SECS", type=timeout, default=TIMEOUT, help="how long to wait (40)")
    return parser


def _misused(options: argparse.Namespace) -> str | None:
    if options.html is None and not options.json:
        return "give --html FILE, --json, or both"
    if options.config is not None and options.socket is not None:
        return "--config asks no daemon; give it without --socket"
    return None


def _report(options: argparse.Namespace) -> dict[str, Any]:
    if options.config is None:
        return ask_daemon(options.socket or ADMIN_SOCKET, options.timeout, options.images, options.decisions)
    from eclctl.local.report import report_here  # noqa: PLC0415 (asking a daemon needs none of it)

    def warn(sentence: str) -> None:
        print(f"eclctl report: {sentence}", file=sys.stderr)

    return report_here(options.config, options.images, options.decisions, warn)


# -- asking a daemon -----------------------------------------------------------------------------------------------


class _ChangedError(Exception):
    """Another policy came into force between two answers."""


def ask_daemon(path: str, patience: float, images: int, decisions: int) -> dict[str, Any]:
    """Ask a daemon for all that a report consists of, under one generation of its policy.

    Raises:
        NoAnswerError: there is no daemon, or its policy changes all the time.
    """
    with Client(path, patience) as client:
        for _ in range(_AGAIN):
            try:
                return _Asking(client, path).report(images, decisions)
            except _ChangedError:
                continue
    raise NoAnswerError("changed", "the policy was replaced again and again while the report was made; try once more")


class _Asking:
    def __init__(self, client: Client, path: str) -> None:
        self._client = client
        self._path = path
        self._generation: int | None = None

    def report(self, images: int, decisions: int) -> dict[str, Any]:
        summary = self._ask("report", part="summary")
        self._generation = summary["generation"]
        listed = self._pages("images", images)
        recent = self._ask("recent", limit=decisions)["decisions"] if decisions else []
        return {
            "v": 1,
            "at": summary.pop("at"),
            "host": summary.pop("host"),
            "from": f"the daemon at {self._path}",
            "summary": summary,
            "rules": self._pages("rules"),
            "keys": self._pages("keys"),
            "files": self._pages("files"),
            "images": listed,
            "images_left_out": _left_out(summary["images"], len(listed), images),
            "unread": [],
            "decisions": recent,
            "decisions_from": summary["audit"],
        }

    def _pages(self, part: str, most: int | None = None) -> list[Any]:
        found: list[Any] = []
        after: str | None = ""
        while after is not None and (most is None or len(found) < most):
            answer = self._ask("report", part=part, after=after, limit=_PAGE)
            if answer["generation"] != self._generation:
                raise _ChangedError
            found += answer["items"]
            after = answer["next"]
        return found if most is None else found[:most]

    def _ask(self, method: str, **parameters: object) -> dict[str, Any]:
        return self._client.ask(ClientRequest(method, parameters))


def _left_out(images: dict[str, int] | None, listed: int, most: int) -> int:
    if images is None or listed < most:
        return 0
    return max(0, images["approved"] + images["pending"] + images["denied"] - listed)


# -- writing -------------------------------------------------------------------------------------------------------


def _write(path: str, text: str, mode: int) -> int:
    try:
        write_file(path, text.encode("utf-8"), existing=Existing.REGULAR, mode=mode, exact_mode=True)
    except OSError as error:
        print(f"eclctl report: {printable(path)}: {error.strerror or error}", file=sys.stderr)
        return FAILED
    print(f"{printable(path)}: {len(text.encode()) / 1024:.0f} KiB", file=sys.stderr)
    return OK
