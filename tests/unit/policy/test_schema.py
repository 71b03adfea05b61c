"""The schema and the loader: what loads is valid, and what the schema refuses does not load."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from eclctl.policy.schema import policy_schema
from tests.helpers.facts import fingerprint, load_text
from tests.helpers.support import ROOT

VALIDATOR = Draft202012Validator(policy_schema())
A, B = fingerprint("A"), fingerprint("B")
WHOLE = f"""\
version: 1
signers:
  alice: {{pgp: [{A}], cosign: [ci.pub], annotations: {{env: prod}}, repository: registry.example/prod/**}}
  bob: {{pgp: [{B}], key: [p256.pem], purpose: [build, scan]}}
  release: {{certificate: {{file: leaf.pem, intermediates: [intermediate.pem], roots: root.pem, ocsp: off}}}}
roles: {{security: [alice, bob]}}
withdrawn: {{objects: ['sha256:{"0" * 64}'], manifests: ['sha256:{"1" * 64}'], signers: [release]}}
rules:
  - name: production
    match: {{paths: [/srv/**], kinds: [sif], users: [alice, 7], groups: [staff], hosts: [login*],
             times: [mon-fri 08:00-18:00 Europe/Zurich]}}
    require:
      - {{any_of: [alice], objects: {{groups: [1], holds: [overlay]}}}}
      - {{any_of: [bob], purpose: scan}}
    chain: [scan, {{approve: {{approvals: {{count: 2, of: security}}}}}}]
    distinct: false
    forbid: {{signed_by: [release]}}
    max_signature_age: 365d
    unknown_signatures: deny
    discounted_signatures: ignore
    legacy_signatures: accept
    assurance: none
    mode: permissive
    message: 'Ask about {{image}}'
  - {{name: rest, decision: deny, match: {{kinds: [sandbox]}}}}
default: deny
"""


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(policy_schema())


def policies() -> Iterator[Any]:
    for document in sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]):
        texts = re.findall(r"```yaml\n(version: 1\n.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)
        yield from (pytest.param(text, id=document.name) for text in texts if "rules:" in text and "tests:" not in text)
    for path in sorted((ROOT / "policies").rglob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        if "tests:" not in text and ("rules:" in text or "signers:" in text):
            yield pytest.param(text, id=str(path.relative_to(ROOT)))


@pytest.mark.parametrize("text", list(policies()))
def test_every_policy_that_is_shown_is_valid(text: str) -> None:
    assert [error.message for error in VALIDATOR.iter_errors(yaml.safe_load(text))] == []


def test_a_policy_of_all_that_there_is_is_valid_and_loads() -> None:
    assert [str(error) for error in load_text(WHOLE).errors] == []
    assert [error.message for error in VALIDATOR.iter_errors(yaml.safe_load(WHOLE))] == []


def keys_of(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        for value in schema.values():
            yield from keys_of(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from keys_of(value)


def test_every_key_of_the_schema_is_in_the_policy_of_all_that_there_is() -> None:
    """So that the mutations below reach each of them."""
    elsewhere = {"include", "exceptions", "directory", "longest", "keys", "all_of", "ids"}
    assert {key for key in keys_of(policy_schema()) if f"{key}:" not in WHOLE} <= elsewhere


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


ODD = (
    None,
    [],
    {},
    "",
    "nonsense",
    0,
    -1,
    5,
    True,
    ["a"],
    {"a": "b"},
    "sha256:0",
    "9d",
    "deny",
    "/x",
    [[]],
    [{}],
    [None],
)


def mutated(random: Random, whole: Any) -> Any:
    """The policy with one thing in it changed, left out or added."""
    root = {"root": copy.deepcopy(whole)}
    *way, last = ("root", *random.choice(list(places(whole))))
    inner: Any = root
    for key in way:
        inner = inner[key]
    match random.randrange(4):
        case 0:
            del inner[last]
        case 1 if isinstance(inner[last], dict):
            inner[last][random.choice(["extra", "paths", "name", "require"])] = random.choice(ODD)
        case _:
            inner[last] = random.choice(ODD)
    return root.get("root", {})


@pytest.mark.parametrize("seed", range(4))
def test_what_the_schema_refuses_does_not_load(seed: int) -> None:
    random, whole, refused = Random(seed), yaml.safe_load(WHOLE), 0
    for _ in range(250):
        policy = mutated(random, whole)
        if next(VALIDATOR.iter_errors(policy), None) is not None:
            refused += 1
            text = yaml.safe_dump(policy)
            assert load_text(text).errors, text
    assert refused > 100
