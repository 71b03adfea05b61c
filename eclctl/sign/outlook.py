"""What a policy will say of an image once it is signed: from its facts, and the claims that signing will add.

Nothing is signed for this. The claims are those that verifying the new signatures will make; a test holds the two
together.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from eclctl.dataclass import replace
from eclctl.decide.breakglass import NO_EXCEPTIONS
from eclctl.decide.facts import Facts
from eclctl.decide.judgement import judge_image
from eclctl.decide.place import TrustedPlace
from eclctl.decide.snapshot import Snapshot
from eclctl.model import Caller, Claim, Failure, Outcome, Verification
from eclctl.sign.coverage import Part
from eclctl.sign.native import Signing
from eclctl.terms import Finding, KeyRef
from eclctl.trust.keyring import KeyStore
from eclctl.trust.revocation import NO_STATUS, StatusSource
from eclctl.trust.signer_types import SIGNER_TYPES

_STRANGER = Finding("unknown-key", "made by a key that the policy does not know")


def outcome_at(
    snapshot: Snapshot,
    image: Verification,
    path: str,
    caller: Caller,
    now: datetime,
    *,
    statuses: StatusSource = NO_STATUS,
) -> Outcome:
    """Return what a policy says of an image, explained, supposing that its path is a trusted path.

    Exceptions are left out: they are for images that lack approvals, and this is about approvals.

    Args:
        snapshot: With a policy.
        image: Facts found with the snapshot's keys; with all digests when the policy withdraws objects.
        path: Where the image will lie.
        caller: Who will ask to run it.
        now: Aware, UTC.
        statuses: What is known of whether certificates were revoked.
    """
    without = replace(snapshot, exceptions=NO_EXCEPTIONS)
    facts = Facts(snapshot.store.digest, image, digested=True)
    return judge_image(without, facts, TrustedPlace(path), caller, now, statuses=statuses, explain=True).outcome


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
    made = [_template(name, signing, store, now) for ref in signing.refs for name in store.names_of(ref)]
    claims = [
        replace(claim, signature=number, group=part.group, objects=frozenset(part.ids), whole_group=part.whole)
        for number, part in enumerate(parts, _next_id(image))
        for claim in made
    ]
    numbers = range(_next_id(image), _next_id(image) + len(parts)) if not made else ()
    failures = [Failure(number, signing.format, _STRANGER) for number in numbers]
    return replace(image, claims=(*image.claims, *claims), failures=(*image.failures, *failures))


def unknown_keys(signing: Signing, store: KeyStore) -> tuple[KeyRef, ...]:
    """Return those of the keys that the policy does not know: their signatures count for no signer."""
    return tuple(ref for ref in signing.refs if not store.names_of(ref))


def _template(name: KeyRef, signing: Signing, store: KeyStore, now: datetime) -> Claim:
    """Return what signatures under one name of a key have in common; those of PEM keys carry no time."""
    entry = SIGNER_TYPES[name.kind]
    return Claim(
        signature=0,
        format=signing.format,
        signer=name,
        key=entry.signing_key(store, name.id, now, now),
        group=None,
        objects=frozenset(),
        whole_group=False,
        header=True,
        created=now if entry.carries_time else None,
        purposes=signing.purposes,
    )


def _next_id(image: Verification) -> int:
    """Return a number that no object of the image has, for all that a policy can tell."""
    taken = [item.id for item in image.objects]
    taken += [claim.signature for claim in image.claims] + [failure.signature for failure in image.failures]
    return max(taken, default=0) + 1
