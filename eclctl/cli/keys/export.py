"""`eclctl keys export`: writes keys of a ring to a file or to standard output."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from eclctl.cli.inputs.keyrings import add_ring_options, chosen_ring, print_failure, print_warnings, ring_location
from eclctl.cli.keys.list import key_as_json
from eclctl.cli.terminal.exit_codes import OK, USAGE
from eclctl.errors import EclctlError, KeyMaterialError
from eclctl.sign.keyrings.guarded import write_new
from eclctl.sign.keyrings.keyfacts import facts
from eclctl.sign.keyrings.rings import UserRing, only_match
from eclctl.sign.keyrings.site_rings import SiteRing
from eclctl.sign.keyrings.transferable import Protection, TransferableKey, armored
from eclctl.signature import openpgp
from eclctl.text import printable

if TYPE_CHECKING:
    from eclctl.cli.terminal.parser import Parser

__all__ = ["add", "run"]

_EXAMPLES = """A key is called by its fingerprint, key ID, email address or user ID; where
several may be meant, nothing is written. A file with secret keys can be read by
you alone from the moment it is made. They stay protected by their passphrase.

exit status: 0 written, 1 not written, 2 usage, 3 when the output cannot be
written

examples:
  eclctl keys export --armor joe@site.example > joe.asc
  eclctl keys export -a -o joe.asc A51A441E6236763CE206A977354CB5C746F78F74
  eclctl keys export --secret --armor -o joe-secret.asc joe@site.example
  eclctl keys export --site builder@site.example | gpg --import
"""


def add(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command's parser to those of `eclctl keys`."""
    parser = commands.add_parser(
        "export",
        help="write keys of a ring to a file",
        description="Writes certificates, or secret keys, to a file or to standard output.",
        examples=_EXAMPLES,
    )
    parser.add_argument("keys", nargs="+", metavar="KEY", help="fingerprint, key ID or email address")
    parser.add_argument("-s", "--secret", "--private", action="store_true", help="the secret key, with its certificate")
    parser.add_argument("-a", "--armor", action="store_true", help="as text; without it binary")
    parser.add_argument("-o", "--output", metavar="FILE", help="a new file; without it standard output")
    parser.add_argument("-F", "--force", action="store_true", help="replace the file if there is one")
    add_ring_options(parser)
    parser.add_argument("-j", "--json", action="store_true", help="with -o FILE: print one JSON object")
    parser.set_defaults(prog=parser.prog)


def run(options: argparse.Namespace) -> int:
    """Run `eclctl keys export`; return its exit status."""
    if options.output is None and (options.json or options.force):
        option = "--json" if options.json else "--force"
        print(f"{options.prog}: {option} goes with -o FILE", file=sys.stderr)
        return USAGE
    try:
        ring = chosen_ring(options)
        keys = _keys(ring, options)
        data = _data(keys, options)
        if options.output is None:
            _print(data, options)
        else:
            write_new(options.output, data, 0o600 if options.secret else 0o644, overwrite=options.force)
    except EclctlError as error:
        return print_failure("export", error, as_json=options.json)
    print_warnings([*ring.warnings, *(_unprotected(key) for key in keys if options.secret and _is_unprotected(key))])
    if options.json:
        print(json.dumps(_shape(ring, keys, options)))
    elif options.output is not None:
        names = ", ".join(key.fingerprint for key in keys)
        print(f"{'Secret' if options.secret else 'Public'} key {names} written to {printable(options.output)}")
    return OK


def _shape(
    ring: UserRing | SiteRing, keys: Sequence[TransferableKey], options: argparse.Namespace
) -> dict[str, object]:
    now = datetime.now(UTC)
    keyring = openpgp.Keyring.parse(*(key.public() for key in keys))
    return {
        "v": 1,
        "ring": ring_location(ring, secret=options.secret),
        "secret": options.secret,
        "file": options.output,
        "keys": [key_as_json(facts(key, keyring, now)) for key in keys],
    }


def _keys(ring: UserRing | SiteRing, options: argparse.Namespace) -> list[TransferableKey]:
    if isinstance(ring, SiteRing) and options.secret:
        raise KeyMaterialError("a site's ring has no secret keys: leave out --secret or --site")
    found = ring.secret_keys() if isinstance(ring, UserRing) and options.secret else ring.keys()
    place = ring_location(ring, secret=options.secret)
    chosen = [only_match(found.values(), name, place) for name in options.keys]
    return list({key.fingerprint: key for key in chosen}.values())


def _data(keys: Sequence[TransferableKey], options: argparse.Namespace) -> bytes:
    parts = [key.whole() if options.secret else key.public() for key in keys]
    return armored(parts, secret=options.secret) if options.armor else b"".join(parts)


def _print(data: bytes, options: argparse.Namespace) -> None:
    if not options.armor and sys.stdout.isatty():
        raise KeyMaterialError("a terminal shows no binary keys: add --armor, or -o FILE")
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _is_unprotected(key: TransferableKey) -> bool:
    return Protection.NONE in key.protections.values()


def _unprotected(key: TransferableKey) -> str:
    return f"{key.fingerprint} has secret keys without a passphrase: everyone who can read the output can use them"
