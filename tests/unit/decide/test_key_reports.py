"""The keys behind the signatures of an image, as `explain` shows them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from eclctl.decide.key_reports import short_name
from eclctl.report.answers import explanation_fields
from eclctl.signature import openpgp
from eclctl.trust.keyring import KeyStore
from eclctl.trust.revocation import NO_STATUS, Known, Link, Status
from eclctl.trust.signer_types.certificate import certificate_lifetime, revocation_of
from eclctl.trust.signer_types.pgp import key_lifetime
from eclctl.trust.x509 import Credential, load_credential
from tests.helpers.engines import RULES, Site
from tests.helpers.support import CORPUS, NOW

X509 = CORPUS / "keys" / "x509"
BUILDER = "81F111F6190C46143937EF7C22BC3A3BC942487F"


def test_each_signature_comes_with_the_key_that_made_it(site: Site) -> None:
    decision = site.ask(site.image("a.sif"), explain=True)
    assert [each.signer for each in decision.signatures] == ["builder", "scanner", "approver"]
    keys = [key for key in decision.keys if key is not None]
    assert len(keys) == 3
    assert (keys[0].about.id, keys[0].about.primary) == (BUILDER, BUILDER)
    assert keys[0].signed == datetime(2026, 1, 1, tzinfo=UTC)
    assert keys[0].declared == (f"{site.root}/policies.d/policy.yaml:3",)


def test_a_signature_that_failed_has_no_key(site: Site) -> None:
    decision = site.ask(site.image("a.sif", "forged-fingerprint.sif"), explain=True)
    assert len(decision.signatures) == 1
    assert decision.keys == (None,)


def test_a_subkey_is_told_from_its_certificate(site: Site) -> None:
    decision = site.ask(site.image("a.sif", "gpg-subkey.sif"), explain=True)
    (key,) = decision.keys
    assert key is not None
    assert key.about.id != key.about.primary
    assert key.about.id.endswith(short_name(key.about.id))


def test_without_explain_keys_are_not_looked_for(site: Site) -> None:
    assert site.ask(site.image("a.sif")).keys == ()


def test_users_are_not_told_whose_name_and_address_a_key_carries(site: Site) -> None:
    decision = site.ask(site.image("a.sif"), explain=True)
    for shown, names in ((False, False), (True, True)):
        key = explanation_fields(decision, admin=shown)["signatures"][0]["key"]
        assert ("user_id" in key, "declared" in key, "source" in key) == (names, names, names)
    assert "site101.example" not in str(explanation_fields(decision))
    assert "site101.example" in str(explanation_fields(decision, admin=True))


def test_a_pem_key_goes_by_its_digest(site: Site) -> None:
    (site.root / "policies.d" / "ci.pem").write_bytes((CORPUS / "keys" / "pem" / "p256-public.pem").read_bytes())
    signers = "version: 1\nsigners:\n  ci: {key: [ci.pem]}\n"
    rules = RULES.replace("builder", "ci").replace("      - approvals: {count: 2, of: security}\n", "")
    site.use_policy(rules, signers)
    decision = site.ask(site.image("a.sif", "one-dsse-p256.sif"), explain=True)
    (key,) = decision.keys
    assert key is not None
    assert key.about.id.startswith("sha256:")
    assert short_name(key.about.id) == key.about.id[:23]
    assert key.about.source == "ci.pem"


def test_a_key_lasts_as_long_as_its_self_signatures_say() -> None:
    ring = openpgp.Keyring.parse((CORPUS / "keys" / "pgp" / "site-ring.asc").read_bytes())
    store = KeyStore(ring)
    assert key_lifetime(store, BUILDER, BUILDER).ends is None
    assert key_lifetime(store, "0" * 40, "0" * 40).fault is not None


@pytest.mark.parametrize(
    ("identity", "short"),
    [
        (BUILDER, "22BC3A3BC942487F"),
        ("AB" * 32, "AB" * 8),
        ("sha256:" + "0123456789abcdef" * 4, "sha256:0123456789abcdef"),
    ],
)
def test_what_people_compare_is_sixteen_digits(identity: str, short: str) -> None:
    assert short_name(identity) == short


def credential(*, ocsp: bool) -> Credential:
    leaf, intermediate, root = ((X509 / f"{name}.pem").read_bytes() for name in ("leaf", "intermediate", "root"))
    return load_credential(leaf, [intermediate], [root], ocsp=ocsp)


class Told:
    version = 1

    def __init__(self, status: Status | None) -> None:
        self.status = status

    def known(self, link: Link, now: datetime) -> Known | None:
        return None if self.status is None else Known(self.status, now, "the responder says so")


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (Told(Status.GOOD), f"good until {NOW:%Y-%m-%d %H:%M}Z"),
        (Told(Status.REVOKED), "revoked: the responder says so"),
        (Told(None), "its responder was not asked yet"),
        (NO_STATUS, "unavailable: no responder can be asked here whether the certificate was revoked"),
    ],
)
def test_what_is_known_of_revocation_is_said(told: object, words: str) -> None:
    assert revocation_of(credential(ocsp=True), told, NOW) == words  # type: ignore[arg-type]
    assert revocation_of(credential(ocsp=False), told, NOW) == ""  # type: ignore[arg-type]


def test_a_certificate_lasts_as_long_as_everything_above_it() -> None:
    made = credential(ocsp=False)
    life = certificate_lifetime(made, NOW)
    assert life.fault is None
    assert life.ends is not None
    assert life.ends <= made.leaf.not_valid_after_utc
    assert certificate_lifetime(made, datetime(2099, 1, 1, tzinfo=UTC)).fault is not None
