"""The types of signer, one entry each: every kind of key that can sign an image.

A new kind, for instance an identity in a sigstore certificate, takes a value of `terms.SignerKind`, a module here with
a subclass of `SignerType`, an entry in `SIGNER_TYPES`, and an entry in `policy.signer_declarations` that says how a
policy declares it.
"""

from __future__ import annotations

from collections.abc import Iterator

from eclctl.terms import SignerKind
from eclctl.trust.signer_types.base import Description, Lifetime, Listing, Signed, SignerType, Store
from eclctl.trust.signer_types.certificate import X509Certificate
from eclctl.trust.signer_types.cosign_key import CosignKey
from eclctl.trust.signer_types.pem_key import PemKey
from eclctl.trust.signer_types.pgp import Pgp

__all__ = [
    "SIGNER_TYPES",
    "Description",
    "Lifetime",
    "Listing",
    "Signed",
    "SignerType",
    "Store",
    "names_called",
    "signer_type",
]

SIGNER_TYPES: dict[SignerKind, SignerType] = {
    entry.kind: entry for entry in (Pgp(), PemKey(), X509Certificate(), CosignKey())
}
"""Every signer type, by kind, in the order in which messages list them."""


def signer_type(name: str) -> SignerType:
    """Return the type of the key with a name (`KeyRef.id`): the one whose prefix it begins with.

    Raises:
        ValueError: No type has that prefix.
    """
    prefix = name[: name.find(":") + 1]
    for entry in SIGNER_TYPES.values():
        if entry.prefix == prefix:
            return entry
    raise ValueError(f"{name!r} is not the name of a key")


def names_called(listing: Listing, digest: str) -> Iterator[str]:
    """Yield the names of all that `sha256:<hex>` stands for: a key under each of its names, or a certificate."""
    for kind, listed in listing.items():
        yield from (name for name, each in listed.items() if SIGNER_TYPES[kind].goes_by(each, digest))
