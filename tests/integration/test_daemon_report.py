"""What the admin socket tells of rules, keys and images, from a real daemon."""

import json
import os

import pytest

from eclctl.client import NoAnswerError
from tests.helpers.site import APPROVED, BUILDER, HALF, POLICY, UNSIGNED, eventually
from tests.helpers.support import CORPUS

NAMES = [f"image-{number:02}.sif" for number in range(10)]


def pages(site, part, limit=500):
    """Everything of one part, page by page."""
    found, after = [], ""
    while after is not None:
        answer = site.order("report", part=part, after=after, limit=limit)
        found += answer["items"]
        after = answer["next"]
    return found


def surveyed(site):
    """The answer to `status`, once there was time to look at the images: on a busy machine the first may be without."""
    eventually(lambda: site.order("status")["images"] is not None)
    return site.order("status")


def test_status_counts_decisions_by_rule_and_shows_how_images_stand(site):
    for name in (APPROVED, HALF, UNSIGNED):
        eventually(lambda name=name: site.check(name)["cached"])
    status = surveyed(site)
    (rule,) = status["rules"]["listed"]
    assert (rule["name"], rule["where"]) == ("production", f"{site.root}/policies.d/10.yaml:6")
    assert rule["allow"] >= 2
    assert rule["deny"] >= 4
    assert rule["images"] == {"approved": 1, "pending": 1, "denied": 1}
    images = status["images"]
    assert (images["approved"], images["pending"], images["denied"], images["complete"]) == (1, 1, 1, True)
    assert status["attention"] == []
    assert status["ocsp"]["soonest_expiry_seconds"] is None


def test_an_image_that_is_gone_or_changed_is_not_counted_any_more(site):
    for name in (APPROVED, HALF):
        eventually(lambda name=name: site.check(name)["cached"])
    assert surveyed(site)["images"]["approved"] == 1
    os.unlink(site.image(APPROVED))
    site.add(HALF, CORPUS / "images" / UNSIGNED)
    assert pages(site, "images") == []


def test_a_new_policy_counts_from_nothing_and_the_same_one_goes_on(site):
    site.check(APPROVED)
    site.order("reload")
    assert site.order("status")["rules"]["listed"][0]["allow"] == 1
    site.policy(POLICY.replace("Ask the", "Write to the"))
    assert site.order("reload")["ok"]
    rules = site.order("status")["rules"]
    assert rules["listed"][0]["allow"] == 0


def test_a_failed_load_is_something_to_look_at(site):
    site.policy("nonsense")
    site.order("reload")
    assert [each["code"] for each in site.order("status")["attention"]] == ["reload-failed"]


def test_pages_of_images_are_in_order_whole_and_without_repetition(site):
    for name in NAMES:
        site.add(name, CORPUS / "images" / HALF)
        eventually(lambda name=name: site.check(name)["cached"])
    for limit in (1, 3, 10, 11, 500):
        paths = [image["path"] for image in pages(site, "images", limit)]
        assert paths == [site.image(name) for name in NAMES]


def test_an_image_says_which_rule_what_is_missing_and_who_signed(site):
    eventually(lambda: site.check(HALF)["cached"])
    (image,) = pages(site, "images")
    assert (image["stand"], image["kind"]) == ("pending", "sif")
    (standing,) = image["standings"]
    assert (standing["rule"], standing["code"], standing["signers"]) == (
        "production",
        "requirements-not-met",
        ["builder"],
    )
    assert standing["missing"][0]["could_sign"] == ["scanner"]
    assert [each["signer"] for each in image["signatures"]] == ["builder"]


def test_rules_keys_and_files_are_told_as_they_are_in_force(site):
    (rule,) = pages(site, "rules")
    assert rule["match"]["paths"] == [f"{site.root}/images/**"]
    assert [need["text"] for need in rule["require"]] == ["1 approval from builder", "1 approval from scanner"]
    assert next(key["id"] for key in pages(site, "keys", 1)) == BUILDER
    before = (site.root / "policies.d" / "10.yaml").read_text()
    site.policy("nonsense")
    (file,) = pages(site, "files")
    assert file["text"] == before, "not what has been written there since"


@pytest.mark.parametrize("part", ["summary", "rules", "keys", "files", "images"])
def test_every_user_may_not_ask_for_a_report(site, part):
    with pytest.raises(NoAnswerError) as refused:
        site.ask("report", part=part)
    assert refused.value.code == "not-permitted"


def test_status_comes_while_policies_are_replaced_without_end(site):
    for number in range(20):
        site.policy(POLICY.replace("production", f"production-{number}"))
        site.order("reload")
        status = site.order("status")
        assert [rule["name"] for rule in status["rules"]["listed"]] == [f"production-{number}"]
        assert json.dumps(status)
