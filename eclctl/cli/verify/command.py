"""`eclctl verify`: what the signatures of SIF images say, as `singularity verify` would."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from eclctl.cli.inputs import certificates as credentials
from eclctl.cli.inputs.images import open_regular_file
from eclctl.cli.terminal.exit_codes import FAILED, OK, USAGE
from eclctl.cli.terminal.output import print_note
from eclctl.cli.terminal.parser import HelpFormatter
from eclctl.cli.verify import cosign as verify_cosign
from eclctl.cli.verify import remote as verify_remote
from eclctl.cli.verify.results import print_result, signature_as_json
from eclctl.errors import ConfigError, EclctlError, KeyMaterialError
from eclctl.sif.labels import data_type
from eclctl.sif.reader import DataType, Descriptor
from eclctl.signature import openpgp
from eclctl.terms import Finding, KeyRef
from eclctl.text import bounded_integer, printable
from eclctl.trust.keyring import KeyStore, load_keyring, load_public_keys
from eclctl.trust.signer_types import SIGNER_TYPES
from eclctl.verify.hashing import HashPool
from eclctl.verify.reference import CheckedObjects, GivenKeys, ReferenceReport, ReferenceSignature, verify_scope

__all__ = ["run"]

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


@dataclass(frozen=True, slots=True)
class _Result:
    """How one image came out: a report, or the error that there is none.

    `store` are the keys that were used, `remote` the fingerprints of those that came from a keyserver.
    """

    image: str
    report: ReferenceReport
    store: KeyStore | None = None
    remote: frozenset[str] = frozenset()

    @property
    def verified(self) -> bool:
        return self.report.verified


def run(argv: list[str]) -> int:
    """Run the command with the arguments after its name and return the exit status."""
    parser = _parser()
    try:
        options = parser.parse_args(argv)
    except SystemExit as end:  # argparse ends the process after --help and usage errors
        return int(end.code or 0)
    try:
        images = [*options.images, *_listed(options.from_file)]
    except OSError as error:
        return _usage(f"{error.filename}: {error.strerror}")
    if not images:
        return _usage("name an image, or a file of paths with --from-file")
    misused = (
        credentials.certificate_options_error(options)
        or verify_cosign.cosign_options_error(options)
        or verify_remote.remote_options_error(options)
    )
    if (wrong := misused) is not None:
        return _usage(wrong)
    return _verify_cosign(images, options) if options.cosign else _verify_all(images, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="eclctl verify",
        description="Verify the signatures of SIF images. Every signature in scope must be valid.",
        epilog=_EXAMPLES,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="a SIF image")
    keys = parser.add_argument_group("keys", "once any key or certificate is given, there is no other keyring")
    keys.add_argument("--keyring", action="append", default=[], metavar="FILE", help="OpenPGP certificates; repeatable")
    keys.add_argument("--key", action="append", default=[], metavar="FILE", help="a PEM public key; repeatable")
    verify_remote.add_remote_options(keys)
    credentials.add_certificate_options(parser)
    scope = parser.add_argument_group("scope", "without these: every object group")
    scope.add_argument("-g", "--group-id", action="append", default=[], type=_number, metavar="ID", help="object group")
    scope.add_argument("-i", "--sif-id", action="append", default=[], type=_number, metavar="ID", help="data object")
    scope.add_argument("-a", "--all", action="store_true", help="with --legacy-insecure: every object")
    scope.add_argument(
        "--legacy-insecure", action="store_true", help="signatures of before 2020, which cover data and nothing else"
    )
    parser.add_argument(
        "-c", "--cosign", action="store_true", help="the cosign signatures of an OCI-SIF, with --key and nothing else"
    )
    parser.add_argument(
        "--from-file", action="append", default=[], metavar="FILE", help="paths, one a line; - is stdin"
    )
    parser.add_argument("-j", "--json", action="store_true", help="one object a line, one for each image")
    return parser


def _number(text: str) -> int:
    number = bounded_integer(text, 1, (1 << 32) - 1)
    if number is None:
        raise argparse.ArgumentTypeError(f"{printable(text)} is no number from 1 to {(1 << 32) - 1}")
    return number


def _listed(files: Iterable[str]) -> Iterator[str]:
    """Return the paths in list files; empty lines are passed over."""
    for name in files:
        with nullcontext(sys.stdin.buffer) if name == "-" else open(name, "rb") as file:
            text = file.read()
        yield from (os.fsdecode(line) for line in text.split(b"\n") if line)


def _usage(message: str) -> int:
    print(f"eclctl verify: {printable(message)}\nTry 'eclctl verify --help'.", file=sys.stderr)
    return USAGE


def _verify_all(images: Sequence[str], options: argparse.Namespace) -> int:
    show = _show_json if options.json else _show_text
    try:
        remote = verify_remote.remote(options)
        material = _material(options, asks=remote is not None)
    except (ConfigError, KeyMaterialError) as error:
        if options.json:
            for image in images:
                show(_Result(image, ReferenceReport(Finding(error.code, str(error)))), options)
        return _usage(str(error))
    scope = CheckedObjects(
        frozenset(options.group_id), frozenset(options.sif_id), legacy=options.legacy_insecure, every_object=options.all
    )
    status = OK
    with HashPool.beside_caller() as pool:
        for image in images:
            report, material = _verify(image, material, scope, pool, remote)
            show(_Result(image, report, material.store, frozenset(remote.keys if remote else ())), options)
            status = status if report.verified else FAILED
    return status


def _verify_cosign(images: Sequence[str], options: argparse.Namespace) -> int:
    try:
        keys = load_public_keys(options.key)
    except KeyMaterialError as error:
        if options.json:
            verify_cosign.refuse(images, Finding(error.code, str(error)))
        return _usage(str(error))
    return verify_cosign.verify_all(images, keys, options)


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


def _name(store: KeyStore | None, signature: ReferenceSignature) -> str:
    """Return what the signer is called: a user ID, a certificate's subject or the file of a PEM key. Unescaped."""
    if store is None or signature.signer is None:
        return ""
    return SIGNER_TYPES[signature.signer.kind].title(store, signature.signer.id)


