"""The counting rules against a second evaluator that counts in the dullest way there is: it tries everything.

It shares no code with `eclctl.policy`: it works on the description that the policy text is written from, tries every
way to share keys out and every way to give people to places, and looks at every signature each time.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random

import pytest

from eclctl.model import Claim, Code, Failure, Outcome, Verification
from eclctl.policy.evaluate import evaluate, too_old
from eclctl.policy.language import Policy
from eclctl.terms import Finding, Kind, SignatureFormat, SignerKind, Verdict
from tests.helpers.facts import COSIGN_IDS, EXPIRED, PEM_IDS, Image, certificate_id, fingerprint, load_text, ring
from tests.helpers.support import NOW

LETTERS = "ABCDEX"
"""Certificates in the keyring. No signer lists X."""
PEOPLE = ("alice", "bob", "carol", "dave")
PEMS = ("p256", "p384")
COSIGN = ("ci", "p256")
"""Keys for cosign. One is that of a PEM file and of the certificates, too."""
LEAVES = {certificate_id(leaf): leaf for leaf in ("leaf", "leaf-anyeku")}
OTHERS = {name: f"{pem}.pem" for pem, name in PEM_IDS.items()}
COSIGNED = {COSIGN_IDS[name]: f"{name}.pub" if name == "ci" else f"{name}.pem" for name in COSIGN}
ANNOTATIONS = ("env=prod", "team=hpc")
PURPOSES = ("scan", "approve")
STAGES = (*PURPOSES, "build")
"""What stages are called, some of them like purposes that items of `require` ask for."""
STATED = (*[()] * 6, ("scan",), ("approve",), ("scan", "approve"), ("build",), ("",))
"""What a signature says that it is for; one that cannot be read is for "", which nothing asks for."""
AGE_LIMIT = 30  # days
UNSUPPORTED = Finding("unsupported-signature-format", "sign it in the older format")
POLICIES, QUESTIONS = 60, 12
MOST_POLICIES = 1_050 if os.environ.get("ECLCTL_TEST_EVERYTHING") else POLICIES
"""By 8 seeds and 12 questions, these are 100,000 policies and signature sets; minutes, so where all is tested."""
MISMATCH = Finding("mismatch", "other content")


@dataclass(frozen=True)
class Need:
    people: tuple[str, ...]  # empty: anyone
    count: int
    text: str
    groups: frozenset[int] = frozenset()
    ids: frozenset[int] = frozenset()
    holds: frozenset[str] = frozenset()
    purpose: str | None = None

    @property
    def whole(self) -> bool:
        return not (self.groups or self.ids or self.holds)


@dataclass(frozen=True)
class Plan:
    """What a policy says, before it is written as YAML. `material` is which keys are in a certificate."""

    listed: Mapping[str, tuple[str, ...]]
    material: Mapping[str, frozenset[str]]
    needs: tuple[Need, ...]
    options: tuple[str, ...]
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    annotations: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    repositories: frozenset[str] = frozenset()  # people who ask for one below `prod`
    bound: Mapping[str, frozenset[str]] = field(default_factory=dict)  # what the DSSE signatures of people are for
    stages: Mapping[int, str] = field(default_factory=dict)  # needs that are written in a chain, with their names there

    def text(self) -> str:
        lines = ["version: 1", "signers:"]
        for person, names in self.listed.items():
            chain = "intermediates: intermediate.pem, roots: root.pem, ocsp: off"
            listed = {
                "pgp": [name for name in names if name[0] in LETTERS],
                "key": [OTHERS[name] for name in names if name in OTHERS],
                "certificate": [f"{{file: {LEAVES[name]}.pem, {chain}}}" for name in names if name in LEAVES],
                "cosign": [COSIGNED[name] for name in names if name in COSIGNED],
            }
            parts = [f"{sort}: [{', '.join(found)}]" for sort, found in listed.items() if found]
            wanted = ", ".join(each.replace("=", ": ") for each in self.annotations.get(person, ()))
            parts += [f"annotations: {{{wanted}}}"] if wanted else []
            parts += ["repository: registry.example/prod/**"] if person in self.repositories else []
            parts += [f"purpose: [{', '.join(self.bound[person])}]"] if person in self.bound else []
            lines.append(f"  {person}: {{{', '.join(parts)}}}")
        lines += ["roles:", *(f"  {role}: [{', '.join(people)}]" for role, people in self.roles.items())]
        lines += ["rules:", "  - name: it"]
        items = [need for number, need in enumerate(self.needs) if number not in self.stages]
        lines += [f"    require: [{', '.join(need.text for need in items)}]"] if items else []
        lines += ["    chain:"] if self.stages else []
        lines += [f"      - {name}: {self.needs[number].text}" for number, name in self.stages.items()]
        named = {need.purpose for need in items if need.purpose} - set(self.stages.values())
        lines += [f"      - {purpose}" for purpose in sorted(named)] if self.stages else []
        return "\n".join([*lines, *(f"    {option}" for option in self.options), ""])

    def load(self) -> Policy | None:
        extra = [(name[0], keys) for name, keys in self.material.items() if name[0] in LETTERS]
        return load_text(self.text(), keyring=ring(*extra, letters=LETTERS)).policy


# -- what the answer should be -------------------------------------------------------------------------------------


def keys_of(plan: Plan) -> dict[str, int]:
    """Number the names of keys; names that share material, also through others, have one number."""
    numbers = {name: number for number, name in enumerate(plan.material)}
    for _ in numbers:
        for one, other in itertools.permutations(numbers, 2):
            if plan.material[one] & plan.material[other]:
                numbers[one] = numbers[other] = min(numbers[one], numbers[other])
    return numbers


def speakers(plan: Plan, name: str) -> tuple[str, ...]:
    return tuple(person for person, names in plan.listed.items() if name in names) or (name,)


def fits(plan: Plan, person: str, claim: Claim) -> bool:
    """Whether a cosign signature says all that a person's entry asks for."""
    if claim.format is not SignatureFormat.COSIGN:
        return True
    said = {f"{key}={value}" for key, value in claim.annotations}
    placed = claim.repository.startswith("registry.example/prod/")
    return said >= set(plan.annotations.get(person, ())) and (placed or person not in plan.repositories)


