"""Policies made of an ecl.toml against ECL itself: the same answer, or a stricter one that the report named.

A laxer one only where that was chosen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eclctl.ecl.differences import Difference, Relation
from eclctl.ecl.importing import Imported, import_ecl
from eclctl.ecl.rules import Choices, RuleDraft
from eclctl.ecl.toml import read_ecl
from eclctl.model import Caller, Code, Outcome, Verification
from eclctl.policy.evaluate import evaluate
from eclctl.policy.language import Policy
from eclctl.policy.select import select_rule
from eclctl.terms import Kind, Verdict
from tests.corpus.reference import STRICTER
from tests.helpers.deciding import loaded
from tests.helpers.ecl import KEYS, RING, Ecl, Group, Image, images
from tests.helpers.support import NOW, UPSTREAM, needs_upstream

CALLER = Caller(1000, 1000)
NOTHING = Verification(Kind.SIF, (), {}, tied=False)
DIRECTORIES = ("", "/", "/srv/a", "/srv/a/b", "/srv/a2", "/srv/ümlaut", "/srv/w[1]", "/srv/q*", "/srv/q?")
ELSEWHERE = ("/srv/a/b/c", "/srv/other", "/srv/w11", "/srv/qq", "/srv")
PRESENT = tuple(KEYS[name] for name in ("builder", "scanner", "approver", "expired", "revoked", "dsa"))
ABSENT = (KEYS["mallory"], "0" * 40)
AS_IS, MODERN, PERMISSIVE = Choices(), Choices(modern=True), Choices(modern=True, permissive=True)


def import_text(content: bytes, choices: Choices) -> tuple[Imported, Policy]:
    """Import, and load what was made, which must always do."""
    parsed = read_ecl("ecl.toml", content, lambda path: path)
    assert parsed.config is not None, parsed.errors
    made = import_ecl(parsed.config, "ecl.toml", RING, choices)
    loading = loaded(made.policy)
    assert loading.policy is not None, ([str(problem) for problem in loading.errors], made.policy)
    return made, loading.policy


def answer(policy: Policy, path: str, image: Image) -> Outcome:
    """What eclctl says, but for what depends on the file's place."""
    rule = select_rule(policy, path=path, kind=Kind.SIF, caller=CALLER, now=NOW)
    if rule is None:
        return Outcome(Code.NO_RULE, "no rule matches")
    if rule.decision is Verdict.DENY:
        return evaluate(policy, rule, NOTHING, {})
    if image.facts is None:
        return Outcome(Code.MALFORMED, "malformed", rule=rule.name)
    return evaluate(policy, rule, image.facts, image.rejected)


def compare(ecl: Ecl, choices: Choices, pool: tuple[Image, ...]) -> Counter[str]:
    """Ask both about every image in every directory; fail unless each difference is one that was named."""
    made, policy = import_text(ecl.toml(), choices)
    named = {draft.name: draft for draft in made.rules}
    tally: Counter[str] = Counter()
    for directory in (*DIRECTORIES[1:], *ELSEWHERE):
        path = f"{directory.rstrip('/')}/image.sif"
        for image in pool:
            outcome, theirs = answer(policy, path, image), ecl.should_run(path, image)
            tally[verdict(outcome, theirs, named.get(outcome.rule or ""), image)] += 1
    return tally


def verdict(outcome: Outcome, theirs: bool, draft: RuleDraft | None, image: Image) -> str:
    ours = outcome.verdict is Verdict.ALLOW
    if ours is theirs:
        return f"both {outcome.verdict}"
    where = f"{image.name}: ECL {'allows' if theirs else 'denies'}, eclctl says {outcome.code}: {outcome.reason}"
    assert draft is not None, where
    blamed = laxer(outcome, image) if ours else stricter(outcome, draft, image)
    reasons = blamed & frozenset(draft.differences)
    assert reasons, (where, draft)
    relation = Relation.LAXER if ours else Relation.STRICTER
    assert {each.relation for each in reasons} == {relation}
    return f"{relation}: {'/'.join(sorted(reasons))}"


