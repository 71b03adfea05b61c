"""One daemon, one policy, every kind of signature: who counts, what is missing, and what a revocation changes."""

import json
import os
import shutil
import subprocess
from datetime import timedelta

import pytest

from examples.responder import authority
from tests.helpers.site import APPROVED, ECLCTL, Site, eventually
from tests.helpers.support import CORPUS, ROOT

KEYS, LIBRARY = ROOT / "examples" / "keys", ROOT / "examples" / "library"
POLICY = """version: 1
signers:
  builder: {{pgp: [{builder}]}}
  scanner: {{pgp: [{scanner}]}}
  robot:   {{key: [../keys/robot.pub]}}
  ci:      {{cosign: [../keys/ci.pub]}}
  release: {{certificate: {{file: ../certs/release.pem, roots: ../certs/root.pem, ocsp: require}}}}
roles:
  security: [scanner, release]
rules:
  - name: from-registry
    match: {{paths: ["{root}/images/**"], kinds: [oci-sif]}}
    require: [{{any_of: [ci]}}, {{any_of: [builder]}}, {{any_of: [release]}}]
  - name: production
    match: {{paths: ["{root}/images/**"]}}
    require: [{{any_of: [builder, robot]}}, {{approvals: {{count: 2, of: security}}}}]
"""


@pytest.fixture
def release():
    with authority(KEYS / "release.pub", timedelta(seconds=4)) as made:
        yield made


def site_of(release):
    """A site whose release team has a certificate of this authority."""
    made = Site()
    (made.root / "keys").mkdir()
    for key in KEYS.glob("*.pub"):
        shutil.copyfile(key, made.root / "keys" / key.name)
    release.write(made.root / "certs")
    made.policy(POLICY)
    for name in ("released.sif", "robot.sif", "app.oci.sif", "app-unreleased.oci.sif"):
        made.add(name, LIBRARY / name)
    made.add("cosign-only.oci.sif", CORPUS / "oci" / "app-ci.oci.sif")
    return made


@pytest.fixture
def mixed(release):
    made = site_of(release)
    yield made.start()
    made.close()


def test_signers_of_every_kind_count_in_one_chain(mixed):
    answer = mixed.check("app.oci.sif")
    assert (answer["decision"], answer["rule"], answer["kind"]) == ("allow", "from-registry", "oci-sif")
    assert answer["signers"] == ["ci", "builder", "release"]
    assert mixed.check("released.sif")["signers"] == ["builder", "scanner", "release"]


@pytest.mark.parametrize(
    ("name", "could_sign"),
    [
        ("app-unreleased.oci.sif", [["release"]]),
        ("cosign-only.oci.sif", [["builder"], ["release"]]),
        ("robot.sif", [["release"]]),
    ],
)
def test_a_missing_signer_is_named(mixed, name, could_sign):
    answer = mixed.check(name)
    assert (answer["decision"], answer["code"]) == ("deny", "requirements-not-met")
    assert [missing["could_sign"] for missing in answer["missing"]] == could_sign


def test_the_first_question_after_a_start_waits_for_the_responder_and_is_answered(mixed):
    for name in ("app.oci.sif", "released.sif"):
        assert mixed.check(name)["decision"] == "allow"


def test_a_revocation_changes_the_answer_of_an_image_whose_facts_are_kept(mixed, release):
    while not mixed.check("app.oci.sif")["cached"]:
        pass
    release.revoke()
    eventually(lambda: mixed.check("app.oci.sif")["decision"] == "deny")
    answer = mixed.check("app.oci.sif")
    assert (answer["code"], answer["cached"]) == ("requirements-not-met", True)
    assert "revoked" in answer["reason"]
    assert mixed.check("released.sif")["decision"] == "deny"


def test_without_a_responder_nothing_that_needs_it_may_run_and_the_rest_is_answered():
    with authority(KEYS / "release.pub", timedelta(seconds=4)) as gone:
        made = site_of(gone)
    try:
        made.start()
        answer = made.check("released.sif")
        assert (answer["decision"], answer["code"]) == ("deny", "requirements-not-met")
        assert "not known to be good" in answer["reason"]
        assert made.check(APPROVED)["missing"][0]["signed"] == ["scanner"]
    finally:
        made.close()


def test_explain_without_a_daemon_asks_the_responder_itself(release):
    made = site_of(release)
    try:
        command = [*ECLCTL, "explain", "--json", "--config", str(made.config), made.image("released.sif")]
        for revoked in (False, True):
            if revoked:
                release.revoke()
            done = subprocess.run(command, capture_output=True, check=False, timeout=60, env=os.environ)
            answer = json.loads(done.stdout)
            (key,) = [each["key"] for each in answer["signatures"] if each["signer"] == "release"]
            assert answer["decision"] == ("deny" if revoked else "allow")
            assert key["subject"].startswith("CN=")
            assert key["revocation"].startswith("revoked" if revoked else "good until")
    finally:
        made.close()


def test_status_says_when_a_certificate_ends_and_how_many_images_need_it(mixed):
    for name in ("released.sif", "app.oci.sif", "robot.sif", APPROVED):
        eventually(lambda name=name: mixed.check(name)["cached"])
    status = mixed.order("status")
    (key,) = status["expiring"]
    assert (key["signers"], key["kind"], key["images"]) == (["release"], "certificate", 2)
    assert 0 <= key["days"] <= 30
    assert [each["code"] for each in status["attention"]] == ["key-expiring"]
    assert status["ocsp"]["statuses"]["good"] == 1
