"""`eclctl keys pull`: takes a key from a keyserver into a ring, by its whole fingerprint."""

from __future__ import annotations

import argparse
import asyncio
import sys

from eclctl.cli.inputs.keyrings import add_ring_options, chosen_ring, print_warnings, remind_of_reload, ring_location
from eclctl.cli.inputs.keyservers import FULL, add_keyserver_options, chosen_keyservers, hex_digits, why_not_received
from eclctl.cli.keys.list import facts_now, key_as_json
from eclctl.cli.keys.search import search_term
from eclctl.cli.terminal.exit_codes import OK
from eclctl.cli.terminal.output import print_json
from eclctl.cli.terminal.parser import UsageError
from eclctl.cli.terminal.prompts import confirmed
from eclctl.cli.terminal.subcommands import Commands, add_command
from eclctl.config.keyservers import Keyservers
from eclctl.errors import KeyMaterialError, RemoteError
from eclctl.remote.keyservers import hkp
from eclctl.remote.keyservers.index import IndexedKey
from eclctl.sign.keyrings.keyfacts import KeyFacts
from eclctl.sign.keyrings.rings import UserRing
from eclctl.sign.keyrings.site_rings import SiteRing
from eclctl.sign.keyrings.transferable import parse_keys
from eclctl.text import printable

_EXAMPLES = """Only the key with the whole fingerprint is taken, and of it what its owner
signed; all else that a keyserver sends is ignored. A name, an address or a key
ID is looked up first. The keys found are shown with their whole fingerprints:
you confirm the one, and of several none is taken. A key on a keyserver can
carry any name, and keys in a ring are trusted: compare the fingerprint with the
owner first.

exit status: 0 the key is in the ring, 1 it is not, 2 usage, 3 when the output
cannot be written

examples:
  eclctl keys pull 8883491F4268F173C6E5DC49EDECE4F3F38D871E
  eclctl keys pull joe@site.example
  eclctl keys pull --url hkps://keys.site.example --yes F38D871E
  sudo eclctl keys pull --site 8883491F4268F173C6E5DC49EDECE4F3F38D871E
"""


def add(commands: Commands) -> None:
    """Add the command's parser to those of `eclctl keys`."""
    text = "Takes a public key from a keyserver into your ring, or the site's."
    parser = add_command(commands, "pull", text, _EXAMPLES)
    parser.add_argument("key", metavar="KEY", help="whole fingerprint; or a key ID, address or name, which you confirm")
    parser.add_argument("-y", "--yes", action="store_true", help="take the one key that is found, without asking")
    add_keyserver_options(parser)
    add_ring_options(parser)


def run(options: argparse.Namespace) -> int:
    """Run `eclctl keys pull`; return its exit status."""
    digits = hex_digits(options.key)
    whole = digits is not None and len(digits) in FULL
    if options.site and not whole:
        raise UsageError("the site's ring takes a key by its whole fingerprint alone")
    ring, keyservers = chosen_ring(options), chosen_keyservers(options)
    fingerprint = digits if digits is not None and whole else _resolved(keyservers, options.key, yes=options.yes)
    change, found, server = _pull(keyservers, ring, fingerprint)
    print_warnings(ring.warnings)
    if options.json:
        key = {**key_as_json(found), "public": change}
        print_json({"ring": ring_location(ring), "server": server, "key": key})
    else:
        _print(change, found, ring_location(ring))
    remind_of_reload(ring, changed=change != "unchanged")
    return OK


def _pull(keyservers: Keyservers, ring: UserRing | SiteRing, fingerprint: str) -> tuple[str, KeyFacts, str]:
    """Take a key into a ring; return what that changed, the key as it is in the ring, and the server it came from."""
    tried = asyncio.run(hkp.fetch(keyservers, fingerprint, ring.certificates()))
    why = why_not_received(tried, fingerprint)
    if tried.found is None:
        raise RemoteError(why)
    packets = tried.found.packets
    if set(parse_keys(packets).keys) != {fingerprint}:  # `hkp` sees to it; nothing else may ever be added
        raise RemoteError(f"{tried.found.url} sent another key than {fingerprint}")
    added = ring.add(packets)
    change = next((each.public for each in added.changes if each.fingerprint == fingerprint), "unchanged")
    keys = ring.keys()
    return change, facts_now([keys[fingerprint]], keys.values())[0], tried.found.url


def _resolved(keyservers: Keyservers, text: str, *, yes: bool) -> str:
    """Return the whole fingerprint of the one key that is meant, as the user confirms."""
    reply = asyncio.run(hkp.search(keyservers, search_term(text)))
    url, index = reply.url, reply.content
    print_warnings(reply.failed)
    digits = hex_digits(text)
    found = [key for key in index.keys if digits is None or _goes_by(key, digits)]
    if not found:
        raise RemoteError(f"{url} lists no key for {text!r}")
    print(f"{url} lists for {printable(text)}:", file=sys.stderr)
    for key in found:
        print(f"{key.id}  [{key.status}]", file=sys.stderr)
        for name in key.user_ids:
            print(f"    {printable(name)}", file=sys.stderr)
    if len(found) > 1 or index.more:
        raise KeyMaterialError("that may be any of several keys, and none is taken: give a whole fingerprint")
    fingerprint = found[0].fingerprint
    if fingerprint is None:
        raise KeyMaterialError(f"{url} names no whole fingerprint of {found[0].id}: ask the owner for it")
    answer = True if yes else confirmed(f"Take the key {fingerprint}, which you compared with its owner?")
    if answer is None:
        raise KeyMaterialError("there is no terminal to confirm that at: give the whole fingerprint, or --yes")
    if not answer:
        raise KeyMaterialError("the key was not taken, as you said")
    return fingerprint


def _goes_by(key: IndexedKey, digits: str) -> bool:
    """Whether a key ID is that of a key; the server may list others, such as those with a subkey of that ID."""
    return key.id[: len(digits)] == digits if len(key.id) == 64 else key.id.endswith(digits)  # noqa: PLR2004 - V6


def _print(change: str, key: KeyFacts, place: str) -> None:
    number = 1 if change == "new" else 0
    print(f"{number} key(s) added to keyring of trust {place}")
    words = {"new": "new", "updated": "updated", "unchanged": "was there already"}
    print(f"{key.fingerprint}  {words.get(change, change)}\n{printable(key.user_id)}")
    if key.problem is not None:
        print_warnings([f"{key.fingerprint}: {key.problem.message}"])
