"""The tree of `eclctl explain`: every answer of the daemon's on lines that a terminal of 80 columns shows."""

from __future__ import annotations

import pytest

from eclctl.cli.explain import BOXES, PLAIN, draw, tree

RULE_FILE = "/etc/eclctl/policies.d/10-production.yaml"


def signer(name: str, why: str, *, counts: bool = False) -> dict:
    return {"signer": name, "counts": counts, "why": why}


DENIED = {
    "decision": "deny",
    "code": "requirements-not-met",
    "reason": "2 approvals from security are needed and there is 1 (alice)",
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
    return list(draw(tree(image, result, BOXES), BOXES))


def test_a_deny_names_rule_requirements_signers_and_who_could_still_sign() -> None:
    assert drawn(DENIED) == [
        "DENY /srv/a.sif (requirements-not-met)",
        "├─ 2 approvals from security are needed and there is 1 (alice)",
        "├─ message: Ask security@site.example",
        f"├─ rule production {RULE_FILE}:13",
        "│  ├─ ✓ 1 approval from ci: 1 of 1 (line 16)",
        "│  │  └─ ✓ ci: signed (signature 4)",
        "│  └─ ✗ 2 approvals from security: 1 of 2 (/etc/eclctl/other.yaml:2)",
        "│     ├─ ✓ alice: signed (signature 5)",
        "│     ├─ ✗ bob: signature 6 does not count: the key has expired",
        "│     └─ could still sign: bob",
        "└─ image: sif",
        "   ├─ approved by: ci, alice",
        "   ├─ assurance: trusted-path",
        "   └─ policy generation 4",
        "        sha256:" + "a" * 64,
    ]


def test_what_does_not_fit_beside_a_name_has_the_next_line_to_itself() -> None:
    where = "/srv/" + "d" * 70 + "/10.yaml:1"
    lines = drawn({**DENIED, "rule_where": where, "requirements": [], "missing": []})
    at = lines.index("├─ rule production")
    assert lines[at + 1].endswith(where)


def test_signatures_that_count_for_nothing_are_listed_with_the_reason() -> None:
    signatures = [
        {"id": 4, "format": "pgp", "signer": "ci", "counts": True, "why": "counts"},
        {"id": 5, "format": "dsse", "signer": None, "counts": False, "why": "no key that is known made it"},
        {"id": 6, "format": "pgp", "signer": "bob", "counts": False, "why": "the key has expired"},
    ]
    lines = drawn({**DENIED, "signatures": signatures})
    at = lines.index("├─ signatures that count for nothing")
    assert lines[at + 1 : at + 3] == [
        "│  ├─ signature 5 (dsse): no key that is known made it",
        "│  └─ signature 6 (pgp) by bob: the key has expired",
    ]
    assert not any("signature 4 (pgp)" in line for line in lines)


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
        "└─ image: not examined",
    ]


HOSTILE = "a\x1b[31m\n\u202e\udcff"


@pytest.mark.parametrize("strokes", [BOXES, PLAIN])
def test_nothing_hostile_reaches_the_terminal(strokes: object) -> None:
    result = DENIED | dict.fromkeys(("reason", "message", "rule", "rule_where", "kind", "path", "policy"), HOSTILE)
    result |= {"code": HOSTILE, "assurance": HOSTILE, "signers": [HOSTILE], "would": HOSTILE, "mode": "permissive"}
    result |= {"signatures": [{"id": 1, "format": HOSTILE, "signer": HOSTILE, "counts": False, "why": HOSTILE}]}
    result["missing"] = [{**DENIED["missing"][0], "could_sign": [HOSTILE]}]
    report = {**DENIED["requirements"][1], "text": HOSTILE, "where": HOSTILE, "signers": [signer(HOSTILE, HOSTILE)]}
    result["requirements"] = [report]
    lines = list(draw(tree(HOSTILE, result, strokes), strokes))
    assert all(line.isprintable() for line in lines)
    assert sum(r"a\x1b[31m\x0a" in line for line in lines) > 10
