"""Loading: what the language accepts, and that everything else is an error with its place."""

from __future__ import annotations

import pytest

from eclctl.policy.declare import LoadEnvironment
from eclctl.policy.load import PolicyFile, load_policies
from eclctl.terms import Assurance, Kind, SignerKind, Verdict
from tests.helpers.facts import GROUPS, HEAD, PEM_IDS, USERS, fingerprint, load_text, read_key, ring, rule
from tests.helpers.support import NOW

A, B = fingerprint("A"), fingerprint("B")
ALICE = f"version: 1\nsigners: {{alice: {{pgp: [{A}]}}}}\n"
OK = rule("[{any_of: [alice]}]")


def errors(*texts: str | bytes, **options: object) -> list[str]:
    loaded = load_text(*texts, **options)
    assert (loaded.policy is None) == bool(loaded.errors)
    return [str(problem) for problem in loaded.errors]


def only_error(text: str | bytes) -> str:
    found = errors(text)
    assert len(found) == 1, found
    return found[0]


def warnings(*texts: str) -> list[str]:
    loaded = load_text(*texts)
    assert loaded.errors == ()
    return [str(problem) for problem in loaded.warnings]


FULL = (
    HEAD.replace("rules:", f"withdrawn: {{objects: ['sha256:{'AB' * 32}'], signers: [dave]}}\nrules:")
    + """\
  - name: production
    match: {paths: [/srv/prod/**], kinds: [sif], users: [alice, 7], groups: [hpc-users]}
    require:
      - any_of: [ci]
      - all_of: [alice]
      - approvals: {count: 2, of: security}
      - any_of: [bob]
        objects: {groups: [2], holds: [overlay]}
      - any_of: [bob]
        objects: {ids: [3], holds: [partition]}
    distinct: false
    forbid: {signed_by: [dave]}
    unknown_signatures: deny
    legacy_signatures: accept
    assurance: none
    mode: permissive
    message: "Ask containers@site.example for a review"
  - name: vendor sandboxes
    match: {paths: [/cvmfs/**], kinds: [sandbox]}
    decision: allow
default: deny
"""
)


def test_the_whole_language_loads() -> None:
    loaded = load_text(FULL)
    assert [str(problem) for problem in loaded.errors] == []
    made = loaded.policy
    assert made is not None
    production, sandboxes = made.rules
    assert production.match.users == {1001, 7}
    assert production.match.groups == {500}
    assert production.match.kinds == {Kind.SIF}
    assert (production.deny_unknown, production.accept_legacy, production.permissive) == (True, True, True)
    assert production.assurance is Assurance.NONE
    assert [need.count for need in production.require] == [1, 1, 2, 1, 1]
    assert production.require[3].text == "1 approval from bob for group 2 holding overlay"
    assert production.require[2].where == "0.yaml:17"
    assert sandboxes.decision is Verdict.ALLOW
    assert made.withdrawn.digests == {"sha256:" + "ab" * 32}
    assert made.withdraws
    assert made.withdraws_objects
    assert [key.id for key in made.listed[SignerKind.KEY].values()] == [PEM_IDS["p256"]]