def is_for(plan: Plan, person: str, claim: Claim, purpose: str | None) -> bool:
    """Whether a signature is for what is asked: for that purpose, or, where none is asked for, for none."""
    if claim.signer.kind in {SignerKind.KEY, SignerKind.CERTIFICATE}:
        purposes = plan.bound.get(person, frozenset())
    else:
        purposes = claim.purposes
    return (purpose is None and len(purposes) == 0) or purpose in purposes


def is_young(claim: Claim) -> bool:
    return claim.created is not None and NOW - claim.created < timedelta(days=AGE_LIMIT)


def ways(plan: Plan, claims: Sequence[Claim]) -> Iterator[dict[int, str]]:
    """Every way to give each key that signed to one person."""
    numbers, people = keys_of(plan), dict[int, set[str]]()
    for claim in claims:
        people.setdefault(numbers[claim.signer.id], set()).update(speakers(plan, claim.signer.id))
    for chosen in itertools.product(*(sorted(names) for names in people.values())):
        yield dict(zip(people, chosen, strict=True))


def content(image: Verification, ids: frozenset[int]) -> set[str]:
    return {word for item in image.objects if item.id in ids for word in item.holds}


def satisfies(need: Need, image: Verification, mine: Sequence[Claim]) -> set[int] | None:
    """What one person's signatures cover if they are what the requirement asks for, else None."""
    cosigned = any(c.format is SignatureFormat.COSIGN for c in mine)
    mine = [c for c in mine if c.format is not SignatureFormat.COSIGN]
    complete = {c.group for c in mine if c.format is not SignatureFormat.LEGACY and c.header and c.whole_group}
    together = len(image.groups) == 1 or image.tied
    if need.ids:
        there = need.ids <= {item.id for item in image.objects} and need.holds <= content(image, need.ids)
        over = [c for c in mine if c.format is not SignatureFormat.LEGACY and c.header and need.ids <= c.objects]
        return {number for claim in over for number in claim.objects} if there and over else None
    if need.whole:
        old = [c for c in mine if c.format is SignatureFormat.LEGACY and c.whole_group]
        fine = together and complete >= set(image.groups)
        fine = fine or (len(image.groups) == 1 and any(c.objects >= ids for c in old for ids in image.groups.values()))
        native = {number for ids in image.groups.values() for number in ids} if fine and image.groups else set()
        oci = {*image.oci.subject, *image.oci.carriers} if image.oci is not None and cosigned else set()
        return native | oci or None
    holding = {number for number, ids in image.groups.items() if need.holds <= content(image, ids)}
    wanted = set(need.groups) or holding
    if not wanted or not wanted <= holding or not wanted <= complete or (len(wanted) > 1 and not image.tied):
        return None
    return {number for group in wanted for number in image.groups[group]}


