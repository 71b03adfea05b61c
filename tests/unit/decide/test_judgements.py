"""What is judged out is kept no longer than it holds."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from eclctl.decide.facts import Judgements
from eclctl.model import Claim
from eclctl.signature import openpgp
from eclctl.trust.keyring import KeyStore, judge_claim
from eclctl.verify.examine import examine
from eclctl.verify.hashing import HashPool
from tests.helpers.sifbuilder import corpus_store, opened
from tests.helpers.support import CORPUS

IMAGES = (
    "one-builder+scanner+approver.sif",
    "gpg-expired-key.sif",
    "gpg-expired-signature.sif",
    "gpg-future-key.sif",
    "one-revoked.sif",
    "one-subkey.sif",
    "one-release.sif",
    "one-builder+dsse-p256.sif",
)


def claims_of(image: str, store: KeyStore) -> tuple[Claim, ...]:
    pool = HashPool(1)
    with opened(CORPUS / "images" / image) as fd:
        found = examine(fd, store, pool=pool).claims
    pool.close()
    return found


def turning_points(claims: tuple[Claim, ...], store: KeyStore) -> list[float]:
    points = {0.0, 4102444800.0}  # 1970 and 2100
    for claim in claims:
        points.update(openpgp.turning_points(claim.signer.id, claim.key, claim.created, claim.expires, store.pgp))
    return sorted(points)


@pytest.mark.parametrize("image", IMAGES)
def test_judging_with_what_was_kept_is_judging_afresh_at_every_time(image: str) -> None:
    store = corpus_store("site-ring")
    claims = claims_of(image, store)
    points = turning_points(claims, store)
    times = sorted({max(0.0, point + step) for point in points for step in (-1, -0.001, 0, 0.001, 1, 86400, 10**7)})
    for start in times:
        kept = Judgements()
        for seconds in (start, *times, *times[::-1]):
            now = datetime.fromtimestamp(seconds, UTC)
            afresh = {index: found for index, claim in enumerate(claims) if (found := judge_claim(store, claim, now))}
            kept.rejected(store, claims, datetime.fromtimestamp(start, UTC))
            assert kept.rejected(store, claims, now) == afresh


def test_what_was_judged_with_other_keys_is_not_used() -> None:
    before, after = corpus_store("revoked-before"), corpus_store("revoked")
    claims = claims_of("one-revoked.sif", before)
    now = datetime(2026, 11, 23, tzinfo=UTC)
    kept = Judgements()
    assert kept.rejected(before, claims, now) == {}
    assert kept.rejected(after, claims, now) != {}