def test_defaults_are_the_strict_ones() -> None:
    made = load_text(HEAD + OK).policy
    assert made is not None
    it = made.rules[0]
    assert it.match.kinds == {Kind.SIF, Kind.OCI_SIF}
    assert (it.match.paths, it.match.users, it.match.groups) == (None, None, None)
    assert (it.deny_unknown, it.accept_legacy, it.distinct, it.permissive) == (False, False, False, False)
    assert it.assurance is Assurance.TRUSTED_PATH
    assert not made.withdraws


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("signers: {}\n", "0.yaml:1:1", "needs 'version'"),
        ("version: 2\n", "0.yaml:1:10", "version '2' is not known"),
        ("version: 1\nrulez: []\n", "0.yaml:2:1", "did you mean 'rules'?"),
        ("version: 1\nrules: []\n", "0.yaml:2:8", "empty list"),
        ("version: 1\nrules: {}\n", "0.yaml:2:8", "must be a list"),
        ("version: 1\ndefault: allow\n", "0.yaml:2:10", "default can only be 'deny'"),
        ("version: 1\nexceptions: [x]\n", "0.yaml:2:13", "exceptions must be a mapping"),
        ("[]\n", "0.yaml:1:1", "must be a mapping"),
        ("version: 1\nsigners: {alice: {}}\n", "0.yaml:2:18", "has no keys"),
        ("version: 1\nsigners: {alice: {pgp: []}}\n", "0.yaml:2:24", "empty list"),
        ("version: 1\nsigners: {alice: {pgp: [12345]}}\n", "0.yaml:2:25", "no fingerprint"),
        (f"version: 1\nsigners: {{alice: {{pgp: [0x{A[:38]}]}}}}\n", "0.yaml:2:25", "no fingerprint"),
        (f"version: 1\nsigners: {{alice: {{pgp: [{'1' * 40}]}}}}\n", "0.yaml:2:25", f"key {'1' * 40} is in no keyring"),
        ("version: 1\nsigners: {alice: {key: [none.pem]}}\n", "0.yaml:2:25", "cannot be used"),
        ("version: 1\nsigners: {anyone: {key: [p256.pem]}}\n", "0.yaml:2:11", "built-in role"),
        ("version: 1\nsigners: {'a\\b': {key: [p256.pem]}}\n", "0.yaml:2:11", "no name"),
        ('version: 1\nsigners: {"a\\nb": {key: [p256.pem]}}\n', "0.yaml:2:11", "no name"),
        (f"version: 1\nsigners: {{{A}: {{pgp: [{A}]}}}}\n", "0.yaml:2:11", "named like a fingerprint"),
        (f"{ALICE}roles: {{r: []}}\n", "0.yaml:3:12", "empty list"),
        (f"{ALICE}roles: {{r: [alcie]}}\n", "0.yaml:3:13", "did you mean 'alice'?"),
        (f"{ALICE}roles: {{r: [alice, alice]}}\n", "0.yaml:3:20", "listed twice"),
        (f"{ALICE}roles: {{anyone: [alice]}}\n", "0.yaml:3:9", "built-in role"),
        (f"{ALICE}withdrawn: {{signers: [mallory]}}\n", "0.yaml:3:23", "unknown signer 'mallory'"),
        (f"{ALICE}withdrawn: {{objects: [md5:abc]}}\n", "0.yaml:3:23", "no digest"),
        (f"{ALICE}withdrawn: {{images: [a]}}\n", "0.yaml:3:13", "unknown key"),
    ],
)
def test_a_wrong_declaration_is_an_error_with_its_place(text: str, place: str, says: str) -> None:
    found = only_error(text)
    assert found.startswith(place + ":")
    assert says in found


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("{decision: allow}", "a rule needs 'name'"),
        ("{name: x}", "neither require nor decision"),
        ("{name: x, decision: allow, require: [{any_of: [alice]}]}", "both require and decision"),
        ("{name: x, decision: maybe}", "must be one of allow, deny"),
        ("{name: x, require: []}", "empty list"),
        ("{name: x, require: [{}]}", "exactly one of"),
        ("{name: x, require: [{any_of: [alice], all_of: [bob]}]}", "exactly one of"),
        ("{name: x, require: [{any_of: []}]}", "empty list"),
        ("{name: x, require: [{all_of: []}]}", "empty list"),
        ("{name: x, require: [{any_of: [zoe]}]}", "unknown signer 'zoe'"),
        ("{name: x, require: [{any_of: [security]}]}", "is a role"),
        ("{name: x, require: [{any_of: [anyone]}]}", "is a role"),
        ("{name: x, require: [{any_of: alice}]}", "must be a list"),
        ("{name: x, require: [{approvals: {count: 0, of: security}}]}", "number from 1"),
        ("{name: x, require: [{approvals: {count: -1, of: security}}]}", "number from 1"),
        ("{name: x, require: [{approvals: {count: 4, of: security}}]}", "can never be met: 4 needed"),
        ("{name: x, require: [{approvals: {count: 7, of: anyone}}]}", "can never be met: 7 needed"),
        ("{name: x, require: [{approvals: {count: two, of: security}}]}", "number from 1"),
        ("{name: x, require: [{approvals: {of: security}}]}", "needs 'count'"),
        ("{name: x, require: [{approvals: {count: 1, of: secutiry}}]}", "did you mean 'security'?"),
        ("{name: x, require: [{approvals: {count: 1, of: alice}}]}", "is a signer"),
        ("{name: x, require: [{any_of: [alice], objects: {}}]}", "needs either groups or ids"),
        ("{name: x, require: [{any_of: [alice], objects: {groups: []}}]}", "empty list"),
        ("{name: x, require: [{any_of: [alice], objects: {groups: [0], holds: [data]}}]}", "number from 1"),
        ("{name: x, require: [{any_of: [alice], objects: {ids: [1], groups: [1]}}]}", "either groups or ids"),
        ("{name: x, require: [{any_of: [alice], objects: {holds: [overly]}}]}", "did you mean 'overlay'?"),
        ("{name: x, decision: allow, match: {paths: []}}", "empty list"),
        ("{name: x, decision: allow, match: {kinds: []}}", "empty list"),
        ("{name: x, decision: allow, match: {users: []}}", "empty list"),
        ("{name: x, decision: allow, match: {groups: []}}", "empty list"),
        ("{name: x, decision: allow, match: {kinds: [fis]}}", "must be one of sif"),
        ("{name: x, decision: allow, match: {users: [nobody-here]}}", "no user 'nobody-here'"),
        ("{name: x, decision: allow, match: {users: [4294967295]}}", "no user '4294967295'"),
        ("{name: x, decision: allow, match: {groups: [wheel]}}", "no group 'wheel'"),
        ("{name: x, decision: allow, match: {paths: [srv/a]}}", "not absolute"),
        ("{name: x, decision: allow, match: {paths: [/srv/../a]}}", "'..' component"),
        ("{name: x, require: [{any_of: [alice]}], match: {kinds: [sandbox]}}", "carry no signatures"),
        ("{name: x, require: [{any_of: [alice]}], match: {kinds: [sif, ext3]}}", "ext3"),
        ("{name: x, require: [{any_of: [alice]}], forbid: {}}", "needs 'signed_by'"),
        ("{name: x, require: [{any_of: [alice]}], forbid: {signed_by: []}}", "empty list"),
        ("{name: x, require: [{any_of: [alice]}], max_signature_age: 365}", "must be a duration"),
        ("{name: x, require: [{any_of: [alice]}], max_signature_age: 0d}", "must be from 1s"),
        (
            "{name: x, require: [{any_of: [ci]}], max_signature_age: 9d}",
            "the signatures of 'ci' (declared at 0.yaml:7)",
        ),
        ("{name: x, require: [{any_of: [alice, ci]}], max_signature_age: 9d}", "carry no time (only PGP signatures do"),
        ("{name: x, require: [{any_of: [alice], purpose: Scan}]}", "'Scan', which is no purpose"),
        ("{name: x, require: [{any_of: [ci], purpose: scan}]}", "can be for the purpose scan (write purpose: scan in"),
        ("{name: x, require: [{all_of: [alice, ci], purpose: scan}]}", "can never be met: nothing that they sign with"),
        ("{name: x, chain: []}", "empty list"),
        ("{name: x, chain: [scan]}", "the stage 'scan' of rule 'x' asks for nothing"),
        ("{name: x, chain: [{scan: {any_of: [alice]}}, {scan: {any_of: [bob]}}]}", "'scan' is twice in the chain"),
        ("{name: x, chain: [{scan: {any_of: [alice]}, b: {any_of: [bob]}}]}", "a name and what it asks for"),
        ("{name: x, chain: [{a: {any_of: [bob]}}], require: [{any_of: [bob], purpose: b}]}", "'b', which is no stage"),
        ("{name: x, chain: [{scan: {}}]}", "exactly one of"),
        ("{name: x, chain: [{scan: {any_of: [alice]}}], decision: deny}", "has both chain and decision"),
        ("{name: x, chain: [{scan: {any_of: [alice]}}], match: {kinds: [ext3]}}", "carry no signatures"),
        ("{name: x, decision: deny, match: {hosts: []}}", "empty list"),
        ("{name: x, decision: deny, match: {hosts: ['a b']}}", "'a b' is no host name"),
        ("{name: x, decision: deny, match: {times: []}}", "empty list"),
        ("{name: x, decision: deny, match: {times: [always]}}", "'always' is no time window (write days, hours"),
        ("{name: x, decision: deny, match: {times: [fun 08:00-18:00 UTC]}}", "has the day 'fun' (days are mon"),
        ("{name: x, decision: deny, match: {times: [mon 08:00-24:01 UTC]}}", "has the time 24:01"),
        ("{name: x, decision: deny, match: {times: [mon 08:60-18:00 UTC]}}", "has the time 08:60"),
        ("{name: x, decision: deny, match: {times: [mon 24:00-06:00 UTC]}}", "begins at 24:00"),
        ("{name: x, decision: deny, match: {times: [mon 08:00-18:00]}}", "is no time window"),
        (
            "{name: x, decision: deny, match: {times: [mon 08:00-18:00 Mars/Base]}}",
            "'Mars/Base', which this host does not",
        ),
        (
            "{name: x, decision: deny, match: {times: [mon 08:00-18:00 ../../etc/passwd]}}",
            "which this host does not know",
        ),
        ("{name: x, decision: deny, match: {times: [mon 08:00-18:00 Europe]}}", "which this host does not know"),
        (
            "{name: x, decision: deny, message: 'ask {owner}'}",
            "has the unknown placeholder {owner} (known:",
        ),
        ("{name: x, decision: deny, message: 'see {imgae}'}", "(did you mean 'image'?)"),
        ("{name: x, decision: deny, message: 'a } b'}", "has a single } (write }} for a brace)"),
        ("{name: x, decision: deny, message: 'a {image'}", "has a single { (write {{ for a brace)"),
        ("{name: x, require: [{any_of: [alice]}], assurance: verity}", "use trusted-path or none"),
        ("{name: x, require: [{any_of: [alice]}], assurance: leased}", "use trusted-path or none"),
        ("{name: x, require: [{any_of: [alice]}], mode: audit}", "must be one of enforce, permissive"),
        ("{name: x, require: [{any_of: [alice]}], distinct: no}", "must be true or false"),
        ("{name: x, require: [{any_of: [alice]}], unknown_signatures: accept}", "must be one of ignore, deny"),
        ("{name: x, require: [{any_of: [alice]}], legacy_signatures: allow}", "must be one of ignore, accept"),
        ('{name: x, decision: deny, message: "a\\u001b[31m"}', "control characters"),
        ("{name: x, require: [{any_of: [alice]}, {any_of: [alice]}], distinct: true}", "needs 2 different people"),
    ],
)
def test_a_wrong_rule_is_an_error_with_its_place(lines: str, says: str) -> None:
    found = only_error(f"{HEAD}  - {lines}\n")
    assert found.startswith("0.yaml:11:")
    assert says in found


