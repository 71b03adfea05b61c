"""`eclctl keys remove`: takes a key out of a ring."""

from __future__ import annotations

import argparse
import re
import sys

from eclctl.cli.inputs.keyrings import add_ring_options, chosen_ring, print_warnings, remind_of_reload, ring_location
from eclctl.cli.terminal.exit_codes import OK
from eclctl.cli.terminal.output import print_json
from eclctl.cli.terminal.prompts import confirmed
from eclctl.cli.terminal.subcommands import Commands, add_command
from eclctl.errors import KeyMaterialError
from eclctl.sign.keyrings.rings import UserRing, matching
from eclctl.sign.keyrings.site_rings import SiteRing
from eclctl.text import printable

_FINGERPRINT = re.compile(r"(?:0[xX])?([0-9A-Fa-f]{64}|[0-9A-Fa-f]{40})")

_EXAMPLES = """Without --secret or --both only the certificate is removed. A secret key is
removed for good: you are asked first, unless --yes is given. Only a whole
fingerprint names the key.

exit status: 0 removed, 1 not removed, 2 usage, 3 when the output cannot be
written

examples:
  eclctl keys remove A51A441E6236763CE206A977354CB5C746F78F74
  eclctl keys remove --both A51A441E6236763CE206A977354CB5C746F78F74
  eclctl keys remove --secret --yes A51A441E6236763CE206A977354CB5C746F78F74
  sudo eclctl keys remove --site A51A441E6236763CE206A977354CB5C746F78F74
"""


def add(commands: Commands) -> None:
    """Add the command's parser to those of `eclctl keys`."""
    text = "Removes a certificate, a secret key or both from a ring."
    parser = add_command(commands, "remove", text, _EXAMPLES)
    parser.add_argument("fingerprint", metavar="FINGERPRINT", help="40 or 64 hex digits, with or without 0x")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("-p", "--public", action="store_true", help="remove the certificate (the default)")
    which.add_argument("-s", "--secret", "--private", action="store_true", help="remove the secret key alone")
    which.add_argument("-b", "--both", action="store_true", help="remove the secret key and the certificate")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    add_ring_options(parser)


def run(options: argparse.Namespace) -> int:
    """Run `eclctl keys remove`; return its exit status."""
    ring = chosen_ring(options)
    fingerprint = _fingerprint(ring, options.fingerprint)
    if not _agreed(ring, fingerprint, options):
        raise KeyMaterialError("nothing was removed")
    if isinstance(ring, SiteRing):
        removed = ring.remove(fingerprint)
    else:
        removed = ring.remove(fingerprint, public=not options.secret, secret=options.secret or options.both)
    print_warnings(ring.warnings)
    done = {"certificate": removed.public, "secret key": removed.secret}
    what = " and ".join(word for word in done if done[word])
    if not what:
        raise KeyMaterialError(f"{ring_location(ring, secret=options.secret)}: no key {fingerprint}")
    if options.json:
        shape = {"fingerprint": fingerprint, "public": removed.public, "secret": removed.secret}
        print_json({"ring": ring_location(ring), "removed": shape})
    else:
        print(f"Removed the {what} {fingerprint}")
    remind_of_reload(ring, changed=True)
    if isinstance(ring, UserRing) and removed.public and not removed.secret and fingerprint in ring.secret_keys():
        print("The secret key is still there: add --secret to remove it too", file=sys.stderr)
    return OK


def _fingerprint(ring: UserRing | SiteRing, text: str) -> str:
    """Return a fingerprint; anything less is refused, with those that it may mean."""
    match = _FINGERPRINT.fullmatch("".join(text.split()))
    if match is not None:
        return match[1].upper()
    found = ", ".join(key.fingerprint for key in matching(ring.keys().values(), text))
    raise KeyMaterialError(f"{text!r} is no fingerprint" + (f"; did you mean {found}?" if found else ""))


def _agreed(ring: UserRing | SiteRing, fingerprint: str, options: argparse.Namespace) -> bool:
    if not (options.secret or options.both):
        return True
    if isinstance(ring, SiteRing):
        raise KeyMaterialError("a site's ring has no secret keys: leave out --site, or --secret and --both")
    if options.yes or fingerprint not in (keys := ring.secret_keys()):
        return True
    whose = printable(", ".join(keys[fingerprint].user_ids))
    answer = confirmed(f"Remove the secret key {fingerprint} of {whose} for good?")
    if answer is None:
        raise KeyMaterialError("a secret key is removed for good, and there is no terminal to ask at: add --yes")
    return answer
