"""Every message of `policy check`, as an administrator sees it.

`CASES` are policies with something wrong or suspicious; `check_messages.txt` has what is shown of
each, as it was read and approved.
After adding a case, write its part with `python -m tests.unit.policy.test_check_messages`, and read it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from eclctl.config import document
from eclctl.config.excerpts import problem_lines
from eclctl.errors import ConfigError, KeyMaterialError
from eclctl.policy.lint import Linter, LintRemark
from eclctl.policy.load import LoadEnvironment, PolicyFile, load_policies
from eclctl.signature.openpgp import Keyring
from tests.helpers import pgp
from tests.helpers.support import CORPUS, NOW, ROOT

APPROVED = Path(__file__).with_name("check_messages.txt")
LANGUAGE = (*(ROOT / "eclctl" / "policy").glob("*.py"), ROOT / "eclctl" / "config" / "document.py")
FILES = {path.name: path for sort in ("pem", "cosign", "x509") for path in (CORPUS / "keys" / sort).iterdir()}

CI, ALICE, BOB, CAROL = (
    "81F111F6190C46143937EF7C22BC3A3BC942487F",
    "F69053E5830DBDBA72B3D8F61BDDA97D14902F26",
    "25B8EEE0382B85FDCBDD9B4F7A750C002A7A02D4",
    "B6305CF15208644C4D14A87F290C1AEBC140B3CB",
)
EXPIRED = "5802C950CB0D8BE07A134CAFA3709DE698D7BD64"
LEAF = "{file: leaf.pem, intermediates: intermediate.pem, roots: root.pem}"


def ending(days: int) -> pgp.Key:
    """A key, always the same one, whose self-signature makes it expire so many days after `NOW`."""
    return pgp.Key(ed25519.Ed25519PrivateKey.from_private_bytes(bytes([days]) * 32))


def ring() -> Keyring:
    """The corpus' certificates, and some that end soon."""
    soon = []
    for days in (1, 10):
        lifetime = pgp.time(int(NOW.timestamp()) + days * 86400 - pgp.CREATED)
        key = ending(days)
        flags = pgp.flags(pgp.SIGN | pgp.CERTIFY)
        soon.append(pgp.certificate(key, pgp.user_id(key, b"Soon <soon@example.org>", flags, pgp.sub(9, lifetime))))
    return Keyring.parse((CORPUS / "keys" / "pgp" / "site-ring.asc").read_bytes(), *soon)


RING = ring()
SIGNERS = f"""\
version: 1
signers:
  ci:    {{pgp: [{CI}]}}
  alice: {{pgp: [{ALICE}]}}
  bob:   {{pgp: [{BOB}]}}
  carol: {{pgp: [{CAROL}]}}
  robot: {{key: [p256-public.pem]}}
  oci:   {{cosign: [ci.pub]}}
roles:
  security: [alice, bob, carol]
  all: [ci, alice, bob, carol, robot, oci]
rules:
  - name: everything
    match: {{paths: [/opt/**]}}
    require: [{{approvals: {{count: 2, of: all}}}}, {{approvals: {{count: 2, of: security}}}}]
    message: Ask the reviewers
"""
"""A policy with nothing to say about; what is wrong is added below it."""


EXCEPTIONS = "exceptions: {directory: e.d, longest: 72h, approvals: {count: 2, of: security}}\n"


@dataclass(frozen=True)
class Case:
    """Policy files, the first as `policy.yaml`, and what is around them.

    `links` are symbolic links of the host, `beside` other files; a directory is how many it has. `remarks` are what the
    host's mounts mean for each path of a rule (`decide.host_mounts`, whose own words have tests there).
    """

    texts: tuple[str | bytes, ...]
    now: datetime = NOW
    links: Mapping[str, str] = field(default_factory=dict)
    host: str = "login1"
    beside: Mapping[str, str | int] = field(default_factory=dict)
    remarks: tuple[LintRemark, ...] = ()


def rule(*lines: str, **options: object) -> Case:
    """The usual policy with a rule more, called `it`."""
    text = SIGNERS + "  - name: it\n" + "".join(f"    {line}\n" for line in lines)
    return Case((text,), **options)  # type: ignore[arg-type]


