"""`eclctl keys newpair`: makes a key pair to sign with."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from contextlib import redirect_stdout
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

from eclctl.cli.inputs.keyrings import directory, print_failure, print_warnings, user_ring
from eclctl.cli.inputs.keyservers import chosen_keyservers
from eclctl.cli.keys.list import key_as_json
from eclctl.cli.keys.push import print_sent, send
from eclctl.cli.terminal.exit_codes import FAILED, OK, USAGE
from eclctl.cli.terminal.output import error_as_json
from eclctl.cli.terminal.parser import UsageError
from eclctl.cli.terminal.passphrases import VARIABLE, Passphrases, at_terminal, descriptor
from eclctl.cli.terminal.prompts import ask_line, confirmed
from eclctl.config.keyservers import Keyservers
from eclctl.errors import EclctlError, KeyMaterialError
from eclctl.sign.gnupg_keys import LENGTHS, NewKey, Pair, make_pair, problem
from eclctl.sign.keyrings.keyfacts import facts
from eclctl.sign.keyrings.rings import UserRing
from eclctl.signature import openpgp
from eclctl.text import printable

if TYPE_CHECKING:
    from eclctl.cli.terminal.parser import Parser

__all__ = ["add", "run"]

_EXPIRY = re.compile(r"([1-9][0-9]{0,4})([dwmy]?)")
_DAYS = {"": 1, "d": 1, "w": 7, "m": 30, "y": 365}
_END = datetime(2106, 1, 1, tzinfo=UTC)  # OpenPGP counts to 2106-02-07 in the 32 bits that it has for a time
_TRIES = 3

_EXAMPLES = f"""What no option says is asked for at the terminal. The passphrase is read from a
descriptor, from ${VARIABLE}, or typed twice. --password, as
SingularityCE has it, shows it to everybody who lists the processes of the host.
Nothing is sent anywhere without --push. Beside the ring's files stands what
revokes the key, FINGERPRINT.rev: keep a copy of it elsewhere.

exit status: 0 the pair is in the ring, 1 it is not (or, with --push, it was not
pushed), 2 usage, 3 when the output cannot be written

examples:
  eclctl keys newpair
  eclctl keys newpair --name "Joe User" --email joe@site.example --type ed25519
  eclctl keys newpair --name CI --email ci@site.example --expire 1y \\
      --passphrase-fd 3 3< passphrase.txt
  eclctl keys newpair --name Robot --email robot@site.example --no-passphrase
"""


def add(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command's parser to those of `eclctl keys`."""
    parser = commands.add_parser(
        "newpair",
        help="make a key pair to sign with",
        description="Makes an OpenPGP key pair, and puts it into your ring.",
        examples=_EXAMPLES,
    )
    parser.add_argument("-N", "--name", help="whose key it is")
    parser.add_argument("-E", "--email", help="their email address")
    parser.add_argument("-C", "--comment", help="a comment, as part of the user ID")
    parser.add_argument("--type", choices=("rsa", "ed25519"), default="rsa", help="rsa as SingularityCE (default)")
    parser.add_argument("-b", "--bit-length", type=_bits, metavar="BITS", help=f"for RSA: {_lengths()} (default 4096)")
    parser.add_argument("--expire", type=_days, default=0, metavar="TIME", help="as 90d, 52w, 12m, 2y (default: never)")
    secret = parser.add_mutually_exclusive_group()
    secret.add_argument(
        "--passphrase-fd", type=descriptor, metavar="N", help="read the passphrase from this descriptor"
    )
    secret.add_argument("-P", "--password", metavar="TEXT", help="the passphrase, for all to see")
    secret.add_argument("--no-passphrase", action="store_true", help="all who can read the file can sign")
    parser.add_argument(
        "-U", "--push", nargs="?", const=True, default=False, type=_truth, metavar="true|false", help="to the keyserver"
    )
    parser.add_argument("-u", "--url", metavar="URL", help="with --push: which keyserver")
    parser.add_argument(
        "--keyring-dir", type=directory, metavar="DIR", help="your ring, if it is not at its usual place"
    )
    parser.add_argument("-j", "--json", action="store_true", help="print one JSON object")


def _lengths() -> str:
    return ", ".join(map(str, LENGTHS))


def _bits(text: str) -> int:
    if text not in map(str, LENGTHS):
        raise argparse.ArgumentTypeError(f"{printable(text)} is none of {_lengths()}")
    return int(text)


def _days(text: str) -> int:
    if text in {"0", "never"}:
        return 0
    match = _EXPIRY.fullmatch(text)
    days = int(match[1]) * _DAYS[match[2]] if match else 0
    if not days:
        raise argparse.ArgumentTypeError(f"{printable(text)} is no time such as 90d, 52w, 12m or 2y")
    if days > (_END - datetime.now(UTC)).days:
        raise argparse.ArgumentTypeError(
            f"{printable(text)} leads beyond {_END.year - 1}, the last year of OpenPGP's calendar"
        )
    return days


def _truth(text: str) -> bool:
    if text.lower() not in {"true", "false", "1", "0"}:
        raise argparse.ArgumentTypeError(f"{printable(text)} is neither true nor false")
    return text.lower() in {"true", "1"}


