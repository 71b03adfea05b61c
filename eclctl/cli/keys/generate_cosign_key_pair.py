"""`eclctl keys generate-cosign-key-pair`: a key that cosign, SingularityCE and eclctl sign OCI images with."""

from __future__ import annotations

import argparse
import os

from eclctl.cli.terminal.exit_codes import FAILED, OK
from eclctl.cli.terminal.output import print_error, print_json, print_note
from eclctl.cli.terminal.passphrases import Passwords, descriptor
from eclctl.cli.terminal.prompts import confirmed
from eclctl.cli.terminal.subcommands import Commands, add_command
from eclctl.errors import KeyMaterialError
from eclctl.text import printable

_EXAMPLES = """The private key is encrypted with a password, as cosign does it. Only you can
read its file, PREFIX.key. A policy lists the public key, PREFIX.pub:
`signers: {ci: {cosign: [ci.pub]}}`.

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


def add(commands: Commands) -> None:
    """Add the command's parser to those of `eclctl keys`."""
    text = "Makes a key pair for cosign signatures of OCI images."
    parser = add_command(commands, "generate-cosign-key-pair", text, _EXAMPLES)
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


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    from eclctl.sign.cosign_keys import generate_pair, write_pair  # noqa: PLC0415 - other commands need none of it
    from eclctl.signature.keys import parse_public_key  # noqa: PLC0415 - likewise

    prefix = options.output_key_prefix
    try:
        replace = _may_write(prefix)
        password = Passwords(options.password_fd, os.environ).new(f"{prefix}.key")
        if not password:
            print_note("WARNING: the password is empty: everyone who can read the key file can sign with it")
        print_note(f"INFO:    Creating cosign key-pair {printable(prefix)}.key/.pub")
        pair = generate_pair(password)
        write_pair(prefix, pair, overwrite=replace)
    except KeyMaterialError as error:
        print_note(f"FATAL:   {printable(str(error))}")
        if options.json:
            print_error(error)
        return FAILED
    if options.json:
        key = parse_public_key(pair.public)
        files = {"private": f"{prefix}.key", "public": f"{prefix}.pub"}
        print_json({**files, "id": key.id, "algorithm": key.algorithm})
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