def places_filled(needs: Sequence[Need], approvers: Sequence[set[str]], *, distinct: bool) -> bool:
    if not distinct:
        return all(len(people) >= need.count for need, people in zip(needs, approvers, strict=True))
    teams = [itertools.combinations(sorted(people), need.count) for need, people in zip(needs, approvers, strict=True)]
    return any(
        len({person for team in chosen for person in team}) == sum(map(len, chosen))
        for chosen in itertools.product(*teams)
    )


def one_way(plan: Plan, image: Verification, claims: Sequence[Claim], way: Mapping[int, str]) -> Code:
    numbers = keys_of(plan)
    said: list[tuple[str, Claim]] = [
        (way[numbers[claim.signer.id]], claim)
        for claim in claims
        if way[numbers[claim.signer.id]] in speakers(plan, claim.signer.id)
        and fits(plan, way[numbers[claim.signer.id]], claim)
    ]
    approvers: list[set[str]] = []
    covered: set[int] = set()
    for need in plan.needs:
        asked = [(p, c) for p, c in said if (p in need.people if need.people else c.signer.kind is SignerKind.PGP)]
        heard = [(p, c) for p, c in asked if is_for(plan, p, c, need.purpose)]
        approved = {p: satisfies(need, image, [c for who, c in heard if who == p]) for p, _ in heard}
        approvers.append({p for p, over in approved.items() if over is not None})
        if need.whole or len(image.groups) == 1 or image.tied:
            covered |= {number for over in approved.values() for number in over or ()}
    if not places_filled(plan.needs, approvers, distinct="distinct: true" in plan.options):
        return Code.REQUIREMENTS_NOT_MET
    if (image.kind is Kind.OCI_SIF and image.oci is None) or {item.id for item in image.objects} - covered:
        return Code.OBJECT_NOT_APPROVED
    return Code.REQUIREMENTS_MET


def discounted(image: Verification, out: Collection[int]) -> Iterator[bool]:
    for number, claim in enumerate(image.claims):
        partial = claim.group is not None and not claim.whole_group
        yield claim.format is not SignatureFormat.LEGACY and (number in out or partial)


def expected(plan: Plan, image: Verification, rejected: Sequence[int]) -> Code:
    """The answer by trying everything."""
    legacy_counts = "legacy_signatures: accept" in plan.options
    forbidden = (
        {keys_of(plan)[name] for name in plan.listed["dave"]}
        if "forbid: {signed_by: [dave]}" in plan.options
        else set()
    )
    if any(keys_of(plan)[claim.signer.id] in forbidden for claim in image.claims):
        return Code.FORBIDDEN
    standing = [claim for number, claim in enumerate(image.claims) if number not in rejected]
    heard = [claim for claim in standing if legacy_counts or claim.format is not SignatureFormat.LEGACY]
    if any(claim.mismatch for claim in heard):
        return Code.TAMPERED
    if "unknown_signatures: deny" in plan.options and image.failures:
        return Code.UNKNOWN_SIGNATURE
    limited = f"max_signature_age: {AGE_LIMIT}d" in plan.options
    old = {
        number for number, claim in enumerate(image.claims) if limited and not claim.mismatch and not is_young(claim)
    }
    if "discounted_signatures: deny" in plan.options and any(discounted(image, {*rejected, *old})):
        return Code.DISCOUNTED_SIGNATURE
    heard = [claim for claim in heard if not limited or is_young(claim)]
    codes = {one_way(plan, image, heard, way) for way in ways(plan, heard)}
    for code in (Code.REQUIREMENTS_MET, Code.OBJECT_NOT_APPROVED):
        if code in codes:
            return code
    return Code.PERMISSIVE if "mode: permissive" in plan.options else Code.REQUIREMENTS_NOT_MET


