"""The tree of `eclctl explain`: every answer of the daemon's on lines that a terminal of 80 columns shows."""

from __future__ import annotations

import pytest

from eclctl.cli.explain.advice import advice
from eclctl.cli.explain.command import tree
from eclctl.cli.terminal.tree import BOXES, PLAIN, draw_tree
from eclctl.model import Code
from eclctl.terms import Verdict

RULE_FILE = "/etc/eclctl/policies.d/10-production.yaml"


def signer(name: str, why: str, *, counts: bool = False) -> dict:
    return {"signer": name, "counts": counts, "why": why}


DENIED = {
    "decision": "deny",
    "code": "requirements-not-met",
    "reason": "1 of 2 approvals from security (alice)",
    "rule": "production",
    "rule_where": f"{RULE_FILE}:13",
    "mode": "enforce",
    "would": None,
    "message": "Ask security@site.example",
    "kind": "sif",
    "signers": ["ci", "alice"],
    "missing": [
        {"requirement": "2 approvals from security", "needed": 2, "have": 1, "signed": ["alice"], "could_sign": ["bob"]}
    ],
    "requirements": [
        {
            "text": "1 approval from ci",
            "where": f"{RULE_FILE}:16",
            "met": True,
            "needed": 1,
            "have": 1,
            "signers": [signer("ci", "signed (signature 4)", counts=True)],
        },
        {
            "text": "2 approvals from security",
            "where": "/etc/eclctl/other.yaml:2",
            "met": False,
            "needed": 2,
            "have": 1,
            "signers": [
                signer("alice", "signed (signature 5)", counts=True),
                signer("bob", "signature 6 does not count: the key has expired"),
            ],
        },
    ],
    "path": "/srv/a.sif",
    "assurance": "trusted-path",
    "generation": 4,
    "policy": "sha256:" + "a" * 64,
}


def drawn(result: dict, image: str = "/srv/a.sif") -> list[str]:
    return list(draw_tree(tree(image, result, BOXES), BOXES))


def test_a_deny_names_rule_requirements_signers_and_who_could_still_sign() -> None:
    assert drawn(DENIED) == [
        "DENY /srv/a.sif (requirements-not-met)",
        "├─ 1 of 2 approvals from security (alice)",
        f"├─ rule production {RULE_FILE}:13",
        "│  ├─ ✓ 1 approval from ci: 1 of 1 (line 16)",
        "│  │  └─ ✓ ci: signed (signature 4)",
        "│  └─ ✗ 2 approvals from security: 1 of 2 (/etc/eclctl/other.yaml:2)",
        "│     ├─ ✓ alice: signed (signature 5)",
        "│     ├─ ✗ bob: signature 6 does not count: the key has expired",
        "│     └─ could still sign: bob",
        "├─ image: sif",
        "│  ├─ approved by: ci, alice",
        "│  ├─ assurance: trusted-path",
        "│  └─ policy generation 4",
        "│       sha256:" + "a" * 64,
        "└─ what to do now",
        "   ├─ ask bob to sign the image (needed: 2 approvals from security)",
        "   └─ the site says: Ask security@site.example",
    ]


def test_what_does_not_fit_beside_a_name_has_the_next_line_to_itself() -> None:
    where = "/srv/" + "d" * 70 + "/10.yaml:1"
    lines = drawn({**DENIED, "rule_where": where, "requirements": [], "missing": []})
    at = lines.index("├─ rule production")
    assert lines[at + 1].endswith(where)


KEY = {
    "kind": "pgp",
    "id": "9" * 40,
    "short": "9" * 16,
    "primary": "8" * 40,
    "subject": None,
    "signed": "2026-11-01T10:20:30Z",
    "signature_expires": None,
    "begins": "2025-01-01T00:00:00Z",
    "ends": "2027-01-01T00:00:00Z",
    "revocation": None,
}
CERTIFICATE = KEY | {
    "kind": "certificate",
    "id": "sha256:" + "b" * 64,
    "short": "sha256:" + "b" * 16,
    "primary": None,
    "subject": "CN=Release,O=Site",
    "signed": None,
    "revocation": "good until 2026-12-01 00:00Z",
    "user_id": None,
    "source": "/etc/eclctl/certs/leaf.pem",
    "declared": [f"{RULE_FILE}:4"],
}