def _identity(store: KeyStore | None, signer: KeyRef) -> str:
    """Return what a signer goes by outside: a certificate by its own fingerprint, in every form it is given."""
    return signer.id if store is None else SIGNER_TYPES[signer.kind].identity(store, signer.id)


def _show_json(result: _Result, _: argparse.Namespace) -> None:
    signatures = [_signature(result, signature) for signature in result.report.signatures]
    print_result(result.image, result.report.error, signatures)


def _signature(result: _Result, signature: ReferenceSignature) -> dict[str, Any]:
    identity = "" if signature.signer is None else _identity(result.store, signature.signer)
    found = signature_as_json(signature, identity, _name(result.store, signature))
    if _is_remote(result, signature):
        found["signer"]["remote"] = True
    return found


def _is_remote(result: _Result, signature: ReferenceSignature) -> bool:
    return signature.signer is not None and signature.signer.id in result.remote


def _show_text(result: _Result, options: argparse.Namespace) -> None:
    image = printable(result.image)
    if len(options.images) + len(options.from_file) > 1 or options.from_file:
        print(f"Image: {image}", flush=True)
    if any(descriptor.type == DataType.OCI_ROOT_INDEX for descriptor in result.report.descriptors):
        print_note("INFO:    Image is an OCI-SIF, use `--cosign` to verify cosign compatible signatures.")
    print_note(f"INFO:    Verifying image with {_material_words(options)}")
    by_id = {descriptor.id: descriptor for descriptor in result.report.descriptors}
    for signature in result.report.signatures:
        _show_signature(result, signature, [by_id[identity] for identity in signature.objects])
    if result.report.note:
        print_note(f"WARNING: {printable(result.report.note)}")
    if result.report.error is None:
        print_note(f"INFO:    Verified signature(s) from image '{image}'")
    else:
        print_note(f"FATAL:   failed to verify container '{image}': {printable(result.report.error.message)}")


def _material_words(options: argparse.Namespace) -> str:
    words = ["PGP key material"] if options.keyring or not (options.key or options.certificate) else []
    words += [f"key material from '{printable(path)}'" for path in options.key]
    if options.certificate:
        words.append(f"key material from certificate '{printable(options.certificate)}'")
    return " and ".join(words)


def _show_signature(result: _Result, signature: ReferenceSignature, objects: Sequence[Descriptor]) -> None:
    if signature.signer is not None:
        place = f"{'[REMOTE]' if _is_remote(result, signature) else '[LOCAL]':<19}"
        what = SIGNER_TYPES[signature.signer.kind].introduction
        print(f"{place}Signing {what}: {printable(_name(result.store, signature))}")
        print(f"{place}Fingerprint: {_identity(result.store, signature.signer)}")
    if signature.error is not None:
        print(f"Error encountered during signature verification: {printable(signature.error.message)}\n", flush=True)
        return
    print("Objects verified:\nID  |GROUP   |LINK    |TYPE\n" + "-" * 48)
    for descriptor in objects:
        print(f"{descriptor.id:<4}|{descriptor.group or 'NONE':<8}|{_link(descriptor):<8}|{data_type(descriptor)}")
    sys.stdout.flush()


def _link(descriptor: Descriptor) -> str:
    if not descriptor.link:
        return "NONE"
    return f"{descriptor.link:<3} (G)" if descriptor.links_group else str(descriptor.link)
