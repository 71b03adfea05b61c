"""`eclctl keys export`: writes keys of a ring to a file or to standard output."""

from __future__ import annotations

import argparse
import sys

from eclctl.cli.inputs.keyrings import add_ring_options, chosen_ring, print_warnings, ring_location
from eclctl.cli.keys.list import facts_now, key_as_json
from eclctl.cli.terminal.exit_codes import OK
from eclctl.cli.terminal.output import print_json
from eclctl.cli.terminal.parser import UsageError
from eclctl.cli.terminal.subcommands import Commands, add_command
from eclctl.errors import KeyMaterialError
from eclctl.sign.keyrings.guarded import write_new
from eclctl.sign.keyrings.rings import UserRing, only_match
from eclctl.sign.keyrings.site_rings import SiteRing
from eclctl.sign.keyrings.transferable import Protection, TransferableKey, armored
from eclctl.text import printable

_EXAMPLES = """Name a key by its fingerprint, key ID, email address or user ID. Where several
keys match, nothing is written. Only you can read a file with secret keys, from
the moment it is made. Secret keys stay protected by their passphrase.
--json goes with -o FILE.

exit status: 0 written, 1 not written, 2 usage, 3 when the output cannot be
written

examples:
  eclctl keys export --armor joe@site.example > joe.asc
  eclctl keys export -a -o joe.asc A51A441E6236763CE206A977354CB5C746F78F74
  eclctl keys export --secret --armor -o joe-secret.asc joe@site.example
  eclctl keys export --site builder@site.example | gpg --import
"""


def add(commands: Commands) -> None:
    """Add the command's parser to those of `eclctl keys`."""
    text = "Writes certificates, or secret keys, to a file or to standard output."
    parser = add_command(commands, "export", text, _EXAMPLES)
    parser.add_argument("keys", nargs="+", metavar="KEY", help="fingerprint, key ID or email address")
    parser.add_argument("-s", "--secret", "--private", action="store_true", help="the secret key, with its certificate")
    parser.add_argument("-a", "--armor", action="store_true", help="write text instead of binary data")
    parser.add_argument("-o", "--output", metavar="FILE", help="a new file; without it standard output")
    parser.add_argument("-F", "--force", action="store_true", help="replace the file if there is one")
    add_ring_options(parser)


def run(options: argparse.Namespace) -> int:
    """Run `eclctl keys export`; return its exit status."""
    if options.output is None and (options.json or options.force):
        raise UsageError(f"{'--json' if options.json else '--force'} goes with -o FILE")
    ring = chosen_ring(options)
    keys = _keys(ring, options)
    parts = [key.whole() if options.secret else key.public() for key in keys]
    data = armored(parts, secret=options.secret) if options.armor else b"".join(parts)
    if options.output is not None:
        write_new(options.output, data, 0o600 if options.secret else 0o644, overwrite=options.force)
    elif not options.armor and sys.stdout.isatty():
        raise KeyMaterialError("a terminal shows no binary keys: add --armor, or -o FILE")
    else:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    print_warnings(ring.warnings)
    unprotected = [key for key in keys if options.secret and Protection.NONE in key.protections.values()]
    text = "has secret keys without a passphrase: everyone who can read the output can use them"
    print_warnings(f"{key.fingerprint} {text}" for key in unprotected)
    if options.json:
        shown = [key_as_json(each) for each in facts_now(keys, keys)]
        place = ring_location(ring, secret=options.secret)
        print_json({"ring": place, "secret": options.secret, "file": options.output, "keys": shown})
    elif options.output is not None:
        names = ", ".join(key.fingerprint for key in keys)
        print(f"{'Secret' if options.secret else 'Public'} key {names} written to {printable(options.output)}")
    return OK


def _keys(ring: UserRing | SiteRing, options: argparse.Namespace) -> list[TransferableKey]:
    if isinstance(ring, SiteRing) and options.secret:
        raise KeyMaterialError("a site's ring has no secret keys: leave out --secret or --site")
    found = ring.secret_keys() if isinstance(ring, UserRing) and options.secret else ring.keys()
    place = ring_location(ring, secret=options.secret)
    chosen = [only_match(found.values(), name, place) for name in options.keys]
    return list({key.fingerprint: key for key in chosen}.values())
