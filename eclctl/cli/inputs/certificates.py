"""The certificate that `eclctl verify` is given: its options, its files, and what its responders say of it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from eclctl.cli.terminal.parser import add_repeatable
from eclctl.errors import KeyMaterialError
from eclctl.signature.keys import MAX_CERTIFICATE_FILE
from eclctl.trust.keyring import KeyStore, needed, read_file
from eclctl.trust.revocation import NO_STATUS, StatusSource

if TYPE_CHECKING:
    import argparse

    from eclctl.trust.x509 import Credential

_BLOCK = re.compile(rb"^-----BEGIN CERTIFICATE-----\s.*?^-----END CERTIFICATE-----\s*?$", re.DOTALL | re.MULTILINE)


def add_certificate_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for a certificate."""
    group = parser.add_argument_group(
        "certificate", "an X.509 certificate for code signing, whose key signed envelopes"
    )
    group.add_argument("--certificate", metavar="FILE", help="PEM file; its first certificate is the signer's")
    text = "PEM file with authorities between it and a root"
    add_repeatable(group, "--certificate-intermediates", metavar="FILE", text=text)
    text = "PEM file with trusted authorities; without it the system's"
    add_repeatable(group, "--certificate-roots", metavar="FILE", text=text)
    group.add_argument(
        "--ocsp-verify", action="store_true", help="ask the certificates' OCSP responders; any answer but good fails"
    )


def certificate_options_error(options: argparse.Namespace) -> str | None:
    """Return what is wrong if certificate options lack --certificate, or --local excludes OCSP."""
    given = [*options.certificate_intermediates, *options.certificate_roots]
    if options.certificate is None and (given or options.ocsp_verify):
        return "--certificate-intermediates, --certificate-roots and --ocsp-verify need --certificate FILE"
    if options.ocsp_verify and options.local:
        return "--local asks no OCSP responder: leave out --local or --ocsp-verify"
    return None


def load_certificates(options: argparse.Namespace) -> list[Credential]:
    """Return the certificate that was given, if any.

    Raises:
        KeyMaterialError: A file cannot be read, or holds something else; the message names it.
    """
    if options.certificate is None:
        return []
    from eclctl.trust.x509 import load_credential  # noqa: PLC0415 - only a certificate needs it

    intermediates = [_read(path) for path in options.certificate_intermediates]
    roots = [_read(path) for path in options.certificate_roots] or [_system_roots()]
    own = _read(options.certificate)
    return [load_credential(own, intermediates, roots, ocsp=options.ocsp_verify, source=options.certificate)]


def ocsp_source(store: KeyStore) -> StatusSource:
    """Ask about every certificate that must be good and leads to a trusted root, and wait for the answers."""
    links = needed(store, _now())
    if not links:
        return NO_STATUS
    import asyncio  # noqa: PLC0415 - only a certificate needs it

    from eclctl.remote.ocsp import client as ocsp_client  # noqa: PLC0415 - only a certificate needs it

    return asyncio.run(ocsp_client.ask_all(links, now=_now))


def _now() -> datetime:
    return datetime.now(UTC)


def _read(path: str) -> bytes:
    return read_file(path, MAX_CERTIFICATE_FILE)


def _system_roots() -> bytes:
    """Return the roots that the system's TLS library trusts, as PEM, but for those that cannot be read strictly."""
    import ssl  # noqa: PLC0415 - only a certificate needs it
    from pathlib import Path  # noqa: PLC0415 - only a certificate needs it

    paths = ssl.get_default_verify_paths()
    files = [Path(paths.cafile)] if paths.cafile else []
    if not files and paths.capath:
        files = sorted(path for path in Path(paths.capath).glob("*.[0-9]") if path.is_file())
    blocks = dict.fromkeys(block for file in files for block in _BLOCK.findall(_read(str(file))) if _readable(block))
    if not blocks:
        raise KeyMaterialError("give --certificate-roots FILE: the system has no trusted roots")
    return b"\n".join(blocks)


def _readable(block: bytes) -> bool:
    """Return whether a root is one that can be used: systems carry old ones whose fields are not as they must be."""
    import warnings  # noqa: PLC0415 - only a certificate needs it

    from cryptography import x509  # noqa: PLC0415 - only a certificate needs it

    from eclctl.trust.chains import UNREADABLE, read_certificate  # noqa: PLC0415 - only a certificate needs it

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            read_certificate(x509.load_pem_x509_certificate(block))
        except (KeyMaterialError, *UNREADABLE):
            return False
    return True
