"""What a policy says of an OCI-SIF before it is signed by cosign, and of the signed file, as it will be."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TypeAlias

from eclctl.cli.sign.policy import Outlook, Policies
from eclctl.decide.caller_identity import calling_user
from eclctl.sif.reader import Sif
from eclctl.sign.outlook import outcome_at
from eclctl.sign.pem import PrivateKey
from eclctl.terms import Finding
from eclctl.trust.keyring import unasked
from eclctl.verify.examine import examine
from eclctl.verify.hashing import DigestCache, HashPool

__all__ = ["File", "keys_unknown_to_policy", "outlook"]

File: TypeAlias = tuple[Sif, DigestCache]
"""An image that is open, or foreseen, and what is known of its digests."""


def outlook(policies: Policies, path: str, before: File, after: File, now: datetime) -> Outlook:
    """Verify a file as it was and as it is signed with a policy's keys, and put both to the policy.

    Args:
        policies: With their keys.
        path: Where the image will lie; it chooses the rule.
        before: The file until now.
        after: The signed one.
        now: Aware, UTC.

    Raises:
        EclctlError: A file cannot be read.
    """
    snapshot, responders = policies.snapshot, policies.responders
    assert snapshot.policy is not None
    caller = calling_user()
    outcomes = []
    with HashPool.beside_caller() as pool:
        for image, known in (before, after):
            digests = snapshot.policy.withdraws_objects
            found = examine(image, snapshot.store, pool=pool, digests=digests, known=known)
            responders.ask(unasked(snapshot.store, found.claims, now, responders))
            outcomes.append(outcome_at(snapshot, found, path, caller, now, statuses=responders))
    return Outlook(path, outcomes[0], outcomes[1], ())


def keys_unknown_to_policy(policies: Policies, keys: Iterable[PrivateKey]) -> tuple[Finding, ...]:
    """Return those keys that no signer of the policy has for cosign: their signatures count for no signer."""
    known = {key.id for key in policies.snapshot.store.cosign}
    strangers = [key.public for key in keys if key.public.id not in known]
    says = "the policy lists no such key for cosign, and its signature counts for no signer"
    return tuple(Finding("unknown-to-policy", f"{key.source} ({key.id}): {says}") for key in strangers)
