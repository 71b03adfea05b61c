"""From question to decision: what is denied, what is kept, and what is judged afresh."""

from __future__ import annotations

import fcntl
import mmap
import os
import resource
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from eclctl.decide.engine import Engine
from eclctl.decide.questions import Decision, Lookup, Question, Turn
from eclctl.decide.snapshot import Snapshot
from eclctl.model import Code
from eclctl.terms import Assurance, Kind, Verdict
from tests.helpers.engines import CALLER, RULES, Site
from tests.helpers.support import CORPUS, NOW

ANY_PATH = """\
rules:
  - name: anywhere
    assurance: none
    require:
      - any_of: [builder]
"""


def code(decision: Decision) -> Code:
    return decision.code


def test_an_approved_image_is_allowed(site: Site) -> None:
    decision = site.ask(site.image("a.sif"))
    assert (decision.verdict, decision.code, decision.rule) == (Verdict.ALLOW, Code.REQUIREMENTS_MET, "production")
    assert (decision.kind, decision.assurance) == (Kind.SIF, Assurance.TRUSTED_PATH)
    assert decision.signers == ("builder", "scanner", "approver")


def test_a_half_approved_image_is_denied_and_the_missing_are_named(site: Site) -> None:
    decision = site.ask(site.image("a.sif", "one-builder+scanner.sif"))
    assert decision.code is Code.REQUIREMENTS_NOT_MET
    assert [missing.could_sign for missing in decision.missing] == [("approver",)]


def test_an_unsigned_image_is_denied(site: Site) -> None:
    assert site.ask(site.image("a.sif", "one-unsigned.sif")).code is Code.REQUIREMENTS_NOT_MET


def test_without_a_policy_everything_is_denied(site: Site) -> None:
    site.engine.install(Snapshot.empty())
    assert site.ask(site.image("a.sif")).code is Code.NO_POLICY


def test_what_no_rule_matches_is_denied_without_being_read(site: Site) -> None:
    outside = site.root / "outside.sif"
    shutil.copyfile(CORPUS / "images" / "one-builder.sif", outside)
    begun = site.engine.begin(Question(str(outside), CALLER), site.engine.snapshot, NOW)
    assert isinstance(begun, Decision)
    assert begun.code is Code.NO_RULE


def test_what_others_can_write_is_denied_without_being_read(site: Site) -> None:
    image = site.image("a.sif")
    image.chmod(0o666)
    begun = site.engine.begin(Question(str(image), CALLER), site.engine.snapshot, NOW)
    assert isinstance(begun, Decision)
    assert (begun.code, begun.assurance) == (Code.ASSURANCE_TOO_LOW, Assurance.NONE)


def test_a_malformed_image_is_denied(site: Site) -> None:
    assert site.ask(site.image("a.sif", "struct-truncated-half.sif")).code is Code.MALFORMED


@pytest.mark.parametrize("mode", ["enforce", "permissive"])
@pytest.mark.parametrize(
    ("source", "expected"), [("struct-truncated-half.sif", Code.MALFORMED), ("metadata-not-json.sif", None)]
)
def test_permissive_turns_no_malformed_image_into_allow(
    site: Site, mode: str, source: str, expected: Code | None
) -> None:
    site.use_policy(RULES + f"    mode: {mode}\n")
    found = site.ask(site.image("a.sif", source)).code
    assert found is (expected or (Code.PERMISSIVE if mode == "permissive" else Code.REQUIREMENTS_NOT_MET))


def make_fifo(path: Path) -> None:
    os.mkfifo(path, 0o644)


def make_empty(path: Path) -> None:
    path.touch()


def make_sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**40)


def make_directory(path: Path) -> None:
    path.mkdir()


def make_missing(path: Path) -> None:
    assert not path.exists()


def make_private(path: Path) -> None:
    path.write_bytes(b"secret")
    path.chmod(0o600)