def test_all_errors_of_all_files_are_reported_in_order() -> None:
    first = "version: 1\nsigners: {alice: {pgp: [zz]}}\nrulez: 1\n"
    second = "version: 1\nrules:\n  - {name: x}\n  - {decision: deny}\n"
    places = [error.split(": ")[0] for error in errors(first, second)]
    assert places == ["0.yaml:2:25", "0.yaml:3:1", "1.yaml:3:5", "1.yaml:4:5"]


def test_a_file_of_broken_yaml_does_not_hide_the_errors_of_the_others() -> None:
    assert [error[:6] for error in errors("a: [", "version: 3\n")] == ["0.yaml", "1.yaml"]


def test_no_files_are_no_policy() -> None:
    assert "no policy file" in errors()[0]


def test_a_policy_without_rules_loads_with_a_warning_and_allows_nothing() -> None:
    assert "nothing may run" in warnings("version: 1\n")[0]


def test_files_declare_together_and_rules_keep_their_order() -> None:
    rules = [f"version: 1\nrules:\n  - {{name: {name}, require: [{{any_of: [alice]}}]}}\n" for name in ("b", "a")]
    loaded = load_text(rules[0], ALICE, rules[1])
    assert loaded.policy is not None
    assert [(found.name, found.order) for found in loaded.policy.rules] == [("b", 0), ("a", 1)]


