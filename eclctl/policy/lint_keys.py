"""Keys of signers that do not count, or will soon count no more."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import NamedTuple

from eclctl.config.document import Report
from eclctl.policy.declare import Declarations
from eclctl.policy.language import Policy
from eclctl.signature import openpgp
from eclctl.text import counted, quoted
from eclctl.trust.signer_types import Listing, signer_type

__all__ = ["SOON", "review_keys", "who_counts"]

SOON = timedelta(days=30)
"""How long before the end of a key its signer is warned of."""


class _Keys(NamedTuple):
    """What signer types read of a policy and a keyring."""

    pgp: openpgp.Keyring
    listed: Listing


def review_keys(policy: Policy, declared: Declarations, report: Report, ring: openpgp.Keyring, now: datetime) -> None:
    """Warn of every key that does not count at `now`, and of those that end within `SOON`.

    The loader has warned of X.509 certificates that do not count.
    """
    keys = _Keys(ring, policy.listed)
    for key, person, entry in declared.key_places:
        kind, of = signer_type(key), f"of {quoted(person)}"
        useless = kind.useless(keys, key, now)
        if useless is not None and kind.useless_hint:
            message = f"no signature by {key} {of} counts now: {useless.message}"
            report.warning(entry, message, kind.useless_hint)
        ends = None if useless is not None else kind.ends(keys, key, now)
        if ends is not None and ends <= now + SOON:
            this = key if kind.in_keyrings else f"the {kind.noun} {quoted(entry.text)}"
            days = math.ceil((ends - now) / timedelta(days=1))
            left = f"{ends:%Y-%m-%d} ({counted(days, 'day')})"
            message = f"signatures by {this} {of} count until {left}: then {kind.expires_with} expires"
            report.warning(entry, message, kind.renewal)


def who_counts(policy: Policy, ring: openpgp.Keyring, now: datetime) -> frozenset[str]:
    """Return the signers with a key that could count at `now`. PEM and cosign keys do as long as they are listed."""
    keys = _Keys(ring, policy.listed)
    return frozenset(
        name
        for name, signer in policy.signers.items()
        if any(signer_type(key).useless(keys, key, now) is None for key in signer.keys)
    )