def make_loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (make_fifo, Code.UNSUPPORTED_FILE),
        (make_empty, Code.NO_RULE),
        (make_sparse, Code.NO_RULE),
        (make_directory, Code.NO_RULE),
        (make_missing, Code.UNREADABLE),
        (make_private, Code.UNREADABLE),
        (make_loop, Code.UNREADABLE),
    ],
)
def test_whatever_lies_there_is_answered(site: Site, make: Callable[[Path], None], expected: Code) -> None:
    make(site.library / "a.sif")
    decision = site.ask(site.library / "a.sif")
    assert (decision.code, decision.verdict) == (expected, Verdict.DENY)


def test_a_file_that_is_no_sif_image_is_told_so(site: Site) -> None:
    make_empty(site.library / "a.sif")
    assert "no SIF image but of kind other" in site.ask(site.library / "a.sif").reason


def test_facts_are_kept_and_the_next_question_reads_nothing(site: Site) -> None:
    image = site.image("a.sif")
    assert not site.ask(image).cached
    begun = site.engine.begin(Question(str(image), CALLER), site.engine.snapshot, NOW)
    assert isinstance(begun, Decision)
    assert begun.cached
    assert begun.code is Code.REQUIREMENTS_MET


def test_facts_are_kept_by_file_and_not_by_name(site: Site) -> None:
    image = site.image("a.sif")
    site.ask(image)
    os.link(image, site.library / "b.sif")
    site.ask(image)  # linking changed the ctime
    assert site.ask(site.library / "b.sif").cached


def test_a_file_on_an_untrusted_path_is_never_kept(site: Site) -> None:
    site.use_policy(ANY_PATH)
    image = site.image("a.sif")
    image.chmod(0o666)
    assert [site.ask(image).code for _ in range(2)] == [Code.REQUIREMENTS_MET] * 2
    assert site.engine.cache.stats().entries == 0


def test_a_file_that_changed_just_now_is_not_kept_though_decisions_are_made_at_a_later_time(site: Site) -> None:
    """Where the clock was set back, the times of files are behind the time of decisions."""
    image = site.image("a.sif")
    site.engine.file_time = lambda: image.stat().st_ctime_ns + 1_000_000
    site.ask(image)
    assert not site.ask(image).cached
    site.engine.file_time = lambda: image.stat().st_ctime_ns + 1_000_000_000
    site.ask(image)
    assert site.ask(image).cached


LENIENT = RULES.replace("    match:", "    assurance: none\n    match:")


def test_a_file_that_is_open_for_writing_is_not_on_a_trusted_path(site: Site) -> None:
    image = site.image("a.sif")
    assert site.ask(image).code is Code.REQUIREMENTS_MET
    with image.open("r+b"):
        decision = site.ask(image)
        assert decision.code is Code.ASSURANCE_TOO_LOW
        assert "open for writing" in decision.reason
    assert site.ask(image).code is Code.REQUIREMENTS_MET


def test_where_a_rule_takes_it_all_the_same_nothing_of_it_is_kept(site: Site) -> None:
    site.use_policy(LENIENT)
    image = site.image("a.sif")
    with image.open("r+b"):
        assert site.ask(image).code is Code.REQUIREMENTS_MET
        assert not site.ask(image).cached


def test_somebody_who_opens_it_for_writing_while_it_is_read_keeps_it_from_being_allowed(site: Site) -> None:
    image = site.image("a.sif")
    begun = site.engine.begin(Question(str(image), CALLER), site.engine.snapshot, NOW)
    assert isinstance(begun, Lookup)
    facts = site.engine.look_up(begun)
    with image.open("r+b"):
        decision = site.engine.conclude(begun, facts, NOW)
    assert isinstance(decision, Decision)
    assert decision.code is Code.ASSURANCE_TOO_LOW


def test_a_store_into_a_mapped_page_is_seen_by_the_next_answer(site: Site) -> None:
    """It changes neither mtime nor ctime when the page was dirty before."""
    site.use_policy(LENIENT)
    image = site.image("a.sif")
    with image.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
        mapping[33484] = mapping[33484]
        assert site.ask(image).code is Code.REQUIREMENTS_MET
        mapping[33484] ^= 1
        assert site.ask(image).code is Code.TAMPERED