# -- what is asked -------------------------------------------------------------------------------------------------


def some(random: Random, things: Sequence[str], low: int, high: int) -> tuple[str, ...]:
    return tuple(random.sample(list(things), random.randint(low, min(high, len(things)))))


def random_need(random: Random) -> Need:
    part = random.choice([*[""] * 6, "groups", "groups", "ids", "holds"])
    holds = (
        frozenset(some(random, ["partition", "overlay"], 1, 1)) if part == "holds" or random.random() < 0.3 else None
    )
    numbers = frozenset(random.sample([1, 2], random.randint(1, 2)))
    objects = {"groups": f"groups: {sorted(numbers)}", "ids": f"ids: {sorted(numbers)}"}.get(part, "")
    if not part:
        holds = None
    words = [objects] if objects else []
    words += [f"holds: [{', '.join(holds)}]"] if holds else []
    scope = f", objects: {{{', '.join(words)}}}" if part else ""
    purpose = random.choice([*[None] * 5, *PURPOSES])
    scope += f", purpose: {purpose}" if purpose else ""
    sort = random.choice(["any_of", "all_of", "role", "anyone"])
    people = some(random, PEOPLE, 1, 3)
    count = {"any_of": 1, "all_of": len(people)}.get(sort, random.randint(1, 2))
    role = {"role": "team", "anyone": "anyone"}.get(sort)
    ask = f"approvals: {{count: {count}, of: {role}}}" if role else f"{sort}: [{', '.join(people)}]"
    if role:
        people = ("alice", "bob", "carol") if role == "team" else ()
    return Need(
        people,
        count,
        f"{{{ask}{scope}}}",
        numbers if part == "groups" else frozenset(),
        numbers if part == "ids" else frozenset(),
        holds or frozenset(),
        purpose,
    )


def random_plan(random: Random) -> Plan:
    own = {person: [fingerprint(letter)] for person, letter in zip(PEOPLE, "ABCD", strict=True)}
    names = [*map(fingerprint, "ABCE"), *(PEM_IDS[name] for name in PEMS), *LEAVES, *COSIGNED, *COSIGNED]
    for _ in range(random.choice([0, 1, 2, 3, 4, 5])):  # more keys, some of them another person's
        person = random.choice(PEOPLE)
        own[person] = list(dict.fromkeys([*own[person], random.choice(names)]))
    if random.random() < 0.5:
        for person, name in zip(some(random, PEOPLE, 2, 2), COSIGNED, strict=True):
            own[person] = list(dict.fromkeys([*own[person], name]))
    material = {fingerprint(letter): {f"sha256:{letter}"} for letter in LETTERS}
    behind = {PEM_IDS[name]: PEM_IDS[name] for name in PEMS} | dict.fromkeys(LEAVES, PEM_IDS["p256"])
    behind |= {name: name.removeprefix("cosign:") for name in COSIGNED}
    listed = {name for keys in own.values() for name in keys}
    material |= {name: {key} for name, key in behind.items() if name in listed}
    for _ in range(random.choice([0, 0, 1, 2])):  # certificates that contain another's key, or that of a PEM file
        material[fingerprint(random.choice(LETTERS))] |= material[random.choice(list(material))]
    cosigners = [person for person, keys in own.items() if any(name in COSIGNED for name in keys)]
    options = [("distinct: true", 0.4), ("legacy_signatures: accept", 0.4), ("unknown_signatures: deny", 0.15)]
    options += [("discounted_signatures: deny", 0.15)]
    options += [("forbid: {signed_by: [dave]}", 0.15), ("mode: permissive", 0.15)]
    options += [(f"max_signature_age: {AGE_LIMIT}d", 0.2)]
    needs = tuple(random_need(random) for _ in range(random.choice([1, 1, 2, 3])))
    staged = random.sample(range(len(needs)), random.choice([0, 0, random.randint(1, len(needs))]))
    dsse = [person for person, keys in own.items() if any(name in OTHERS or name in LEAVES for name in keys)]
    return Plan(
        {person: tuple(keys) for person, keys in own.items()},
        {name: frozenset(keys) for name, keys in material.items()},
        needs,
        tuple(option for option, chance in options if random.random() < chance),
        {"team": ("alice", "bob", "carol")},
        {person: some(random, ANNOTATIONS, 0, 2) for person in cosigners if random.random() < 0.5},
        frozenset(person for person in cosigners if random.random() < 0.3),
        {person: frozenset(some(random, PURPOSES, 1, 2)) for person in dsse if random.random() < 0.4},
        dict(zip(staged, random.sample(STAGES, len(staged)), strict=True)),
    )


