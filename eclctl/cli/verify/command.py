"""`eclctl verify`: what the signatures of SIF images say, as `singularity verify` would."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime

from eclctl.cli.inputs import certificates as credentials
from eclctl.cli.inputs.images import open_regular_file
from eclctl.cli.terminal.exit_codes import FAILED, OK
from eclctl.cli.terminal.output import print_note
from eclctl.cli.terminal.parser import Parser, add_repeatable, whole_number
from eclctl.cli.verify import cosign as verify_cosign
from eclctl.cli.verify import remote as verify_remote
from eclctl.cli.verify.results import ImageResult, print_as_json, print_as_text, print_result
from eclctl.errors import ConfigError, EclctlError, KeyMaterialError
from eclctl.signature import openpgp
from eclctl.terms import Finding
from eclctl.text import printable
from eclctl.trust.keyring import KeyStore, load_keyring, load_public_keys
from eclctl.verify.hashing import HashPool
from eclctl.verify.reference import CheckedObjects, GivenKeys, ReferenceReport, verify_scope

SYSTEM_KEYS = "/etc/eclctl/keys.d"
"""The site's keyring, used with the user's own when neither a key nor a keyring is given."""

_EXAMPLES = """\
exit status: 0 when every image verified, 1 when any did not, 2 for usage,
3 when the output cannot be written

examples:
  eclctl verify --keyring site-ring.asc app.sif
  eclctl verify --key ci.pem --keyring site-ring.asc --json *.sif
  eclctl verify --certificate ci.pem --certificate-roots ca.pem --ocsp-verify \\
      app.sif
  eclctl verify --keyring site-ring.asc --group-id 1 app.sif
  eclctl verify --keyring old-ring.asc --legacy-insecure --all old.sif
  eclctl verify --cosign --key ci.pub app.oci.sif
  find /srv -name '*.sif' | eclctl verify --keyring ring.asc -j --from-file -
"""


def run(argv: list[str]) -> int:
    """Run the command with the arguments after its name and return the exit status."""
    parser = _parser()
    try:
        options = parser.parse_args(argv)
        images = [*options.images, *_listed(options.from_file)]
        misused = (
            (None if images else "name an image, or a file of paths with --from-file")
            or credentials.certificate_options_error(options)
            or verify_cosign.cosign_options_error(options)
            or verify_remote.remote_options_error(options)
        )
        if misused is not None:
            parser.error(misused)
    except OSError as error:
        return parser.misused(f"{error.filename}: {error.strerror}")
    except SystemExit as end:  # argparse ends the process after --help and usage errors
        return int(end.code or 0)
    try:
        return verify_cosign.verify_all(images, options) if options.cosign else _verify_all(images, options)
    except (ConfigError, KeyMaterialError) as error:
        for image in images if options.json else ():
            print_result(image, Finding(error.code, str(error)), ())
        return parser.misused(str(error))


def _parser() -> Parser:
    parser = Parser(
        "eclctl verify",
        "Verifies the signatures of SIF images. Every signature in scope must be valid.",
        _EXAMPLES,
    )
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="a SIF image")
    keys = parser.add_argument_group("keys", "with any key or certificate here, no other keyring is used")
    add_repeatable(keys, "--keyring", metavar="FILE", text="OpenPGP certificates")
    add_repeatable(keys, "--key", metavar="FILE", text="a PEM public key")
    verify_remote.add_remote_options(keys)
    credentials.add_certificate_options(parser)
    scope = parser.add_argument_group("scope", "without these: every object group")
    number = whole_number(1, (1 << 32) - 1)
    add_repeatable(scope, "-g", "--group-id", parse=number, metavar="ID", text="this object group")
    add_repeatable(scope, "-i", "--sif-id", parse=number, metavar="ID", text="this data object")
    scope.add_argument("-a", "--all", action="store_true", help="with --legacy-insecure: every object")
    scope.add_argument(
        "--legacy-insecure", action="store_true", help="verify signatures of before 2020, which cover only data"
    )
    parser.add_argument(
        "-c", "--cosign", action="store_true", help="verify the cosign signatures of an OCI-SIF; goes with --key only"
    )
    add_repeatable(parser, "--from-file", metavar="FILE", text="a file of paths, one a line; - is stdin")
    parser.add_argument("-j", "--json", action="store_true", help="print one JSON object for each image, one a line")
    return parser


def _listed(files: Iterable[str]) -> Iterator[str]:
    """Return the paths in list files; empty lines are passed over."""
    for name in files:
        with nullcontext(sys.stdin.buffer) if name == "-" else open(name, "rb") as file:
            text = file.read()
        yield from (os.fsdecode(line) for line in text.split(b"\n") if line)


def _verify_all(images: Sequence[str], options: argparse.Namespace) -> int:
    show = print_as_json if options.json else print_as_text
    remote = verify_remote.remote(options)
    material = _material(options, asks=remote is not None)
    scope = CheckedObjects(
        frozenset(options.group_id), frozenset(options.sif_id), legacy=options.legacy_insecure, every_object=options.all
    )
    status = OK
    with HashPool.beside_caller() as pool:
        for image in images:
            report, material = _verify(image, material, scope, pool, remote)
            show(ImageResult(image, report, material.store, frozenset(remote.keys if remote else ())), options)
            status = status if report.verified else FAILED
    return status


def _material(options: argparse.Namespace, *, asks: bool) -> GivenKeys:
    """Return the keys that are at hand; with `asks`, there need be none."""
    implicit = not options.key and not options.keyring and options.certificate is None
    paths = _implicit_keyrings(needed=not asks) if implicit else options.keyring
    ring = load_keyring(paths) if paths else openpgp.Keyring.parse()
    if ring.secret:
        _warn_of_private_keys(paths)
    store = KeyStore.of(ring, load_public_keys(options.key), tuple(credentials.load_certificates(options)))
    statuses = credentials.ocsp_source(store)
    return GivenKeys(store, bool(paths) or asks, bool(store.dsse_keys), statuses)


def _implicit_keyrings(*, needed: bool) -> list[str]:
    """Return the site's keyring and the user's own. Only `verify` looks at the latter: what may run is for the site."""
    from eclctl.sign.keyrings.rings import user_ring_file  # noqa: PLC0415 - only where no key is named

    own = user_ring_file(os.environ)
    found = [*([SYSTEM_KEYS] if os.path.isdir(SYSTEM_KEYS) else []), *([own] if own is not None else [])]
    if not found and needed:
        raise KeyMaterialError(
            f"give --keyring FILE or --key FILE or --certificate FILE: there is no system keyring {SYSTEM_KEYS},"
            " and none of your own (see `eclctl keys --help`)"
        )
    return found


def _warn_of_private_keys(paths: Iterable[str]) -> None:
    for path in paths:
        for fingerprint in load_keyring([path]).secret:
            print_note(
                f"WARNING: {printable(path)} holds the private key of {fingerprint}, with which anyone who reads it can"
                " sign. Keep the public key alone there: gpg --export --armor"
            )


def _verify(
    image: str, material: GivenKeys, scope: CheckedObjects, pool: HashPool, remote: verify_remote.Remote | None
) -> tuple[ReferenceReport, GivenKeys]:
    """Verify an image; return its report, and the keys with those that a keyserver has added."""
    try:
        fd = open_regular_file(image)
        try:
            material = material if remote is None else remote.extended(fd, material)
            return verify_scope(fd, material, scope, datetime.now(UTC), pool=pool), material
        finally:
            os.close(fd)
    except EclctlError as error:
        return ReferenceReport(Finding(error.code, str(error))), material
