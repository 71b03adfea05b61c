"""Building a generation of policy and keys."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from eclctl.config.accounts import Names
from eclctl.decide.snapshot import Built, Snapshot, build, refreshed
from eclctl.files.guarded import read_guarded
from eclctl.signature.openpgp import Keyring
from eclctl.terms import Verdict
from tests.helpers.engines import Site
from tests.helpers.support import CORPUS, NOW


def built(site: Site) -> Built:
    return build(site.settings(), Names(lambda _: None, lambda _: None), generation=7, now=NOW)


def test_a_snapshot_names_its_generation_and_everything_that_it_was_made_from(site: Site) -> None:
    first = built(site).snapshot
    site.use_keyring("approval-ring.asc")
    second = built(site).snapshot
    assert first is not None
    assert second is not None
    assert (first.generation, first.loaded_at) == (7, NOW)
    assert first.digest != second.digest
    assert first.store.digest != second.store.digest


def test_a_directory_among_keys_or_policies_is_passed_over(site: Site) -> None:
    (site.root / "keys.d" / "old").mkdir()
    (site.root / "policies.d" / "old.yaml").mkdir()
    assert built(site).errors == ()


def test_hidden_files_and_editors_copies_are_passed_over(site: Site) -> None:
    for name in (".hidden.yaml", "policy.yaml~"):
        (site.root / "policies.d" / name).write_text("nonsense")
    assert built(site).errors == ()


def test_a_private_key_in_a_keyring_is_a_warning_that_names_the_file(site: Site) -> None:
    shutil.copyfile(CORPUS / "keys" / "pgp" / "lab-secret.asc", site.root / "keys.d" / "lab.asc")
    found = built(site)
    assert found.errors == ()
    expected = (
        f"{site.root}/keys.d/lab.asc: holds the private key 649A002A63A1A167FD2F75AC0EC27A65F62BBDD1 "
        "(only its public part is used; take the private key out of this file)"
    )
    assert expected in [str(warning) for warning in found.warnings]


@pytest.mark.parametrize("name", ["keys.d/ring.asc", "policies.d/policy.yaml"])
def test_a_file_that_is_missing_or_broken_keeps_the_whole_snapshot_from_being_built(site: Site, name: str) -> None:
    (site.root / name).write_bytes(b"\xff broken")
    found = built(site)
    assert found.snapshot is None
    assert str(site.root / name) in str(found.errors[0])


def test_no_policy_at_all_is_an_error(site: Site) -> None:
    (site.root / "policies.d" / "policy.yaml").unlink()
    assert "there is no policy here" in str(built(site).errors[0])


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
@pytest.mark.parametrize("name", ["keys.d/ring.asc", "policies.d/policy.yaml"])
def test_root_refuses_keys_and_policies_that_others_could_have_written(site: Site, name: str) -> None:
    (site.root / name).chmod(0o666)
    found = built(site)
    assert found.snapshot is None
    assert "is writable by others than root; chmod go-w it" in str(found.errors[0])


def test_a_site_reads_only_what_it_names(tmp_path: Path) -> None:
    made = Site(tmp_path)
    (tmp_path / "elsewhere.yaml").write_text("nonsense")
    assert built(made).errors == ()
    made.close()


def test_what_a_policy_includes_is_read_as_the_policy_is(site: Site) -> None:
    """By the same guarded reader, relative to the file, and of a directory only what policies are called."""
    more = site.root / "more.d"
    more.mkdir()
    (more / "b.yaml").write_text("version: 1\nrules: [{name: b, decision: deny}]\n")
    (more / "a.yml").write_text("version: 1\nrules: [{name: a, decision: deny}]\n")
    (more / "notes.txt").write_text("[")
    site.use_policy("include: [../more.d]\nrules: [{name: first, decision: deny}]\n")
    policy = site.engine.snapshot.policy
    assert policy is not None
    assert [rule.name for rule in policy.rules] == ["first", "a", "b"]
    read: list[str] = []

    def reader(path: str, *, limit: int = 0) -> bytes:
        read.append(path)
        return read_guarded(path, limit=limit)

    build(site.settings(), Names({}.get, {}.get), generation=1, now=NOW, read=reader)
    assert {str(more / "a.yml"), str(more / "b.yaml")} <= set(read)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_an_included_file_that_others_can_write_is_refused(site: Site) -> None:
    more = site.root / "more.yaml"
    more.write_text("version: 1\n")
    more.chmod(0o666)
    (site.root / "policies.d" / "policy.yaml").write_text("version: 1\ninclude: [../more.yaml]\n")
    (error,) = built(site).errors
    assert (error.line, error.column) == (2, 11)
    assert "the include '../more.yaml' cannot be used: is writable by others than root" in str(error)


# -- what others know of its keys


REVOKED = "F5A4C20B8C7054A68A09D71A88B82E9124DD2498"
OWNED = "version: 1\nsigners:\n  owner: {pgp: [" + REVOKED + "]}\n"


def copy_of(name: str) -> Keyring:
    return Keyring.parse((CORPUS / "keys" / "pgp" / name).read_bytes())


@pytest.fixture
def trusting(tmp_path: Path) -> Iterator[Site]:
    """A site that has not heard of a revocation."""
    rules = 'rules:\n  - name: it\n    match: {paths: ["@LIBRARY@/**"]}\n    require: [{any_of: [owner]}]\n'
    made = Site(tmp_path, rules, "revoked-before.asc", OWNED)
    yield made
    made.close()


def test_what_is_learnt_of_a_key_is_a_generation_of_its_own_with_the_same_policy_and_facts(trusting: Site) -> None:
    before = trusting.engine.snapshot
    after = refreshed(before, copy_of("revoked.asc"), now=NOW)
    assert after is not None
    assert (after.generation, after.policy) == (before.generation + 1, before.policy)
    assert after.digest != before.digest
    assert after.store.digest == before.store.digest
    fault = after.store.pgp.status(REVOKED, REVOKED)
    assert fault is not None
    assert fault.fault is not None


def test_a_load_with_what_was_learnt_comes_to_the_same(trusting: Site) -> None:
    after = refreshed(trusting.engine.snapshot, copy_of("revoked.asc"), now=NOW)
    names = Names(lambda _: None, lambda _: None)
    loaded = build(trusting.settings(), names, generation=7, now=NOW, learnt=copy_of("revoked.asc")).snapshot
    assert after is not None
    assert loaded is not None
    assert (loaded.digest, loaded.store.digest) == (after.digest, after.store.digest)


def test_what_is_known_already_or_of_other_keys_is_no_new_generation(trusting: Site) -> None:
    snapshot = trusting.engine.snapshot
    assert refreshed(snapshot, copy_of("revoked-before.asc"), now=NOW) is None
    assert refreshed(snapshot, copy_of("mallory.asc"), now=NOW) is None
    assert refreshed(Snapshot.empty(), copy_of("revoked.asc"), now=NOW) is None


def test_an_answer_from_kept_facts_denies_once_the_revocation_is_known(trusting: Site) -> None:
    image = trusting.image("one.sif", "one-revoked.sif")
    first, second = trusting.ask(image), trusting.ask(image)
    assert (first.outcome.verdict, second.outcome.verdict, second.cached) == (Verdict.ALLOW, Verdict.ALLOW, True)
    after = refreshed(trusting.engine.snapshot, copy_of("revoked.asc"), now=NOW)
    assert after is not None
    trusting.engine.install(after)
    third = trusting.ask(image)
    assert (third.outcome.verdict, third.cached) == (Verdict.DENY, True)
