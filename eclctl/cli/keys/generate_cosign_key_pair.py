"""`eclctl keys generate-cosign-key-pair`: a key that cosign, SingularityCE and eclctl sign OCI images with."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

from eclctl.cli.terminal.cosign_passwords import Passwords
from eclctl.cli.terminal.exit_codes import FAILED, OK
from eclctl.cli.terminal.output import print_error
from eclctl.cli.terminal.passphrases import descriptor
from eclctl.cli.terminal.prompts import confirmed
from eclctl.errors import KeyMaterialError
from eclctl.text import printable

__all__ = ["add", "run"]

_EXAMPLES = """
The private key is encrypted with a password, as cosign encrypts it, and its
file (PREFIX.key) can be read by its owner only. The public key (PREFIX.pub) is
what a policy lists: `signers: {ci: {cosign: [ci.pub]}}`.

exit status: 0 both files are written, 1 neither is, 2 usage, 3 when the output
cannot be written

examples:
  eclctl keys generate-cosign-key-pair
  eclctl keys generate-cosign-key-pair --output-key-prefix ci
  eclctl keys generate-cosign-key-pair --output-key-prefix ci \\
      --password-fd 3 3< ci.pass
  eclctl sign --cosign --key ci.key app.oci.sif
  eclctl verify --cosign --key ci.pub app.oci.sif
"""


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command to those of `eclctl keys`."""
    parser = commands.add_parser(
        "generate-cosign-key-pair",
        description="Makes a key pair for cosign signatures of OCI images.",
        examples=_EXAMPLES,
        help="make a key pair for cosign signatures",
    )
    parser.add_argument(
        "--output-key-prefix",
        default="singularity-cosign",
        metavar="PREFIX",
        help="what the names of the files begin with (default: singularity-cosign)",
    )
    parser.add_argument(
        "--password-fd",
        "--passphrase-fd",
        type=descriptor,
        metavar="N",
        help="read the password from this descriptor; else from COSIGN_PASSWORD, or it is asked for",
    )
    parser.add_argument("-j", "--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    from eclctl.sign.cosign_keys import generate_pair, write_pair  # noqa: PLC0415 - other commands need none of it
    from eclctl.signature.keys import parse_public_key  # noqa: PLC0415 - likewise

    prefix = options.output_key_prefix
    try:
        replace = _may_write(prefix)
        password = Passwords(options.password_fd, os.environ).new(f"{prefix}.key")
        if not password:
            _say("WARNING: the password is empty: everyone who can read the key file can sign with it")
        _say(f"INFO:    Creating cosign key-pair {printable(prefix)}.key/.pub")
        pair = generate_pair(password)
        write_pair(prefix, pair, overwrite=replace)
    except KeyMaterialError as error:
        _say(f"FATAL:   {printable(str(error))}")
        if options.json:
            print_error(error)
        return FAILED
    if options.json:
        key = parse_public_key(pair.public)
        files = {"private": f"{prefix}.key", "public": f"{prefix}.pub"}
        print(json.dumps({"v": 1, **files, "id": key.id, "algorithm": key.algorithm}))
    return OK


def _may_write(prefix: str) -> bool:
    """Return whether files that are there may be replaced; raise when they may not."""
    there = [path for path in (f"{prefix}.key", f"{prefix}.pub") if os.path.lexists(path)]
    if not there:
        return False
    names = " and ".join(map(printable, there))
    if not confirmed(f"{names} would be replaced, and who signs with that key could not any more. Replace?"):
        raise KeyMaterialError(
            f"file exists, will not overwrite: {', '.join(there)}; choose another --output-key-prefix"
        )
    return True


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