def test_a_name_declared_in_two_files_is_an_error_that_names_both_places() -> None:
    found = errors(ALICE, ALICE)
    assert found == ["1.yaml:2:11: signer 'alice' is declared twice (first at 0.yaml:2)"]
    roles = "version: 1\nroles: {r: [alice]}\n"
    assert "role 'r' is declared twice" in errors(ALICE, roles, roles)[0]
    rules = "version: 1\nrules: [{name: x, decision: deny}]\n"
    assert "rule 'x' is declared twice (first at 0.yaml:2)" in errors(rules, rules)[0]


def test_the_same_digest_withdrawn_in_two_files_is_no_error() -> None:
    text = f"version: 1\nwithdrawn: {{objects: ['sha256:{'0' * 64}']}}\n"
    assert errors(text, text) == []


def test_a_fingerprint_of_digits_stays_text_and_case_does_not_matter() -> None:
    digits = "0123456789" * 4
    keyring = ring((fingerprint("A")[:1], []), letters="A")
    assert errors(f"version: 1\nsigners: {{a: {{pgp: [{A.lower()}]}}}}\n", keyring=keyring) == []
    assert f"the key {digits} is in no keyring" in errors(f"version: 1\nsigners: {{a: {{pgp: [{digits}]}}}}\n")[0]


