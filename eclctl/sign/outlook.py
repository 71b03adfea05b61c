"""What a policy would say of an image once it is signed: by the facts as they are, and the claims that signing adds.

Nothing is signed for this. The claims are those that verifying the new signatures will make; a test holds the two
together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from eclctl.decide.snapshot import Snapshot
from eclctl.model import Caller, Claim, Code, Failure, Finding, KeyRef, Outcome, SignerKind, Verification
from eclctl.policy.ages import too_old
from eclctl.policy.evaluate import evaluate, withdrawn
from eclctl.policy.select import select_rule
from eclctl.sign.coverage import Part
from eclctl.sign.native import Signing
from eclctl.signature import openpgp
from eclctl.signature.openpgp import Keyring
from eclctl.trust.keyring import KeyStore, judge
from eclctl.trust.revocation import NO_STATUS, StatusSource

__all__ = ["Place", "judged", "unknown_keys", "with_signatures"]

_STRANGER = Finding("unknown-key", "made by a key that the policy does not know")
_NO_RULE = Outcome(Code.NO_RULE, "no rule covers this path, so nothing may run from there")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the image will lie, and who will ask to run it: what chooses a rule."""

    path: str
    caller: Caller


def judged(
    snapshot: Snapshot, image: Verification, place: Place, now: datetime, statuses: StatusSource = NO_STATUS
) -> Outcome:
    """Return what a policy says of an image, explained, supposing that the place where it lies is worth enough.

    Exceptions are left out: they are for images that lack approvals, and this is about approvals.

    Args:
        snapshot: With a policy.
        image: Facts found with the snapshot's keys; with all digests when the policy withdraws objects.
        place: Where, and for which user.
        now: Aware, UTC.
        statuses: What is known of whether certificates were revoked.
    """
    policy, store = snapshot.policy, snapshot.store
    assert policy is not None
    found = {number: judge(store, claim, now, statuses) for number, claim in enumerate(image.claims)}
    rejected = {number: finding for number, finding in found.items() if finding is not None}
    rule = select_rule(policy, path=place.path, kind=image.kind, caller=place.caller, now=now)
    stopped = withdrawn(policy, image, rejected)
    if stopped is not None or rule is None:
        return stopped or _NO_RULE
    return evaluate(policy, rule, image, too_old(rule, image.claims, rejected, now), explain=True)


def with_signatures(
    image: Verification, parts: Sequence[Part], signing: Signing, store: KeyStore, now: datetime
) -> Verification:
    """Return the facts of an image as they will be found once these parts are signed.

    Args:
        image: The facts now.
        parts: What will be signed.
        signing: With which keys.
        store: The keys that will verify: the policy's.
        now: When it is signed.
    """
    made = [_template(name, signing, store, now) for ref in signing.refs for name in _names(ref, store)]
    claims = [_over(part, number, claim) for number, part in enumerate(parts, _next_id(image)) for claim in made]
    numbers = range(_next_id(image), _next_id(image) + len(parts)) if not made else ()
    failures = [Failure(number, signing.format, _STRANGER) for number in numbers]
    return replace(image, claims=(*image.claims, *claims), failures=(*image.failures, *failures))


def unknown_keys(signing: Signing, store: KeyStore) -> tuple[KeyRef, ...]:
    """Return those of the keys that the policy does not name: their signatures count for no signer."""
    return tuple(ref for ref in signing.refs if not _names(ref, store))


def _names(ref: KeyRef, store: KeyStore) -> tuple[KeyRef, ...]:
    """Return under which names a key's signatures count: a PEM key also as a certificate's."""
    if ref.kind is SignerKind.PGP:
        return (ref,) if store.pgp.get(ref.id) is not None else ()
    return next((store.names(key) for key in store.dsse_keys if key.id == ref.id), ())


def _template(name: KeyRef, signing: Signing, store: KeyStore, now: datetime) -> Claim:
    """Return what signatures under one name of a key have in common; those of PEM keys carry no time."""
    is_pgp = name.kind is SignerKind.PGP
    return Claim(
        signature=0,
        format=signing.format,
        signer=name,
        key=_pgp_key(name.id, store.pgp, now) if is_pgp else _pem_key(name, store),
        group=None,
        objects=frozenset(),
        whole_group=False,
        header=True,
        created=now if is_pgp else None,
        purposes=signing.purposes,
    )


def _over(part: Part, number: int, claim: Claim) -> Claim:
    return replace(claim, signature=number, group=part.group, objects=frozenset(part.ids), whole_group=part.whole)


def _next_id(image: Verification) -> int:
    """Return a number that no object of the image has, for all that a policy can tell."""
    taken = [item.id for item in image.objects]
    taken += [claim.signature for claim in image.claims] + [failure.signature for failure in image.failures]
    return max(taken, default=0) + 1


def _pgp_key(fingerprint: str, ring: Keyring, now: datetime) -> str:
    """Return the fingerprint of a certificate's first key whose signatures count now; of its first key when none do."""
    certificate = ring.get(fingerprint)
    keys = [each.fingerprint for each in certificate.keys] if certificate is not None else []
    good = (key for key in keys if openpgp.judge(fingerprint, key, now, None, ring, now) is None)
    return next(good, fingerprint)


def _pem_key(name: KeyRef, store: KeyStore) -> str:
    """Return the key itself, also where a certificate speaks for it."""
    credential = store.credential(name.id)
    return name.id if credential is None else credential.key.id
