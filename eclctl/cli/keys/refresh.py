"""`eclctl keys refresh`: asks keyservers whether the keys of a ring were revoked, or expire at another time."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterable, Sequence

from eclctl.cli.inputs.keyrings import add_ring_options, chosen_ring, print_warnings, remind_of_reload, ring_location
from eclctl.cli.inputs.keyservers import add_keyserver_options, chosen_keyservers, why_not_received
from eclctl.cli.terminal.exit_codes import FAILED, OK
from eclctl.cli.terminal.output import print_json
from eclctl.cli.terminal.subcommands import Commands, add_command
from eclctl.config.keyservers import Keyservers
from eclctl.dataclass import dataclass
from eclctl.remote.keyservers import hkp
from eclctl.sign.keyrings.rings import UserRing, only_match
from eclctl.sign.keyrings.site_rings import SiteRing
from eclctl.signature import openpgp
from eclctl.signature.openpgp.proven import additions, serialize
from eclctl.signature.openpgp.signature import SignatureType
from eclctl.text import printable

_EXAMPLES = """Takes revocations, new expiry dates and new names that a key's owner signed. It
adds no key and no subkey that the ring does not have: that is for `keys pull`.
With `keyservers` in its configuration, the daemon refreshes the keys that its
policy uses by itself; the ring need not change for that.

exit status: 0 a keyserver answered about every key, 1 not about some, 2 usage,
3 when the output cannot be written

examples:
  eclctl keys refresh
  eclctl keys refresh joe@site.example
  sudo eclctl keys refresh --site && sudo eclctl reload
  eclctl keys refresh --url hkps://keys.site.example --json
"""

_WORDS = {
    "unchanged": "nothing new",
    "updated": "updated",
    "revoked": "REVOKED by its owner",
    "absent": "no keyserver has it",
    "failed": "no answer that can be used",
}

_AT_ONCE = 8
"""How many keys are asked about at once."""

_NEWS = ("unchanged", "updated", "revoked")
"""What is said of a key where servers say different things: the last of these."""


def add(commands: Commands) -> None:
    """Add the command's parser to those of `eclctl keys`."""
    text = "Asks keyservers for revocations and expiry of the keys in a ring."
    parser = add_command(commands, "refresh", text, _EXAMPLES)
    parser.add_argument("key", nargs="*", metavar="KEY", help="only these: fingerprint, key ID or email address")
    add_keyserver_options(parser)
    add_ring_options(parser)


@dataclass(frozen=True, slots=True)
class _Refreshed:
    """What came of one key: a word of `_WORDS`, the server that answered, and why none did."""

    fingerprint: str
    name: str
    state: str
    server: str | None = None
    why: str | None = None


def run(options: argparse.Namespace) -> int:
    """Run `eclctl keys refresh`; return its exit status."""
    ring, keyservers = chosen_ring(options), chosen_keyservers(options)
    keys, place = ring.keys(), ring_location(ring)
    named = dict.fromkeys(only_match(keys.values(), name, place).fingerprint for name in options.key)
    results = asyncio.run(_refresh(keyservers, ring, named if options.key else list(keys)))
    print_warnings(ring.warnings)
    if options.json:
        shapes = [
            {
                "fingerprint": each.fingerprint,
                "user": each.name,
                "state": each.state,
                "server": each.server,
                "why": each.why,
            }
            for each in results
        ]
        print_json({"ring": place, "keys": shapes})
    else:
        _print(results, place)
    remind_of_reload(ring, changed=any(each.state in {"updated", "revoked"} for each in results))
    return FAILED if any(each.state == "failed" for each in results) else OK


async def _refresh(keyservers: Keyservers, ring: UserRing | SiteRing, fingerprints: Iterable[str]) -> list[_Refreshed]:
    """Ask about several keys at once: a server that is silent costs its time-out once for as many."""
    own, places = ring.certificates(), asyncio.Semaphore(_AT_ONCE)

    async def one(fingerprint: str) -> _Refreshed:
        async with places:
            tried = await hkp.fetch_all(keyservers, fingerprint, own)
            return _took(ring, own, fingerprint, tried)

    return await asyncio.gather(*map(one, fingerprints))


def _took(ring: UserRing | SiteRing, own: openpgp.Keyring, fingerprint: str, tried: hkp.Tried) -> _Refreshed:
    """Take what servers say of one key into the ring; return what that came to."""
    certificate = own.get(fingerprint)
    name = "" if certificate is None else certificate.name
    if tried.found is None:
        state = "absent" if tried.absent else "failed"
        return _Refreshed(fingerprint, name, state, why=why_not_received(tried, fingerprint))
    why_not_received(tried, fingerprint)
    states = {answer.url: _take(ring, own, fingerprint, answer) for answer in tried.having}
    url = max(states, key=lambda server: _NEWS.index(states[server]))
    return _Refreshed(fingerprint, name, states[url], url)


def _take(ring: UserRing | SiteRing, own: openpgp.Keyring, fingerprint: str, answer: hkp.KeyReply) -> str:
    """Take what one server says into the ring; return what that changed."""
    new = additions(own, openpgp.Keyring.parse(answer.packets), fingerprint)
    if new is None:
        return "unchanged"
    ring.add(serialize(new))
    return "revoked" if any(body[1] == SignatureType.KEY_REVOCATION for body in new.direct) else "updated"


def _print(results: Sequence[_Refreshed], place: str) -> None:
    for each in results:
        print(f"{each.fingerprint}  {_WORDS[each.state]}\n    {printable(each.name)}")
        if each.state == "failed" and each.why:
            print_warnings([each.why])
    if not results:
        print(f"there are no keys in {place}")
