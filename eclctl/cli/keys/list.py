"""`eclctl keys list`: the keys of a ring, and what is wrong with them."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from eclctl.cli.inputs.keyrings import add_ring_options, chosen_ring, print_warnings, ring_location
from eclctl.cli.terminal.exit_codes import OK
from eclctl.cli.terminal.output import finding_as_json, print_json, wrapped
from eclctl.cli.terminal.subcommands import Commands, add_command
from eclctl.errors import KeyMaterialError
from eclctl.sign.keyrings.keyfacts import KeyFacts, facts
from eclctl.sign.keyrings.rings import Keys, matching
from eclctl.sign.keyrings.site_rings import SiteRing
from eclctl.sign.keyrings.transferable import Protection, TransferableKey
from eclctl.signature import openpgp
from eclctl.text import printable

_SOON = timedelta(days=30)

_EXAMPLES = """A key with a problem has expired, is revoked, too weak, or not made for signing:
what it signs now counts for nothing.

exit status: 0 listed, even if there is none, 1 not listed, 2 usage, 3 when the
output cannot be written

examples:
  eclctl keys list
  eclctl keys list --secret
  eclctl keys list --site --json
  eclctl keys list --gnupg
  eclctl keys list joe@site.example
"""

_PROTECTIONS = {
    Protection.NONE: "NO passphrase: all who can read the file can sign",
    Protection.PASSPHRASE: "by a passphrase",
    Protection.ABSENT: "the secret part is kept elsewhere",
    Protection.CARD: "on a smart card: sign with --gnupg",
}


def add(commands: Commands) -> None:
    """Add the command's parser to those of `eclctl keys`."""
    parser = add_command(commands, "list", "Lists the keys of a ring, and what is wrong with them.", _EXAMPLES)
    parser.add_argument("key", nargs="*", metavar="KEY", help="only these: fingerprint, key ID or email address")
    parser.add_argument("-s", "--secret", "--private", action="store_true", help="list secret keys instead")
    parser.add_argument("--gnupg", action="store_true", help="list the keys of your GnuPG instead")
    add_ring_options(parser)


def run(options: argparse.Namespace) -> int:
    """Run `eclctl keys list`; return its exit status."""
    place, keys, warnings = _gnupg(options) if options.gnupg else _ring(options)
    listed = facts_now((keys[name] for name in _chosen(keys, options.key)), keys.values())
    print_warnings(warnings)
    if options.json:
        print_json({"ring": place, "secret": options.secret, "keys": [key_as_json(each) for each in listed]})
        return OK
    print(f"{'Private' if options.secret else 'Public'} key listing ({place}):\n")
    for index, key in enumerate(listed):
        print("\n".join(_lines(index, key, secret=options.secret)), end="\n\n")
    return OK


def _ring(options: argparse.Namespace) -> tuple[str, Keys, Sequence[str]]:
    ring = chosen_ring(options)
    if isinstance(ring, SiteRing):
        if options.secret:
            raise KeyMaterialError("a site's ring has no secret keys: leave out --secret or --site")
        return ring_location(ring), ring.keys(), ring.warnings
    keys = ring.secret_keys() if options.secret else ring.keys()
    return ring_location(ring, secret=options.secret), keys, ring.warnings


def _gnupg(options: argparse.Namespace) -> tuple[str, Keys, Sequence[str]]:
    from eclctl.sign.gnupg import gnupg_keys  # noqa: PLC0415 - the own rings need no GnuPG

    if options.site or options.keyring_dir:
        raise KeyMaterialError("--gnupg lists GnuPG's keys: leave out --site and --keyring-dir")
    return "GnuPG", gnupg_keys(secret=options.secret), ()


def _chosen(keys: Keys, names: Sequence[str]) -> Iterable[str]:
    if not names:
        return keys
    chosen: dict[str, None] = {}
    for name in names:
        found = matching(keys.values(), name)
        if not found:
            raise KeyMaterialError(f"there is no key {name!r}")
        chosen |= dict.fromkeys(key.fingerprint for key in found)
    return chosen


def facts_now(keys: Iterable[TransferableKey], ring: Iterable[TransferableKey]) -> list[KeyFacts]:
    """Return what is to be known of keys today; designated revokers of theirs may be in the ring."""
    keyring = openpgp.Keyring.parse(*(key.public() for key in ring))
    now = datetime.now(UTC)
    return [facts(key, keyring, now) for key in keys]


def key_as_json(key: KeyFacts) -> dict[str, Any]:
    """Return a key's shape in JSON."""
    return {
        "fingerprint": key.fingerprint,
        "user": key.user_id,
        "users": list(key.user_ids),
        "created": key.created.isoformat(),
        "expires": None if key.expires is None else key.expires.isoformat(),
        "algorithm": key.algorithm,
        "bits": key.bits,
        "signs_with": list(key.signs_with),
        "problem": finding_as_json(key.problem),
        "protection": None if key.protection is None else key.protection.value,
    }


def _lines(index: int, key: KeyFacts, *, secret: bool) -> list[str]:
    others = [user_id for user_id in key.user_ids if user_id != key.user_id]
    lines = [f"{f'{index})':<4}{'User:':<19}{printable(key.user_id)}"]
    lines += [_line("", printable(user_id)) for user_id in others]
    algorithm = "" if key.algorithm == "RSA" else f" ({key.algorithm})"  # the reference knows nothing but RSA
    lines += [
        _line("Creation time:", _time(key.created)),
        _line("Fingerprint:", key.fingerprint),
        _line("Length (in bits):", f"{key.bits or 'unknown'}{algorithm}"),
        _line("Expires:", _expiry(key)),
    ]
    if secret and key.protection is not None:
        lines += _wrapped("Protected:", _PROTECTIONS[key.protection])
    return lines if key.problem is None else [*lines, *_wrapped("Problem:", printable(key.problem.message))]


def _line(label: str, text: str) -> str:
    return f"    {label:<19}{text}"


def _wrapped(label: str, text: str) -> list[str]:
    return wrapped(text, _line(label, ""), _line("", ""))


def _time(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} +0000 UTC"


def _expiry(key: KeyFacts) -> str:
    if key.expires is None:
        return "never"
    now = datetime.now(UTC)
    soon = now < key.expires <= now + _SOON
    return _time(key.expires) + (f" (in {(key.expires - now).days} days)" if soon else "")
