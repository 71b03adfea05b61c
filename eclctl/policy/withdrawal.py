"""Which keys are withdrawn: those of withdrawn signers, and those that are withdrawn by their own names.

The signatures of an unknown key cannot be recognised. So a withdrawn key has to be known to a signer or a
keyring, and a name that is not is an error: a withdrawal that silently stops nothing would be worse than none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from eclctl.config.document import Report, Scalar
from eclctl.policy.declare import Declarations
from eclctl.policy.holders import Holders
from eclctl.policy.signer_declarations import KeyringCertificates
from eclctl.text import quoted
from eclctl.trust.signer_types import names_called

_FINGERPRINT = re.compile(r"[0-9A-F]{40}|[0-9A-F]{64}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def withdrawn_keys(
    declared: Declarations, holders: Holders, keyring: KeyringCertificates, report: Report
) -> frozenset[int]:
    """Return the numbers (`Holder.key`) of all keys that are withdrawn, under each of their names."""
    found = set(holders.keys_of(declared.withdrawn_signers))
    for entry in declared.withdrawn_keys:
        found.update(_numbers(entry, declared, holders, keyring, report))
    return frozenset(found)


def _numbers(
    entry: Scalar, declared: Declarations, holders: Holders, keyring: KeyringCertificates, report: Report
) -> frozenset[int]:
    fingerprint, digest = entry.text.upper(), entry.text.lower()
    if _FINGERPRINT.fullmatch(fingerprint):
        names = [fingerprint]
    elif _DIGEST.fullmatch(digest):
        names = list(_called(digest, declared, keyring))
    else:
        hint = "an OpenPGP fingerprint, or sha256:… of a PEM key or certificate; for a person, signers: [NAME]"
        report.error(entry, f"{quoted(entry.text)} is no name of a key", hint)
        return frozenset()
    numbers = frozenset(holders.by_name[name].key for name in names if name in holders.by_name)
    if not numbers:
        hint = "keep it with its signer or in a keyring, so that its signatures are recognised"
        report.error(entry, f"no signer and no keyring has the key {quoted(entry.text)}", hint)
    return numbers


def _called(digest: str, declared: Declarations, keyring: KeyringCertificates) -> Iterator[str]:
    """Yield all that a key may be called of which a digest is known: its own or that of a certificate for it."""
    yield from names_called(declared.material.listed, digest)
    for certificate in keyring.certificates:
        if digest in certificate.materials:
            yield certificate.fingerprint
