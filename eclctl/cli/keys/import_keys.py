"""`eclctl keys import`: takes keys from files into a ring."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from eclctl.cli.inputs.keyrings import add_ring_options, chosen_ring, print_warnings, remind_of_reload, ring_location
from eclctl.cli.keys.list import facts_now, key_as_json
from eclctl.cli.terminal.exit_codes import FAILED, OK
from eclctl.cli.terminal.output import error_as_json, print_json
from eclctl.cli.terminal.subcommands import Commands, add_command
from eclctl.dataclass import dataclass
from eclctl.errors import EclctlError, KeyMaterialError
from eclctl.sign.keyrings.keyfacts import KeyFacts
from eclctl.sign.keyrings.rings import MAX_RING, Added, RingChange, UserRing
from eclctl.sign.keyrings.site_rings import SiteRing
from eclctl.sign.keyrings.transferable import Protection, parse_keys
from eclctl.text import printable
from eclctl.trust.keyring import read_file

_EXAMPLES = """A file holds public or secret keys, armored or binary: what GnuPG and
`singularity key export` write, the files pgp-public and pgp-secret of a
Singularity user, or a revocation that `gpg --generate-revocation` made. Copies
of a key are merged; nothing that is in the ring is lost, above all no
revocation. Keys in a ring are trusted: compare their fingerprints with the
owners first.

exit status: 0 everything is in the ring, 1 a file is not, 2 usage, 3 when the
output cannot be written

examples:
  eclctl keys import joe.asc
  eclctl keys import ~/.singularity/sypgp/pgp-*
  gpg --export joe@site.example | eclctl keys import -
  sudo eclctl keys import --site joe.asc && sudo eclctl reload
"""


def add(commands: Commands) -> None:
    """Add the command's parser to those of `eclctl keys`."""
    parser = add_command(commands, "import", "Adds the keys of files to your ring, or to the site's.", _EXAMPLES)
    parser.add_argument("files", nargs="+", metavar="FILE", help="keys; - is standard input")
    add_ring_options(parser)


@dataclass(frozen=True, slots=True)
class _Imported:
    """One file, and what adding it did; `error` says why it did nothing. Of some, secret parts were `left_out`.

    `keys` are in the order of the changes.
    """

    file: str
    added: Added
    keys: Sequence[KeyFacts]
    error: EclctlError | None = None
    left_out: bool = False


def run(options: argparse.Namespace) -> int:
    """Run `eclctl keys import`; return its exit status."""
    ring = chosen_ring(options)
    results = [_import(ring, file) for file in options.files]
    print_warnings(list(dict.fromkeys(ring.warnings)))
    if options.json:
        print_json({"ring": ring_location(ring), "files": [_shape(result) for result in results]})
    for result in results:
        _print(result, quiet=options.json)
    changes = [change for result in results for change in result.added.changes]
    remind_of_reload(ring, changed=any(change.public != "unchanged" for change in changes))
    return OK if all(result.error is None for result in results) else FAILED


def _import(ring: UserRing | SiteRing, file: str) -> _Imported:
    try:
        blob = _read(file)
        added = ring.add(blob)
        left_out = isinstance(ring, SiteRing) and any(key.has_secret for key in parse_keys(blob).keys.values())
        return _Imported(file, added, _facts(ring, added.changes), left_out=left_out)
    except EclctlError as error:
        return _Imported(file, Added(()), (), error)


def _read(file: str) -> bytes:
    if file != "-":
        return read_file(Path(file), MAX_RING)
    data = sys.stdin.buffer.read(MAX_RING + 1)
    if len(data) > MAX_RING:
        raise KeyMaterialError(f"standard input: larger than {MAX_RING} bytes")
    return data


def _facts(ring: UserRing | SiteRing, changes: Sequence[RingChange]) -> Sequence[KeyFacts]:
    keys = ring.keys()
    secrets = ring.secret_keys() if isinstance(ring, UserRing) else {}
    changed = [(keys if change.secret is None else secrets)[change.fingerprint] for change in changes]
    return facts_now(changed, keys.values())


def _shape(result: _Imported) -> dict[str, object]:
    error = result.error
    return {
        "file": result.file,
        "error": None if error is None else {**error_as_json(error), "message": _why(result, error)},
        "unreadable": result.added.unreadable,
        "strangers": result.added.strangers,
        "keys": [
            {**key_as_json(key), "public": change.public, "secret": change.secret}
            for change, key in zip(result.added.changes, result.keys, strict=True)
        ],
    }


def _print(result: _Imported, *, quiet: bool) -> None:
    if result.error is not None:
        print(f"eclctl keys import: {printable(result.file)}: {_why(result, result.error)}", file=sys.stderr)
        return
    for change, key in zip(result.added.changes, result.keys, strict=True):
        state = change.public + ("" if change.secret is None else f", secret {change.secret}")
        if not quiet:
            print(f"{state:<23}{key.fingerprint}\n{'':<23}{printable(key.user_id)}")
    print_warnings(_warnings(result))


def _why(result: _Imported, error: EclctlError) -> str:
    """Return why nothing came of a file, printable, without its name."""
    return printable(str(error).removeprefix(f"{result.file}: "))


def _warnings(result: _Imported) -> Iterator[str]:
    for change, key in zip(result.added.changes, result.keys, strict=True):
        if change.secret is not None and key.protection is Protection.NONE:
            yield f"the secret key {key.fingerprint} has no passphrase: all who can read the ring's file can sign"
        if key.problem is not None:
            yield f"what {key.fingerprint} signs now counts for nothing: {key.problem.message}"
    if result.left_out:
        yield f"{result.file} holds private keys, with which anyone who reads it can sign; only certificates were added"
    if result.added.unreadable:
        yield f"{result.file}: {result.added.unreadable} keys of a version or kind not known here were passed over"
    if result.added.strangers:
        yield f"{result.file}: {result.added.strangers} revocations were passed over: by no key of this ring"
