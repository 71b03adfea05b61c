"""Any file of tests loads or is refused with places, and what loads can be run."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from eclctl.policytest.running import Runner
from eclctl.terms import Assurance, Kind, SignerKind
from eclctl.trust.revocation import Status
from tests.helpers.policy_tests import HEAD, loaded

RULES = """\
rules:
  - {name: parts, match: {paths: [/p/**]}, require: [{any_of: [builder], objects: {groups: [2], holds: [overlay]}}]}
  - {name: all, require: [{approvals: {count: 1, of: anyone}}], legacy_signatures: accept}
  - {name: open, match: {kinds: [sandbox, squashfs]}, decision: allow}
"""
NUMBERS = st.integers(1, 3)
WORDS = st.sampled_from(["system", "primary", "overlay", "deffile", "oci-blob", "oci-root-index"])
OBJECTS = st.lists(WORDS | st.lists(WORDS, min_size=1, max_size=2), min_size=1, max_size=3)
NAMES = st.sampled_from(["builder", "scanner", "robot", "release", "expired"])
DAYS = st.sampled_from(["2026-11-23", "1971-01-01T00:00:00+14:00", "2999-12-31T23:59:59-12:00", "2020-02-29"])
AGES = st.sampled_from(["0s", "1d", "400d", "18250d"])
ANYTHING = st.none() | st.booleans() | st.integers(-1, 9) | st.text(max_size=5) | st.lists(NUMBERS, max_size=2)
SAID = st.one_of(
    st.fixed_dictionaries({"groups": st.lists(NUMBERS, min_size=1, max_size=2, unique=True)}),
    st.fixed_dictionaries({"objects": st.lists(NUMBERS, min_size=1, max_size=2, unique=True)}),
    st.fixed_dictionaries({"age": AGES}, optional={"expired": st.booleans()}),
    st.fixed_dictionaries({}, optional={"tampered": st.booleans(), "revoked": st.booleans()}),
    st.fixed_dictionaries({"legacy": st.just(value=True)}, optional={"tampered": st.booleans()}),
    st.fixed_dictionaries({"with": st.sampled_from(SignerKind)}),
    st.fixed_dictionaries({"purpose": st.sampled_from(["scan", ["scan", "build"], "no purpose"])}),
)
SIGNATURE = st.builds(lambda by, said: {"by": by, **said}, NAMES, SAID) | st.just({"unknown": True})
LAYOUT = st.fixed_dictionaries(
    {},
    optional={
        "groups": st.dictionaries(NUMBERS.map(str), OBJECTS, min_size=1, max_size=3),
        "ungrouped": OBJECTS,
        "tied": st.booleans(),
        "digests": st.dictionaries(st.just("1"), st.just("sha256:" + "0" * 64), max_size=1),
        "signatures": st.lists(NAMES | SIGNATURE, min_size=1, max_size=3),
        "kind": st.sampled_from([Kind.SIF, Kind.OCI_SIF]),
    },
)
CIRCUMSTANCES = st.fixed_dictionaries(
    {"name": st.just("it"), "expect": st.just({"decision": "deny", "code": "no-rule"})},
    optional={
        "path": st.sampled_from(["/p/a.sif", "/q", None]),
        "now": DAYS,
        "assurance": st.sampled_from(Assurance),
        "ocsp": st.sampled_from(Status),
        "caller": st.fixed_dictionaries(
            {}, optional={"user": NUMBERS, "groups": st.lists(NUMBERS, min_size=1, max_size=2, unique=True)}
        ),
    },
)
UNSIGNED = st.fixed_dictionaries({"kind": st.sampled_from(sorted(set(Kind) - {Kind.SIF, Kind.OCI_SIF}))})
CASE = st.builds(lambda circumstances, image: {**circumstances, **image}, CIRCUMSTANCES, LAYOUT | UNSIGNED)
KEYS = st.sampled_from(["groups", "signatures", "signed_by", "caller", "now", "digests", "kind", "expect", "path"])


def run(case: dict[str, Any]) -> None:
    """Load a test and run it if it loads; every error has a place in the file."""
    with tempfile.TemporaryDirectory() as folder:
        made = loaded(Path(folder), "  - " + json.dumps(case) + "\n", RULES, HEAD)
        assert (made.snapshot is None) == bool(made.errors)
        assert all(problem.line and problem.column for problem in made.errors)
        if made.snapshot is not None:
            runner = Runner(made.snapshot, made.elsewhere)
            try:
                for each in made.cases:
                    assert runner.run(each).decision.code != "internal-error"
            finally:
                runner.close()


@settings(max_examples=150, deadline=None)
@given(CASE)
def test_described_images_load_or_are_refused_and_can_be_judged(case: dict[str, Any]) -> None:
    run(case)


@settings(max_examples=100, deadline=None)
@given(CASE, KEYS, ANYTHING)
def test_values_of_other_types_are_refused(case: dict[str, Any], key: str, value: object) -> None:
    run({**case, key: value})