def random_claim(random: Random, plan: Plan, image: Image, number: int) -> Claim:
    group = random.choice([*image.groups, *image.groups, 7])
    form = random.choice(["whole"] * 6 + ["part", "part", "legacy", "legacy", "headerless", "mismatch"])
    pem = [name for name in PEMS if PEM_IDS[name] in plan.material]
    leaves = [name for name in LEAVES if name in plan.material]
    keys = [name for name in COSIGN if COSIGN_IDS[name] in plan.material]
    if keys and image.subject and random.random() < 0.5:
        return random_cosign(random, image, random.choice(keys), number)
    if pem and random.random() < 0.25:
        made = image.by_pem(random.choice(pem), group, signature=number)
    elif leaves and random.random() < 0.25:
        made = image.by_certificate(random.choice(leaves), group, signature=number)
    else:
        made = image.by(random.choice(LETTERS), group, signature=number)
    made = replace(made, purposes=frozenset(random.choice(STATED)), created=random_time(random, made))
    if form == "part":
        ids = [item for ids in image.groups.values() for item in ids]  # what is in no group cannot be signed
        made = replace(
            made, objects=frozenset(random.sample(ids, random.randint(min(1, len(ids)), len(ids)))), whole_group=False
        )
    elif form == "legacy":
        part = random.random() < 0.3
        made = replace(made, format=SignatureFormat.LEGACY, header=False, whole_group=not part)
    elif form == "headerless":
        made = replace(made, header=False)
    elif form == "mismatch" and random.random() < 0.2:
        made = replace(made, objects=frozenset(), whole_group=False, header=False, mismatch=MISMATCH)
    return made


def random_time(random: Random, claim: Claim) -> datetime | None:
    """When a signature was made, which only OpenPGP's say; sometimes on the very instant of the limit."""
    if claim.signer.kind is not SignerKind.PGP:
        return None
    days = timedelta(days=random.choice([1, 1, 10, 20, AGE_LIMIT, AGE_LIMIT, 40]))
    return NOW - days + timedelta(seconds=random.choice([-1, 0, 0, 1]))