def rewrite(image: Path) -> None:
    data = bytearray(image.read_bytes())
    data[33484] ^= 1
    status = image.stat()
    image.write_bytes(data)
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))


def rename_over(image: Path) -> None:
    new = image.with_name("new")
    shutil.copyfile(image, new)
    rewrite(new)
    new.rename(image)


def replace_inode(image: Path) -> None:
    data = bytearray(image.read_bytes())
    data[33484] ^= 1
    image.unlink()
    image.write_bytes(data)


@pytest.mark.parametrize("change", [rewrite, rename_over, replace_inode])
def test_a_change_after_the_answer_changes_the_next_answer(site: Site, change: Callable[[Path], None]) -> None:
    image = site.image("a.sif")
    assert site.ask(image).code is Code.REQUIREMENTS_MET
    change(image)
    assert site.ask(image).code is Code.TAMPERED


def test_a_change_while_it_is_read_is_busy(site: Site) -> None:
    image = site.image("a.sif")
    begun = site.engine.begin(Question(str(image), CALLER), site.engine.snapshot, NOW)
    assert isinstance(begun, Lookup)
    rewrite(image)
    decision = site.engine.conclude(begun, site.engine.look_up(begun), NOW)
    assert decision.code is Code.BUSY


def test_a_name_that_leads_elsewhere_once_it_was_read_is_busy(site: Site) -> None:
    image = site.image("a.sif")
    begun = site.engine.begin(Question(str(image), CALLER), site.engine.snapshot, NOW)
    assert isinstance(begun, Lookup)
    rename_over(image)
    assert site.engine.conclude(begun, site.engine.look_up(begun), NOW).code is Code.BUSY


def test_a_decision_finishes_under_the_policy_that_it_began_with(site: Site) -> None:
    image = site.image("a.sif", "one-builder+scanner.sif")
    begun = site.engine.begin(Question(str(image), CALLER), site.engine.snapshot, NOW)
    assert isinstance(begun, Lookup)
    site.use_policy(RULES.replace("count: 2", "count: 1"))
    old = site.engine.conclude(begun, site.engine.look_up(begun), NOW)
    assert (old.code, old.generation) == (Code.REQUIREMENTS_NOT_MET, 1)
    new = site.ask(image)
    assert (new.code, new.generation, new.cached) == (Code.REQUIREMENTS_MET, 2, True)


def test_a_key_that_is_revoked_stops_counting_with_the_next_answer(tmp_path: Path) -> None:
    signers = "version: 1\nsigners:\n  revoked: {pgp: [F5A4C20B8C7054A68A09D71A88B82E9124DD2498]}\n"
    rules = RULES.split("    require:", maxsplit=1)[0] + "    require: [{any_of: [revoked]}]\n"
    site = Site(tmp_path, rules, "revoked-before.asc", signers)
    image = site.image("a.sif", "one-revoked.sif")
    assert [site.ask(image).code for _ in range(2)] == [Code.REQUIREMENTS_MET] * 2
    site.use_keyring("revoked.asc")
    site.reload()
    assert site.ask(image).code is Code.REQUIREMENTS_NOT_MET
    site.close()


def test_a_key_that_expires_stops_counting_although_the_facts_are_kept(tmp_path: Path) -> None:
    signers = "version: 1\nsigners:\n  builder: {pgp: [5802C950CB0D8BE07A134CAFA3709DE698D7BD64]}\n"
    site = Site(tmp_path, ANY_PATH, "expired.asc", signers)
    image = site.image("a.sif", "gpg-expired-key.sif")
    certificate = site.engine.snapshot.store.pgp.get("5802C950CB0D8BE07A134CAFA3709DE698D7BD64")
    assert certificate is not None
    assert site.ask(image).code is Code.REQUIREMENTS_NOT_MET
    site.close()