def test_each_signature_shows_whether_it_counts_and_which_key_made_it() -> None:
    signatures = [
        {"id": 4, "format": "pgp", "signer": "ci", "counts": True, "why": "it covers group 1", "key": KEY},
        {"id": 5, "format": "dsse", "signer": None, "counts": False, "why": "the key is in no keyring", "key": None},
        {"id": 6, "format": "dsse", "signer": "release", "counts": False, "why": "it expired", "key": CERTIFICATE},
    ]
    lines = drawn({**DENIED, "signatures": signatures})
    at = lines.index("├─ signatures")
    assert lines[at + 1 : at + 11] == [
        "│  ├─ ✓ signature 4 (pgp) by ci: it covers group 1",
        "│  │  ├─ key 9999999999999999: signed 2026-11-01 10:20Z, good until 2027-01-01",
        "│  │  │    " + "9" * 40,
        "│  │  └─ a subkey of " + "8" * 40,
        "│  ├─ ✗ signature 5 (dsse): the key is in no keyring",
        "│  └─ ✗ signature 6 (dsse) by release: it expired",
        "│     ├─ certificate sha256:bbbbbbbbbbbbbbbb: good until 2027-01-01",
        "│     │    sha256:" + "b" * 64,
        "│     ├─ CN=Release,O=Site",
        "│     ├─ revocation: good until 2026-12-01 00:00Z",
    ]
    assert lines[at + 11 : at + 13] == [
        "│     ├─ read from /etc/eclctl/certs/leaf.pem",
        f"│     └─ listed at {RULE_FILE}:4",
    ]


def test_a_key_that_nobody_lists_is_named_once() -> None:
    stranger = {
        "id": 4,
        "format": "pgp",
        "signer": "8" * 40,
        "counts": False,
        "why": "the key is in no keyring",
        "key": KEY,
    }
    lines = drawn({**DENIED, "signatures": [stranger]})
    assert "│  └─ ✗ signature 4 (pgp): the key is in no keyring" in lines


def test_what_an_image_lacks_for_a_trusted_path_is_said() -> None:
    lacks = "others can write the directory /srv/shared (mode 0777)"
    lines = drawn(DENIED | {"assurance": "none", "assurance_lacks": lacks, "writers": "not known"})
    assert any(f"because {lacks}" in line for line in lines)
    assert not any("not known" in line for line in lines)


@pytest.mark.parametrize(("writers", "said"), [("not known", True), ("none", False), ("some", False)])
def test_where_writers_are_not_known_that_is_said(writers: str, *, said: bool) -> None:
    lines = drawn(DENIED | {"assurance_lacks": None, "writers": writers})
    assert any("whether it is open for writing is not known" in line for line in lines) is said


def test_hundreds_of_signatures_do_not_fill_the_screen() -> None:
    one = {"format": "dsse", "signer": None, "counts": False, "why": "unknown", "key": None}
    lines = drawn({**DENIED, "signatures": [one | {"id": number} for number in range(500)]})
    assert "│  └─ and 436 more; --json has them all" in lines
    assert len(lines) < 100


def test_an_answer_without_a_daemon_says_so() -> None:
    lines = drawn({**DENIED, "generation": None, "config": "/etc/eclctl/config.yaml"})
    assert "├─ no daemon was asked: decided here, by /etc/eclctl/config.yaml" in lines
    assert "│  └─ policy" in lines


def unmet(needed: int, have: int, could: list[str]) -> dict:
    missing = {"requirement": "approvals", "needed": needed, "have": have, "signed": [], "could_sign": could}
    return {"decision": "deny", "code": "requirements-not-met", "missing": [missing], "message": None}


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        (unmet(1, 0, ["alice", "bob"]), "ask alice or bob to sign the image (needed: approvals)"),
        (unmet(2, 1, ["bob", "carol"]), "ask bob or carol to sign the image (needed: approvals)"),
        (unmet(2, 0, ["alice", "bob"]), "ask alice and bob to sign the image (needed: approvals)"),
        (unmet(2, 0, ["a", "b", "c"]), "ask 2 of a, b and c to sign the image (needed: approvals)"),
        (
            unmet(1, 0, [f"s{n}" for n in range(20)]),
            "ask s0, s1, s2, s3, s4, s5, s6, s7 or 12 more to sign the image (needed: approvals)",
        ),
        (unmet(1, 0, []), "no other signer can sign for `approvals`: ask the admins of this system"),
    ],
)
def test_advice_names_whom_to_ask_and_how_many_of_them(result: dict, sentence: str) -> None:
    assert advice(result) == [sentence]


