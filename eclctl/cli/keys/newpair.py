"""`eclctl keys newpair`: makes a key pair to sign with."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import redirect_stdout
from datetime import UTC, datetime
from typing import TextIO

from eclctl.cli.inputs.keyrings import directory, print_warnings, user_ring
from eclctl.cli.inputs.keyservers import chosen_keyservers
from eclctl.cli.keys.list import facts_now, key_as_json
from eclctl.cli.keys.push import print_sent, send
from eclctl.cli.terminal.exit_codes import FAILED, OK
from eclctl.cli.terminal.output import error_as_json, print_failure, print_json
from eclctl.cli.terminal.parser import UsageError
from eclctl.cli.terminal.passphrases import VARIABLE, Passphrases, at_terminal, descriptor
from eclctl.cli.terminal.prompts import ask_line, confirmed
from eclctl.cli.terminal.subcommands import Commands, add_command
from eclctl.config.keyservers import Keyservers
from eclctl.errors import EclctlError, KeyMaterialError
from eclctl.sign.gnupg_keys import LENGTHS, NewKey, Pair, make_pair, problem
from eclctl.sign.keyrings.rings import UserRing
from eclctl.text import parse_duration, printable

_DAYS = {"m": 30, "y": 365}
"""What people mean of a key's life. In a policy, m is a minute, and nothing lasts for years."""

_LENGTHS = ", ".join(map(str, LENGTHS))
_END = datetime(2106, 1, 1, tzinfo=UTC)  # OpenPGP counts to 2106-02-07 in the 32 bits that it has for a time
_TRIES = 3

_EXAMPLES = f"""What the options leave out is asked for at the terminal. The passphrase is read
from a descriptor, from ${VARIABLE}, or typed twice. --password,
which SingularityCE has, shows it to all users who list the processes of the
host. Nothing is sent without --push. The file FINGERPRINT.rev beside the ring
revokes the key: keep a copy of it elsewhere.

exit status: 0 the pair is in the ring, 1 it is not (or, with --push, it was not
pushed), 2 usage, 3 when the output cannot be written

examples:
  eclctl keys newpair
  eclctl keys newpair --name "Joe User" --email joe@site.example --type ed25519
  eclctl keys newpair --name CI --email ci@site.example --expire 1y \\
      --passphrase-fd 3 3< passphrase.txt
  eclctl keys newpair --name Robot --email robot@site.example --no-passphrase
"""


def add(commands: Commands) -> None:
    """Add the command's parser to those of `eclctl keys`."""
    parser = add_command(commands, "newpair", "Makes an OpenPGP key pair, and puts it into your ring.", _EXAMPLES)
    parser.add_argument("-N", "--name", help="name of the key's owner")
    parser.add_argument("-E", "--email", help="email address of the owner")
    parser.add_argument("-C", "--comment", help="a comment, as part of the user ID")
    parser.add_argument("--type", choices=("rsa", "ed25519"), default="rsa", help="kind of key (default: rsa)")
    parser.add_argument("-b", "--bit-length", type=_bits, metavar="BITS", help=f"for RSA: {_LENGTHS} (default 4096)")
    text = "days, weeks, months or years: 90d, 52w, 12m, 2y (default: never)"
    parser.add_argument("--expire", type=_days, default=0, metavar="TIME", help=text)
    secret = parser.add_mutually_exclusive_group()
    secret.add_argument(
        "--passphrase-fd", type=descriptor, metavar="N", help="read the passphrase from this descriptor"
    )
    secret.add_argument("-P", "--password", metavar="TEXT", help="the passphrase; other users can see it")
    secret.add_argument("--no-passphrase", action="store_true", help="none: all who can read the file can sign")
    parser.add_argument(
        "-U",
        "--push",
        nargs="?",
        const=True,
        default=False,
        type=_truth,
        metavar="true|false",
        help="send it to the keyserver",
    )
    parser.add_argument("-u", "--url", metavar="URL", help="with --push: send it to this keyserver")
    parser.add_argument("--keyring-dir", type=directory, metavar="DIR", help="your ring, if it is at another place")


def _bits(text: str) -> int:
    if text not in map(str, LENGTHS):
        raise argparse.ArgumentTypeError(f"{printable(text)} is none of {_LENGTHS}")
    return int(text)


