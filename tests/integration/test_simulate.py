"""A preview against the daemon: what it says will change is what the daemon then answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

from tests.helpers.site import APPROVED, BUILDER, ECLCTL, HALF, LENIENT, POLICY, SCANNER, UNSIGNED, Site, eventually
from tests.helpers.support import CORPUS

PERMISSIVE = POLICY.replace("    message:", "    mode: permissive\n    message:")
NOBODY = POLICY.replace("match: {{", "match: {{users: ['4242'], ")
DENYING = LENIENT.replace("    require:\n      - any_of: [builder]\n", "    decision: deny\n")
TEMPLATES = {
    "strict": POLICY,
    "lenient": LENIENT,
    "permissive": PERMISSIVE,
    "for-one-user": NOBODY,
    "denying": DENYING,
}
IMAGES = (
    APPROVED,
    HALF,
    UNSIGNED,
    "one-scanner.sif",
    "one-revoked.sif",
    "dsse-ok.sif",
    "one-builder+mallory.sif",
    "groups-swapped.sif",
    "struct-descr-total-huge.sif",
    "not-a-sif.sif",
)


def eclctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*ECLCTL, *arguments], capture_output=True, text=True, check=False)


def simulated(site: Site, *arguments: str) -> dict:
    made = eclctl("policy", "simulate", "--json", "--limit", "0", "--config", str(site.config), *arguments)
    assert made.returncode in {0, 1}, made.stderr
    found: dict = json.loads(made.stdout)
    assert found["flips"] is (made.returncode == 1)
    return found


def ask_all(site: Site) -> None:
    for name in IMAGES:
        site.check(name)


def recorded(site: Site) -> dict[str, tuple[str, str, str | None]]:
    """The last answer on each image, as the audit log has it: with what a permissive rule would have said."""
    decisions = [each for each in site.audit() if each["event"] == "decision"]
    return {each["image"].rpartition("/")[2]: (each["decision"], each["code"], each["would"]) for each in decisions}


def candidate(site: Site, template: str) -> str:
    folder = site.root / "new"
    folder.mkdir(exist_ok=True)
    (folder / "10.yaml").write_text(template.format(root=site.root, builder=BUILDER, scanner=SCANNER))
    return str(folder)


@pytest.mark.parametrize("new", TEMPLATES)
@pytest.mark.parametrize("old", ["strict", "permissive"])
def test_what_a_preview_says_will_change_is_what_the_daemon_then_answers(quiet_site: Site, old: str, new: str) -> None:
    site = quiet_site
    for name in IMAGES:
        site.add(name, CORPUS / "images" / name)
    site.policy(TEMPLATES[old])
    site.start()
    ask_all(site)
    before = recorded(site)
    preview = simulated(site, "--images", str(site.root / "images"), candidate(site, TEMPLATES[new]))

    site.policy(TEMPLATES[new])
    site.order("reload")
    site.order("flush")  # what the daemon remembers of a malformed image can be another reason for the same deny
    ask_all(site)
    after = recorded(site)

    mine = [each for each in preview["changes"] if each["users"]]
    told = {each["image"].rpartition("/")[2]: _answer(each["new"]) for each in mine}
    assert told == {name: after[name] for name in IMAGES if after[name] != before[name]}
    assert {each["image"].rpartition("/")[2]: _answer(each["old"]) for each in mine} == {
        name: before[name] for name in told
    }
    assert preview["decisions"]["unchanged"] == len(IMAGES) - len(told)
    assert preview["decisions"]["drifted"] == 0
    if old == new:
        assert preview["changes"] == []


def _answer(shape: dict) -> tuple[str, str, str | None]:
    return shape["decision"], shape["code"], shape["would"]


def test_a_withdrawal_stops_what_the_preview_says_from_the_next_reload(site: Site) -> None:
    site.configure(more="watch: [{path: images}]\n")
    assert site.check(APPROVED)["decision"] == "allow"
    preview = simulated(site, "--revoke", "scanner")
    assert [each["image"] for each in preview["changes"]] == [site.image(APPROVED)]
    assert preview["changes"][0]["decisions"] == 1
    written = eclctl(
        "policy", "withdraw", "--config", str(site.config), "--signer", "scanner", "--reason", "laptop stolen"
    )
    assert written.returncode == 0, written.stderr
    assert site.check(APPROVED)["decision"] == "allow"
    site.order("reload")
    assert site.check(APPROVED)["code"] == "withdrawn"
    assert simulated(site, "--revoke", "scanner")["changes"] == []


def test_a_rotated_log_counts_when_it_is_named(site: Site) -> None:
    site.configure(more="watch: [{path: images}]\n")
    site.check(HALF)
    old = site.root / "audit.jsonl.1"
    (site.root / "audit.jsonl").rename(old)
    os.kill(site.pid, signal.SIGHUP)
    eventually((site.root / "audit.jsonl").exists)
    site.check(HALF)
    logs = ["--audit", str(old), "--audit", str(site.root / "audit.jsonl")]
    assert simulated(site, *logs, candidate(site, LENIENT))["decisions"]["deny_to_allow"] == 2
    assert simulated(site, candidate(site, LENIENT))["decisions"]["deny_to_allow"] == 1
