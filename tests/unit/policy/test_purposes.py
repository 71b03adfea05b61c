"""What signatures are for, and the stages of a chain: who counts where, and what is said of what is missing."""

from __future__ import annotations

import pytest

from eclctl.model import Code, Outcome
from eclctl.policy import report
from eclctl.terms import NO_PURPOSE_KNOWN, Kind
from tests.helpers.facts import HEAD, Image, decide, load_text, policy, rule

ONE = Image()
OCI = Image({1: (1, 2, 3)}, subject=(1, 2), carriers=(3,))
SCAN, APPROVE = frozenset({"scan"}), frozenset({"approve"})
BOUND = HEAD.replace("ci: {key: [p256.pem]}", "ci: {key: [p256.pem], purpose: build}\n  scanner: {key: [p384.pem]}")
CHAIN = """\
  - name: production
    chain:
      - build: {any_of: [ci], purpose: build}
      - scan: {any_of: [alice], purpose: scan}
      - approve: {approvals: {count: 2, of: security}}
"""


def says(require: str, *signed: frozenset[str] | None) -> Code:
    """The answer when alice signs once for each set of purposes."""
    return decide(policy(rule(require)), ONE.with_claims(*(ONE.by("A", purposes=each) for each in signed))).code


@pytest.mark.parametrize(
    ("asked", "stated", "met"),
    [
        ("purpose: scan", {"scan"}, True),
        ("purpose: scan", {"scan", "approve"}, True),
        ("purpose: scan", {"approve"}, False),
        ("purpose: scan", {"scanner"}, False),
        ("purpose: scan", set(), False),
        ("purpose: scan", {NO_PURPOSE_KNOWN}, False),
        ("", set(), True),
        ("", {"scan"}, False),
        ("", {NO_PURPOSE_KNOWN}, False),
    ],
)
def test_a_signature_counts_for_what_it_is_for_and_for_nothing_else(asked: str, stated: set[str], met: bool) -> None:
    """One for a purpose is no approval without bounds, and one without bounds is none for a purpose."""
    require = f"[{{any_of: [alice]{', ' + asked if asked else ''}}}]"
    expected = Code.REQUIREMENTS_MET if met else Code.REQUIREMENTS_NOT_MET
    assert says(require, frozenset(stated)) is expected


def test_two_signatures_for_two_purposes_meet_two_requirements_but_none_without_bounds() -> None:
    both = "[{any_of: [alice], purpose: scan}, {any_of: [alice], purpose: approve}]"
    assert says(both, SCAN, APPROVE) is Code.REQUIREMENTS_MET
    assert says(both, SCAN, SCAN) is Code.REQUIREMENTS_NOT_MET
    assert says("[{any_of: [alice]}]", SCAN, APPROVE) is Code.REQUIREMENTS_NOT_MET
    assert says("[{any_of: [alice]}]", SCAN, frozenset()) is Code.REQUIREMENTS_MET


def test_a_purpose_does_not_add_up_over_groups() -> None:
    two = Image({1: (1, 2), 2: (3,)})
    made = policy(rule("[{any_of: [alice], purpose: scan}]"))
    assert (
        decide(made, two.with_claims(two.by("A", 1, purposes=SCAN), two.by("A", 2))).code is Code.REQUIREMENTS_NOT_MET
    )
    whole = two.with_claims(two.by("A", 1, purposes=SCAN), two.by("A", 2, purposes=SCAN | APPROVE))
    assert decide(made, whole).code is Code.REQUIREMENTS_MET


def test_what_the_signatures_of_a_pem_key_are_for_stands_in_the_entry_of_its_signer() -> None:
    made = policy(rule("[{any_of: [ci], purpose: build}]"), head=BOUND)
    image = ONE.with_claims(ONE.by_pem("p256"))
    assert decide(made, image).code is Code.REQUIREMENTS_MET
    stated = ONE.with_claims(ONE.by_pem("p256", purposes=SCAN))  # nothing that a DSSE signature could say
    assert decide(made, stated).code is Code.REQUIREMENTS_MET


def test_a_pem_key_that_is_bound_to_a_purpose_can_meet_nothing_else() -> None:
    errors = [str(error) for error in load_text(BOUND + rule("[{any_of: [ci]}]")).errors]
    assert len(errors) == 1
    assert "is bound to purposes, and none is asked for (add purpose: to the requirement)" in errors[0]
    made = policy(rule("[{any_of: [ci, scanner]}]"), head=BOUND)
    assert decide(made, ONE.with_claims(ONE.by_pem("p256"))).code is Code.REQUIREMENTS_NOT_MET
    assert decide(made, ONE.with_claims(ONE.by_pem("p384"))).code is Code.REQUIREMENTS_MET