def _days(text: str) -> int:
    if text in {"0", "never"}:
        return 0
    number, unit = (text, "d") if text.isdecimal() else (text[:-1], text[-1:])
    seconds = parse_duration(f"{number}{'d' if unit in _DAYS else unit}") or 0
    days = int(seconds) // 86400 * _DAYS.get(unit, 1)
    if not days:
        raise argparse.ArgumentTypeError(f"{printable(text)} is no time such as 90d, 52w, 12m or 2y")
    if days > (_END - datetime.now(UTC)).days:
        last = _END.year - 1
        raise argparse.ArgumentTypeError(f"{printable(text)} leads beyond {last}, the last year of OpenPGP's calendar")
    return days


def _truth(text: str) -> bool:
    if text.lower() not in {"true", "false", "1", "0"}:
        raise argparse.ArgumentTypeError(f"{printable(text)} is neither true nor false")
    return text.lower() in {"true", "1"}


def run(options: argparse.Namespace) -> int:
    """Run `eclctl keys newpair`; return its exit status."""
    new = _wanted(options)
    passphrase = _passphrase(options)
    ring = user_ring(options.keyring_dir)
    # An unreadable ring or keyserver setting is found before the user waits for a key.
    ring.secret_keys()
    urls = [options.url] if options.url else []
    keyservers = chosen_keyservers(argparse.Namespace(url=urls)) if options.push else None
    stream = sys.stderr if options.json else sys.stdout
    pair, revocation = _make(new, passphrase, ring, stream)
    print_warnings(ring.warnings)
    if not options.json:
        print(f"Fingerprint:  {pair.fingerprint}")
        print(f"Secret key:   {printable(ring.secret_path)}")
        print(f"Public key:   {printable(ring.public_path)}")
        print(f"Revocation:   {printable(revocation)}")
    server, failed = _push(ring, pair, keyservers, stream)
    if options.json:
        key = ring.secret_keys()[pair.fingerprint]
        made = {"ring": ring.directory, "key": key_as_json(facts_now([key], [key])[0]), "revocation": revocation}
        print_json({**made, "server": server, "error": None if failed is None else error_as_json(failed)})
    return OK if failed is None else FAILED


def _wanted(options: argparse.Namespace) -> NewKey:
    if options.type != "rsa" and options.bit_length:
        raise UsageError("--bit-length is for RSA keys")
    if options.url and not options.push:
        raise UsageError("--url says where to push: add --push")
    asking = at_terminal() and (options.name is None or options.email is None)

    def answer(given: str | None, question: str) -> str:
        return ask_line(question) if given is None and asking else given or ""

    new = NewKey(
        answer(options.name, "Enter your name (e.g., John Doe) : "),
        answer(options.email, "Enter your email address (e.g., john.doe@example.com) : "),
        answer(options.comment, "Enter optional comment (e.g., development keys) : "),
        (options.bit_length or 4096) if options.type == "rsa" else 0,
        options.expire,
    )
    if not new.name and not new.email and not asking:
        raise UsageError("give --name or --email, or both: there is no terminal to ask at")
    if (wrong := problem(new)) is not None:
        raise UsageError(wrong)
    return new


def _passphrase(options: argparse.Namespace) -> str | None:
    """Return what protects the key; None is for nothing, and has been agreed to.

    Raises:
        KeyMaterialError: there is none, and the user did not agree to that.
    """
    if options.no_passphrase:
        print_warnings(["the key will have no passphrase: all who can read the file can sign with it"])
        return None
    if options.password is not None:
        print_warnings(["--password shows the passphrase to all users of this host; use --passphrase-fd"])
        found = options.password
    elif options.passphrase_fd is not None or VARIABLE in os.environ:
        found = Passphrases(options.passphrase_fd, os.environ, ask=False).get("the new key")
    else:
        found = _typed()
    question = "WARNING: without a passphrase, all who can read the file can sign. Do you want to continue?"
    if not found and not confirmed(question):
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
        print_failure("eclctl keys newpair", error, as_json=False)
        return None, error
    with redirect_stdout(stream):
        print_sent(sent, url)
    return url, None