def stricter(outcome: Outcome, draft: RuleDraft, image: Image) -> frozenset[Difference]:
    """What a deny of an image that ECL lets run may be put down to, each with its own evidence."""
    match outcome.code:
        case Code.RULE_DENY:
            special = not set("*?[]{}").isdisjoint(draft.group.directory if draft.group is not None else "")
            return frozenset({Difference.UNWRITABLE_PATH if special else Difference.LEGACY_SIGNATURES})
        case Code.MALFORMED:
            return frozenset({Difference.STRICT_READING})
        case Code.UNKNOWN_SIGNATURE:
            return frozenset({Difference.STRICT_READING if image.name in STRICTER else Difference.STRAY_SIGNATURES})
        case Code.DISCOUNTED_SIGNATURE if image.legacy.ok and not image.modern.ok:
            return frozenset({Difference.STRAY_SIGNATURES})
        case Code.REQUIREMENTS_NOT_MET if image.legacy.ok:
            return frozenset({Difference.LEGACY_SIGNATURES})
        case Code.REQUIREMENTS_NOT_MET if image.facts is not None and len(image.facts.groups) > 1:
            return frozenset({Difference.SEVERAL_SIGNERS if image.facts.tied else Difference.NIL_UUID})
        case Code.FORBIDDEN:
            return frozenset({Difference.ANY_TRACE})
        case Code.TAMPERED:
            return frozenset({Difference.TAMPERED})
    raise AssertionError(outcome)


def laxer(outcome: Outcome, image: Image) -> frozenset[Difference]:
    """What an allow of an image that ECL refuses may be put down to, each with its own evidence."""
    if outcome.code is Code.PERMISSIVE:
        return frozenset({Difference.PERMISSIVE})
    return frozenset({Difference.MODERN_INSTEAD} if image.modern.ok else ())


@st.composite
def key_lists(draw: st.DrawFn) -> tuple[str, ...]:
    keys = draw(st.lists(st.sampled_from(PRESENT + ABSENT[:1]), max_size=3))
    return tuple(key.lower() if draw(st.booleans()) else key for key in keys)


@st.composite
def configurations(draw: st.DrawFn) -> Ecl:
    directories = draw(st.lists(st.sampled_from(DIRECTORIES), max_size=5, unique=True))
    modes = st.sampled_from(["whitelist", "whitestrict", "blacklist"])
    tags = st.sampled_from(["name", "", "a\nb: c", "9 *[{", "Bücher", "x" * 90])
    groups = tuple(Group(draw(modes), each, draw(key_lists()), draw(tags)) for each in directories)
    return Ecl(groups, draw(st.sampled_from([True, True, True, False])), draw(st.sampled_from([False, False, True])))


MANY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None, derandomize=True
)


@MANY
@given(configurations())
def test_generated_configurations_answer_as_ecl_or_as_the_report_says(ecl: Ecl) -> None:
    """Without a choice of its own nothing that ECL refuses runs."""
    tally = compare(ecl, Choices(), images())
    assert [what for what in tally if what.startswith(Relation.LAXER)] == []


@MANY
@given(configurations(), st.booleans())
def test_generated_configurations_answer_as_chosen(ecl: Ecl, permissive: bool) -> None:
    """What --modern and --permissive let run beyond ECL has a name in the report, too."""
    compare(ecl, Choices(permissive=permissive, modern=True), images())


@MANY
@given(configurations())
def test_asking_for_modern_signatures_instead_is_what_ecl_without_legacyinsecure_does(ecl: Ecl) -> None:
    modern, policy = import_text(replace(ecl, legacy=True).toml(), Choices(modern=True))
    _, other = import_text(replace(ecl, legacy=False).toml(), Choices())
    for directory in (*DIRECTORIES[1:], *ELSEWHERE):
        for image in images():
            path = f"{directory.rstrip('/')}/image.sif"
            assert answer(policy, path, image).code is answer(other, path, image).code
    assert all(draft.decision is None or not draft.instead for draft in modern.rules)


def grid() -> Iterator[Ecl]:
    """Every mode with every list of up to two keys that matter, as a directory and as the fallback."""
    names = ("builder", "scanner", "expired")
    lists = [(), *((KEYS[name],) for name in names), (KEYS["builder"], KEYS["scanner"]), (KEYS["builder"], ABSENT[0])]
    for mode in ("whitelist", "whitestrict", "blacklist"):
        for keys in lists:
            for legacy in (False, True):
                yield Ecl((Group(mode, "/srv/a", keys), Group("whitelist", "", (KEYS["builder"],))), legacy=legacy)