@pytest.mark.parametrize("code", [code for code in Code if code.value not in {"requirements-met", "rule-allow"}])
def test_there_is_something_to_do_about_every_deny(code: Code) -> None:
    steps = advice({"decision": Verdict.DENY.value, "code": code.value, "message": "Write to us"})
    assert len(steps) == 2
    assert steps[1] == "the site says: Write to us"


def test_there_is_nothing_to_do_when_the_image_may_run() -> None:
    assert advice({"decision": "allow", "code": "requirements-met", "message": None}) == []
    assert drawn({"decision": "allow", "code": "rule-allow"})[-1] == "└─ what to do now: nothing, it may run"


def test_a_permissive_allow_says_what_it_will_take_later() -> None:
    softened = unmet(1, 0, ["bob"]) | {"decision": "allow", "code": "permissive", "would": "requirements-not-met"}
    assert advice(softened) == [
        "nothing, for now: once the rule is enforced, this image will not run",
        "ask bob to sign the image (needed: approvals)",
    ]


def test_rules_that_nearly_matched_say_why_they_did_not() -> None:
    near = [{"rule": "members", "where": "a.yaml:3", "why": "it is for other users or groups"}]
    lines = drawn({"decision": "deny", "code": "no-rule", "reason": "no rule matches", "nearly": near})
    at = lines.index("├─ no rule decided")
    assert lines[at + 1] == "│  └─ members does not match: it is for other users or groups (a.yaml:3)"


def test_a_permissive_rule_says_what_it_would_answer() -> None:
    lines = drawn({**DENIED, "decision": "allow", "mode": "permissive", "would": "requirements-not-met"})
    assert lines[0].startswith("ALLOW ")
    assert "│  ├─ permissive: enforced, the answer would be requirements-not-met" in lines


def test_an_image_that_nobody_examined_is_not_said_to_be_unsigned() -> None:
    refused = {"decision": "deny", "code": "unreadable", "reason": "you cannot open it", "signers": [], "kind": None}
    assert drawn(refused) == [
        "DENY /srv/a.sif (unreadable)",
        "├─ you cannot open it",
        "├─ no rule decided",
        "├─ image: not examined",
        "└─ what to do now: check the name, and that you may read the file and enter",
        "     the directories above it",
    ]


HOSTILE = "a\x1b[31m\n\u202e\udcff"


@pytest.mark.parametrize("strokes", [BOXES, PLAIN])
def test_nothing_hostile_reaches_the_terminal(strokes: object) -> None:
    result = DENIED | dict.fromkeys(("reason", "message", "rule", "rule_where", "kind", "path", "policy"), HOSTILE)
    result |= {"code": HOSTILE, "assurance": HOSTILE, "signers": [HOSTILE], "would": HOSTILE, "mode": "permissive"}
    result |= {"signatures": [{"id": 1, "format": HOSTILE, "signer": HOSTILE, "counts": False, "why": HOSTILE}]}
    hostile = dict.fromkeys((*KEY, "user_id", "source"), HOSTILE) | {"declared": [HOSTILE]}
    result["signatures"][0]["key"] = hostile
    result["config"] = HOSTILE
    result["missing"] = [{**DENIED["missing"][0], "could_sign": [HOSTILE]}]
    report = {**DENIED["requirements"][1], "text": HOSTILE, "where": HOSTILE, "signers": [signer(HOSTILE, HOSTILE)]}
    result["requirements"] = [report]
    lines = list(draw_tree(tree(HOSTILE, result, strokes), strokes))
    assert all(line.isprintable() for line in lines)
    assert sum(r"a\x1b[31m\x0a" in line for line in lines) > 10


def test_each_stage_of_a_chain_is_named() -> None:
    stages = [{**report, "stage": name} for report, name in zip(DENIED["requirements"], ("build", "scan"), strict=True)]
    lines = drawn({**DENIED, "requirements": stages})
    assert "│  ├─ ✓ stage build: 1 approval from ci: 1 of 1 (line 16)" in lines
    assert any("✗ stage scan: 2 approvals from security: 1 of 2" in line for line in lines)


def test_whom_a_subordinate_uid_counts_as_is_said() -> None:
    note = "uid 100001 is no account, and lies in a range of 'alice' (/etc/subuid): it counts as uid 1000"
    shown = draw_tree(tree("/srv/a.sif", DENIED | {"caller": note}, PLAIN), PLAIN)
    assert f"who asks: {note}" in " ".join(line.strip(" |") for line in shown)
    assert not any("who asks" in line for line in draw_tree(tree("/srv/a.sif", DENIED, PLAIN), PLAIN))
