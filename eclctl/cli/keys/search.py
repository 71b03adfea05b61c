"""`eclctl keys search`: what keyservers list for a name, an address, a fingerprint or a key ID."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator, Sequence
from datetime import datetime

from eclctl.cli.inputs.keyrings import print_warnings
from eclctl.cli.inputs.keyservers import add_keyserver_options, chosen_keyservers, hex_digits, index_as_json
from eclctl.cli.terminal.exit_codes import FAILED, OK
from eclctl.cli.terminal.output import print_json
from eclctl.cli.terminal.subcommands import Commands, add_command
from eclctl.errors import RemoteError
from eclctl.remote.keyservers import hkp
from eclctl.remote.keyservers.index import IndexedKey
from eclctl.text import printable

_SHORT = ("KEY ID", "BITS", "NAME/EMAIL")
_LONG = ("FINGERPRINT", "ALGORITHM", "BITS", "CREATION DATE", "EXPIRATION DATE", "STATUS", "NAME/EMAIL")

_EXAMPLES = """Anyone can write to a keyserver: a name proves nothing, and a key ID of 8 digits
can be forged. Compare the whole fingerprint (--long) with the owner before you
pull a key.

exit status: 0 found, 1 nothing found or no answer, 2 usage, 3 when the output
cannot be written

examples:
  eclctl keys search joe@site.example
  eclctl keys search "Joe User"
  eclctl keys search 8883491F4268F173C6E5DC49EDECE4F3F38D871E
  eclctl keys search --long F38D871E
  eclctl keys search --url hkps://keys.site.example --json joe
"""


def add(commands: Commands) -> None:
    """Add the command's parser to those of `eclctl keys`."""
    text = "Lists the keys that a keyserver has for a name or a fingerprint."
    parser = add_command(commands, "search", text, _EXAMPLES)
    parser.add_argument("term", metavar="TERM", help="fingerprint, key ID, email address or name")
    parser.add_argument(
        "-l", "--long", "--long-list", action="store_true", help="whole fingerprints, algorithm, dates and status"
    )
    add_keyserver_options(parser)


def run(options: argparse.Namespace) -> int:
    """Run `eclctl keys search`; return its exit status."""
    wanted = search_term(options.term)
    reply = asyncio.run(hkp.search(chosen_keyservers(options), wanted))
    url, index = reply.url, reply.content
    print_warnings(reply.failed)
    if options.json:
        keys = [index_as_json(key) for key in index.keys]
        print_json({"server": url, "term": options.term, "keys": keys, "more": index.more})
    elif index.keys:
        print(f"Showing {len(index.keys)} results\n")
        for line in key_table(index.keys, long=options.long):
            print(line)
        if index.more:
            print_warnings([f"{index.more} more keys are not shown; search for something narrower"])
    if not index.keys:
        print_warnings([f"{url} lists no key for {options.term}"])
    return OK if index.keys else FAILED


def search_term(text: str) -> str:
    """Return what is asked for: `0x` before the digits of a fingerprint or key ID, else the words themselves.

    Raises:
        RemoteError: There are no words, or they are too long.
    """
    digits = hex_digits(text)
    words = text.strip() if digits is None else f"0x{digits}"
    if not words or len(words) > 256:  # noqa: PLR2004 - longer than any name, and a URL has to hold it
        raise RemoteError("give a fingerprint, a key ID, an email address or a name, of at most 256 characters")
    return words


def key_table(keys: Sequence[IndexedKey], *, long: bool) -> Iterator[str]:
    """Yield the lines of a table of keys, as `singularity key search` prints it; printable."""
    blocks = [list(_rows(key, long=long)) for key in keys]
    heads = _LONG if long else _SHORT
    rows = [heads, *(row for block in blocks for row in block)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads) - 1)]

    def line(row: Sequence[str]) -> str:
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)]
        return "  ".join([*cells, row[-1]]).rstrip()

    yield line(heads)
    for number, block in enumerate(blocks):
        if number:
            yield ""
        yield from map(line, block)


def _rows(key: IndexedKey, *, long: bool) -> Iterator[tuple[str, ...]]:
    """Yield a row for each name of a key; the key itself stands in the first alone."""
    bits = "" if key.bits is None else str(key.bits)
    first: tuple[str, ...] = (key.short, bits)
    if long:
        status = f"[{key.status}]"
        first = (key.id, key.algorithm_name, bits, _date(key.created, ""), _date(key.expires, "[ultimate]"), status)
    names = [printable(name) for name in key.user_ids]
    if key.more:
        names.append(f"and {key.more} more")
    for number, name in enumerate(names or [""]):
        yield *(first if not number else ("",) * len(first)), name


def _date(time: datetime | None, none: str) -> str:
    return none if time is None else f"{time:%Y-%m-%d %H:%M:%S} +0000 UTC"
