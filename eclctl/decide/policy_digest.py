"""The digest of the policy in force, by which answers, audit records and metrics name it.

It covers all that decides: the text of the policy files and of the key files that they name (`policy.load`), the
keyrings, the exceptions, and the copies of certificates that keyservers gave.
"""

from __future__ import annotations

import hashlib

from eclctl.decide.breakglass import Exceptions
from eclctl.policy.language import Policy
from eclctl.trust.keyring import KeyStore


def policy_digest(policy: Policy, store: KeyStore, exceptions: Exceptions) -> str:
    """Return the digest of a policy, its keys and its exceptions: `sha256:` and 64 hexadecimal digits."""
    learnt = None if store.pgp.digest == store.pgp.facts else f"learnt {store.pgp.digest}"
    parts = [policy.digest, store.digest, *filter(None, [exceptions.digest, learnt])]
    return "sha256:" + hashlib.sha256("\n".join(parts).encode()).hexdigest()
