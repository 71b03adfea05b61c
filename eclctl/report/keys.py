"""The keys that speak for signers: what they are called, how long each counts, and which will soon count no more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from eclctl.dataclass import dataclass
from eclctl.decide.snapshot import Snapshot
from eclctl.policy.language import Policy
from eclctl.terms import SignerKind
from eclctl.trust.keyring import KeyStore
from eclctl.trust.revocation import StatusSource
from eclctl.trust.signer_types import Description, signer_type

SOON = timedelta(days=30)
"""What ends within this is about to expire; what ended within it has just expired."""


@dataclass(frozen=True, slots=True)
class ListedKey:
    """One key that can make signatures count.

    signers: who lists it; none do when it counts as part of the role `anyone` alone.
    kind: the type of signer.
    name: what claims by it have as `signer.id`.
    about: what the key is, and when it counts.
    where: the first entry that lists it (`file:line`), else "".
    """

    signers: tuple[str, ...]
    kind: SignerKind
    name: str
    about: Description
    where: str = ""

    def state(self, now: datetime) -> str:
        """Return what it is worth at `now`, in a word: ok, expiring, expired, not-yet, or unusable."""
        life = self.about.life
        if life.ends is not None and life.ends <= now:
            return "expired"
        if life.begins is not None and life.begins > now:
            return "not-yet"
        if life.fault is not None:
            return "unusable"
        return "expiring" if life.ends is not None and life.ends <= now + SOON else "ok"


def listed_keys(snapshot: Snapshot, statuses: StatusSource, now: datetime) -> Iterator[ListedKey]:
    """Yield every key of every signer, in the policy's order, and where a rule asks for `anyone`, of the keyrings.

    One at a time, for an OpenPGP certificate is assessed when it is first asked about, which takes milliseconds.
    """
    policy = snapshot.policy
    if policy is None:
        return
    store = snapshot.store
    for name, signers in _names(policy, store).items():
        where = policy.signers[signers[0]].where if signers else ""
        entry = signer_type(name)
        for about in entry.descriptions(store, name, statuses, now):
            yield ListedKey(signers, entry.kind, name, about, where)


def turning(keys: Iterable[ListedKey], now: datetime) -> tuple[ListedKey, ...]:
    """Return the keys that end soon or ended not long ago, the first to end first."""
    ends = [(key.about.life.ends, key) for key in keys if key.about.life.ends is not None]
    return tuple(key for end, key in sorted(ends, key=lambda each: each[0]) if now - SOON <= end <= now + SOON)


def _names(policy: Policy, store: KeyStore) -> dict[str, tuple[str, ...]]:
    """Return the `KeyRef.id` of every key, with the signers that list it."""
    names: dict[str, tuple[str, ...]] = {}
    for signer in policy.signers.values():
        for key in signer.keys:
            names[key] = (*names.get(key, ()), signer.name)
    if any(rule.asks_anyone for rule in policy.rules):
        for certificate in store.pgp.certificates:
            names.setdefault(certificate.fingerprint, ())
    return names
