"""The policy that is made of an ecl.toml: its rules, its comments, and that no text of the file gets out of them."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eclctl.config.document import Report, read_document
from eclctl.ecl.differences import EXPLANATIONS, Difference, Relation
from eclctl.ecl.importing import Imported, import_ecl, names_of_signers
from eclctl.ecl.rules import Choices
from eclctl.ecl.toml import EclConfig, ExecGroup, ListMode, read_ecl
from eclctl.policy.language import Policy, Rule
from eclctl.signature import openpgp
from eclctl.terms import Assurance, Verdict
from tests.helpers.deciding import RING, loaded
from tests.helpers.ecl import KEYS
from tests.helpers.support import ROOT

BUILDER, SCANNER, SUBKEY, MALLORY = (KEYS[name] for name in ("builder", "scanner", "subkey", "mallory"))
EMPTY = openpgp.Keyring.parse()


def group(
    mode: str = "whitelist", *keys: str, directory: str = "/srv/a", tag: str = "prod", number: int = 1
) -> ExecGroup:
    return ExecGroup(number, number, tag, ListMode(mode), directory, keys)


def imported(
    *groups: ExecGroup, legacy: bool = False, ring: openpgp.Keyring | None = RING, **choices: object
) -> Imported:
    return import_ecl(EclConfig(True, legacy, groups), "ecl.toml", ring, Choices(**choices))  # type: ignore[arg-type]


def only(made: Imported):
    (draft,) = made.rules
    return draft


def uncommented(made: Imported) -> str:
    return "\n".join(line for line in made.policy.splitlines() if not line.lstrip().startswith("#"))


def test_a_whitelist_asks_for_one_of_its_keys() -> None:
    made = imported(group("whitelist", BUILDER, SCANNER))
    assert "      - any_of: [ecl-22BC3A3BC942487F, ecl-1BDDA97D14902F26]\n" in made.policy
    assert only(made).decision is None


def test_a_whitestrict_asks_for_each_of_its_keys() -> None:
    assert (
        "- all_of: [ecl-22BC3A3BC942487F, ecl-1BDDA97D14902F26]"
        in imported(group("whitestrict", BUILDER, SCANNER)).policy
    )


@pytest.mark.parametrize(("mode", "keys"), [("whitestrict", ()), ("blacklist", ()), ("blacklist", (BUILDER,))])
def test_where_any_key_will_do_the_policy_says_anyone(mode: str, keys: tuple[str, ...]) -> None:
    made = imported(group(mode, *keys))
    assert "- approvals: {count: 1, of: anyone}" in made.policy
    assert ("forbid:" in made.policy) is bool(keys)
    assert Difference.SEVERAL_SIGNERS in only(made).differences


@pytest.mark.parametrize(
    ("draft", "why"),
    [
        (group("whitelist"), "it lists no key"),
        (group("whitelist", MALLORY), "none of its keys is in the keyring"),
        (group("whitestrict", MALLORY), "none of its keys is in the keyring"),
        (group("whitestrict", BUILDER, MALLORY), "not all of its keys are in the keyring"),
    ],
)
def test_a_group_that_runs_nothing_in_ecl_is_a_deny_that_answers_as_ecl_does(draft: ExecGroup, why: str) -> None:
    made = imported(draft)
    assert (only(made).decision, only(made).differences) == (Verdict.DENY, ())
    assert only(made).says == f"nothing may run, as in ECL: {why}"


@pytest.mark.parametrize("mode", ["whitestrict", "blacklist"])
def test_with_an_empty_keyring_nothing_may_run(mode: str) -> None:
    made = imported(group(mode), ring=EMPTY)
    assert (only(made).decision, only(made).differences) == (Verdict.DENY, ())


def test_a_key_that_is_in_no_keyring_is_left_out_and_the_comment_says_so() -> None:
    made = imported(group("whitelist", BUILDER, MALLORY))
    assert MALLORY not in uncommented(made)
    assert only(made).remarks == (f"left out: {MALLORY}, which is not in the keyring, so that ECL never finds it",)
    assert f"# left out: {MALLORY}" in made.policy


def test_a_blacklisted_key_that_is_in_no_keyring_is_to_be_forbidden_before_it_comes_into_one() -> None:
    """ECL knows it from then on; to a rule that asks for anyone in the keyrings it would be one more approver."""
    made = imported(group("blacklist", BUILDER, MALLORY))
    (remark,) = only(made).remarks
    assert remark.endswith("so that ECL never finds it; forbid it before its certificate comes into a keyring")


def test_a_subkey_that_is_listed_is_told_from_a_key_that_is_missing() -> None:
    certificate = RING.get(SUBKEY)
    assert certificate is not None
    subkey = certificate.keys[-1].fingerprint
    (remark,) = only(imported(group("whitelist", subkey))).remarks
    assert f"is a subkey of {SUBKEY} and no primary key" in remark


def test_without_a_keyring_every_key_is_taken_to_be_in_it() -> None:
    made = imported(group("whitestrict", BUILDER, MALLORY), ring=None)
    assert only(made).keys == (BUILDER, MALLORY)
    assert only(made).remarks == ()


def test_the_fallback_stands_last_and_takes_every_path() -> None:
    made = imported(group("blacklist", directory="", tag="rest"), group("whitelist", BUILDER, number=2))
    assert [(draft.name, draft.path) for draft in made.rules] == [("prod", "/srv/a/*"), ("rest", "/**")]


def test_the_root_directory_has_a_pattern_of_its_own() -> None:
    assert only(imported(group("whitelist", BUILDER, directory="/"))).path == "/*"


@pytest.mark.parametrize("character", "*?[]{}")
def test_a_directory_that_cannot_be_written_as_a_pattern_is_denied_under_one_that_holds_it(character: str) -> None:
    draft = only(imported(group("whitelist", BUILDER, directory=f"/srv/a{character}")))
    assert (draft.path, draft.decision) == ("/srv/a?/*", Verdict.DENY)
    assert draft.differences == (Difference.UNWRITABLE_PATH,)


def test_under_legacyinsecure_a_group_denies_and_tells_what_to_write_once_images_are_signed_anew() -> None:
    made = imported(group("whitelist", BUILDER), legacy=True)
    assert only(made).differences == (Difference.LEGACY_SIGNATURES,)
    assert "decision: deny" in uncommented(made)
    assert "any_of" not in uncommented(made)
    assert "    # require:\n    #   - any_of: [ecl-22BC3A3BC942487F]\n    # unknown_signatures: deny\n" in made.policy
    assert "    # unknown_signatures: deny\n    # discounted_signatures: deny\n\n" in made.policy
    assert "\n  # ecl-22BC3A3BC942487F: {pgp: [81F111F6190C46143937EF7C22BC3A3BC942487F]}\n" in made.policy


def test_what_stands_in_comments_for_images_signed_anew_is_a_policy_once_it_stands_there() -> None:
    made = imported(group("blacklist", BUILDER, SCANNER), group("whitestrict", BUILDER, directory=""), legacy=True)
    head, rules = made.policy.split("\n\nrules:\n")
    signers = re.sub(r"(?m)^( *)# (?=signers:|ecl-)", r"\1", head[head.index("# signers:") :])
    live = rules.replace("    decision: deny\n", "").replace("    # once the images", "    ## once the images")
    text = f"version: 1\n{signers}\nrules:\n" + re.sub(r"(?m)^    # ", "    ", live)
    found = loaded(text)
    assert [str(problem) for problem in found.errors] == []
    assert found.policy is not None
    assert [bool(rule.require) for rule in found.policy.rules] == [True, True]
    assert found.policy.rules[0].forbidden == ("ecl-22BC3A3BC942487F", "ecl-1BDDA97D14902F26")


def test_modern_asks_for_modern_signatures_where_ecl_asks_for_old_ones() -> None:
    draft = only(imported(group("whitelist", BUILDER), legacy=True, modern=True))
    assert draft.decision is None
    assert {Difference.LEGACY_SIGNATURES, Difference.MODERN_INSTEAD} <= set(draft.differences)


def test_permissive_rules_observe_and_never_deny_flatly_for_old_signatures() -> None:
    made = imported(group("whitelist", BUILDER), legacy=True, permissive=True)
    assert "    mode: permissive\n" in made.policy
    assert Difference.PERMISSIVE in only(made).differences


def test_assurance_none_is_written_into_every_rule_and_is_named_as_laxer() -> None:
    made = imported(group("whitelist", BUILDER), group("whitelist", directory="/b"), assurance=Assurance.NONE)
    assert made.policy.count("    assurance: none\n") == 2
    assert Difference.LATER_CHANGES in made.rules[0].differences
    assert Difference.USER_WRITABLE not in made.differences


def test_an_ecl_that_is_not_activated_allows_every_sif_image_and_leaves_its_groups_out() -> None:
    made = import_ecl(EclConfig(False, True, (group(),)), "ecl.toml", RING, Choices())
    assert (only(made).decision, only(made).group) == (Verdict.ALLOW, None)
    assert only(made).remarks == ("its execgroups are left out: import a copy with activated = true",)


def test_an_ecl_without_groups_has_no_rules_and_so_denies() -> None:
    found = loaded(imported().policy)
    assert found.policy is not None
    assert found.policy.rules == ()


def test_names_of_rules_are_made_of_tags_and_are_each_once() -> None:
    tags = ["prod", "prod", "", "", "-x y-", "a\nb", "x" * 99, "x" * 98, "prod-2", "1", "Bücher"]
    groups = [group("whitelist", tag=tag, directory=f"/{n}", number=n) for n, tag in enumerate(tags)]
    names = [draft.name for draft in imported(*groups).rules]
    more = ["x" * 56, "x" * 56 + "-2", "prod-2-2", "1", "Bücher"]
    assert names == ["prod", "prod-2", "execgroup", "execgroup-2", "x y", "a-b", *more]


def test_many_keys_stand_one_below_the_other() -> None:
    ring_keys = [certificate.fingerprint for certificate in RING.certificates][:5]
    made = imported(group("whitelist", *ring_keys))
    assert "      - any_of:\n          - ecl-" in made.policy
    assert loaded(made.policy).errors == ()


def test_two_keys_that_end_alike_are_named_by_all_digits() -> None:
    ends_alike = ["A" * 24 + "0" * 16, "B" * 24 + "0" * 16]
    assert list(names_of_signers(ends_alike).values()) == [f"ecl-{key}" for key in ends_alike]


@dataclass(frozen=True)
class EclCertificate:
    fingerprint: str
    materials: frozenset[str]
    name: str = ""
    keys: tuple[()] = ()


@dataclass(frozen=True)
class FewCertificates:
    certificates: tuple[EclCertificate, ...]

    def get(self, fingerprint: str) -> EclCertificate | None:
        return next((each for each in self.certificates if each.fingerprint == fingerprint), None)


@pytest.mark.parametrize(
    ("materials", "decision"), [("a b", None), ("a ab", Verdict.DENY), ("a b ab", Verdict.DENY), ("a b c", None)]
)
def test_certificates_that_count_as_one_key_cannot_both_approve(materials: str, decision: Verdict | None) -> None:
    """Directly, or through a third one that has a key of each: a policy that asks for both would not load."""
    ring = FewCertificates(
        tuple(EclCertificate(str(n) * 40, frozenset(letters)) for n, letters in enumerate(materials.split()))
    )
    draft = only(imported(group("whitestrict", "0" * 40, "1" * 40), ring=ring))
    assert draft.decision is decision
    assert (Difference.SHARED_KEY in draft.differences) is (decision is not None)


@pytest.mark.parametrize("tag", ["1", "12E5", "2024-01-01", "0x1F", "1_0", "no", "True", "1.5", "a: b", "null"])
def test_what_another_reader_of_yaml_might_not_take_for_text_is_quoted(tag: str) -> None:
    assert f'  - name: "{tag}"\n' in imported(group("whitelist", tag=tag)).policy


def test_every_difference_is_explained() -> None:
    assert set(EXPLANATIONS) == set(Difference)
    assert {each.relation for each in Difference} == set(Relation)


def test_each_difference_of_a_rule_is_named_and_explained_in_the_policy() -> None:
    made = imported(group("blacklist", BUILDER))
    plain = " ".join(made.policy.replace("#", " ").split())
    for each in made.differences:
        assert f"{each} ({each.relation}): {EXPLANATIONS[each]}" in plain


def test_lines_fit_a_terminal() -> None:
    made = imported(group("blacklist", BUILDER, MALLORY), group("whitestrict", directory="", number=2))
    assert max(map(len, made.policy.splitlines())) < 80


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30), st.text(alphabet="ab\n\"\\#:\u2028\x85\x00'[]{} \u202e", max_size=12))
def test_no_text_of_the_file_becomes_anything_but_a_comment_or_a_value(tag: str, name: str) -> None:
    """With any tag and any directory, the policy has this one rule, and loads."""
    directory = "/srv/" + name.replace("\0", "").replace("/", "").strip(".") + "x"
    made = import_ecl(
        EclConfig(True, False, (group("whitelist", BUILDER, tag=tag, directory=directory),)), tag, RING, Choices()
    )
    found = loaded(made.policy)
    assert found.policy is not None, [str(problem) for problem in found.errors]
    (rule,) = found.policy.rules
    (glob,) = rule.match.paths or ()
    assert glob.matches(f"{directory}/a.sif")
    assert glob.pattern == only(made).path
    assert read_document("0.yaml", made.policy.encode(), Report()) is not None


def _rules(text: str) -> str:
    """Return a policy from its signers to its last rule, without comments and empty lines."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return "\n".join(lines[lines.index("signers:") : lines.index("default: deny")])


