"""The interface of a signer type: what is asked of every kind of key that can sign an image.

Each kind has one module beside this one, with one object of a subclass of `SignerType`. The registry in
`eclctl.trust.signer_types` lists them. No other module asks which kind a key has: it asks the entry.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from eclctl.terms import Finding, KeyRef, SignatureFormat, SignerKind
from eclctl.trust.revocation import StatusSource, StatusSubject

if TYPE_CHECKING:
    from eclctl.signature.keys import PublicKey
    from eclctl.signature.openpgp import Keyring

Listing = Mapping[SignerKind, Mapping[str, Any]]
"""What a policy lists beside OpenPGP fingerprints: by kind, then by name (`KeyRef.id`). Values have an `id`."""

UNTRUSTED = Finding("unknown-key", "signature made by a key that is no longer trusted")


class Store(Protocol):
    """The part of `trust.keyring.KeyStore` that signer types read."""

    @property
    def pgp(self) -> Keyring:
        """Every OpenPGP certificate in the keyrings."""

    @property
    def listed(self) -> Listing:
        """What the policy lists besides."""


class Signed(Protocol):
    """The part of a `Claim` that is judged: which key signed, and when."""

    @property
    def signer(self) -> KeyRef:
        """Whose key it is."""

    @property
    def key(self) -> str:
        """The key that made the signature."""

    @property
    def created(self) -> datetime | None:
        """When the signature was made."""

    @property
    def expires(self) -> datetime | None:
        """When it expires."""


class Lifetime(NamedTuple):
    """From when until when a key can make signatures count; None is for ever. `fault` is why it never does."""

    begins: datetime | None = None
    ends: datetime | None = None
    fault: Finding | None = None


class Description(NamedTuple):
    """A key in words and times, for people. No decision reads it.

    id: the fingerprint or digest that it goes by outside.
    key: the fingerprint of an OpenPGP key or subkey; of others their name (`KeyRef.id`).
    title: an OpenPGP user ID, a certificate's subject, or the key's algorithm.
    life: when its signatures count.
    primary: the fingerprint of the OpenPGP certificate, else "".
    subject: a certificate's subject (RFC 4514), else "".
    user_id: of the OpenPGP certificate, else "".
    source: the file that it was read from, "" when that is not known.
    revocation: what status sources know of it, "" when none is asked.
    """

    id: str
    key: str
    title: str = ""
    life: Lifetime = Lifetime()
    primary: str = ""
    subject: str = ""
    user_id: str = ""
    source: str = ""
    revocation: str = ""


class SignerType(ABC):
    """One kind of key: how it is named, judged and described. Objects have no state.

    kind: the value of `KeyRef.kind`.
    prefix: what the names of its keys begin with (`KeyRef.id`); "" for OpenPGP fingerprints.
    words: one such key, as in "a signature by a PEM key".
    adjective: its signatures, as in "its PGP signatures".
    noun: "key" or "certificate", as in "this key".
    introduction: what `verify` and `sign` write after "Signing": "key" or "entity".
    format: how its signatures are written.
    digest_word: what the digest of a store calls what is listed of this kind. It stays, so that digests stay.
    in_keyrings: its keys come from the site's keyrings and keyservers. Each counts for the role `anyone`, and such
        keys approve exceptions.
    states_purpose: a signature says itself what it is for. Otherwise the signer's entry says it.
    carries_time: a signature says when it was made.
    approves_parts: a signature is over groups or objects of a SIF image. Otherwise it is over the image in an OCI-SIF.
    revocable: a key can be revoked without a change of the policy.
    expires_with: what ends the validity of a key, as in "then the key expires".
    renewal: what to do before that.
    useless_hint: what to do about a key by which no signature counts now; "" where the loader has warned of it.
    """

    kind: ClassVar[SignerKind]
    prefix: ClassVar[str]
    words: ClassVar[str]
    adjective: ClassVar[str]
    noun: ClassVar[str] = "key"
    introduction: ClassVar[str] = "entity"
    format: ClassVar[SignatureFormat]
    digest_word: ClassVar[str] = ""
    in_keyrings: ClassVar[bool] = False
    states_purpose: ClassVar[bool] = False
    carries_time: ClassVar[bool] = False
    approves_parts: ClassVar[bool] = True
    revocable: ClassVar[bool] = False
    expires_with: ClassVar[str] = "the key"
    renewal: ClassVar[str] = ""
    useless_hint: ClassVar[str] = ""

    def listed(self, store: Store) -> Mapping[str, Any]:
        """Return what the policy lists of this kind, by name."""
        return store.listed.get(self.kind, {})

    # What the policy lists

    def materials(self, listed: Any) -> frozenset[str]:
        """Return the keys behind a listed value, as `sha256:<hex of the DER SubjectPublicKeyInfo>`.

        Names with a common key count as one key (`policy.holders`). A kind without a key of its own returns its name.
        """
        key = self.verification_key(listed)
        return frozenset() if key is None else frozenset({key.id})

    def verification_key(self, listed: Any) -> PublicKey | None:
        """Return the key that verifies signatures, for a format that is verified with given keys; else None."""
        return None

    def goes_by(self, listed: Any, digest: str) -> bool:
        """Return whether `sha256:<hex>` names a listed value, for instance to withdraw it."""
        return digest in self.materials(listed)

    def withdrawal_name(self, store: Store, name: str) -> str:
        """Return what `withdrawn: {keys: [...]}` calls a key."""
        return next(iter(self.materials(self.listed(store)[name])), name)

    # Judging

    @abstractmethod
    def judge(self, store: Store, claim: Signed, now: datetime, statuses: StatusSource) -> Finding | None:
        """Return why a verified signature does not count at `now` (aware, UTC), or None when it does."""

    def turning_points(self, store: Store, claim: Signed, now: datetime, statuses: StatusSource) -> Iterable[float]:
        """Return the times at which `judge` may begin to say something else, in seconds since the epoch."""
        return ()

    def must_be_good(self, store: Store, name: str, now: datetime) -> tuple[StatusSubject, ...]:
        """Return all that a status source must know to be good before a key counts at `now`."""
        return ()

    def status_is_asked(self, store: Store, name: str) -> bool:
        """Return whether a revocation of this key becomes known."""
        return self.revocable

    def useless(self, store: Store, name: str, now: datetime) -> Finding | None:
        """Return why no signature by a key counts at `now`, or None when one could."""
        return None

    def ends(self, store: Store, name: str, now: datetime) -> datetime | None:
        """Return the first time after `now` at which a key that counts counts no more; None for never."""
        return None

    # Signing

    def signing_key(self, store: Store, name: str, created: datetime | None, now: datetime) -> str:
        """Return what `Claim.key` is of a signature that is made at `created`."""
        return name

    def descriptor_fingerprint(self, name: str) -> bytes | None:
        """Return what the descriptor of a signature must name as its signer; None where it names none."""
        return None

    # Words

    @abstractmethod
    def describe(self, store: Store, name: str, key: str, statuses: StatusSource, now: datetime) -> Description:
        """Return a key in words, also where the store no longer has it.

        Args:
            store: The keys that are trusted now.
            name: `Claim.signer.id`.
            key: `Claim.key`.
            statuses: What is known of whether certificates were revoked.
            now: Aware, UTC.
        """

    def descriptions(self, store: Store, name: str, statuses: StatusSource, now: datetime) -> Iterable[Description]:
        """Return the keys behind a name that could sign; none when the store no longer has it."""
        return [self.describe(store, name, name, statuses, now)] if name in self.listed(store) else []

    def title(self, store: Store, name: str) -> str:
        """Return what a signer is called: a user ID, a certificate's subject or the file of a key. Unescaped."""
        return name

    def identity(self, store: Store, name: str) -> str:
        """Return the fingerprint or digest that `verify` shows of a signer."""
        return name