def test_key_files_are_relative_to_the_file_that_names_them() -> None:
    asked: list[str] = []

    def read(path: str) -> bytes:
        asked.append(path)
        return read_key(path)

    text = b"version: 1\nsigners: {ci: {key: [keys/p256.pem, /etc/p384.pem]}}\n"
    loaded = load_policies(
        [PolicyFile("/etc/eclctl/policies.d/a.yaml", text)], LoadEnvironment(ring(), read, USERS.get, GROUPS.get, NOW)
    )
    assert loaded.errors == ()
    assert asked == ["/etc/eclctl/policies.d/keys/p256.pem", "/etc/p384.pem"]


def test_a_key_file_that_cannot_be_read_is_an_error_at_its_place() -> None:
    def read(path: str) -> bytes:
        raise PermissionError(13, "Permission denied", path)

    text = b"version: 1\nsigners: {ci: {key: [p256.pem]}}\n"
    loaded = load_policies([PolicyFile("a.yaml", text)], LoadEnvironment(ring(), read, USERS.get, GROUPS.get, NOW))
    assert [str(e) for e in loaded.errors] == ["a.yaml:2:22: the key file 'p256.pem' cannot be used: Permission denied"]


def test_people_who_share_their_only_key_cannot_be_counted_as_two() -> None:
    head = HEAD.replace(f"bob: {{pgp: [{B}]}}", f"bob: {{pgp: [{A}]}}")
    role = head.replace("[alice, bob, carol]", "[alice, bob]")
    assert "can never be met: 2 needed" in only_error(role + rule("[{approvals: {count: 2, of: security}}]"))
    assert "same key" in only_error(head + rule("[{all_of: [alice, bob]}]"))


def test_a_key_that_does_not_load_is_the_only_error_about_it() -> None:
    head = HEAD.replace("ci: {key: [p256.pem]}", "ci: {key: [none.pem]}").replace("bob, carol]", "ci]")
    assert "cannot be used" in only_error(head + rule("[{all_of: [alice, ci]}]"))
    assert "cannot be used" in only_error(head + rule("[{approvals: {count: 2, of: security}}]"))


def test_a_key_under_two_signers_is_a_warning_that_names_both() -> None:
    found = warnings(HEAD.replace(f"bob: {{pgp: [{B}]", f"bob: {{pgp: [{A}, {B}]") + OK)
    assert len(found) == 1
    assert found[0].startswith("0.yaml:4:15: this key of 'bob' is also listed for 'alice' at 0.yaml:3")


@pytest.mark.parametrize("part", ["groups: [2]", "ids: [2]"])
def test_a_bare_number_is_a_warning(part: str) -> None:
    found = warnings(HEAD + rule(f"[{{any_of: [alice], objects: {{{part}}}}}]"))
    assert len(found) == 1
    assert "no signature covers" in found[0]
    assert warnings(HEAD + rule(f"[{{any_of: [alice], objects: {{{part}, holds: [overlay]}}}}]")) == []


def test_settings_that_do_nothing_are_warnings() -> None:
    found = warnings(HEAD + "  - {name: x, decision: deny, mode: permissive, distinct: true}\n")
    assert [text.split(": ")[1] for text in found] == [
        "mode does nothing in rule 'x', which has a decision",
        "distinct does nothing in rule 'x', which has a decision",
    ]


def test_the_digest_covers_every_file_and_every_key_file() -> None:
    def digest(*texts: str) -> str:
        made = load_text(*texts).policy
        assert made is not None
        return made.digest

    rest = "version: 1\n"
    first = digest(ALICE, rest)
    assert first == digest(ALICE, rest)
    assert len({first, digest(ALICE), digest(rest, ALICE), digest(ALICE, rest + "# x\n")}) == 4
    key = "version: 1\nsigners: {{ci: {{key: [{}.pem]}}}}\n"
    assert digest(key.format("p256")) != digest(key.format("p384"))


def test_the_policy_of_ten_thousand_rules_loads() -> None:
    rules = "".join(f"  - {{name: r{n}, match: {{paths: [/srv/p{n}/**]}}, decision: deny}}\n" for n in range(10_000))
    made = load_text("version: 1\nrules:\n" + rules).policy
    assert made is not None
    assert len(made.rules) == 10_000