def test_the_policy_in_the_document_is_what_is_made() -> None:
    text = (ROOT / "docs" / "ecl.md").read_text(encoding="utf-8")
    shown = textwrap.dedent(text[text.index("    version: 1\n") : text.index("| in ecl.toml |")])
    production = group("whitestrict", BUILDER, SCANNER, directory="/srv/containers/prod", tag="production")
    elsewhere = group("blacklist", KEYS["release"], directory="", tag="elsewhere")
    assert _rules(shown) == _rules(imported(production, elsewhere, permissive=True).policy)


def test_the_document_has_every_difference_on_its_side() -> None:
    text = (ROOT / "docs" / "ecl.md").read_text(encoding="utf-8")
    stricter, laxer = text[text.index("eclctl is the **stricter** one") :].split("it is **laxer**")
    for each in Difference:
        assert f"| `{each}` |" in (stricter if each.relation is Relation.STRICTER else laxer)


def test_the_example_of_a_site_that_leaves_ecl_is_its_ecl_toml_imported() -> None:
    """But for the signers' names, the rule that is enforced already, and the one for what ECL never sees."""
    folder = ROOT / "policies" / "from-ecl"
    parsed = read_ecl("ecl.toml", (folder / "ecl.toml").read_bytes(), lambda path: path)
    assert parsed.config is not None
    made = import_ecl(parsed.config, "ecl.toml", RING, Choices(permissive=True))
    ours, theirs = loaded(made.policy).policy, loaded((folder / "10-from-ecl.yaml").read_bytes()).policy
    assert ours is not None
    assert theirs is not None

    def meaning(policy: Policy, rule: Rule) -> tuple[object, ...]:
        fingerprints = [tuple(policy.signers[name].keys for name in need.people) for need in rule.require]
        asked = [(need.count, need.anyone) for need in rule.require]
        stops = (rule.forbidden_keys, rule.deny_unknown, rule.deny_discounted)
        return rule.name, rule.match, fingerprints, asked, stops, rule.assurance

    expected = [meaning(theirs, rule) for rule in theirs.rules if rule.name != "not-seen-by-ecl"]
    assert [meaning(ours, rule) for rule in ours.rules] == expected
