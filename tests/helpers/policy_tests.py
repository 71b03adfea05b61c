"""Policies over the corpus' keys with tests beside them, loaded and run as the command does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eclctl.config.accounts import Names
from eclctl.config.settings import Settings
from eclctl.files.guarded import read_unguarded
from eclctl.policytest.cases import Case
from eclctl.policytest.loading import LoadedTests, beside_policies, load_tests
from eclctl.policytest.running import CaseResult, Runner
from tests.helpers.support import CORPUS, NOW

HOST = Names({"root": 0}.get, {"wheel": 10}.get, "here.example")

POLICY = """\
version: 1
signers:
  builder:  {pgp: [81F111F6190C46143937EF7C22BC3A3BC942487F]}
  scanner:  {pgp: [F69053E5830DBDBA72B3D8F61BDDA97D14902F26]}
  approver: {pgp: [25B8EEE0382B85FDCBDD9B4F7A750C002A7A02D4]}
  subkey:   {pgp: [F8375E7C8F440B1121AA1EE5AFA383FC7079341D]}
  expired:  {pgp: [5802C950CB0D8BE07A134CAFA3709DE698D7BD64]}
  robot:    {key: [KEYS/pem/p256-public.pem], cosign: [KEYS/cosign/site.pub]}
  ci:       {cosign: [KEYS/cosign/ci.pub], annotations: {env: prod}, repository: registry.example/prod/**}
  vendor:   {cosign: [KEYS/cosign/approver.pub], certificate: {file: KEYS/x509/leaf-anyeku.pem, ocsp: off,
                           intermediates: KEYS/x509/intermediate.pem, roots: KEYS/x509/root.pem}}
  release:  {certificate: {file: KEYS/x509/leaf.pem, intermediates: KEYS/x509/intermediate.pem,
                           roots: KEYS/x509/root.pem}}
  quiet:    {certificate: {file: KEYS/x509/leaf-noocsp.pem, intermediates: KEYS/x509/intermediate.pem,
                           roots: KEYS/x509/root.pem, ocsp: off}}
roles:
  security: [scanner, approver]
""".replace("KEYS", str(CORPUS / "keys"))
PRODUCTION = """\
rules:
  - name: production
    match: {paths: [/srv/prod/**], groups: [hpc]}
    require:
      - any_of: [builder]
      - approvals: {count: 2, of: security}
    message: "Ask the container team"
"""
HEAD = f"""\
version: 1
keyrings: [{CORPUS / "keys" / "pgp" / "site-ring.asc"}]
names: {{users: {{ana: 2001}}, groups: {{hpc: 500}}}}
defaults: {{path: /srv/prod/a.sif, caller: {{user: ana, groups: [hpc]}}, now: {NOW:%Y-%m-%dT%H:%M:%SZ}}}
tests:
"""
MET = "{decision: allow, code: requirements-met}"
NOT_MET = "{decision: deny, code: requirements-not-met}"


def write(folder: Path, tests: str, rules: str = PRODUCTION, head: str = HEAD) -> str:
    """Lay out a policy directory with one policy and one file of tests; return its path."""
    (folder / "p" / "tests").mkdir(parents=True, exist_ok=True)
    (folder / "p" / "a.yaml").write_text(POLICY + rules)
    (folder / "p" / "tests" / "t.yaml").write_text(head + tests)
    return str(folder / "p")


def loaded(folder: Path, tests: str, rules: str = PRODUCTION, head: str = HEAD) -> LoadedTests:
    """Load what `write` lays out."""
    policies = (write(folder, tests, rules, head),)
    return load_tests(Settings("", "", "", policies, ()), beside_policies(policies), HOST, now=NOW, read=read_unguarded)


def errors(folder: Path, tests: str, rules: str = PRODUCTION, head: str = HEAD) -> list[str]:
    """The errors of a file of tests, as `line:column: message (hint)`."""
    place = str(folder / "p" / "tests" / "t.yaml") + ":"
    return [str(problem).removeprefix(place) for problem in loaded(folder, tests, rules, head).errors]


def one(body: str, expect: str = MET, *, name: str = "it") -> str:
    """A test of which `body` are lines."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return f"  - name: {name}\n{lines}    expect: {expect}\n"


@contextmanager
def running(made: LoadedTests) -> Iterator[Runner]:
    """A runner over what loaded, closed at the end."""
    assert made.snapshot is not None, [str(problem) for problem in made.errors]
    runner = Runner(made.snapshot, made.elsewhere)
    try:
        yield runner
    finally:
        runner.close()


def results(folder: Path, tests: str, rules: str = PRODUCTION) -> list[CaseResult]:
    """What became of each test."""
    made = loaded(folder, tests, rules)
    with running(made) as runner:
        return [runner.run(case) for case in made.cases]


def case(made: LoadedTests) -> Case:
    """The only test."""
    (found,) = made.cases
    return found
