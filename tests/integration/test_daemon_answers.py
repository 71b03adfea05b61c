"""A real daemon decides about real signed images."""

import json
import os
import socket

import pytest

from eclctl.client import Client, ClientRequest, NoAnswerError
from eclctl.model import ALLOWING, Code
from tests.helpers.site import APPROVED, HALF, UNSIGNED, read_lines, request
from tests.helpers.support import CORPUS

FIELDS = {
    "decision",
    "code",
    "rule",
    "reason",
    "mode",
    "kind",
    "signers",
    "missing",
    "cached",
    "assurance",
    "generation",
    "policy",
    "decision_id",
}


def test_an_image_that_all_have_signed_may_run(site):
    answer = site.check(APPROVED)
    assert set(answer) >= FIELDS
    assert (answer["decision"], answer["code"], answer["rule"]) == ("allow", "requirements-met", "production")
    assert (answer["kind"], answer["signers"], answer["missing"]) == ("sif", ["builder", "scanner"], [])
    assert (answer["generation"], answer["assurance"]) == (1, "trusted-path")
    assert answer["policy"].startswith("sha256:")


def test_a_half_approved_image_may_not_and_the_answer_says_who_could_sign(site):
    answer = site.check(HALF)
    assert (answer["decision"], answer["code"]) == ("deny", "requirements-not-met")
    assert answer["message"] == "Ask the container team"
    (missing,) = answer["missing"]
    assert (missing["needed"], missing["have"], missing["could_sign"]) == (1, 0, ["scanner"])


@pytest.mark.parametrize(
    ("name", "code"),
    [
        (UNSIGNED, "requirements-not-met"),
        ("one-mallory.sif", "requirements-not-met"),
        ("forged-fingerprint.sif", "requirements-not-met"),
        ("struct-magic-broken.sif", "no-rule"),
        ("struct-truncated-half.sif", "malformed"),
        ("struct-empty.sif", "no-rule"),
    ],
)
def test_other_images_may_not(site, name, code):
    site.add(name)
    answer = site.check(name)
    assert (answer["decision"], answer["code"]) == ("deny", code)


def test_a_changed_image_is_tampered(site):
    path = site.add("changed.sif", CORPUS / "images" / APPROVED)
    data = bytearray(path.read_bytes())
    data[-1000:-990] = bytes(10)
    at = data.find(b"hsqs")
    data[at + 100] ^= 1
    path.write_bytes(data)
    assert site.check("changed.sif")["code"] == "tampered"


def test_a_name_and_a_descriptor_give_the_same_answer(site):
    by_name, by_descriptor = site.ask("check", image=site.image(APPROVED)), site.check(APPROVED)
    unlike = {"decision_id", "cached"}
    assert {k: v for k, v in by_name.items() if k not in unlike} == {
        k: v for k, v in by_descriptor.items() if k not in unlike
    }


def test_an_image_that_was_verified_is_answered_from_kept_facts(site):
    first = site.check(APPROVED)
    for _ in range(200):  # kept once the file has been quiet for longer than a clock tick
        if (again := site.check(APPROVED))["cached"]:
            break
    assert again["cached"]
    assert again["signers"] == first["signers"]


def test_of_many_images_all_must_pass(site):
    good, bad = {"image": site.image(APPROVED)}, {"image": site.image(HALF), "role": "overlay"}
    both = site.ask("check_all", images=[good, bad])
    assert (both["decision"], both["code"]) == ("deny", "requirements-not-met")
    assert [result["decision"] for result in both["results"]] == ["allow", "deny"]
    assert [result["role"] for result in both["results"]] == ["rootfs", "overlay"]
    assert site.ask("check_all", images=[good, good])["decision"] == "allow"


def test_descriptors_go_to_the_images_that_want_one_in_order(site):
    images = [
        {"image": site.image(APPROVED), "fd": True},
        {"image": site.image(UNSIGNED)},
        {"image": site.image(HALF), "fd": True},
    ]
    descriptors = [os.open(site.image(name), os.O_RDONLY) for name in (APPROVED, HALF)]
    with Client(site.check_socket) as client:
        answer = client.ask(ClientRequest("check_all", {"images": images}, descriptors))
    for descriptor in descriptors:
        os.close(descriptor)
    assert [result["path"] if "path" in result else result["signers"] for result in answer["results"]] == [
        ["builder", "scanner"],
        [],
        ["builder"],
    ]


