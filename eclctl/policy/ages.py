"""Signatures that are too old for a rule.

A key's and a signature's own times are the same for every rule and are judged before one is chosen. How old a signature
may be is the rule's to say, so that it is found here, afresh for each decision, and joins what was judged out: nothing
that is kept outlives it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from eclctl.model import Claim
from eclctl.policy.language import Rule
from eclctl.terms import Finding

_NO_TIME = Finding("no-time", "it does not say when it was made, and the rule limits how old it may be")


def too_old(
    rule: Rule | None, claims: Sequence[Claim], rejected: Mapping[int, Finding], now: datetime
) -> Mapping[int, Finding]:
    """Return `rejected`, and for those claims that are too old for `rule` at `now`, by index, why.

    A signature counts until the age is reached, and from that instant on no more. One over other content stays what it
    is at any age: it denies. With an age limit, no image is allowed that would be denied without.
    """
    if rule is None or rule.max_age is None:
        return rejected
    newest_too_old = now.timestamp() - rule.max_age
    found = dict(rejected)
    for number, claim in enumerate(claims):
        if number in rejected or claim.mismatch is not None:
            continue
        if claim.created is None:
            found[number] = _NO_TIME
        elif claim.created.timestamp() <= newest_too_old:
            found[number] = rule.too_old
    return found
