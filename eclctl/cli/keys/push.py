"""`eclctl keys push`: sends the public part of a key to a keyserver."""

from __future__ import annotations

import argparse
import asyncio

from eclctl.cli.inputs.keyrings import add_ring_options, chosen_ring, print_warnings, ring_location
from eclctl.cli.inputs.keyservers import add_keyserver_options, chosen_keyservers
from eclctl.cli.terminal.exit_codes import OK
from eclctl.cli.terminal.output import print_json
from eclctl.cli.terminal.subcommands import Commands, add_command
from eclctl.config.keyservers import Keyservers
from eclctl.errors import KeyMaterialError
from eclctl.remote.keyservers import hkp
from eclctl.sign.keyrings.rings import UserRing, only_match
from eclctl.sign.keyrings.site_rings import SiteRing
from eclctl.sign.keyrings.transferable import armored, parse_keys
from eclctl.signature import openpgp
from eclctl.signature.openpgp.proven import Proven, proven
from eclctl.text import counted, printable

_EXAMPLES = """Only the certificate is sent: names and addresses, public keys, and what the
owner signed. A keyserver shows it to the world, and most never delete anything.

exit status: 0 sent, 1 not sent, 2 usage, 3 when the output cannot be written

examples:
  eclctl keys push 8883491F4268F173C6E5DC49EDECE4F3F38D871E
  eclctl keys push joe@site.example
  eclctl keys push --url hkps://keys.site.example joe@site.example
"""


def add(commands: Commands) -> None:
    """Add the command's parser to those of `eclctl keys`."""
    text = "Sends a public key of your ring, or the site's, to a keyserver."
    parser = add_command(commands, "push", text, _EXAMPLES)
    parser.add_argument("key", metavar="KEY", help="fingerprint, key ID or email address of a key in the ring")
    add_keyserver_options(parser)
    add_ring_options(parser)


def run(options: argparse.Namespace) -> int:
    """Run `eclctl keys push`; return its exit status."""
    ring, keyservers = chosen_ring(options), chosen_keyservers(options)
    sent, url = send(ring, keyservers, options.key)
    print_warnings(ring.warnings)
    if options.json:
        names, counts = _names(sent), {"subkeys": len(sent.material.subkeys), "bytes": len(sent.packets)}
        print_json({"server": url, "fingerprint": sent.fingerprint, "users": names, **counts})
    else:
        print_sent(sent, url)
    return OK


def _names(sent: Proven) -> list[str]:
    return [name.decode("utf-8", "replace") for name in sent.material.user_ids]


def print_sent(sent: Proven, url: str) -> None:
    """Print what was sent, and where to."""
    print(f"public key {sent.fingerprint} pushed to {url} successfully")
    for name in _names(sent):
        print(f"    {printable(name)}")
    subkeys = counted(len(sent.material.subkeys), "subkey")
    print(f"    with {subkeys}, {len(sent.packets)} bytes, nothing secret")


def send(ring: UserRing | SiteRing, keyservers: Keyservers, name: str) -> tuple[Proven, str]:
    """Send the public part of a key, and warn of servers that did not take it; return what was sent, and who took it.

    Raises:
        KeyMaterialError: There is no such key, or nothing of it to send.
        RemoteError: No keyserver took it.
    """
    sent = _to_send(ring, name)
    reply = asyncio.run(hkp.submit(keyservers, armored([sent.packets], secret=False)))
    print_warnings(reply.failed)
    return sent, reply.url


def _to_send(ring: UserRing | SiteRing, name: str) -> Proven:
    """Return the part of a key that may be sent.

    Raises:
        KeyMaterialError: There is no such key, or its own signatures vouch for nothing in it.
    """
    key = only_match(ring.keys().values(), name, ring_location(ring))
    sent = proven(openpgp.Keyring.parse(key.public()), key.fingerprint, ring.certificates())
    if sent is None or not (sent.user_ids or sent.material.direct):
        raise KeyMaterialError(f"{key.fingerprint} has no user ID that its own key signed: there is nothing to send")
    if any(each.has_secret for each in parse_keys(sent.packets).keys.values()):  # what is sent has no secret packets
        raise KeyMaterialError(f"{key.fingerprint}: its secret part would have been sent")
    return sent
