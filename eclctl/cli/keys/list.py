"""`eclctl keys list`: the keys of a ring, and what is wrong with them."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from eclctl.cli.inputs.keyrings import add_ring_options, chosen_ring, print_failure, print_warnings, ring_location
from eclctl.cli.terminal.exit_codes import OK
from eclctl.errors import EclctlError, KeyMaterialError
from eclctl.sign.keyrings.keyfacts import KeyFacts, facts
from eclctl.sign.keyrings.rings import Keys, matching
from eclctl.sign.keyrings.site_rings import SiteRing
from eclctl.sign.keyrings.transferable import Protection
from eclctl.signature import openpgp
from eclctl.text import printable

if TYPE_CHECKING:
    from eclctl.cli.terminal.parser import Parser

__all__ = ["add", "key_as_json", "run"]

_SOON = timedelta(days=30)
_WIDTH, _INDENT = 80, 23

_EXAMPLES = """Problems are those that eclctl finds in a signature made now: a key that has
expired, is revoked, too weak, or not made for signing counts for nothing.

exit status: 0 listed (be it nothing), 1 not listed, 2 usage, 3 when the output
cannot be written

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


def add(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command's parser to those of `eclctl keys`."""
    parser = commands.add_parser(
        "list",
        help="list keys, and what is wrong with them",
        description="Lists the public keys of your ring, or others.",
        examples=_EXAMPLES,
    )
    parser.add_argument("key", nargs="*", metavar="KEY", help="only these: fingerprint, key ID or email address")
    parser.add_argument("-s", "--secret", "--private", action="store_true", help="secret keys instead")
    parser.add_argument("--gnupg", action="store_true", help="the keys of your GnuPG instead")
    add_ring_options(parser)
    parser.add_argument("-j", "--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Run `eclctl keys list`; return its exit status."""
    now = datetime.now(UTC)
    try:
        place, keys, warnings = _gnupg(options) if options.gnupg else _ring(options)
        keyring = openpgp.Keyring.parse(*(key.public() for key in keys.values()))
        chosen = _chosen(keys, options.key)
        listed = [facts(keys[name], keyring, now) for name in chosen]
    except EclctlError as error:
        return print_failure("list", error, as_json=options.json)
    print_warnings(warnings)
    if options.json:
        shapes = [key_as_json(each) for each in listed]
        print(json.dumps({"v": 1, "ring": place, "secret": options.secret, "keys": shapes}))
    else:
        _print(place, listed, now, secret=options.secret)
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
        "problem": None if key.problem is None else {"code": key.problem.code, "message": key.problem.message},
        "protection": None if key.protection is None else key.protection.value,
    }


def _print(place: str, listed: Sequence[KeyFacts], now: datetime, *, secret: bool) -> None:
    print(f"{'Private' if secret else 'Public'} key listing ({place}):\n")
    for index, key in enumerate(listed):
        print("\n".join(_lines(index, key, now, secret=secret)), end="\n\n")


def _lines(index: int, key: KeyFacts, now: datetime, *, secret: bool) -> list[str]:
    others = [user_id for user_id in key.user_ids if user_id != key.user_id]
    lines = [f"{f'{index})':<4}{'User:':<19}{printable(key.user_id)}"]
    lines += [_line("", printable(user_id)) for user_id in others]
    lines += [
        _line("Creation time:", _time(key.created)),
        _line("Fingerprint:", key.fingerprint),
        _line("Length (in bits):", _length(key)),
        _line("Expires:", _expiry(key, now)),
    ]
    if secret and key.protection is not None:
        lines += _wrapped("Protected:", _PROTECTIONS[key.protection])
    return lines if key.problem is None else [*lines, *_wrapped("Problem:", printable(key.problem.message))]


def _length(key: KeyFacts) -> str:
    """As the reference, which knows nothing but RSA."""
    return f"{key.bits or 'unknown'}" + ("" if key.algorithm == "RSA" else f" ({key.algorithm})")


def _line(label: str, text: str) -> str:
    return f"    {label:<19}{text}"


def _wrapped(label: str, text: str) -> list[str]:
    head, *rest = textwrap.wrap(text, _WIDTH - _INDENT)
    return [_line(label, head), *(_line("", line) for line in rest)]


def _time(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} +0000 UTC"


def _expiry(key: KeyFacts, now: datetime) -> str:
    if key.expires is None:
        return "never"
    soon = now < key.expires <= now + _SOON
    return _time(key.expires) + (f" (in {(key.expires - now).days} days)" if soon else "")