def test_setting_the_clock_back_revives_nothing(tmp_path: Path) -> None:
    signers = "version: 1\nsigners:\n  builder: {pgp: [81F111F6190C46143937EF7C22BC3A3BC942487F]}\n"
    site = Site(tmp_path, ANY_PATH, "site-ring.asc", signers)
    image = site.image("a.sif", "gpg-expired-signature.sif")
    late = site.ask(image).code
    site.now = datetime(2026, 1, 1, 0, 0, 30, tzinfo=UTC)
    assert (late, site.ask(image).code) == (Code.REQUIREMENTS_NOT_MET, Code.REQUIREMENTS_NOT_MET)
    site.close()


def test_withdrawn_content_is_denied_whatever_was_signed_since(site: Site) -> None:
    one, more = site.image("a.sif", "one-builder+scanner.sif"), site.image("b.sif")
    partition = "sha256:" + sha256_of_partition(one)
    assert site.ask(more).code is Code.REQUIREMENTS_MET
    site.use_policy(f"withdrawn: {{objects: ['{partition}']}}\n" + RULES)
    assert [site.ask(image).code for image in (one, more)] == [Code.WITHDRAWN] * 2
    assert site.ask(more).cached


def sha256_of_partition(image: Path) -> str:
    import hashlib

    return hashlib.sha256(image.read_bytes()[32768:36864]).hexdigest()


def test_an_unsigned_image_that_is_withdrawn_is_denied_as_withdrawn(site: Site) -> None:
    image = site.image("a.sif", "one-unsigned.sif")
    site.use_policy(f"withdrawn: {{objects: ['sha256:{sha256_of_partition(image)}']}}\n" + RULES)
    assert site.ask(image).code is Code.WITHDRAWN


