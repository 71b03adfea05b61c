"""PEM keys that a policy lists for cosign signatures of the image in an OCI-SIF."""

from __future__ import annotations

from eclctl.signature.keys import PublicKey
from eclctl.terms import SignatureFormat, SignerKind
from eclctl.trust.signer_types.pem_key import PemKey

_PREFIX = "cosign:"


class CosignKey(PemKey):
    """A PEM public key for cosign. Its name is `cosign:` and the name that it has as a PEM key."""

    kind = SignerKind.COSIGN
    prefix = _PREFIX
    words = "cosign key"
    adjective = "cosign"
    introduction = "entity"
    format = SignatureFormat.COSIGN
    digest_word = "cosign"
    states_purpose = True
    approves_parts = False


def cosign_name(key: PublicKey) -> str:
    """Return the name (`KeyRef.id`) of a key that is listed for cosign signatures."""
    return _PREFIX + key.id
