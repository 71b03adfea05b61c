"""What `eclctl push` and `eclctl pull` share: options, how a registry is reached, and how errors are shown."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from eclctl.cli.terminal.exit_codes import FAILED
from eclctl.cli.terminal.output import error_as_json, print_json
from eclctl.cli.terminal.parser import Parser, timeout
from eclctl.cli.terminal.progress import progress_bar
from eclctl.errors import EclctlError
from eclctl.remote.http.limits import EXCHANGE_SECONDS
from eclctl.remote.registry.client import Access, Registry
from eclctl.remote.registry.credentials import find_credentials
from eclctl.remote.registry.names import Reference
from eclctl.text import printable


def add_registry_options(parser: Parser) -> None:
    """Add the options that say how a registry is reached."""
    way = parser.add_argument_group("the way to the registry")
    way.add_argument(
        "--no-https", "--plain-http", action="store_true", dest="plain", help="http: the server is not authenticated"
    )
    way.add_argument("--tls-ca", metavar="FILE", help="PEM certificates to trust instead of the system's")
    way.add_argument("--authfile", metavar="FILE", help="credentials, instead of the usual files")
    way.add_argument(
        "--timeout", metavar="SECS", type=timeout, default=EXCHANGE_SECONDS, help="how long it may be silent (60)"
    )
    parser.add_argument("-j", "--json", action="store_true", help="print one JSON object")


def connect(options: argparse.Namespace, reference: Reference, tell: Callable[[str], None], *, push: bool) -> Registry:
    """Return the registry that a reference names, and what we have to log in there.

    Raises:
        RemoteError: the credentials cannot be read.
    """
    found = find_credentials(reference, os.environ, file=options.authfile, warn=tell)
    if found and options.plain:
        tell(f"without TLS, everyone on the network path to {reference.host} can read the credentials")
    access = Access(os.environ, found, plain=options.plain, roots=options.tls_ca, seconds=options.timeout)
    return Registry(reference, access, push=push)


@contextmanager
def show_progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on a terminal; yields a function to call with each number of bytes that are done."""
    with progress_bar(printable(what), total) as advance:
        yield advance or (lambda _: None)


def teller(command: str, known: dict[str, Any], *, as_json: bool) -> Callable[[str], None]:
    """Return what takes note of a warning in `known["warnings"]`, and without `--json` prints it."""

    def tell(text: str) -> None:
        known["warnings"].append(text)
        if not as_json:
            print(f"eclctl {command}: warning: {printable(text)}", file=sys.stderr)

    return tell


def print_transfer_failure(command: str, error: EclctlError | OSError, *, as_json: bool, **fields: Any) -> int:
    """Say what went wrong, on standard error and, with `--json`, as an object with `fields`; return the exit status."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(error, OSError) and error.filename is not None:
        said = f"{os.fsdecode(error.filename)}: {said}"
    print(f"eclctl {command}: {printable(said)}", file=sys.stderr)
    if as_json:
        print_json({**fields, "error": {**error_as_json(error), "message": printable(said)}})
    return FAILED
