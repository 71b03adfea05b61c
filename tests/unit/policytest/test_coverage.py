"""Which rules tests reach, and what they do not show of them."""

from __future__ import annotations

from pathlib import Path

from eclctl.policytest.coverage import coverage
from tests.helpers.policy_tests import loaded, one, running

RULES = """\
rules:
  - {name: both, match: {paths: [/both/*]}, require: [{any_of: [builder]}]}
  - {name: allowed, match: {paths: [/allowed/*]}, require: [{any_of: [builder]}]}
  - {name: denied, match: {paths: [/denied/*]}, require: [{any_of: [builder]}]}
  - {name: trial, match: {paths: [/trial/*]}, require: [{any_of: [builder]}], mode: permissive}
  - {name: open, match: {paths: [/open/*], kinds: [sandbox]}, decision: allow}
  - {name: shut, match: {paths: [/shut/*]}, decision: deny}
  - {name: never, match: {paths: [/never/*]}, decision: deny}
"""
ASKED = {
    "/both/a": ("signed_by: [builder]", "signed_by: []"),
    "/allowed/a": ("signed_by: [builder]",),
    "/denied/a": ("signed_by: []",),
    "/trial/a": ("signed_by: [builder]", "signed_by: []"),
    "/open/a": ("kind: sandbox",),
    "/shut/a": ("signed_by: [builder]",),
    "/elsewhere/a": ("signed_by: [builder]",),
}


def test_a_rule_is_tested_when_tests_show_it_allow_and_deny(tmp_path: Path) -> None:
    bodies = [f"path: {path}\n{body}" for path, asked in ASKED.items() for body in asked]
    made = loaded(tmp_path, "".join(one(body, name=f"t{number}") for number, body in enumerate(bodies)), RULES)
    with running(made) as runner:
        decisions = [runner.run(case).decision for case in made.cases]
    assert made.snapshot is not None
    assert made.snapshot.policy is not None
    found = coverage(made.snapshot.policy, decisions)
    assert [(each.rule.name, each.allowed, each.denied, each.gap) for each in found] == [
        ("both", 1, 1, None),
        ("allowed", 1, 0, "no test shows that it denies anything"),
        ("denied", 0, 1, "no test shows that it allows anything"),
        ("trial", 1, 1, None),  # what it would deny counts as denied
        ("open", 1, 0, None),
        ("shut", 0, 1, None),
        ("never", 0, 0, "no test reaches it"),
    ]