def test_a_bug_anywhere_is_a_deny(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    image = site.image("a.sif")
    monkeypatch.setattr("eclctl.decide.judgement.select_rule", explode)
    decision = site.ask(image)
    assert (decision.code, decision.verdict) == (Code.INTERNAL_ERROR, Verdict.DENY)
    assert "RuntimeError" in decision.reason


def explode(*_: object, **__: object) -> object:
    raise RuntimeError("boom")


def test_a_bug_while_examining_is_a_deny_and_leaves_nothing_behind(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    image = site.image("a.sif")
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr("eclctl.decide.lookup.examine", explode)
    assert site.ask(image).code is Code.INTERNAL_ERROR
    monkeypatch.undo()
    assert len(os.listdir("/proc/self/fd")) == before
    assert site.ask(image).code is Code.REQUIREMENTS_MET


def test_no_descriptor_is_left_open_by_any_answer(site: Site) -> None:
    names = [site.image("a.sif"), site.image("b.sif", "struct-truncated-half.sif"), site.library / "none.sif"]
    site.ask(names[0])
    before = len(os.listdir("/proc/self/fd"))
    for name in names * 3:
        site.ask(name)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_passed_descriptor_is_not_closed(site: Site) -> None:
    image = site.image("a.sif")
    fd = os.open(image, os.O_RDONLY)
    assert site.ask(image, descriptor=fd).code is Code.REQUIREMENTS_MET
    os.fstat(fd)
    os.close(fd)


def test_a_name_that_leads_to_another_file_is_not_the_files_name(site: Site) -> None:
    approved, other = site.image("a.sif"), site.image("b.sif", "one-unsigned.sif")
    fd = os.open(other, os.O_RDONLY)
    decision = site.ask(approved, descriptor=fd)
    assert (decision.code, decision.path) == (Code.REQUIREMENTS_NOT_MET, str(other))
    os.close(fd)


def test_a_file_that_no_name_leads_to_is_matched_by_no_rule_with_paths(site: Site) -> None:
    fd = os.memfd_create("image", os.MFD_ALLOW_SEALING)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    decision = site.ask(site.image("a.sif"), descriptor=fd)
    assert (decision.code, decision.path) == (Code.NO_RULE, None)
    assert "no name" in decision.reason
    os.close(fd)


def turned(site: Site, turn: Turn, image: Path, name: str = "") -> Decision:
    fd = os.open(image, os.O_RDONLY)
    try:
        answer = site.engine.begin(Question(name or str(image), CALLER, fd), site.engine.snapshot, NOW, turn=turn)
    finally:
        os.close(fd)
    assert isinstance(answer, Decision)
    return answer


def test_who_asks_the_same_in_one_turn_gets_one_look_and_an_answer_each(site: Site) -> None:
    image, turn = site.image("a.sif"), Turn()
    site.ask(image)
    first, second = turned(site, turn, image), turned(site, turn, image)
    assert first.outcome is second.outcome
    assert first.id != second.id
    assert len(turn.answers) == 1


def test_one_look_serves_others_only_for_a_moment_and_only_the_same_state(site: Site) -> None:
    image, turn = site.image("a.sif"), Turn()
    site.ask(image)
    assert turned(site, turn, image).code is Code.REQUIREMENTS_MET
    with image.open("r+b"):
        site.elapsed += 1.0
        assert turned(site, turn, image).code is Code.ASSURANCE_TOO_LOW
    image.chmod(0o666)
    assert turned(site, turn, image).code is Code.ASSURANCE_TOO_LOW


def test_the_facts_of_one_policys_outcome_are_not_another_policys(site: Site) -> None:
    image = site.image("a.sif", "one-builder+scanner.sif")
    codes = []
    for count in (2, 1, 2):
        site.use_policy(RULES.replace("count: 2", f"count: {count}"))
        codes += [site.ask(image).code for _ in range(2)]
    met, unmet = Code.REQUIREMENTS_MET, Code.REQUIREMENTS_NOT_MET
    assert codes == [unmet, unmet, met, met, unmet, unmet]


def test_an_explanation_reports_on_every_requirement_also_when_the_short_answer_was_asked_first(site: Site) -> None:
    image = site.image("a.sif")
    assert site.ask(image).outcome.requirements == ()
    assert [report.met for report in site.ask(image, explain=True).outcome.requirements] == [True, True]


def test_prefetching_keeps_facts_and_says_so(site: Site) -> None:
    image = site.image("a.sif")
    assert site.engine.prefetch(str(image)).status == "kept"
    assert site.engine.prefetch(str(image)).status == "known"
    assert site.engine.known(image.stat())
    assert site.ask(image).cached


def test_prefetching_reads_nothing_that_could_not_be_kept(site: Site) -> None:
    image = site.image("a.sif")
    image.chmod(0o666)
    assert site.engine.prefetch(str(image)).status == "not-kept"


@pytest.mark.parametrize("source", ["struct-truncated-half.sif", "not-a-sif.sif"])
def test_prefetching_what_is_no_good_image_harms_nothing(site: Site, source: str) -> None:
    image = site.image("a.sif", source)
    assert site.engine.prefetch(str(image)).status in {"failed", "kept"}
    assert site.ask(image).verdict is Verdict.DENY


def test_flushing_makes_the_next_question_read_again(site: Site) -> None:
    image = site.image("a.sif")
    site.ask(image)
    assert site.engine.flush() == 1
    assert not site.ask(image).cached


def test_flushing_forgets_what_was_found_in_sandboxes(site: Site) -> None:
    """Nothing reports changes here: the result would be kept until it is too old."""
    site.use_policy('rules:\n  - {name: all, match: {paths: ["@LIBRARY@/**"], kinds: [sandbox]}, decision: allow}\n')
    (site.library / "box").mkdir()
    assert site.ask(site.library / "box").verdict is Verdict.ALLOW
    (site.library / "box" / "file").touch(0o666)
    (site.library / "box" / "file").chmod(0o666)
    assert site.ask(site.library / "box").verdict is Verdict.DENY  # another state of the top directory
    (site.library / "box" / "file").chmod(0o644)
    assert site.ask(site.library / "box").verdict is Verdict.DENY
    site.engine.flush()
    assert site.ask(site.library / "box").verdict is Verdict.ALLOW


def test_ids_never_repeat(site: Site) -> None:
    image = site.image("a.sif")
    assert len({site.ask(image).id for _ in range(50)}) == 50


def test_questions_about_one_file_share_a_key_and_others_do_not(site: Site) -> None:
    first, second = site.image("a.sif"), site.image("b.sif")

    def key(engine: Engine, image: Path) -> object:
        begun = engine.begin(Question(str(image), CALLER), engine.snapshot, NOW)
        assert isinstance(begun, Lookup)
        begun.close()
        return begun.key

    keys = [key(site.engine, image) for image in (first, first, second)]
    assert keys[0] is not None
    assert keys[0] == keys[1] != keys[2]


def test_an_error_message_never_names_what_a_caller_may_not_know(site: Site) -> None:
    secret = site.library / "private.sif"
    make_private(secret)
    reasons = [site.ask(path).reason.replace(str(path), "") for path in (secret, site.library / "none.sif")]
    assert reasons[0] == reasons[1]


def test_time_moves_on(site: Site) -> None:
    image = site.image("a.sif")
    site.ask(image)
    site.now = NOW + timedelta(days=1)
    assert site.ask(image).code is Code.REQUIREMENTS_MET


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("one-builder+scanner.sif", [("builder", True), ("scanner", True)]),
        ("one-builder+mallory.sif", [("builder", True), (None, False)]),
        ("one-revoked.sif", [("F5A4C20B8C7054A68A09D71A88B82E9124DD2498", False)]),
        ("one-unsigned.sif", []),
    ],
)
def test_an_explanation_says_what_became_of_every_signature(
    site: Site, source: str, expected: list[tuple[str | None, bool]]
) -> None:
    found = site.ask(site.image("a.sif", source), explain=True).signatures
    assert [(each.signer, each.counts) for each in found] == expected
    assert all(each.why for each in found)