def needs(require: str, *lines: str, **options: object) -> Case:
    return rule("match: {paths: [/srv/**]}", f"require: {require}", *lines, "message: Ask", **options)


def text(*lines: str | bytes, **options: object) -> Case:
    """A policy file of these lines and no more."""
    joined = b"".join((line if isinstance(line, bytes) else line.encode()) + b"\n" for line in lines)
    return Case((joined,), **options)  # type: ignore[arg-type]


def signer(entry: str) -> Case:
    return text("version: 1", "signers:", f"  dora: {entry}")


def files(*texts: str) -> Case:
    return Case(texts)


BROKEN_YAML: dict[str, Case] = {
    "an empty file": text("# nothing"),
    "a tab": text("version: 1", "rules:", "\t- name: it"),
    "a bracket that is not closed": text("version: 1", "rules: [{name: it"),
    "a colon that is missing": text("version 1", "signers: {}"),
    "two documents": text("version: 1", "---", "version: 1"),
    "an anchor": text("version: 1", "signers: &all {}"),
    "a tag": text("version: 1", "default: !deny"),
    "not UTF-8": text("version: 1", b"default: \xff\xfe"),
    "a control character": text("version: 1", b"default: a\x01b"),
    "nested too deep": text("version: 1", "rules: " + "[" * 70 + "]" * 70),
    "too many values": Case(("version: 1\nrules: [" + "a," * 1_000_001 + "]",)),
    "too large": Case(("#" * (16 * 1024 * 1024 + 1),)),
    "no mapping": text("- version"),
    "a long line": text("version: 1", "rules: [" + "{name: a, decision: deny}, " * 6 + "{name: [], decision: deny}]"),
    "wide characters": text("version: 1", 'rules: [{"名前": "容器"}]'),
    "no policy file": Case(()),
}
SHAPES: dict[str, Case] = {
    "no version": text("signers: {}"),
    "another version": text("version: 2"),
    "a version that is a list": text("version: []"),
    "an unknown key": text("version: 1", "rulez: []"),
    "a duplicate key": text("version: 1", "version: 1"),
    "a key that is a list": text("version: 1", "[a]: 1"),
    "a list that is none": text("version: 1", "rules: all of them"),
    "an empty list": text("version: 1", "rules: []"),
    "allowing by default": text("version: 1", "default: allow"),
    "no rules": text("version: 1"),
}
DECLARATIONS: dict[str, Case] = {
    "a signer without keys": signer("{}"),
    "a signer that is a word": signer("alice"),
    "no fingerprint": signer("{pgp: [alice@site.example]}"),
    "a fingerprint with spaces": signer("{pgp: [81F1 11F6 190C 4614 3937  EF7C 22BC 3A3B C942 487F]}"),
    "a fingerprint with 0x": signer(f"{{pgp: [0x{ALICE.lower()}]}}"),
    "a key ID": signer(f"{{pgp: [{ALICE[-16:]}]}}"),
    "a fingerprint in no keyring": signer(f"{{pgp: [{'0123456789' * 4}]}}"),
    "a key twice": signer(f"{{pgp: [{ALICE}, {ALICE.lower()}]}}"),
    "the same entry twice": signer(f"{{pgp: [{ALICE}, {ALICE}]}}"),
    "no such key file": signer("{key: [keys/dora.pem]}"),
    "a certificate as a key": signer("{key: [leaf.pem]}"),
    "a key as a certificate": signer("{certificate: {file: p256-public.pem, roots: [root.pem]}}"),
    "a certificate without its mapping": signer("{certificate: leaf.pem}"),
    "a certificate without roots": signer("{certificate: {file: leaf.pem}}"),
    "an unknown word for ocsp": signer("{certificate: {file: leaf.pem, roots: root.pem, ocsp: requires}}"),
    "annotations without cosign": signer(f"{{pgp: [{ALICE}], annotations: {{env: prod}}}}"),
    "no annotations": signer("{cosign: [ci.pub], annotations: {}}"),
    "a repository with a scheme": signer("{cosign: [ci.pub], repository: 'https://registry.example/prod'}"),
    "a purpose without DSSE": signer(f"{{pgp: [{ALICE}], purpose: scan}}"),
    "no purpose": signer("{key: [p256-public.pem], purpose: [Scan It]}"),
    "a name that is none": text("version: 1", "signers:", f'  "a\\nb": {{pgp: [{ALICE}]}}'),
    "a signer named like a fingerprint": text("version: 1", "signers:", f"  {ALICE}: {{pgp: [{ALICE}]}}"),
    "a signer named anyone": text("version: 1", "signers:", f"  anyone: {{pgp: [{ALICE}]}}"),
    "a signer declared twice": files(SIGNERS, f"version: 1\nsigners:\n  alice: {{pgp: [{ALICE}]}}\n"),
    "a role and a signer of one name": files(
        SIGNERS.replace("security:", "alice:"), "version: 1\nrules:\n  - {name: deny, decision: deny, message: No}\n"
    ),
    "a role of an unknown signer": files(SIGNERS.replace("[alice, bob, carol]", "[alcie, bob, carol]")),
    "a role in a role": files(SIGNERS.replace("all: [ci", "all: [security, ci")),
    "exceptions declared twice": files(SIGNERS + EXCEPTIONS, "version: 1\n" + EXCEPTIONS),
    "an include that is missing": text("version: 1", "include: [none.yaml]"),
    "an include of what is named": text("version: 1", "include: [policy.yaml]", beside={"policy.yaml": "version: 1"}),
    "a file included twice": text("version: 1", "include: [a.yaml, ./a.yaml]", beside={"a.yaml": "version: 1"}),
    "includes that go too deep": text(
        "version: 1",
        "include: [0.yaml]",
        beside={f"{n}.yaml": f"version: 1\ninclude: [{n + 1}.yaml]\n" for n in range(10)},
    ),
    "includes of too many files": text("version: 1", "include: [site.d]", beside={"site.d": 10_000}),
    "withdrawn: no name of a key": files(SIGNERS + "withdrawn: {keys: [alice]}\n"),
    "withdrawn: an unknown key": files(SIGNERS + f"withdrawn: {{keys: [{'0' * 40}]}}\n"),
    "withdrawn: no digest": text("version: 1", "withdrawn: {objects: ['md5:00']}"),
    "withdrawn: an unknown signer": files(SIGNERS + "withdrawn: {signers: [mallory]}\n"),
}
RULES: dict[str, Case] = {
    "a rule without a name": text("version: 1", "rules: [{decision: deny}]"),
    "a rule of one name twice": files(SIGNERS + "  - {name: everything, decision: deny}\n"),
    "neither require nor decision": rule("message: Ask"),
    "both": rule("decision: deny", "require: [{any_of: [ci]}]"),
    "requirements of what carries no signatures": rule("match: {kinds: [sandbox]}", "require: [{any_of: [ci]}]"),
    "what does nothing beside a decision": rule("decision: deny", "mode: permissive", "message: No"),
    "no message of one line": rule("decision: deny", 'message: "a\\nb"'),
    "an unknown placeholder": rule("decision: deny", "message: 'ask about {path}'"),
    "a mode that is none": needs("[{any_of: [ci]}]", "mode: permisive"),
    "a flag that is none": needs("[{any_of: [ci]}]", "distinct: yes"),
    "a message that is too long": rule("decision: deny", "message: " + "x" * 1001),
    "a duration that is none": needs("[{any_of: [ci]}]", "max_signature_age: 1 year"),
    "a duration that is too short": needs("[{any_of: [ci]}]", "max_signature_age: 0d"),
    "ages of signatures without a time": needs("[{any_of: [robot]}]", "max_signature_age: 365d"),
    "a tier to come": needs("[{any_of: [ci]}]", "assurance: verity"),
    "a relative path": rule("match: {paths: [srv/**]}", "decision: deny"),
    "an unknown user": rule("match: {users: [nobody-here]}", "decision: deny"),
    "no host name": rule("match: {hosts: [login 1]}", "decision: deny"),
    "hosts, on one that has no name": rule("match: {hosts: [login*]}", "decision: deny", host=""),
    "no time window": rule("match: {times: [weekdays]}", "decision: deny"),
    "an unknown kind": rule("match: {kinds: [sifs]}", "decision: deny"),
    "an unknown signer": needs("[{any_of: [bulder, ci]}]"),
    "a role in place of a signer": needs("[{any_of: [security]}]"),
    "a signer in place of a role": needs("[{approvals: {count: 1, of: alice}}]"),
    "an unknown role": needs("[{approvals: {count: 1, of: securty}}]"),
    "a count of nothing": needs("[{approvals: {count: 0, of: security}}]"),
    "a count that cannot be reached": needs("[{approvals: {count: 4, of: security}}]"),
    "two asks in one item": needs("[{any_of: [ci], all_of: [alice]}]"),
    "more people than there are": needs("[{any_of: [ci]}, {any_of: [ci]}]", "distinct: true"),
    "groups and ids": needs("[{any_of: [ci], objects: {groups: [1], ids: [2]}}]"),
    "an unknown word in holds": needs("[{any_of: [ci], objects: {holds: [overlays]}}]"),
    "no purpose in a requirement": needs("[{any_of: [ci], purpose: Scan}]"),
    "cosign for a part": needs("[{any_of: [oci], objects: {holds: [overlay]}}]"),
    "a purpose that no key can say": needs("[{any_of: [robot], purpose: scan}]"),
    "a stage of nothing": rule("chain: [scan]", "require: [{any_of: [ci]}]"),
    "a stage twice": rule("chain: [{scan: {any_of: [ci]}}, {scan: {any_of: [alice]}}]"),
    "a stage of two": rule("chain: [{scan: {any_of: [ci]}, build: {any_of: [ci]}}]"),
    "a purpose outside of the chain": rule(
        "chain: [{scan: {any_of: [ci]}}]", "require: [{any_of: [ci], purpose: build}]"
    ),
    "exceptions that anyone approves": files(
        SIGNERS + "exceptions: {directory: e.d, longest: 72h, approvals: {count: 1, of: anyone}}\n"
    ),
    "exceptions of an unknown role": files(
        SIGNERS + "exceptions: {directory: e.d, longest: 72h, approvals: {count: 1, of: securty}}\n"
    ),
    "exceptions that cannot be approved": files(
        SIGNERS + "exceptions: {directory: e.d, longest: 72h, approvals: {count: 5, of: all}}\n"
    ),
    "exceptions that some cannot approve": files(
        SIGNERS + "exceptions: {directory: e.d, longest: 72h, approvals: {count: 2, of: all}}\n"
    ),
    "people with one key": files(
        SIGNERS.replace(BOB, ALICE) + "  - name: it\n    require: [{all_of: [alice, bob]}]\n    message: Ask\n"
    ),
}
WARNINGS: dict[str, Case] = {
    "an include that is empty": text("version: 1", "include: [site.d]", beside={"site.d": 0}),
    "a bare group number": needs("[{any_of: [ci], objects: {groups: [2]}}]"),
    "a signer who never counts": needs("[{any_of: [oci, ci], objects: {holds: [overlay]}}]"),
    "ages of some signatures only": files(
        SIGNERS.replace(f"ci:    {{pgp: [{CI}]", f"ci:    {{key: [p384-public.pem], pgp: [{CI}]")
        + "  - name: it\n    match: {paths: [/srv/**]}\n    require: [{any_of: [ci]}]\n    max_signature_age: 365d\n"
        + "    message: Ask\n"
    ),
    "a rule that an earlier one takes all of": rule("match: {paths: [/opt/a/**, /opt/b/*.sif]}", "decision: deny"),
    "a rule that two earlier ones take all of": files(
        SIGNERS
        + "  - {name: one, match: {paths: [/srv/**], kinds: [sif]}, decision: deny, message: No}\n"
        + "  - {name: two, match: {paths: [/srv/**], kinds: [oci-sif]}, decision: deny, message: No}\n"
        + "  - {name: it, match: {paths: [/srv/**]}, decision: deny, message: No}\n"
    ),
    "a path that an earlier rule takes": rule("match: {paths: [/opt/a, /srv/a]}", "decision: deny", "message: No"),
    "a signer that no rule uses": files(SIGNERS.replace("robot, oci]", "robot]")),
    "a role that no rule uses": files(SIGNERS.replace("roles:", "roles:\n  spare: [alice]")),
    "two requirements that one person meets": needs("[{any_of: [ci, alice]}, {approvals: {count: 1, of: security}}]"),
    "one of a role": needs("[{approvals: {count: 1, of: security}}]"),
    "one person with the keys of another": files(
        SIGNERS.replace(f"bob:   {{pgp: [{BOB}]", f"bob:   {{pgp: [{ALICE}, {BOB}]")
        + "  - name: it\n    match: {paths: [/srv/**]}\n    require: [{all_of: [alice, bob]}]\n    message: Ask\n"
    ),
    "exceptions that one person approves": files(SIGNERS + EXCEPTIONS.replace("count: 2", "count: 1")),
    "exceptions that one person approves with the keys of another": files(
        SIGNERS.replace(f"bob:   {{pgp: [{BOB}]", f"bob:   {{pgp: [{ALICE}, {BOB}]") + EXCEPTIONS
    ),
    "exceptions that too few are left to approve": files(
        SIGNERS + EXCEPTIONS.replace("count: 2", "count: 3") + "withdrawn: {signers: [carol]}\n"
    ),
    "a signer asked for and forbidden": needs("[{any_of: [ci]}]", "forbid: {signed_by: [ci]}"),
    "a signer asked for and withdrawn": files(SIGNERS + "withdrawn: {signers: [carol]}\n"),
    "everything allowed": rule("decision: allow"),
    "a sandbox allowed anywhere": rule("match: {kinds: [sandbox]}", "decision: allow"),
    "an expired key": files(SIGNERS.replace(CI, EXPIRED)),
    "people with too few keys that count": files(
        SIGNERS.replace(CI, EXPIRED)
        + "  - name: it\n    match: {paths: [/srv/**]}\n    require: [{any_of: [ci]}]\n    message: Ask\n"
    ),
    "a key that ends tomorrow": files(SIGNERS.replace(CI, ending(1).fingerprint)),
    "a key that ends soon": files(SIGNERS.replace(CI, ending(10).fingerprint)),
    "a certificate that has ended": files(
        SIGNERS.replace(
            "{key: [p256-public.pem]}", "{certificate: {file: leaf-expired.pem, roots: intermediate.pem, ocsp: off}}"
        )
    ),
    "a certificate that names no responder": files(
        SIGNERS.replace("{key: [p256-public.pem]}", f"{{certificate: {LEAF.replace('leaf', 'leaf-noocsp')}}}")
    ),
    "a certificate that ends soon": Case(
        (SIGNERS.replace("{key: [p256-public.pem]}", f"{{certificate: {LEAF}}}"),),
        now=datetime(2045, 12, 7, tzinfo=UTC),
    ),
    "a symbolic link at the end of a path": rule(
        "match: {paths: [/home/images/a.sif]}",
        "decision: deny",
        "message: No",
        links={"/home/images/a.sif": "/data/a.sif"},
    ),
    "a path on a file system that is not trusted": rule(
        "match: {paths: [/home/a/**, /home/b/**]}",
        "decision: deny",
        "message: No",
        remarks=(LintRemark("has no trusted-path", "list it", warns=True),),
    ),
    "a symbolic link": rule(
        "match: {paths: [/home/images/**]}", "decision: deny", "message: No", links={"/home/images": "/data/images"}
    ),
}
NOTES: dict[str, Case] = {
    "a path on a bind mount": rule(
        "match: {paths: [/opt/a/**, /opt/b/**]}",
        "decision: deny",
        "message: No",
        remarks=(LintRemark("means another name", "write that", warns=False),),
    ),
    "a purpose that does not bind all keys": files(
        SIGNERS.replace(f"[{CI}]", f"[{CI}], key: [p384-public.pem], purpose: [build, scan]")
    ),
    "permissive": needs("[{any_of: [ci]}]", "mode: permissive"),
    "files that others can change": needs("[{any_of: [ci]}]", "assurance: none"),
    "legacy signatures": needs("[{any_of: [ci]}]", "legacy_signatures: accept"),
    "unsigned images": rule("match: {paths: [/srv/**]}", "decision: allow"),
    "anyone": needs("[{approvals: {count: 1, of: anyone}}]"),
    "no advice": rule("match: {paths: [/srv/**]}", "require: [{any_of: [ci]}]"),
    "no advice, by many": files(
        SIGNERS + "".join(f"  - {{name: no-{n}, match: {{paths: [/srv/{n}]}}, decision: deny}}\n" for n in range(5))
    ),
}
CASES = {"nothing wrong": files(SIGNERS), **BROKEN_YAML, **SHAPES, **DECLARATIONS, **RULES, **WARNINGS, **NOTES}


