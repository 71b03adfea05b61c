"""`eclctl keys import`: takes keys from files into a ring."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from eclctl.cli.inputs.keyrings import (
    add_ring_options,
    chosen_ring,
    print_failure,
    print_reload_reminder,
    print_warnings,
    ring_location,
)
from eclctl.cli.keys.list import key_as_json
from eclctl.cli.terminal.exit_codes import FAILED, OK
from eclctl.cli.terminal.output import error_as_json
from eclctl.errors import EclctlError, KeyMaterialError
from eclctl.sign.keyrings.keyfacts import KeyFacts, facts
from eclctl.sign.keyrings.rings import MAX_RING, Added, RingChange, UserRing
from eclctl.sign.keyrings.site_rings import SiteRing
from eclctl.sign.keyrings.transferable import Protection, parse_keys
from eclctl.signature import openpgp
from eclctl.text import printable
from eclctl.trust.keyring import read_file

if TYPE_CHECKING:
    from eclctl.cli.terminal.parser import Parser

__all__ = ["add", "run"]

_EXAMPLES = """A file holds public or secret keys, armored or binary: what GnuPG and
`singularity key export` write, the files pgp-public and pgp-secret of a
Singularity user, or a revocation that `gpg --generate-revocation` made. Copies
of a key are merged; nothing that is in the ring is lost, a revocation least of
all. Compare fingerprints with their owners: what is in a ring is trusted.

exit status: 0 everything is in the ring, 1 a file is not, 2 usage, 3 when the
output cannot be written

examples:
  eclctl keys import joe.asc
  eclctl keys import ~/.singularity/sypgp/pgp-*
  gpg --export joe@site.example | eclctl keys import -
  sudo eclctl keys import --site joe.asc && sudo eclctl reload
"""


def add(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command's parser to those of `eclctl keys`."""
    parser = commands.add_parser(
        "import",
        help="take keys from files into a ring",
        description="Adds the keys of files to your ring, or to the site's.",
        examples=_EXAMPLES,
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="keys; - is standard input")
    add_ring_options(parser)
    parser.add_argument("-j", "--json", action="store_true", help="print one JSON object")


@dataclass(frozen=True, slots=True)
class _Imported:
    """One file, and what adding it did; `error` says why it did nothing. Of some, secret parts were `left_out`."""

    file: str
    added: Added
    facts: Mapping[str, KeyFacts]
    error: EclctlError | None = None
    left_out: bool = False


def run(options: argparse.Namespace) -> int:
    """Run `eclctl keys import`; return its exit status."""
    try:
        ring = chosen_ring(options)
    except EclctlError as error:
        return print_failure("import", error, as_json=options.json)
    results = [_import(ring, file) for file in options.files]
    print_warnings(list(dict.fromkeys(ring.warnings)))
    if options.json:
        print(json.dumps({"v": 1, "ring": ring_location(ring), "files": [_shape(result) for result in results]}))
    for result in results:
        _print(result, quiet=options.json)
    print_reload_reminder(
        ring, changed=any(change.public != "unchanged" for each in results for change in each.added.changes)
    )
    return OK if all(result.error is None for result in results) else FAILED


def _import(ring: UserRing | SiteRing, file: str) -> _Imported:
    try:
        blob = _read(file)
        added = ring.add(blob)
        left_out = isinstance(ring, SiteRing) and any(key.has_secret for key in parse_keys(blob).keys.values())
        return _Imported(file, added, _facts(ring, added.changes), left_out=left_out)
    except EclctlError as error:
        return _Imported(file, Added(()), {}, error)


def _read(file: str) -> bytes:
    if file != "-":
        return read_file(Path(file), MAX_RING)
    data = sys.stdin.buffer.read(MAX_RING + 1)
    if len(data) > MAX_RING:
        raise KeyMaterialError(f"standard input: larger than {MAX_RING} bytes")
    return data


def _facts(ring: UserRing | SiteRing, changes: Iterable[RingChange]) -> dict[str, KeyFacts]:
    now = datetime.now(UTC)
    keys = ring.keys()
    secrets = ring.secret_keys() if isinstance(ring, UserRing) else {}
    keyring = openpgp.Keyring.parse(*(key.public() for key in keys.values()))
    found = {}
    for change in changes:
        source = keys if change.secret is None else secrets
        found[change.fingerprint] = facts(source[change.fingerprint], keyring, now)
    return found


def _shape(result: _Imported) -> dict[str, object]:
    return {
        "file": result.file,
        "error": None
        if result.error is None
        else {**error_as_json(result.error), "message": _why(result, result.error)},
        "unreadable": result.added.unreadable,
        "strangers": result.added.strangers,
        "keys": [
            {**key_as_json(result.facts[change.fingerprint]), "public": change.public, "secret": change.secret}
            for change in result.added.changes
        ],
    }


def _print(result: _Imported, *, quiet: bool) -> None:
    if result.error is not None:
        print(f"eclctl keys import: {printable(result.file)}: {_why(result, result.error)}", file=sys.stderr)
        return
    for change in result.added.changes:
        key = result.facts[change.fingerprint]
        if not quiet:
            print(f"{_state(change):<23}{key.fingerprint}\n{'':<23}{printable(key.user_id)}")
        print_warnings(_warnings(change, key))
    print_warnings(_passed_over(result))


def _why(result: _Imported, error: EclctlError) -> str:
    """Return why nothing came of a file, printable, without its name."""
    return printable(str(error).removeprefix(f"{result.file}: "))


def _state(change: RingChange) -> str:
    """Return what became of a key, as `new` or `unchanged, secret new`."""
    return change.public + ("" if change.secret is None else f", secret {change.secret}")


def _warnings(change: RingChange, key: KeyFacts) -> Iterator[str]:
    if change.secret is not None and key.protection is Protection.NONE:
        yield f"the secret key {key.fingerprint} has no passphrase: all who can read the ring's file can sign"
    if key.problem is not None:
        yield f"what {key.fingerprint} signs now counts for nothing: {key.problem.message}"


def _passed_over(result: _Imported) -> Iterator[str]:
    if result.left_out:
        yield f"{result.file} holds private keys, with which anyone who reads it can sign; only certificates were added"
    if result.added.unreadable:
        yield f"{result.file}: {result.added.unreadable} keys of a version or kind not known here were passed over"
    if result.added.strangers:
        yield f"{result.file}: {result.added.strangers} revocations were passed over: by no key of this ring"