def pair(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key, value


def random_cosign(random: Random, image: Image, key: str, number: int) -> Claim:
    said = frozenset(map(pair, some(random, [*ANNOTATIONS, "creator=me"], 0, 3)))
    repository = random.choice(["", "registry.example/prod/app", "registry.example/dev/app"])
    purposes = frozenset(random.choice(STATED)[:1])
    made = image.by_cosign(key, signature=number, annotations=said, repository=repository, purposes=purposes)
    if random.random() < 0.03:
        return replace(made, objects=frozenset(), mismatch=MISMATCH)
    return made


IMAGES = (
    *[Image()] * 3,
    *[Image({1: (1, 2), 2: (3,)}, holds={3: {"partition", "overlay"}})] * 4,
    Image({1: (3,), 2: (1, 2)}, holds={3: {"partition", "overlay"}}),
    Image({1: (1, 2), 2: (3,)}, tied=False),
    Image({1: (1,)}, tied=False),
    Image({1: (1, 2)}, loose=(9,)),
    Image({}),
    Image({}, loose=(1,)),
    *[Image({1: (1, 2, 3)}, subject=(1, 2), carriers=(3,))] * 4,
    Image({1: (1, 2, 3)}, subject=(1, 2)),
    *[Image({1: (1, 2), 2: (3,)}, holds={3: {"partition", "overlay"}}, subject=(1,), carriers=(2,))] * 3,
    Image({1: (1, 2), 2: (3,)}, subject=(1, 2, 3), tied=False),
    Image({1: (1, 2), 2: (3,)}, subject=(1, 2), tied=False),
    Image({1: (1,)}, loose=(2, 9), subject=(1, 2)),
    Image({1: (1,)}, loose=(2,), subject=(1,), carriers=(2,)),
    Image({}, loose=(1, 2), subject=(1, 2)),
    Image({1: (1, 2)}, kind=Kind.OCI_SIF),
)


def random_question(random: Random, plan: Plan) -> tuple[Verification, tuple[int, ...]]:
    image = random.choice(IMAGES)
    signed = [random_claim(random, plan, image, number) for number in range(10, 10 + random.randint(0, 8))]
    if random.random() < 0.4:  # some of the people sign everything, so that there is something to allow
        letters = random.sample("ABCD", random.randint(1, 4))
        purposes, made = frozenset(random.choice(STATED)), NOW - timedelta(days=random.choice([1, 40]))
        more = {"signature": 50, "purposes": purposes, "created": made}
        signed += [image.by(letter, group, **more) for letter in letters for group in image.groups]
    keys = [name for name in COSIGN if COSIGN_IDS[name] in plan.material]
    if image.subject and random.random() < 0.6:
        everything = {"repository": "registry.example/prod/app", "annotations": frozenset(map(pair, ANNOTATIONS))}
        signed += [image.by_cosign(key, signature=60, **everything) for key in some(random, keys, 0, 2)]
    unread = Failure(90, SignatureFormat.COSIGN, UNSUPPORTED)
    failures = (random.choice([Failure(90, SignatureFormat.PGP, EXPIRED), unread]),) if random.random() < 0.2 else ()
    rejected = tuple(number for number in range(len(signed)) if random.random() < 0.1)
    return image.with_claims(*signed, failures=failures), rejected


def answer(policy: Policy, image: Verification, rejected: Iterable[int]) -> Outcome:
    rule = policy.rules[0]
    return evaluate(policy, rule, image, too_old(rule, image.claims, dict.fromkeys(rejected, EXPIRED), NOW))


def policies(seed: int, most: int = POLICIES) -> Iterator[tuple[Random, Plan, Policy]]:
    random = Random(seed)
    made = 0
    while made < most:
        plan = random_plan(random)
        policy = plan.load()
        if policy is not None:  # many can never be met, which is an error
            made += 1
            yield random, plan, policy


def check(plan: Plan, policy: Policy, image: Verification, rejected: Sequence[int]) -> Code:
    """Hold one answer against that of the evaluator that tries everything; return it."""
    want = expected(plan, image, rejected)
    got = answer(policy, image, rejected).code
    if got is Code.UNSUPPORTED_SIGNATURE_FORMAT:
        assert any(failure.finding is UNSUPPORTED for failure in image.failures)
        got = Code.REQUIREMENTS_NOT_MET
    assert got is want, (plan.text(), plan.material, image, rejected)
    return want


@pytest.mark.parametrize("seed", range(8))
def test_the_answer_is_that_of_an_evaluator_that_tries_everything(seed: int) -> None:
    """8 by 60 or 1,050 policies, 12 images each: one code, be it shared, partial, legacy, cosigned, old, bound."""
    seen = {
        check(plan, policy, *random_question(random, plan))
        for random, plan, policy in policies(seed, MOST_POLICIES)
        for _ in range(QUESTIONS)
    }
    assert seen >= {Code.REQUIREMENTS_MET, Code.REQUIREMENTS_NOT_MET, Code.OBJECT_NOT_APPROVED, Code.TAMPERED}


@pytest.mark.parametrize("seed", range(200, 204))
def test_more_valid_approvals_turn_no_allow_into_deny(seed: int) -> None:
    """But through forbid; and no rule with an age limit allows what it would deny without one.

    Rules are enforced here: a permissive one forgives missing approvals, and never that nothing covers an object, which
    is only seen once the approvals are there.
    """
    for random, plan, made in policies(seed):
        policy = replace(made, rules=(replace(made.rules[0], permissive=False),))
        unlimited = replace(policy, rules=(replace(policy.rules[0], max_age=None),))
        limited = replace(policy, rules=(replace(policy.rules[0], max_age=AGE_LIMIT * 86400.0),))
        for _ in range(QUESTIONS):
            image, rejected = random_question(random, plan)
            more = replace(image, claims=(*image.claims, *random_approvals(random, image)))
            before, after = answer(policy, image, rejected), answer(policy, more, rejected)
            assert after.code is Code.FORBIDDEN or not turned(after.verdict, before.verdict), plan.text()
            without, with_limit = answer(unlimited, image, rejected), answer(limited, image, rejected)
            assert not turned(without.verdict, with_limit.verdict), plan.text()


def random_approvals(random: Random, image: Verification) -> list[Claim]:
    """Good signatures over whole groups, for any purpose, by people of the policy or by strangers."""
    stated = frozenset(random.choice(STATED))
    return [
        replace(Image({group: ids}).by(letter, group, signature=80), purposes=stated, created=NOW)
        for letter in random.sample(LETTERS, random.randint(1, 3))
        for group, ids in image.groups.items()
    ]


@pytest.mark.parametrize("seed", range(100, 104))
def test_no_signature_of_a_stranger_and_no_removed_one_turns_deny_into_allow(seed: int) -> None:
    """Removing is only tried where the deny is for what is missing: a forbidden signature escapes by being stripped."""
    for random, plan, policy in policies(seed):
        for _ in range(QUESTIONS):
            image, rejected = random_question(random, plan)
            before = answer(policy, image, rejected)
            asks_anyone = any(not need.people for need in plan.needs)
            stranger = random_stranger(random, plan)
            more = replace(image, claims=(*image.claims, stranger))
            assert not turned(before.verdict, answer(policy, more, rejected).verdict), plan.text()
            native = stranger.signer.kind is SignerKind.PGP
            if native and not asks_anyone and plan.material[fingerprint("X")] == {"sha256:X"}:
                known = replace(stranger, signer=replace(stranger.signer, id=fingerprint("X")))
                more = replace(image, claims=(*image.claims, known))
                assert not turned(before.verdict, answer(policy, more, rejected).verdict), plan.text()
            if image.claims and before.code in {Code.REQUIREMENTS_NOT_MET, Code.OBJECT_NOT_APPROVED}:
                gone = random.randrange(len(image.claims))
                after = answer(policy, image, {*rejected, gone})
                softened = after.code is Code.PERMISSIVE and before.code is Code.OBJECT_NOT_APPROVED
                assert softened or not turned(before.verdict, after.verdict), plan.text()


def random_stranger(random: Random, plan: Plan) -> Claim:
    """A signature by a key that the policy does not know: a certificate's, or one for cosign."""
    made = random_claim(random, plan, random.choice(IMAGES), 70)
    if made.format is SignatureFormat.COSIGN:
        return replace(made, signer=replace(made.signer, id="cosign:sha256:0"))
    return replace(made, signer=replace(made.signer, kind=SignerKind.PGP, id=fingerprint("Z")))


def turned(before: Verdict, after: Verdict) -> bool:
    return before is Verdict.DENY and after is Verdict.ALLOW