def read(path: str) -> bytes:
    try:
        return FILES[path.rpartition("/")[2]].read_bytes()
    except KeyError:
        raise KeyMaterialError("cannot be opened: No such file or directory") from None


def said(case: Case) -> str:
    """What `policy check` shows of a case."""
    names = ["policy.yaml", "second.yaml"]
    sources = [
        PolicyFile(name, each if isinstance(each, bytes) else each.encode())
        for name, each in zip(names, case.texts, strict=False)
    ]
    review = Linter(RING, case.now, lambda path: case.links.get(path, path), lambda _rule, _path: case.remarks).review

    def read_sources(path: str) -> list[PolicyFile]:
        if path not in case.beside:
            raise ConfigError("cannot be opened: No such file or directory")
        content = case.beside[path]
        if isinstance(content, int):
            return [PolicyFile(f"{path}/{number}.yaml", b"version: 1") for number in range(content)]
        return [PolicyFile(path, content.encode())]

    loaded = load_policies(
        sources, LoadEnvironment(RING, read, {}.get, {}.get, case.now, review, case.host, read_sources)
    )
    sorts = ("error", loaded.errors), ("warning", loaded.warnings), ("note", loaded.notes)
    return "".join("\n".join(problem_lines(sort, each)) + "\n" for sort, found in sorts for each in found)