def test_a_signer_who_never_counts_for_a_purpose_is_a_warning() -> None:
    loaded = load_text(BOUND + rule("[{any_of: [scanner, alice], purpose: scan}]"))
    assert [problem.message for problem in loaded.warnings] == [
        "in a requirement of rule 'it', 'scanner' never counts: nothing that they sign with can be for the purpose scan"
    ]


def test_a_certificate_is_bound_by_the_entry_of_its_signer_too() -> None:
    head = HEAD.replace(
        "ci: {key: [p256.pem]}",
        "ci: {certificate: {file: leaf.pem, intermediates: intermediate.pem, roots: root.pem, ocsp: off},"
        " purpose: [build, scan]}",
    )
    made = policy(rule("[{any_of: [ci], purpose: scan}]"), head=head)
    (name,) = made.signers["ci"].keys
    assert decide(made, ONE.with_claims(ONE.by_certificate(name))).code is Code.REQUIREMENTS_MET


def test_one_key_of_two_signers_is_for_each_what_their_entry_says() -> None:
    head = BOUND.replace("scanner: {key: [p384.pem]}", "scanner: {key: [p256.pem], purpose: scan}")
    image = ONE.with_claims(ONE.by_pem("p256"))
    for purpose, person in (("build", "ci"), ("scan", "scanner")):
        made = policy(rule(f"[{{any_of: [ci, scanner], purpose: {purpose}}}]"), head=head)
        assert decide(made, image).signers == (person,)
    both = policy(rule("[{any_of: [ci], purpose: build}, {any_of: [scanner], purpose: scan}]"), head=head)
    assert decide(both, image).code is Code.REQUIREMENTS_NOT_MET, "one key never counts for two people"


@pytest.mark.parametrize(("purpose", "met"), [("scan", True), ("approve", False)])
def test_a_cosign_signature_is_for_what_it_states(purpose: str, met: bool) -> None:
    head = HEAD.replace("alice: {pgp", "alice: {cosign: [ci.pub], pgp")
    made = policy(rule(f"[{{any_of: [alice], purpose: {purpose}}}]"), head=head)
    image = OCI.with_claims(OCI.by_cosign("ci", purposes=SCAN))
    assert (decide(made, image).code is Code.REQUIREMENTS_MET) is met


def test_anyone_can_be_asked_for_a_purpose() -> None:
    made = policy(rule("[{approvals: {count: 1, of: anyone}, purpose: scan}]"))
    assert decide(made, ONE.with_claims(ONE.by("E", purposes=SCAN))).code is Code.REQUIREMENTS_MET
    assert decide(made, ONE.with_claims(ONE.by("E"))).code is Code.REQUIREMENTS_NOT_MET


def test_a_signature_over_other_content_denies_for_any_purpose() -> None:
    made = policy(rule("[{any_of: [alice]}]"))
    from eclctl.terms import Finding

    other = ONE.by("B", purposes=SCAN, objects=frozenset(), mismatch=Finding("data-changed", "changed"))
    assert decide(made, ONE.with_claims(ONE.by("A"), other)).code is Code.TAMPERED


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (
            f"{{pgp: [{'A' * 40}], purpose: scan}}",
            "is about signatures by PEM keys and certificates, and it has neither",
        ),
        ("{key: [p256.pem], purpose: Scan}", "purpose of signer 'x' is 'Scan', which is no purpose (1 to 32 of a-z"),
        ("{key: [p256.pem], purpose: []}", "empty list"),
        ("{key: [p256.pem], purpose: {a: b}}", "must be a list"),
        ("{key: [p256.pem], purpose: [scan, a b]}", "'a b', which is no purpose"),
        ("{key: [p256.pem], purpose: }", "must be text"),
        (f"{{key: [p256.pem], purpose: {'a' * 33}}}", "which is no purpose"),
    ],
)
def test_a_wrong_purpose_of_a_signer_is_an_error(entry: str, says: str) -> None:
    errors = [str(error) for error in load_text(f"version: 1\nsigners:\n  x: {entry}\n").errors]
    assert len(errors) == 1, errors
    assert says in errors[0]


def test_what_is_missing_is_said_with_the_purpose_and_why_a_signature_is_not_it() -> None:
    made = policy(rule("[{any_of: [alice], purpose: scan}]"))
    outcome = decide(made, ONE.with_claims(ONE.by("A", signature=4, purposes=APPROVE)), explain=True)
    assert outcome.reason == (
        "no signature by alice with the purpose scan counts yet (0 of 1); signature 4 by alice does not count: "
        "it is for approve, and the purpose scan is asked for"
    )
    assert outcome.requirements[0].signers[0].why == (
        "signature 4 does not count: it is for approve, and the purpose scan is asked for"
    )
    unbound = decide(policy(rule("[{any_of: [alice]}]")), ONE.with_claims(ONE.by("A", purposes=SCAN)), explain=True)
    assert unbound.reason.endswith("it is for scan, and an approval without bounds is needed")


