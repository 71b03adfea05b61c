"""`eclctl check`: asks the daemon whether images may run. Parses its arguments by hand to start fast."""

from __future__ import annotations

import os
import sys

from eclctl.cli.terminal.exit_codes import ALLOW, NO_DECISION, USAGE, code_of_decision
from eclctl.client import (
    CHECK_SOCKET,
    TIMEOUT,
    ClientRequest,
    NoAnswerError,
    ask_in_order,
    open_image,
    unreadable,
    wire_path,
)

TYPE_CHECKING = False  # typing itself costs more to import than a check
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

HELP = """usage: eclctl check [OPTION]... IMAGE...
       eclctl check [OPTION]... --batch < LIST

Asks the daemon whether images may run. Each image is opened here, as you, and
the daemon decides on that open file.

  --batch         read the images' paths from standard input, one a line
  -j, --json      print one JSON object for each image, one a line
  -q, --quiet     print nothing; the exit status says it
  --role ROLE     what the image is for: rootfs (the default), overlay, data
  --socket PATH   the daemon's socket (default: /run/eclctl/eclctl.sock)
  --timeout SECS  how long to wait for an answer (default: 40)
  -h, --help      show this

exit status:
  0  every image may run
  1  an image may not run
  2  the command line is wrong
  3  there is no decision: the daemon is down, late or refused the question;
     treat it as deny

examples:
  eclctl check /srv/prod/solver.sif && singularity run /srv/prod/solver.sif
  eclctl check --json solver.sif
  find /srv/prod -name '*.sif' | eclctl check --batch --quiet || echo "not all"
"""


class _UsageError(ValueError):
    """The command line is wrong; the message says how."""


class Options:
    """What the command line asks for."""

    __slots__ = ("batch", "help", "images", "json", "quiet", "role", "socket", "timeout")

    def __init__(self) -> None:
        self.images: list[str] = []
        self.batch = self.help = self.json = self.quiet = False
        self.role = "rootfs"
        self.socket = CHECK_SOCKET
        self.timeout = TIMEOUT


_FLAGS = {
    "--batch": "batch",
    "--json": "json",
    "-j": "json",
    "--quiet": "quiet",
    "-q": "quiet",
    "--help": "help",
    "-h": "help",
}
_VALUES = ("--socket", "--role", "--timeout")


def parse_arguments(argv: list[str]) -> Options:
    """Parse the arguments after `check`.

    Raises:
        _UsageError: they are wrong.
    """
    options = Options()
    rest = iter(argv)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if argument == "--":
            options.images.extend(rest)
        elif argument in _FLAGS:
            setattr(options, _FLAGS[argument], True)
        elif name in _VALUES:
            _set(options, name, value if equals else next(rest, None))
        elif argument.startswith("-") and argument != "-":
            raise _UsageError(f"there is no option {_shown(argument)}")
        else:
            options.images.append(argument)
    _consistent(options)
    return options


def _set(options: Options, name: str, value: str | None) -> None:
    if not value:
        raise _UsageError(f"{name} needs a value")
    if name == "--timeout":
        from eclctl.text import bounded_seconds  # noqa: PLC0415 - hardly ever needed

        seconds = bounded_seconds(value)
        if seconds is None:
            raise _UsageError(f"--timeout needs a number of seconds, at most a day, not {_shown(value)}")
        options.timeout = seconds
    else:
        setattr(options, name[2:], value)


def _consistent(options: Options) -> None:
    if options.help:
        return
    if options.batch and options.images:
        raise _UsageError("with --batch the images come from standard input, not from the command line")
    if not options.batch and not options.images:
        raise _UsageError("name at least one image")
    if options.quiet and options.json:
        raise _UsageError("--quiet and --json exclude each other")
    if "" in options.images:
        raise _UsageError("an image's name is empty")


def run(argv: list[str]) -> int:
    """Run `eclctl check`; return its exit status."""
    try:
        options = parse_arguments(argv)
    except _UsageError as error:
        print(f"eclctl check: {error}; `eclctl check --help` shows how", file=sys.stderr)
        return USAGE
    if options.help:
        print(HELP, end="")
        return ALLOW
    worst = ALLOW
    for image, outcome in ask_about(_batch() if options.batch else options.images, options):
        code = NO_DECISION if isinstance(outcome, NoAnswerError) else code_of_decision(outcome.get("decision"))
        worst = max(worst, code)
        if not options.quiet:
            _print(image, outcome, as_json=options.json)
    return worst


def _batch() -> Iterator[str]:
    """The lines of standard input, as names: any byte but newline and NUL may be in one."""
    for line in sys.stdin.buffer:
        name = os.fsdecode(line.removesuffix(b"\n"))
        if name:
            yield name


def ask_about(images: Iterable[str], options: Options) -> Iterator[tuple[str, dict[str, Any] | NoAnswerError]]:
    """Ask for each image.

    Yields:
        The image's name as given, and the daemon's result, the deny that opening it gave, or why there is no decision.
    """
    asked: list[tuple[str, int | None, dict[str, Any] | None]] = []
    for outcome in ask_in_order(options.socket, _questions(images, options.role, asked), options.timeout):
        image, descriptor, refused = asked.pop(0)
        if descriptor is not None:
            os.close(descriptor)
        if refused is not None:
            yield image, refused
        elif outcome is not None:
            yield image, outcome


def _questions(
    images: Iterable[str], role: str, asked: list[tuple[str, int | None, dict[str, Any] | None]]
) -> Iterator[ClientRequest | None]:
    for image in images:
        try:
            name = wire_path(image)
            descriptor = open_image(image)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            asked.append((image, None, unreadable(error)))
            yield None
            continue
        asked.append((image, descriptor, None))
        yield ClientRequest("check", {"image": name, "role": role, "fd": True}, (descriptor,))


def _print(image: str, outcome: dict[str, Any] | NoAnswerError, *, as_json: bool) -> None:
    if as_json:
        print(_as_json(image, outcome))
    elif isinstance(outcome, NoAnswerError):
        print(f"eclctl check: no decision on {_shown(image)}: {_shown(str(outcome))}", file=sys.stderr)
    else:
        print("\n".join(_lines(image, outcome)))


def _as_json(image: str, outcome: dict[str, Any] | NoAnswerError) -> str:
    from json import dumps  # noqa: PLC0415 - only here

    if isinstance(outcome, NoAnswerError):
        fields: dict[str, Any] = {"error": {"code": outcome.code, "message": str(outcome)}}
    else:
        fields = outcome
    return dumps({"v": 1, "image": image} | fields).replace("\x7f", "\\u007f")


def _lines(image: str, result: dict[str, Any]) -> Iterator[str]:
    decision, reason = result.get("decision"), _shown(str(result.get("reason")))
    if decision == "allow":
        yield f"allow  {_shown(image)}: {reason}"
    else:
        yield f"deny   {_shown(image)}: {reason} ({_shown(str(result.get('code')))})"
    yield from (_unmet(missing) for missing in result.get("missing") or ())
    if result.get("message"):
        yield f"       {_shown(result['message'])}"


def _unmet(missing: dict[str, Any]) -> str:
    could = ", ".join(_shown(name) for name in missing["could_sign"]) or "no signer"
    stage = f"stage {_shown(str(missing['stage']))}: " if missing.get("stage") else ""
    needed = f"{_shown(missing['requirement'])}: {missing['have']} of {missing['needed']}"
    return f"       needs {stage}{needed}; {could} could sign"


def _shown(text: str) -> str:
    """Text from a file, a name or a request, made safe for a terminal."""
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    from eclctl.text import printable  # noqa: PLC0415 - hardly ever needed

    return printable(text)