@cache
def grid_tally(choices: Choices = AS_IS) -> Counter[str]:
    return sum((compare(ecl, choices, images()) for ecl in grid()), Counter[str]())


SORTS = (
    "both allow",
    "both deny",
    f"{Relation.STRICTER}: {Difference.LEGACY_SIGNATURES}",
    f"{Relation.STRICTER}: {Difference.SEVERAL_SIGNERS}",
    f"{Relation.STRICTER}: {Difference.NIL_UUID}",
    f"{Relation.STRICTER}: {Difference.STRICT_READING}",
    f"{Relation.STRICTER}: {Difference.STRAY_SIGNATURES}",
    f"{Relation.STRICTER}: {Difference.ANY_TRACE}",
)


def test_every_sort_of_answer_is_among_those_compared_and_no_laxer_one() -> None:
    """The comparison would be none if nothing differed, or nothing were ever allowed."""
    assert set(grid_tally()) == set(SORTS)


@pytest.mark.parametrize(
    ("choices", "laxer_ones"),
    [
        (MODERN, {Difference.MODERN_INSTEAD}),
        (PERMISSIVE, {Difference.MODERN_INSTEAD, Difference.PERMISSIVE}),
    ],
    ids=["modern", "permissive"],
)
def test_what_is_chosen_lets_more_run_by_its_own_name_and_nothing_else(
    choices: Choices, laxer_ones: set[Difference]
) -> None:
    found = {what for what in grid_tally(choices) if what.startswith(Relation.LAXER)}
    assert found == {f"{Relation.LAXER}: {each}" for each in laxer_ones}


@pytest.mark.parametrize("choices", [AS_IS, PERMISSIVE], ids=["enforced", "permissive"])
def test_one_more_signature_that_does_not_count_stops_an_image_as_it_does_in_ecl(choices: Choices) -> None:
    """Enough good ones do not make up for it, in any mode, while it is permissive or not."""
    pool = {image.name: image for image in images()}
    for mode in ("whitelist", "whitestrict", "blacklist"):
        ecl = Ecl((Group(mode, "/srv/a", () if mode == "blacklist" else (KEYS["builder"],)),))
        _, policy = import_text(ecl.toml(), choices)
        assert answer(policy, "/srv/a/x", pool["one-builder+scanner.sif"]).code is Code.REQUIREMENTS_MET
        for name in (
            "made-builder+expired",
            "made-builder+revoked",
            f"made-builder+part-{KEYS['scanner'][:4].lower()}",
        ):
            assert not ecl.should_run("/srv/a/x", pool[name])
            assert answer(policy, "/srv/a/x", pool[name]).code is Code.DISCOUNTED_SIGNATURE


UPSTREAM_FILES = sorted((UPSTREAM / "ecl-toml").glob("*.toml")) if UPSTREAM is not None else []
THEIRS = ("F34371D0ACD5D09EB9BD853A80600A5FA11BBD29", "7064B1D6EFF01B1262FED3F03581D99FE87EAFD1")


@needs_upstream
@pytest.mark.parametrize("keys", [THEIRS, (KEYS["builder"], KEYS["scanner"])], ids=["theirs", "ours"])
@pytest.mark.parametrize("file", UPSTREAM_FILES, ids=lambda path: path.name)
def test_upstreams_configurations_answer_as_ecl_or_as_the_report_says(file: Path, keys: tuple[str, str]) -> None:
    """Once as they are, with keys that no image was signed with, and once with keys that signed images."""
    content = file.read_text().replace(THEIRS[0], keys[0]).replace(THEIRS[1], keys[1])
    made, policy = import_text(content.encode(), Choices())
    named = {draft.name: draft for draft in made.rules}
    ecl = Ecl.read(content)
    for directory in ("/var/data1", "/var/data2", "/var/data3", "/var", "/var/data1/b"):
        for image in images():
            path = f"{directory}/a.sif"
            outcome = answer(policy, path, image)
            verdict(outcome, ecl.should_run(path, image), named.get(outcome.rule or ""), image)


if __name__ == "__main__":
    for chosen in (AS_IS, MODERN, PERMISSIVE):
        print(chosen)
        for sort, number in sorted(grid_tally(chosen).items()):
            print(f"{number:7} {sort}")