def test_every_signature_is_shown_with_what_it_is_for() -> None:
    made = policy(rule("[{any_of: [alice], purpose: scan}]"))
    image = ONE.with_claims(ONE.by("A", purposes=SCAN | {NO_PURPOSE_KNOWN}))
    (shown,) = report.signatures(made, made.rules[0], image, {})
    assert shown.why == "it covers group 1, for the purpose one that cannot be read, scan"


# -- chains --------------------------------------------------------------------------------------------------------


def chained(*signed: object, text: str = CHAIN, explain: bool = False) -> Outcome:
    return decide(policy(text, head=BOUND), ONE.with_claims(*signed), explain=explain)  # type: ignore[arg-type]


BUILT, SCANNED, APPROVED = ONE.by_pem("p256"), ONE.by("A", purposes=SCAN), (ONE.by("B"), ONE.by("C"))


def test_a_whole_chain_allows() -> None:
    assert chained(BUILT, SCANNED, *APPROVED).signers == ("ci", "alice", "bob", "carol")


def test_the_answer_names_the_stages_that_are_missing() -> None:
    outcome = chained(BUILT)
    assert outcome.code is Code.REQUIREMENTS_NOT_MET
    assert outcome.reason == ("missing stages: scan, approve; not signed by alice with the purpose scan yet (0 of 1)")
    assert [(missing.stage, missing.have, missing.needed) for missing in outcome.missing] == [
        ("scan", 0, 1),
        ("approve", 0, 2),
    ]
    assert chained(BUILT, SCANNED, APPROVED[0]).missing[0].stage == "approve"
    assert [report.stage for report in chained(BUILT, explain=True).requirements] == ["build", "scan", "approve"]


def test_a_scan_is_no_approval() -> None:
    """Alice is of the role that approves, and her signature says that she scanned."""
    outcome = chained(BUILT, SCANNED, ONE.by("B"))
    assert (outcome.missing[0].stage, outcome.missing[0].signed) == ("approve", ("bob",))


NAMED = """\
  - name: production
    chain: [build, scan, approve]
    require:
      - {approvals: {count: 2, of: security}, purpose: approve}
      - {any_of: [dave]}
      - {any_of: [alice], purpose: scan}
      - {any_of: [ci], purpose: build}
"""


def test_a_stage_that_is_only_named_is_made_of_the_items_with_its_purpose() -> None:
    made = policy(NAMED, head=BOUND).rules[0]
    assert made.chain == ("build", "scan", "approve")
    assert [(need.stage, need.people) for need in made.require] == [
        (None, ("dave",)),
        ("build", ("ci",)),
        ("scan", ("alice",)),
        ("approve", ("alice", "bob", "carol")),
    ]


def test_requirements_outside_of_the_chain_are_counted_beside_its_stages() -> None:
    reason = chained(BUILT, text=NAMED).reason
    assert reason.startswith("missing stages: scan, approve; not signed by dave yet (0 of 1)")
    assert chained(ONE.by("D"), text=NAMED).reason.startswith("missing stages: build, scan, approve; ")


def test_a_stage_may_be_made_of_several_items() -> None:
    text = NAMED + "      - {any_of: [bob], purpose: scan}\n"
    outcome = chained(BUILT, ONE.by("D"), SCANNED, text=text)
    assert [missing.stage for missing in outcome.missing] == ["scan", "approve"]


def test_an_item_is_asked_for_also_where_its_stage_is_written_in_the_chain() -> None:
    text = NAMED.replace("[build, scan, approve]", "[build, scan: {any_of: [dave]}, approve]")
    made = policy(text, head=BOUND).rules[0]
    assert [(need.stage, need.people, need.purpose) for need in made.require] == [
        (None, ("dave",), None),
        ("build", ("ci",), "build"),
        ("scan", ("dave",), None),
        ("scan", ("alice",), "scan"),
        ("approve", ("alice", "bob", "carol"), "approve"),
    ]


def test_an_item_that_no_stage_names_is_an_error() -> None:
    text = NAMED.replace("[build, scan, approve]", "[build, approve]")
    errors = [str(error) for error in load_text(BOUND + text).errors]
    assert len(errors) == 1
    assert "asks for the purpose 'scan', which is no stage of its chain (add scan to the chain)" in errors[0]


def test_who_could_still_sign_has_a_key_that_can_say_so() -> None:
    made = policy(rule("[{any_of: [scanner, alice], purpose: scan}]"), head=BOUND)
    assert decide(made, ONE.with_claims()).missing[0].could_sign == ("alice",)
    assert decide(made, Image(kind=Kind.SIF).with_claims()).missing[0].could_sign == ("alice",)