def test_an_explanation_carries_the_rule_and_every_requirement(site):
    answer = site.check_open(site.image(HALF), os.open(site.image(HALF), os.O_RDONLY), "explain")
    assert answer["rule_where"].endswith("10.yaml:6")
    first, second = answer["requirements"]
    assert (first["met"], second["met"]) == (True, False)
    assert second["where"].endswith("10.yaml:10")
    assert [signer["signer"] for signer in second["signers"]] == ["scanner"]
    assert set(answer) >= FIELDS


def test_pipelined_requests_are_all_answered_under_their_own_ids(site):
    names = [APPROVED, HALF] * 150
    with site.connect() as sock:
        sock.sendall(b"".join(request("check", str(n), image=site.image(name)) for n, name in enumerate(names)))
        answers = read_lines(sock, len(names))
    assert sorted(int(answer["id"]) for answer in answers) == list(range(len(names)))
    for answer in answers:
        expected = "allow" if names[int(answer["id"])] == APPROVED else "deny"
        assert answer["result"]["decision"] == expected


def test_every_answer_was_recorded_first(site):
    answer = site.check(APPROVED)
    (record,) = [record for record in site.audit() if record.get("id") == answer["decision_id"]]
    assert (record["decision"], record["uid"], record["pid"]) == ("allow", os.getuid(), os.getpid())
    assert record["image"] == site.image(APPROVED)


def test_when_decisions_cannot_be_recorded_everything_is_denied(quiet_site):
    quiet_site.start()
    assert quiet_site.check(APPROVED)["decision"] == "allow"
    log = quiet_site.root / "audit.jsonl"
    log.unlink()
    log.mkdir()
    os.kill(quiet_site.pid, 1)
    quiet_site.expect("READY=1")
    answer = quiet_site.check(APPROVED)
    assert (answer["decision"], answer["code"]) == ("deny", "internal-error")
    assert "audit" in answer["reason"]


def test_ping_says_who_answers(site):
    assert site.ask("ping")["protocol"] == 1


def test_a_wrong_request_gets_an_error_and_the_next_one_an_answer(site):
    with site.connect() as sock:
        sock.sendall(b"nonsense\n" + request("ping"))
        wrong, right = read_lines(sock, 2)
    assert (wrong["id"], wrong["error"]["code"]) == (None, "bad-request")
    assert right["result"]["protocol"] == 1


def test_recent_shows_the_last_decisions_first(site):
    for name in (APPROVED, HALF):
        site.check(name)
    first, second = site.order("recent", limit=2)["decisions"]
    assert [first["code"], second["code"]] == ["requirements-not-met", "requirements-met"]


def test_flush_forgets_facts_and_the_next_answer_is_the_same(site):
    before = site.check(APPROVED)
    site.order("flush")
    after = site.check(APPROVED)
    assert not after["cached"]
    assert after["signers"] == before["signers"]
    assert site.order("status")["cache"]["entries"] <= 1


def test_rescan_without_watched_directories_says_so(site):
    with pytest.raises(NoAnswerError, match="watch"):
        site.order("rescan")


@pytest.mark.parametrize("method", ["status", "reload", "flush", "rescan", "recent"])
def test_the_check_socket_answers_no_admin_method(site, method):
    with pytest.raises(NoAnswerError) as refused:
        site.ask(method)
    assert refused.value.code == "not-permitted"


def test_names_that_are_not_utf8_or_hold_escapes_are_answered_in_plain_ascii(site):
    name = os.fsdecode(b"\xff\x1b[31m\nred.sif")
    site.add(name, CORPUS / "images" / APPROVED)
    with site.connect() as sock:
        sock.sendall(request("explain", image=site.image(name)))
        raw = sock.recv(1 << 16)
    assert raw.isascii()
    assert b"\x1b" not in raw
    assert json.loads(raw)["result"]["decision"] == "allow"
    assert site.audit()[-1]["image"] == site.image(name)


def test_a_caller_that_leaves_before_its_answer_harms_nobody(site):
    for _ in range(20):
        with site.connect() as sock:
            sock.sendall(request("check", image=site.image(APPROVED)))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert site.check(APPROVED)["decision"] == "allow"


def test_every_code_of_a_decision_is_allow_or_deny_by_one_list():
    assert {code for code in Code if code in ALLOWING} == {
        Code.REQUIREMENTS_MET,
        Code.RULE_ALLOW,
        Code.PERMISSIVE,
        Code.EXCEPTION,
    }