def approved() -> dict[str, str]:
    parts = re.split(r"^## (.*)\n\n", APPROVED.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {name: text.rstrip("\n") + "\n" for name, text in zip(parts[::2], parts[1::2], strict=True)}


@pytest.mark.parametrize("name", CASES)
def test_what_an_administrator_sees_is_what_was_approved(name: str) -> None:
    assert said(CASES[name]).rstrip("\n") + "\n" == approved()[name]


def test_what_was_approved_has_no_other_parts() -> None:
    assert list(approved()) == list(CASES)


def test_of_a_flood_of_errors_the_first_are_shown_and_the_rest_are_counted() -> None:
    flood = said(text("version: 1", *(f"wrong{number}: 1" for number in range(130))))
    assert flood.count("error: ") == document.MAX_PROBLEMS + 1
    assert "error: policy.yaml: 30 more errors are not shown\n       = look at these first\n" in flood


def calls() -> Iterator[tuple[str, int, int]]:
    """Every place in the loader that reports something, as its file and its first and last line.

    The files of exceptions are another language: `test_exceptions` has their messages.
    """
    for path in sorted(LANGUAGE):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        skipped = ("breakglass.py", "_Reader")
        others = {
            inner
            for each in ast.walk(tree)
            if isinstance(each, ast.ClassDef) and (path.name, each.name) == skipped
            for inner in ast.walk(each)
        }
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and call not in others and _reports(call.func):
                yield path.name, call.lineno, call.end_lineno or call.lineno


def _reports(called: ast.expr) -> bool:
    if isinstance(called, ast.Name):
        return called.id == "note"
    sort = isinstance(called, ast.Attribute) and called.attr in {"error", "warning", "note", "unknown"}
    return sort and ast.unparse(called).split(".")[-2] in {"report", "_report"}


def test_every_place_that_reports_something_has_a_case(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[tuple[str, int]] = set()
    add = document.Problems.add

    def traced(self: document.Problems, problem: document.Problem) -> None:
        frame = sys._getframe(1)
        while frame is not None:
            if Path(frame.f_code.co_filename) in LANGUAGE:
                seen.add((Path(frame.f_code.co_filename).name, frame.f_lineno))
            frame = frame.f_back  # type: ignore[assignment]
        add(self, problem)

    monkeypatch.setattr(document.Problems, "add", traced)
    for case in CASES.values():
        said(case)
    missed = [(f, first) for f, first, last in calls() if not any((f, n) in seen for n in range(first, last + 1))]
    assert not missed, missed


if __name__ == "__main__":
    APPROVED.write_text("".join(f"## {name}\n\n{said(case)}\n" for name, case in CASES.items()), encoding="utf-8")
