"""PEM keys that a policy lists for DSSE envelopes in a SIF. Such a key is trusted for as long as it is listed."""

from __future__ import annotations

from datetime import datetime

from eclctl.signature.keys import PublicKey
from eclctl.terms import Finding, SignatureFormat, SignerKind
from eclctl.trust.revocation import StatusSource
from eclctl.trust.signer_types.base import UNTRUSTED, Description, Signed, SignerType, Store


class PemKey(SignerType):
    """A PEM public key. Its name is `sha256:<hex of the DER SubjectPublicKeyInfo>`."""

    kind = SignerKind.KEY
    prefix = "sha256:"
    words = "PEM key"
    adjective = "PEM"
    introduction = "key"
    format = SignatureFormat.DSSE
    digest_word = "keys"

    def verification_key(self, listed: PublicKey) -> PublicKey:
        """Return the key itself."""
        return listed

    def judge(self, store: Store, claim: Signed, now: datetime, statuses: StatusSource) -> Finding | None:
        """Return that the key is not listed any more, or None."""
        return None if claim.signer.id in self.listed(store) else UNTRUSTED

    def describe(self, store: Store, name: str, key: str, statuses: StatusSource, now: datetime) -> Description:
        """Return the key by its digest."""
        listed: PublicKey | None = self.listed(store).get(name)
        identity = name[name.index("sha256:") :]
        if listed is None:
            return Description(identity, name)
        return Description(identity, name, listed.algorithm, source=listed.source)

    def title(self, store: Store, name: str) -> str:
        """Return the file that the key was read from."""
        listed: PublicKey | None = self.listed(store).get(name)
        return "" if listed is None else listed.source