def run(options: argparse.Namespace) -> int:
    """Run `eclctl keys newpair`; return its exit status."""
    try:
        new = _wanted(options)
        passphrase = _passphrase(options)
        ring = user_ring(options.keyring_dir)
        # An unreadable ring or keyserver setting is found before the user waits for a key.
        ring.secret_keys()
        keyservers = (
            chosen_keyservers(argparse.Namespace(url=[options.url] if options.url else [])) if options.push else None
        )
        pair, revocation = _make(new, passphrase, ring, sys.stderr if options.json else sys.stdout)
    except UsageError as error:
        print(f"eclctl keys newpair: {printable(str(error))}; `eclctl keys newpair --help` shows how", file=sys.stderr)
        return USAGE
    except EclctlError as error:
        return print_failure("newpair", error, as_json=options.json)
    print_warnings(ring.warnings)
    if options.json:
        server, failed = _push(ring, pair, keyservers, sys.stderr)
        print(json.dumps(_shape(ring, pair, revocation, server, failed)))
    else:
        _report(ring, pair, revocation)
        _, failed = _push(ring, pair, keyservers, sys.stdout)
    return OK if failed is None else FAILED


def _wanted(options: argparse.Namespace) -> NewKey:
    if options.type != "rsa" and options.bit_length:
        raise UsageError("--bit-length is for RSA keys")
    if options.url and not options.push:
        raise UsageError("--url says where to push: add --push")
    asking = at_terminal() and (options.name is None or options.email is None)
    new = NewKey(
        _answer(options.name, "Enter your name (e.g., John Doe) : ", ask=asking),
        _answer(options.email, "Enter your email address (e.g., john.doe@example.com) : ", ask=asking),
        _answer(options.comment, "Enter optional comment (e.g., development keys) : ", ask=asking),
        (options.bit_length or 4096) if options.type == "rsa" else 0,
        options.expire,
    )
    if not new.name and not new.email and not asking:
        raise UsageError("give --name or --email, or both: there is no terminal to ask at")
    if (wrong := problem(new)) is not None:
        raise UsageError(wrong)
    return new


def _answer(given: str | None, question: str, *, ask: bool) -> str:
    if given is not None or not ask:
        return given or ""
    return ask_line(question)


def _passphrase(options: argparse.Namespace) -> str | None:
    """Return what protects the key; None is for nothing, and has been agreed to.

    Raises:
        KeyMaterialError: there is none, and the user did not agree to that.
    """
    if options.no_passphrase:
        print_warnings(["the key will have no passphrase: all who can read the file can sign with it"])
        return None
    if options.password is not None:
        print_warnings(["--password shows the passphrase to everybody on this host; use --passphrase-fd"])
        found = options.password
    elif options.passphrase_fd is not None or VARIABLE in os.environ:
        found = Passphrases(options.passphrase_fd, os.environ, ask=False).get("the new key")
    else:
        found = _typed()
    if not found and not _agreed():
        raise KeyMaterialError("an empty passphrase protects nothing; if that is meant, say --no-passphrase")
    return found or None


def _typed() -> str:
    """Ask for a passphrase until it has been typed twice."""
    source = Passphrases(None, {}, ask=at_terminal())
    for _ in range(_TRIES):
        first = source.get("the new key", "Enter a passphrase : ")
        if source.get("the new key", "Retype your passphrase : ") == first:
            return first
        print("The two are not the same.", file=sys.stderr)
    raise KeyMaterialError(f"the passphrase was not typed twice the same in {_TRIES} tries")


def _agreed() -> bool:
    return bool(
        confirmed("WARNING: without a passphrase, all who can read the file can sign. Do you want to continue?")
    )


def _make(new: NewKey, passphrase: str | None, ring: UserRing, stream: TextIO) -> tuple[Pair, str]:
    """Make the pair and put it into the ring; return it, and where what revokes it is."""
    print("Generating Entity and OpenPGP Key Pair... ", end="", file=stream, flush=True)
    try:
        pair = make_pair(new, passphrase)
        revocation = ring.add_pair(pair.fingerprint, pair.secret, pair.revocation)
    except EclctlError:
        print("failed", file=stream)
        raise
    print("done", file=stream)
    return pair, revocation


def _report(ring: UserRing, pair: Pair, revocation: str) -> None:
    print(f"Fingerprint:  {pair.fingerprint}")
    print(f"Secret key:   {printable(ring.secret_path)}")
    print(f"Public key:   {printable(ring.public_path)}")
    print(f"Revocation:   {printable(revocation)}")


def _shape(
    ring: UserRing, pair: Pair, revocation: str, server: str | None, failed: EclctlError | None
) -> dict[str, object]:
    key = ring.secret_keys()[pair.fingerprint]
    found = facts(key, openpgp.Keyring.parse(pair.secret), datetime.now(UTC))
    made = {"v": 1, "ring": ring.directory, "key": key_as_json(found), "revocation": revocation, "server": server}
    return {**made, "error": None if failed is None else error_as_json(failed)}


def _push(
    ring: UserRing, pair: Pair, keyservers: Keyservers | None, stream: TextIO
) -> tuple[str | None, EclctlError | None]:
    """Push the key if that is wanted; return the server that has it, and why none does that should."""
    if keyservers is None:
        print("NOT pushing newly created key to keystore", file=stream)
        return None, None
    try:
        sent, url = send(ring, keyservers, pair.fingerprint)
    except EclctlError as error:
        print_failure("newpair", error, as_json=False)
        return None, error
    with redirect_stdout(stream):
        print_sent(sent, url)
    return url, None
