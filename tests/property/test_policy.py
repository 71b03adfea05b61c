"""Properties of policies that hold for all that an administrator writes and an attacker signs."""

from __future__ import annotations

import itertools
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from eclctl.model import Claim
from eclctl.policy import n_of_m
from eclctl.policy.evaluate import evaluate
from eclctl.policy.language import Policy
from eclctl.terms import Finding, Kind, SignatureFormat, Verdict
from tests.helpers.facts import EXPIRED, HEAD, Image, load_text, policy, rule

ONE = Image()
TWO = Image({1: (1, 2), 2: (3,)}, holds={3: {"partition", "overlay"}})
OCI = Image({1: (1, 2, 3)}, subject=(1, 2), carriers=(3,))
SHARED = HEAD.replace("bob: {pgp", "bob: {key: [p384.pem], pgp").replace("carol: {pgp", "carol: {key: [p384.pem], pgp")
COSIGNING = (
    SHARED.replace("alice: {pgp", "alice: {cosign: [ci.pub], pgp")
    .replace("ci: {key: [p256.pem]}", "ci: {key: [p256.pem], cosign: [site.pub], annotations: {env: prod}}")
    .replace("bob: {key", "bob: {cosign: [p384.pem, ci.pub], repository: registry.example/prod/**, key")
)
REQUIREMENTS = (
    "{any_of: [alice, bob]}",
    "{all_of: [bob, carol]}",
    "{any_of: [ci]}",
    "{approvals: {count: 2, of: security}}",
    "{approvals: {count: 2, of: anyone}}",
    "{any_of: [dave], objects: {groups: [1]}}",
    "{any_of: [bob], objects: {groups: [2], holds: [overlay]}}",
    "{any_of: [carol, alice], objects: {ids: [1, 2]}}",
    "{any_of: [dave], objects: {holds: [partition]}}",
)
OPTIONS = ("distinct: true", "legacy_signatures: accept", "unknown_signatures: deny", "forbid: {signed_by: [dave]}")


def _policies() -> list[Policy]:
    made = []
    for head in (HEAD, SHARED, COSIGNING):
        for size in (1, 2, 3):
            for needs in itertools.combinations(REQUIREMENTS, size):
                for options in ((), ("distinct: true",), OPTIONS[1:]):
                    loaded = load_text(head + rule(f"[{', '.join(needs)}]", *options))
                    made += [loaded.policy] if loaded.policy is not None else []
    return made


OTHER_OCI = (
    Image({1: (1, 2), 2: (3,)}, holds={3: {"partition", "overlay"}}, subject=(1,), carriers=(2,)),
    Image({1: (1, 2), 2: (3,)}, subject=(1, 2, 3), tied=False),
    Image({1: (1,)}, loose=(2, 9), subject=(1, 2)),
    Image({1: (1, 2, 3)}, kind=Kind.OCI_SIF),
)


def strict(made: Policy) -> Policy:
    """The same, with `discounted_signatures: deny`."""
    return replace(made, rules=tuple(replace(each, deny_discounted=True) for each in made.rules))


MADE = _policies()
POLICIES = st.sampled_from(MADE)
ANY_POLICIES = POLICIES | st.sampled_from([strict(each) for each in MADE])
IMAGES = st.sampled_from([ONE, TWO, Image(TWO.groups, tied=False), Image(loose=(9,)), Image({}), OCI, *OTHER_OCI])


@st.composite
def cosigned(draw: st.DrawFn, image: Image, keys: tuple[str, ...] = ("ci", "site", "p384")) -> Claim:
    return image.by_cosign(
        draw(st.sampled_from(keys)),
        annotations=frozenset(draw(st.sets(st.sampled_from([("env", "prod"), ("env", "dev"), ("team", "hpc")])))),
        repository=draw(st.sampled_from(["", "registry.example/prod/app", "registry.example/dev/app"])),
    )


@st.composite
def claims(draw: st.DrawFn, image: Image, letters: str = "ABCDF") -> Claim:
    """A claim of any sort by one of the known certificates, by a PEM key, or with cosign."""
    if image.subject and draw(st.booleans()):
        return draw(cosigned(image))
    group = draw(st.sampled_from([*image.groups, 7]))
    sort = draw(st.sampled_from(["whole", "whole", "whole", "part", "legacy", "headerless", "pem", "pem"]))
    if sort == "pem":
        return image.by_pem(draw(st.sampled_from(["p256", "p384"])), group)
    letter = draw(st.sampled_from(letters))
    if sort == "part":
        return image.part(letter, *draw(st.sets(st.integers(1, 3), min_size=1)))
    if sort == "legacy":
        return image.legacy(letter, group=group)
    return image.by(letter, group, header=sort != "headerless")


