"""Every kind of signer has one entry in each registry, and an entry is all that a new kind needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import pytest

from eclctl.config import document
from eclctl.config.document import Node
from eclctl.model import Claim
from eclctl.policy.evaluate import evaluate
from eclctl.policy.report import signatures
from eclctl.policy.schema_parts import list_of, text_schema
from eclctl.policy.signer_declarations import DECLARATIONS, Declaration, Names, SignerFiles
from eclctl.terms import Finding, KeyRef, SignatureFormat, SignerKind
from eclctl.trust.keyring import KeyStore, judge_claim, next_turning_point, unasked
from eclctl.trust.revocation import NO_STATUS, StatusSource
from eclctl.trust.signer_types import SIGNER_TYPES, Description, Signed, SignerType, Store, signer_type
from tests.helpers.deciding import RING
from tests.helpers.facts import Image, load_text
from tests.helpers.support import NOW


class MadeUp(StrEnum):
    BADGE = "badge"


BADGE: SignerKind = MadeUp.BADGE  # type: ignore[assignment]
END = NOW.replace(year=NOW.year + 1)


@dataclass(frozen=True)
class Badge:
    """An identity without a key, which counts until it ends."""

    id: str


class BadgeType(SignerType):
    kind = BADGE
    prefix = "badge:"
    words = "badge"
    adjective = "badge"
    noun = "badge"
    format = SignatureFormat.DSSE
    digest_word = "badges"
    states_purpose = True

    def materials(self, listed: Badge) -> frozenset[str]:
        return frozenset({listed.id})

    def judge(self, store: Store, claim: Signed, now: datetime, statuses: StatusSource) -> Finding | None:
        del statuses
        if claim.signer.id not in self.listed(store):
            return Finding("unknown-badge", "the badge is not listed")
        return None if now < END else Finding("badge-ended", "the badge has ended")

    def turning_points(self, store: Store, claim: Signed, now: datetime, statuses: StatusSource) -> Iterator[float]:
        del store, claim, now, statuses
        yield END.timestamp()

    def describe(self, store: Store, name: str, key: str, statuses: StatusSource, now: datetime) -> Description:
        del store, key, statuses, now
        return Description(name, name, f"the badge of {name.removeprefix(self.prefix)}")


def read_badges(files: SignerFiles, node: Node, what: str) -> Names:
    for entry in document.texts(node, files.report, f"badge of {what}") or ():
        name = f"badge:{entry.text.lower()}"
        files.take(BADGE, name, Badge(name))
        yield entry, name


@pytest.fixture
def badges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIGNER_TYPES, BADGE, BadgeType())
    declaration = Declaration(BADGE, "badge", read_badges, (), list_of(text_schema()))
    monkeypatch.setitem(DECLARATIONS, BADGE, declaration)


POLICY = """version: 1
signers:
  alice: {badge: [alice@site.example]}
rules: [{name: it, require: [{any_of: [alice]}]}]
"""
IMAGE = Image()
ALICE = KeyRef(BADGE, "badge:alice@site.example")


def claim(signer: KeyRef = ALICE) -> Claim:
    ids = IMAGE.ids(1)
    return Claim(10, SignatureFormat.DSSE, signer, signer.id, 1, ids, whole_group=True, header=True)


@pytest.mark.parametrize("registry", [SIGNER_TYPES, DECLARATIONS], ids=["types", "declarations"])
def test_every_kind_of_signer_has_an_entry(registry: dict[SignerKind, SignerType | Declaration]) -> None:
    assert set(registry) == set(SignerKind)
    assert all(entry.kind is kind for kind, entry in registry.items())


def test_the_name_of_a_key_tells_its_type() -> None:
    assert len({entry.prefix for entry in SIGNER_TYPES.values()}) == len(SIGNER_TYPES)
    for kind, entry in SIGNER_TYPES.items():
        assert signer_type(f"{entry.prefix}00").kind is kind
    with pytest.raises(ValueError, match="'badge:00' is not the name of a key"):
        signer_type("badge:00")


@pytest.mark.usefixtures("badges")
def test_a_new_type_is_declared_counted_and_explained_by_its_entries() -> None:
    policy = load_text(POLICY).policy
    assert policy is not None
    assert policy.listed[BADGE] == {ALICE.id: Badge(ALICE.id)}
    assert policy.holders[ALICE.id].people == ("alice",)
    image = IMAGE.with_claims(claim())
    outcome = evaluate(policy, policy.rules[0], image, {}, explain=True)
    assert (outcome.code, outcome.signers) == ("requirements-met", ("alice",))
    assert outcome.requirements[0].signers[0].why == "signed (signature 10)"
    (report,) = signatures(policy, policy.rules[0], image, {})
    assert (report.signer, report.counts) == ("alice", True)


@pytest.mark.usefixtures("badges")
def test_a_new_type_is_judged_by_its_entry() -> None:
    policy = load_text(POLICY).policy
    assert policy is not None
    store = KeyStore(RING, policy.listed)
    assert store.digest != KeyStore(RING).digest
    assert judge_claim(store, claim(), NOW) is None
    assert unasked(store, [claim()], NOW, NO_STATUS) == ()
    assert next_turning_point(store, [claim()], NOW) == END.timestamp()
    ended = judge_claim(store, claim(), END)
    assert ended == Finding("badge-ended", "the badge has ended")
    why = signatures(policy, policy.rules[0], IMAGE.with_claims(claim()), {0: ended})[0].why
    assert why == "the badge has ended"
    outcome = evaluate(policy, policy.rules[0], IMAGE.with_claims(claim()), {0: ended})
    assert outcome.reason.endswith("signature 10 by alice does not count: the badge has ended")


@pytest.mark.usefixtures("badges")
def test_messages_name_the_word_of_a_new_type() -> None:
    (error,) = load_text(POLICY.replace("badge: [alice@site.example]", "")).errors
    assert error.hint == "list some under pgp, key, certificate, cosign or badge"
    (warning,) = load_text(POLICY.replace("[alice@site.example]", "[a, A]")).warnings
    assert warning.message == "this badge is listed twice for 'alice'"
