"""Exceptions: what one stands for, for how long, and who has to approve it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from eclctl.config.accounts import Names
from eclctl.decide.breakglass import State
from eclctl.decide.breakglass_load import MAX_EXCEPTIONS
from eclctl.decide.questions import Decision, Lookup, Question
from eclctl.decide.snapshot import build
from eclctl.model import Caller, Code
from eclctl.signature.openpgp.signature import PURPOSE_NOTATION
from eclctl.terms import Verdict
from tests.helpers import pgp
from tests.helpers.breaking import ENDS, HALF, STARTS, TERMS, BreakGlass
from tests.helpers.engines import CALLER, RULES, SIGNERS
from tests.helpers.sifbuilder import corpus_pgp_key
from tests.helpers.support import CORPUS, NOW

SECOND = timedelta(seconds=1)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[BreakGlass]:
    made = BreakGlass(tmp_path)
    yield made
    made.close()


def test_an_approved_exception_lets_a_named_file_run(site: BreakGlass) -> None:
    image = site.image("a.sif", HALF)
    assert site.ask(image).code is Code.REQUIREMENTS_NOT_MET
    site.grant("drain", image)
    decision = site.ask(image)
    assert (decision.verdict, decision.code, decision.outcome.exception) == (Verdict.ALLOW, Code.EXCEPTION, "drain")
    assert (decision.rule, decision.signers, decision.mode) == ("production", ("scanner", "approver"), "enforce")
    assert decision.reason.startswith(
        "exception 'drain' allows what rule 'production' does not (until 2026-11-24 12:00"
    )


def test_an_approved_exception_lets_what_lies_at_a_path_run(site: BreakGlass) -> None:
    image = site.image("a.sif", HALF)
    site.grant("drain", f"{site.library}/*.sif")
    assert site.ask(image).code is Code.EXCEPTION


def test_without_exceptions_in_the_policy_their_files_say_nothing(site: BreakGlass) -> None:
    image = site.image("a.sif", HALF)
    site.grant("drain", image)
    site.use_policy(RULES)
    assert site.ask(image).code is Code.REQUIREMENTS_NOT_MET


def test_an_image_that_meets_the_requirements_needs_no_exception(site: BreakGlass) -> None:
    image = site.image("a.sif")
    site.grant("drain", image)
    assert (site.ask(image).code, site.ask(image).outcome.exception) == (Code.REQUIREMENTS_MET, None)


def test_another_file_is_denied(site: BreakGlass) -> None:
    site.grant("drain", site.image("a.sif", HALF))
    assert site.ask(site.image("b.sif", "one-unsigned.sif")).code is Code.REQUIREMENTS_NOT_MET


def test_a_file_of_the_same_size_that_differs_in_one_byte_is_denied(site: BreakGlass) -> None:
    image = site.image("a.sif", "one-unsigned.sif")
    site.grant("drain", image)
    assert site.ask(image).code is Code.EXCEPTION
    changed = bytearray(image.read_bytes())
    changed[4] ^= 1  # in the launch script, which no data object holds
    other = site.library / "b.sif"
    other.write_bytes(changed)
    assert site.ask(other).code is Code.REQUIREMENTS_NOT_MET


def test_another_user_is_denied(site: BreakGlass) -> None:
    image = site.image("a.sif", HALF)
    site.grant("drain", image)
    assert site.ask(image, Caller(4243, 4242, frozenset({4242}))).code is Code.REQUIREMENTS_NOT_MET


@pytest.mark.parametrize(
    ("caller", "expected"),
    [
        (Caller(1, 77), Code.EXCEPTION),
        (Caller(1, 1, frozenset({76, 77})), Code.EXCEPTION),
        (Caller(77, 1, frozenset({76})), Code.REQUIREMENTS_NOT_MET),
        (Caller(0, 0), Code.REQUIREMENTS_NOT_MET),
    ],
)
def test_a_group_is_any_group_of_the_caller(site: BreakGlass, caller: Caller, expected: Code) -> None:
    image = site.image("a.sif", HALF)
    site.grant("drain", image, users=None, groups="[77]")
    assert site.ask(image, caller).code is expected


def test_it_holds_from_its_start_until_its_end_to_the_instant(site: BreakGlass) -> None:
    image = site.image("a.sif", HALF)
    site.now = STARTS
    site.grant("drain", image, signed=STARTS - timedelta(hours=2))
    seen = []
    for now in (STARTS - SECOND / 10**6, STARTS, ENDS - SECOND / 10**6, ENDS):
        site.now = now
        seen.append(site.ask(image).code)
    denied = Code.REQUIREMENTS_NOT_MET
    assert seen == [denied, Code.EXCEPTION, Code.EXCEPTION, denied]


def test_kept_facts_do_not_outlive_it(site: BreakGlass) -> None:
    image = site.image("a.sif", HALF)
    site.grant("drain", image)
    site.ask(image)
    site.now = ENDS - SECOND
    before = site.ask(image)
    site.now = ENDS
    after = site.ask(image)
    assert (before.code, before.cached) == (Code.EXCEPTION, True)
    assert (after.code, after.cached) == (Code.REQUIREMENTS_NOT_MET, True)
    assert "the exception 'drain' does not help: it ended on 2026-11-24 12:00:00Z" in after.reason


def test_a_clock_that_is_set_back_does_not_revive_it(site: BreakGlass) -> None:
    image = site.image("a.sif", HALF)
    site.grant("drain", image)
    assert site.ask(image).code is Code.EXCEPTION
    site.now = ENDS
    site.ask(image)
    site.now = NOW
    assert site.ask(image).code is Code.REQUIREMENTS_NOT_MET


def test_a_clock_that_is_set_back_does_not_lengthen_it(site: BreakGlass) -> None:
    """The time goes on from the newest that was seen, not again from where the clock was set to."""
    image = site.image("a.sif", HALF)
    site.grant("drain", image)
    site.now = ENDS - timedelta(minutes=30)
    assert site.ask(image).code is Code.EXCEPTION
    seen = []
    for minutes in (29, 30):
        site.now = ENDS - timedelta(days=1) + timedelta(minutes=minutes)
        site.elapsed = minutes * 60.0
        seen.append(site.ask(image).code)
    assert seen == [Code.EXCEPTION, Code.REQUIREMENTS_NOT_MET]


def test_a_clock_that_runs_is_believed_whatever_time_went_by(site: BreakGlass) -> None:
    image = site.image("a.sif", HALF)
    site.grant("drain", image)
    assert site.ask(image).code is Code.EXCEPTION
    site.now, site.elapsed = ENDS, 1.0
    assert site.ask(image).code is Code.REQUIREMENTS_NOT_MET


def test_facts_found_before_it_was_made_do_not_hide_it(site: BreakGlass) -> None:
    image = site.image("a.sif", HALF)
    assert not site.ask(image).cached
    assert site.ask(image).cached
    site.grant("drain", image)
    first, second = site.ask(image), site.ask(image)
    assert [(each.code, each.cached) for each in (first, second)] == [(Code.EXCEPTION, False), (Code.EXCEPTION, True)]


def test_removing_its_file_ends_it_with_the_next_reload(site: BreakGlass) -> None:
    image = site.image("a.sif", HALF)
    path = site.grant("drain", image)
    before = site.engine.snapshot.digest
    path.unlink()
    snapshot = site.reload()
    assert site.ask(image).code is Code.REQUIREMENTS_NOT_MET
    assert snapshot.digest != before


def test_a_signature_is_part_of_what_a_generation_is_known_by(site: BreakGlass) -> None:
    path = site.grant("drain", site.image("a.sif", HALF), by=["scanner"])
    before = site.engine.snapshot.digest
    site.sign(path, "approver")
    assert site.reload().digest != before


def test_the_first_active_one_is_named(site: BreakGlass) -> None:
    image = site.image("a.sif", HALF)
    site.grant("a-lacks", image, by=["scanner"])
    site.grant("b-stands", image)
    site.grant("c-stands-too", image)
    assert site.ask(image).outcome.exception == "b-stands"


# -- approvals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", [[], ["scanner"], ["scanner", "builder"], ["scanner", "stranger"]])
def test_too_few_of_the_role_approve_nothing(site: BreakGlass, by: list[str]) -> None:
    image = site.image("a.sif", HALF)
    names = [name for name in by if name != "stranger"]
    site.grant("drain", image, by=names)
    assert site.stands("drain").state is State.UNAPPROVED
    decision = site.ask(image)
    assert decision.code is Code.REQUIREMENTS_NOT_MET
    assert "the exception 'drain' does not help: it needs 2 approvals from security and has" in decision.reason


def test_one_person_who_signs_twice_approves_once(site: BreakGlass) -> None:
    path = site.grant("drain", site.image("a.sif", HALF), by=["scanner"])
    shutil.copyfile(f"{path}.scanner.asc", f"{path}.again.asc")
    site.reload()
    assert site.stands("drain").approvers == ("scanner",)


def test_a_key_that_two_people_list_approves_for_one_of_them(tmp_path: Path) -> None:
    shared = "  helper:   {pgp: [F69053E5830DBDBA72B3D8F61BDDA97D14902F26]}\nroles:"
    signers = SIGNERS.replace("roles:", shared).replace("[scanner, approver]", "[scanner, approver, helper]")
    site = BreakGlass(tmp_path, signers=signers)
    site.grant("drain", site.image("a.sif", HALF), by=["scanner"])
    assert len(site.stands("drain").approvers) == 1
    site.close()


def test_what_a_withdrawn_signer_signed_approves_nothing(tmp_path: Path) -> None:
    signers = (
        SIGNERS.replace("[scanner, approver]", "[scanner, approver, builder]") + "withdrawn: {signers: [builder]}\n"
    )
    site = BreakGlass(tmp_path, signers=signers)
    site.grant("drain", site.image("a.sif", HALF), by=["scanner", "builder"])
    assert site.stands("drain").approvers == ("scanner",)
    site.close()


def test_a_changed_exception_loses_its_approvals(site: BreakGlass) -> None:
    image = site.image("a.sif", HALF)
    path = site.grant("drain", image)
    path.write_text(path.read_text().replace("[4242]", "[4242, 4243]"))
    site.reload()
    stands = site.stands("drain")
    assert (stands.state, stands.approvers) == (State.UNAPPROVED, ())
    assert len(stands.discounted) == 2
    assert site.ask(image).code is Code.REQUIREMENTS_NOT_MET


def test_the_signatures_of_one_exception_do_not_approve_another(site: BreakGlass) -> None:
    path = site.grant("drain", site.image("a.sif", HALF))
    other = site.write("drain2", f"{site.library}/**")
    for who in ("scanner", "approver"):
        shutil.copyfile(f"{path}.{who}.asc", f"{other}.{who}.asc")
    site.reload()
    assert site.stands("drain2").state is State.UNAPPROVED


def test_a_copy_under_another_name_is_refused(site: BreakGlass) -> None:
    path = site.grant("drain", site.image("a.sif", HALF))
    for file in site.folder.glob(f"{path.name}*"):
        shutil.copyfile(file, site.folder / file.name.replace("drain", "again"))
    site.reload()
    assert site.stands("again").state is State.REFUSED
    assert "the exception is called 'drain' and its file 'again.yaml'" in site.stands("again").why


REVOKED = "F5A4C20B8C7054A68A09D71A88B82E9124DD2498"


def test_an_approver_whose_key_has_been_revoked_since_no_longer_counts(tmp_path: Path) -> None:
    signers = SIGNERS.replace("roles:", f"  leaver: {{pgp: [{REVOKED}]}}\nroles:")
    (tmp_path / "site").mkdir(mode=0o755)
    site = ring_of(tmp_path / "site", signers.replace("[scanner, approver]", "[scanner, approver, leaver]"))
    image = site.image("a.sif", HALF)
    site.grant("drain", image, by=["scanner", "revoked"])
    assert site.ask(image).signers == ("scanner", "leaver")
    shutil.copyfile(CORPUS / "keys" / "pgp" / "revoked.asc", site.root / "keys.d" / "leaver.asc")
    site.reload()
    assert site.ask(image).code is Code.REQUIREMENTS_NOT_MET
    discounted = site.stands("drain").discounted
    assert discounted == ("the signature of leaver does not count: openpgp: signature made by revoked key",)
    site.close()


def ring_of(root: Path, signers: str) -> BreakGlass:
    """A site with a key in its ring that will be revoked."""

    class WithLeaver(BreakGlass):
        def use_keyring(self, ring: str) -> None:
            del ring
            names = {"builder": "builder", "scanner": "scanner", "approver": "approver", "leaver": "revoked-before"}
            for name, source in names.items():
                shutil.copyfile(CORPUS / "keys" / "pgp" / f"{source}.asc", self.root / "keys.d" / f"{name}.asc")

    return WithLeaver(root, signers=signers)


def test_a_signature_that_has_expired_since_no_longer_counts(site: BreakGlass) -> None:
    image = site.image("a.sif", HALF)
    path = site.grant("drain", image, by=["scanner"])
    at = int((NOW - timedelta(hours=1)).timestamp())
    short = corpus_pgp_key("approver").sign(0x00, path.read_bytes(), pgp.sub(3, pgp.time(7200)), created=at)
    path.with_name(f"{path.name}.asc").write_bytes(pgp.armor("SIGNATURE", pgp.packet(2, short)))
    site.reload()
    seen = []
    for now in (NOW, NOW + timedelta(hours=1) - SECOND, NOW + timedelta(hours=1)):
        site.now = now
        seen.append(site.ask(image).code)
    assert seen == [Code.EXCEPTION, Code.EXCEPTION, Code.REQUIREMENTS_NOT_MET]


@pytest.mark.parametrize(
    ("purposes", "state"),
    [(["scan"], State.UNAPPROVED), (["exception"], State.ACTIVE), (["scan", "exception"], State.ACTIVE)],
)
def test_a_signature_that_says_what_it_is_for_must_be_for_exceptions(
    site: BreakGlass, purposes: list[str], state: State
) -> None:
    path = site.grant("drain", site.image("a.sif", HALF), by=["scanner"])
    notations = [notation(purpose) for purpose in purposes]
    made = corpus_pgp_key("approver").sign(0x00, path.read_bytes(), *notations, created=int(STARTS.timestamp()))
    path.with_name(f"{path.name}.asc").write_bytes(pgp.armor("SIGNATURE", pgp.packet(2, made)))
    site.reload()
    assert site.stands("drain").state is state


def notation(purpose: str) -> bytes:
    """RFC 9580 section 5.2.3.24: flags, the lengths of name and value, both."""
    name, value = PURPOSE_NOTATION.encode(), purpose.encode()
    return pgp.sub(20, b"\x80\0\0\0" + len(name).to_bytes(2) + len(value).to_bytes(2) + name + value)


def test_an_approval_cannot_be_older_than_the_longest_time_before_the_end(site: BreakGlass) -> None:
    image = site.image("a.sif", HALF)
    longest = timedelta(hours=72)
    path = site.grant("drain", image, by=["scanner"])
    site.sign(path, "approver", ENDS - longest - SECOND)
    site.reload()
    assert site.ask(image).code is Code.REQUIREMENTS_NOT_MET
    assert site.stands("drain").discounted == (
        "the signature of approver does not count: it was made more than 72h before the exception ends",
    )
    site.sign(path, "approver", ENDS - longest)
    site.reload()
    assert site.ask(image).code is Code.EXCEPTION


def test_a_signature_from_the_future_does_not_count_yet(site: BreakGlass) -> None:
    image = site.image("a.sif", HALF)
    site.grant("drain", image, signed=NOW + SECOND)
    assert site.stands("drain").state is State.UNAPPROVED
    assert site.stands("drain", NOW + SECOND).state is State.ACTIVE


# -- what it does not stand for ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "source", "expected"),
    [
        ("", "struct-truncated-half.sif", Code.MALFORMED),
        ("    forbid: {signed_by: [scanner]}\n", HALF, Code.FORBIDDEN),
        ("    unknown_signatures: deny\n", "metadata-not-json.sif", Code.UNKNOWN_SIGNATURE),
        ("    discounted_signatures: deny\n", "one-revoked.sif", Code.DISCOUNTED_SIGNATURE),
        ("    mode: permissive\n", HALF, Code.PERMISSIVE),
    ],
)
def test_it_stands_for_requirements_that_are_not_met_and_nothing_else(
    site: BreakGlass, more: str, source: str, expected: Code
) -> None:
    image = site.image("a.sif", source)
    site.use_policy(TERMS + RULES + more)
    site.grant("drain", image)
    site.grant("path", f"{site.library}/**")
    assert [site.ask(image).code for _ in range(2)] == [expected] * 2


def test_it_does_not_stand_for_a_rule_that_denies(site: BreakGlass) -> None:
    image = site.image("a.sif", HALF)
    rule = '  - {name: closed, match: {paths: ["@LIBRARY@/**"]}, decision: deny}\n'
    site.use_policy(TERMS + "rules:\n" + rule)
    site.grant("drain", image)
    assert site.ask(image).code is Code.RULE_DENY


def test_it_does_not_stand_for_a_rule_that_is_missing(site: BreakGlass) -> None:
    image = site.image("a.sif", HALF)
    outside = site.root / "a.sif"
    shutil.copyfile(image, outside)
    site.grant("drain", image)
    site.grant("path", f"{site.root}/**")
    assert site.ask(outside).code is Code.NO_RULE


def test_it_does_not_stand_for_an_image_that_was_tampered_with(site: BreakGlass) -> None:
    image = site.image("a.sif", "one-builder+scanner+approver.sif")
    content = bytearray(image.read_bytes())
    content[4] ^= 1
    image.write_bytes(content)
    site.grant("drain", image)
    assert site.ask(image).code is Code.TAMPERED


def test_what_is_withdrawn_stays_withdrawn(site: BreakGlass) -> None:
    image = site.image("a.sif", HALF)
    site.grant("drain", image)
    assert site.ask(image).code is Code.EXCEPTION
    site.use_policy(TERMS + RULES, SIGNERS + "withdrawn: {signers: [builder]}\n")
    assert site.ask(image).code is Code.WITHDRAWN


def test_it_does_not_stand_for_too_little_assurance(site: BreakGlass) -> None:
    image = site.image("a.sif", HALF)
    site.grant("drain", image)
    image.chmod(0o666)
    assert site.ask(image).code is Code.ASSURANCE_TOO_LOW


def test_a_path_counts_only_where_no_other_user_can_change_what_lies_there(site: BreakGlass) -> None:
    image = site.image("a.sif", HALF)
    site.use_policy(TERMS + RULES + "    assurance: none\n")
    path = site.grant("path", f"{site.library}/**")
    image.chmod(0o666)
    assert site.ask(image).code is Code.REQUIREMENTS_NOT_MET
    path.unlink()
    site.grant("drain", image)
    assert site.ask(image).code is Code.EXCEPTION


def test_a_path_does_not_count_for_a_descriptor_whose_name_leads_elsewhere(site: BreakGlass) -> None:
    named, other = site.image("a.sif", HALF), site.image("b.sif", "one-unsigned.sif")
    site.use_policy(TERMS + "rules:\n  - {name: any, assurance: none, require: [{any_of: [approver]}]}\n")
    site.grant("path", str(named))
    with other.open("rb") as file:
        assert site.ask(named, descriptor=file.fileno()).code is Code.REQUIREMENTS_NOT_MET
    assert site.ask(named).code is Code.EXCEPTION


def test_an_uncovered_object_of_a_named_file_may_run(site: BreakGlass) -> None:
    image = site.image("a.sif", HALF)
    rule = "rules:\n  - {name: part, require: [{any_of: [builder], objects: {groups: [2], holds: [overlay]}}]}\n"
    site.use_policy(TERMS + rule)
    assert site.ask(image).verdict is Verdict.DENY
    site.grant("drain", image)
    assert site.ask(image).code is Code.EXCEPTION


# -- loading -----------------------------------------------------------------------------------------------------------


def test_an_exception_that_is_refused_keeps_nothing_else_from_loading(site: BreakGlass) -> None:
    image = site.image("a.sif", HALF)
    site.grant("drain", image)
    broken = site.folder / "broken.yaml"
    broken.write_text("version: 2\nexception: broken\nrunning: yes\n")
    site.reload()
    assert site.stands("broken").state is State.REFUSED
    assert site.ask(image).outcome.exception == "drain"


def test_each_has_the_signatures_beside_its_own_file_alone(site: BreakGlass) -> None:
    site.grant("drain", site.image("a.sif", HALF), by=["scanner"])
    site.grant("other", f"{site.library}/b.sif", by=["approver"])
    assert [site.stands(name).approvers for name in ("drain", "other")] == [("scanner",), ("approver",)]
    assert site.stands("drain").discounted == ()


def test_files_that_mean_nothing_are_warned_of(site: BreakGlass) -> None:
    site.grant("drain", site.image("a.sif", HALF))
    for name in ("README", "drain.yml", "gone.yaml.alice.asc"):
        (site.folder / name).write_text("x")
    built = build(site.settings(), Names(lambda _: None, lambda _: None), generation=9, now=NOW)
    assert [Path(each.file).name for each in built.warnings] == ["README", "drain.yml", "gone.yaml.alice.asc"]


def test_what_is_refused_or_lacks_approvals_is_warned_of_with_its_place(site: BreakGlass) -> None:
    site.grant("drain", site.image("a.sif", HALF), by=["scanner"])
    (site.folder / "oops.yaml").write_text("version: 1\nexceptoin: oops\n")
    built = build(site.settings(), Names(lambda _: None, lambda _: None), generation=9, now=NOW)
    said = [str(each).removeprefix(f"{site.folder}/") for each in built.warnings]
    assert said[0].startswith(
        "drain.yaml: exception not approved: it needs 2 approvals from security and has 1 (scanner)"
    )
    assert said[1].startswith(
        "oops.yaml:2:1: exception refused: unknown key 'exceptoin' in the exception (did you mean"
    )


def test_one_that_is_too_long_is_refused_in_true_words(site: BreakGlass) -> None:
    path = site.grant("drain", site.image("a.sif", HALF))
    path.write_text(path.read_text() + "#" * 65536)
    site.reload()
    assert site.stands("drain").why == "its file is refused: the exception is larger than 64 KiB"


def test_more_than_are_read_are_refused(site: BreakGlass) -> None:
    for number in range(MAX_EXCEPTIONS + 1):
        site.write(f"e{number:04}", str(site.library / "a.sif"))
    site.reload()
    assert site.stands(f"e{MAX_EXCEPTIONS - 1:04}").state is State.UNAPPROVED
    assert site.stands(f"e{MAX_EXCEPTIONS:04}").why.endswith(f"there are more than {MAX_EXCEPTIONS} exceptions")


@pytest.mark.parametrize("name", ["Drain", ".hidden", "-x", "x" * 65, "a b"])
def test_a_file_whose_name_is_none_for_an_exception_is_refused_or_hidden(site: BreakGlass, name: str) -> None:
    image = site.image("a.sif", HALF)
    site.grant(name, image, exception="drain")
    assert all(each.exception is None for each in site.engine.snapshot.exceptions.candidates)
    assert site.ask(image).code is Code.REQUIREMENTS_NOT_MET


def test_a_missing_directory_means_no_exceptions(site: BreakGlass) -> None:
    site.folder.rmdir()
    snapshot = site.reload()
    assert snapshot.exceptions.candidates == ()
    assert site.ask(site.image("a.sif")).code is Code.REQUIREMENTS_MET


def test_only_files_of_a_named_size_are_hashed_as_a_whole(site: BreakGlass) -> None:
    image, other = site.image("a.sif", HALF), site.image("b.sif", "one-unsigned.sif")
    site.grant("drain", image)
    wholes = []
    for path in (image, other):
        begun = site.engine.begin(Question(str(path), CALLER), site.engine.snapshot, NOW)
        assert isinstance(begun, Lookup)
        facts = site.engine.look_up(begun)
        wholes.append(facts.whole)
        assert isinstance(site.engine.conclude(begun, facts, NOW), Decision)
    assert wholes[0] is not None
    assert wholes[1] is None