def verdict(made: Policy, image: Image, signed: list[Claim], rejected: dict[int, Finding] | None = None) -> Verdict:
    return evaluate(made, made.rules[0], image.with_claims(*signed), rejected or {}).verdict


@given(st.data(), POLICIES, IMAGES)
@settings(max_examples=400, deadline=None)
def test_a_signature_by_an_untrusted_key_never_turns_deny_into_allow(data, made, image) -> None:
    signed = data.draw(st.lists(claims(image), max_size=6))
    strangers = claims(image, "X").filter(lambda claim: claim.signer.id.startswith("X"))
    if image.subject:
        strangers |= cosigned(image, ("rsa2048", "approver"))
    stranger = data.draw(strangers)
    place = data.draw(st.integers(0, len(signed)))
    more = [*signed[:place], stranger, *signed[place:]]
    assert verdict(made, image, signed) is verdict(made, image, more)


@given(st.data(), POLICIES, IMAGES)
@settings(max_examples=400, deadline=None)
def test_removing_a_signature_that_is_not_forbidden_never_turns_deny_into_allow(data, made, image) -> None:
    forbidden = {"D" * 40} if made.rules[0].forbidden else set()
    drawn = data.draw(st.lists(claims(image), min_size=1, max_size=7))
    signed = [claim for claim in drawn if claim.signer.id not in forbidden]
    removed = [claim for claim in signed if data.draw(st.booleans())]
    if verdict(made, image, signed) is Verdict.DENY:
        assert verdict(made, image, removed) is Verdict.DENY


@given(st.data(), POLICIES, IMAGES)
@settings(max_examples=400, deadline=None)
def test_a_rule_that_denies_what_does_not_count_says_the_same_where_everything_counts(data, made, image) -> None:
    """And denies where something does not, or covers only a part: so that adding or removing may do either there."""
    signed = data.draw(st.lists(claims(image), max_size=6))
    rejected = {number: EXPIRED for number in range(len(signed)) if data.draw(st.integers(0, 5)) == 0}
    modern = [(n, claim) for n, claim in enumerate(signed) if claim.format is not SignatureFormat.LEGACY]
    half = [claim for n, claim in modern if n in rejected or (claim.group is not None and not claim.whole_group)]
    expected = Verdict.DENY if half else verdict(made, image, signed, rejected)
    assert verdict(strict(made), image, signed, rejected) is expected


@given(st.data(), ANY_POLICIES, IMAGES)
@settings(max_examples=400, deadline=None)
def test_what_has_been_judged_out_never_turns_deny_into_allow(data, made, image) -> None:
    """A signature that is added and does not count helps no one, under any rule."""
    signed = data.draw(st.lists(claims(image), max_size=6))
    more = [*signed, data.draw(claims(image))]
    if verdict(made, image, signed) is Verdict.DENY:
        assert verdict(made, image, more, {len(signed): EXPIRED}) is Verdict.DENY


@given(st.data(), ANY_POLICIES, IMAGES)
@settings(max_examples=200, deadline=None)
def test_judging_a_signature_out_never_turns_deny_into_allow(data, made, image) -> None:
    signed = data.draw(st.lists(claims(image), min_size=1, max_size=6))
    rejected = {number: EXPIRED for number in range(len(signed)) if data.draw(st.booleans())}
    if verdict(made, image, signed) is Verdict.DENY:
        assert verdict(made, image, signed, rejected) is Verdict.DENY


@given(st.data(), ANY_POLICIES, IMAGES)
@settings(max_examples=200, deadline=None)
def test_the_order_of_signatures_does_not_matter(data, made, image) -> None:
    signed = data.draw(st.lists(claims(image), max_size=6))
    assert verdict(made, image, signed) is verdict(made, image, data.draw(st.permutations(signed)))


@given(st.data(), ANY_POLICIES, IMAGES)
@settings(max_examples=300, deadline=None)
def test_an_allowed_image_is_covered_object_by_object(data, made, image) -> None:
    signed = data.draw(st.lists(claims(image), max_size=7))
    if verdict(made, image, signed) is Verdict.ALLOW:
        seen = image.with_claims(*signed)
        native = [claim for claim in signed if claim.format is not SignatureFormat.COSIGN]
        covered = set().union(*(claim.objects for claim in signed if seen.tied or len(seen.groups) == 1))
        if len(native) < len(signed):
            covered |= {*image.subject, *image.carriers}
        assert covered >= {item.id for item in seen.objects}
        assert seen.objects
        assert seen.kind is not Kind.OCI_SIF or seen.oci is not None