BARE = """\
  - name: bare
    match: {paths: ["@LIBRARY@/**"], kinds: [squashfs]}
    decision: allow
"""


def test_a_withdrawn_partition_is_withdrawn_as_a_file_of_its_own(site: Site) -> None:
    image = site.image("a.sif")
    bare = site.library / "a.sqfs"
    bare.write_bytes(image.read_bytes()[32768:36864])
    site.use_policy(RULES + BARE)
    assert site.ask(bare).code is Code.RULE_ALLOW
    site.use_policy(f"withdrawn: {{objects: ['sha256:{sha256_of_partition(image)}']}}\n" + RULES + BARE)
    assert [site.ask(bare).code for _ in range(2)] == [Code.WITHDRAWN] * 2


def test_a_file_of_holes_is_not_read_to_find_out_whether_it_is_withdrawn(site: Site) -> None:
    make_sparse(site.library / "a.sqfs")
    with (site.library / "a.sqfs").open("r+b") as file:
        file.write(b"hsqs")
    site.use_policy(f"withdrawn: {{objects: ['sha256:{'0' * 64}']}}\n" + RULES + BARE)
    assert site.ask(site.library / "a.sqfs").code is Code.MALFORMED


def test_a_process_that_can_open_no_more_files_says_busy_and_not_missing(site: Site) -> None:
    image = site.image("a.sif")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = os.open("/dev/null", os.O_RDONLY)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (held, limits[1]))
        assert site.ask(image).code is Code.BUSY
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        os.close(held)


def test_a_turn_shares_no_answer_between_two_names_of_a_file(site: Site) -> None:
    """What both descriptors show is the same; one was opened by a name that a rule denies."""
    site.use_policy(
        "rules:\n"
        "  - {name: secret, match: {paths: ['@LIBRARY@/secret.sif']}, decision: deny}\n"
        "  - {name: all, match: {paths: ['@LIBRARY@/**']}, require: [{any_of: [builder]}]}\n"
    )
    public = site.image("public.sif")
    os.link(public, site.library / "secret.sif")
    assert site.ask(public).verdict is Verdict.ALLOW
    turn = Turn()
    assert turned(site, turn, public, "/elsewhere").rule == "all"
    assert turned(site, turn, site.library / "secret.sif", "/elsewhere").rule == "secret"