@given(st.data(), ANY_POLICIES, IMAGES)
@settings(max_examples=300, deadline=None)
def test_an_object_beside_what_was_signed_never_turns_deny_into_allow(data, made, image) -> None:
    signed = data.draw(st.lists(claims(image), max_size=7))
    more = replace(image, loose=(*image.loose, 77))
    assert verdict(made, more, signed) is Verdict.DENY


@given(st.data(), ANY_POLICIES)
@settings(max_examples=300, deadline=None)
def test_a_signature_that_says_less_never_turns_deny_into_allow(data, made) -> None:
    signed = data.draw(st.lists(claims(OCI), max_size=6))
    silent = [replace(claim, annotations=frozenset(), repository="") for claim in signed]
    if verdict(made, OCI, signed) is Verdict.DENY:
        assert verdict(made, OCI, silent) is Verdict.DENY


@given(st.data(), ANY_POLICIES)
@settings(max_examples=200, deadline=None)
def test_in_a_file_whose_image_is_not_known_no_signature_counts_for_more(data, made) -> None:
    signed = data.draw(st.lists(claims(OCI), max_size=6))
    assert verdict(made, replace(OCI, subject=(), kind=Kind.OCI_SIF), signed) is Verdict.DENY


@given(st.data(), ANY_POLICIES, IMAGES)
@settings(max_examples=200, deadline=None)
def test_explaining_does_not_change_the_answer(data, made, image) -> None:
    signed = data.draw(st.lists(claims(image), max_size=6))
    seen, only = image.with_claims(*signed), made.rules[0]
    short, long = (evaluate(made, only, seen, {}, explain=explain) for explain in (False, True))
    assert (short.code, short.signers) == (long.code, long.signers)


@given(st.lists(st.sampled_from("ABC"), max_size=3), st.booleans(), st.integers(1, 3))
def test_a_key_that_two_people_share_never_makes_two_of_one(letters, pem: bool, count: int) -> None:
    """Counted by hand: distinct certificates, and one more for the shared key while one of its people is free."""
    made = policy(rule(f"[{{approvals: {{count: {count}, of: security}}}}]"), SHARED)
    signed = [ONE.by(letter) for letter in letters] + ([ONE.by_pem("p384")] if pem else [])
    people = set(letters)
    expected = len(people) + (1 if pem and not {"B", "C"} <= people else 0)
    assert (verdict(made, ONE, signed) is Verdict.ALLOW) is (expected >= count)
    assert n_of_m.settle(made, made.rules[0], ONE.with_claims(*signed), signed).met is (expected >= count)


KEYS = [
    "version",
    "signers",
    "roles",
    "rules",
    "withdrawn",
    "name",
    "match",
    "require",
    "any_of",
    "pgp",
    "key",
    "certificate",
    "cosign",
    "annotations",
    "repository",
    "file",
    "roots",
    "A" * 40,
]
VALUES = st.recursive(
    st.sampled_from(
        [*KEYS, "1", "alice", "", "~", "true", "/srv/**", "p256.pem", "leaf.pem", "root.pem", "deny", "-1"]
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)),
    max_leaves=25,
)


def _flow(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    return "[" + ", ".join(map(_flow, value)) + "]" if isinstance(value, list) else f'"{value}"'


@given(st.dictionaries(st.sampled_from(KEYS[:5]), VALUES, min_size=1))
@settings(max_examples=300, deadline=None)
def test_for_any_document_the_loader_answers_with_a_policy_or_located_errors(document) -> None:
    loaded = load_text(_flow({"version": "1", **document}))
    assert (loaded.policy is None) == bool(loaded.errors)
    assert all(problem.file == "0.yaml" and problem.line >= 1 and problem.column >= 1 for problem in loaded.errors)


@given(
    st.one_of(st.binary(max_size=300), st.text(alphabet="{}[]:,-?&*!|>'\"%@`#\n\t ab1", max_size=300).map(str.encode))
)
@settings(max_examples=500, deadline=None)
def test_no_byte_string_makes_the_loader_raise(text: bytes) -> None:
    loaded = load_text(text)
    assert (loaded.policy is None) == bool(loaded.errors)
    assert all(str(problem).isprintable() for problem in loaded.errors)
