"""Certificate and cosign signers load, and every mistake in them is an error with its place."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from eclctl.errors import ConfigError
from eclctl.policy.language import Policy
from eclctl.policy.load import Loaded, LoadEnvironment, PolicyFile, load_policies
from eclctl.terms import SignerKind
from eclctl.trust.x509 import Credential
from tests.helpers.facts import (
    COSIGN_IDS,
    GROUPS,
    PEM_IDS,
    USERS,
    X509_FILES,
    certificate_id,
    fingerprint,
    load_text,
    read_key,
    ring,
)
from tests.helpers.support import NOW

RULES = "rules: [{name: it, decision: deny}]\n"
CHAIN = "intermediates: intermediate.pem, roots: root.pem"


def signer(fields: str, *more: str) -> str:
    """A policy of one signer, whose fields are on line 3 from column 10."""
    return f"version: 1\nsigners:\n  it: {{{fields}}}\n" + "".join(more) + RULES


def made(fields: str, *more: str) -> Policy:
    loaded = load_text(signer(fields, *more))
    assert loaded.policy is not None, [str(error) for error in loaded.errors]
    return loaded.policy


def errors(text: str) -> list[str]:
    loaded = load_text(text)
    assert (loaded.policy is None) == bool(loaded.errors)
    return [str(problem) for problem in loaded.errors]


def warnings(text: str) -> list[str]:
    loaded = load_text(text)
    assert loaded.policy is not None, [str(error) for error in loaded.errors]
    return [str(problem) for problem in loaded.warnings]


def only_certificate(policy: Policy) -> Credential:
    (credential,) = policy.listed[SignerKind.CERTIFICATE].values()
    return credential


def test_a_certificate_makes_a_credential_that_its_signer_holds() -> None:
    policy = made(f"certificate: {{file: leaf.pem, {CHAIN}, ocsp: off}}")
    assert [credential.id for credential in policy.listed[SignerKind.CERTIFICATE].values()] == [certificate_id("leaf")]
    assert policy.signers["it"].keys == (certificate_id("leaf"),)
    assert policy.holders[certificate_id("leaf")].people == ("it",)
    assert set(policy.listed) == {SignerKind.CERTIFICATE}


@pytest.mark.parametrize(("words", "ocsp"), [("", True), (", ocsp: require", True), (", ocsp: off", False)])
def test_revocation_is_asked_for_unless_that_is_turned_off(words: str, ocsp: bool) -> None:
    credential = only_certificate(made(f"certificate: {{file: leaf.pem, {CHAIN}{words}}}"))
    assert credential.ocsp is ocsp
    assert credential.id == certificate_id("leaf", ocsp=ocsp)


def test_a_signer_may_have_several_certificates_and_chains_of_several_files() -> None:
    one = f"{{file: leaf.pem, {CHAIN}, ocsp: off}}"
    other = "{file: leaf-anyeku.pem, intermediates: [intermediate.pem], roots: [root.pem, other-root.pem], ocsp: off}"
    policy = made(f"certificate: [{one}, {other}]")
    assert len(policy.signers["it"].keys) == 2
    assert [len(credential.roots) for credential in policy.listed[SignerKind.CERTIFICATE].values()] == [1, 2]


def test_the_intermediates_may_be_left_out() -> None:
    policy = made("certificate: {file: leaf.pem, roots: intermediate.pem, ocsp: off}")
    assert only_certificate(policy).intermediates == ()


def test_a_signer_may_have_keys_of_every_sort() -> None:
    pgp = fingerprint("A")
    policy = made(
        f"pgp: [{pgp}], key: [p384.pem], certificate: {{file: leaf.pem, {CHAIN}, ocsp: off}}, cosign: [ci.pub]"
    )
    assert set(policy.signers["it"].keys) == {pgp, PEM_IDS["p384"], certificate_id("leaf"), COSIGN_IDS["ci"]}
    assert [key.id for key in policy.listed[SignerKind.KEY].values()] == [PEM_IDS["p384"]]


def test_a_cosign_key_is_no_key_for_other_signatures() -> None:
    policy = made("cosign: [ci.pub, approver.pub]")
    assert set(policy.listed[SignerKind.COSIGN]) == {COSIGN_IDS["ci"], COSIGN_IDS["approver"]}
    assert SignerKind.KEY not in policy.listed
    assert policy.holders.keys() >= {COSIGN_IDS["ci"]}
    assert COSIGN_IDS["ci"].removeprefix("cosign:") not in policy.holders


def test_what_a_cosign_signature_must_say_is_taken_as_text() -> None:
    policy = made("cosign: [ci.pub], annotations: {env: prod, build: 7, ok: yes}, repository: registry.example/prod/**")
    found = policy.signers["it"]
    assert found.annotations == {("env", "prod"), ("build", "7"), ("ok", "yes")}
    assert found.repository is not None
    assert found.repository.pattern == "registry.example/prod/**"


def test_one_key_under_all_its_names_is_one_key() -> None:
    keyring = ring(("A", [PEM_IDS["p256"]]))
    text = (
        f"version: 1\nsigners:\n  a: {{pgp: [{fingerprint('A')}]}}\n  b: {{key: [p256.pem]}}\n"
        f"  c: {{certificate: {{file: leaf.pem, {CHAIN}, ocsp: off}}}}\n  d: {{cosign: [p256.pem]}}\n"
        "  e: {cosign: [ci.pub]}\n" + RULES
    )
    loaded = load_text(text, keyring=keyring)
    assert loaded.policy is not None
    holders = loaded.policy.holders
    names = (fingerprint("A"), PEM_IDS["p256"], certificate_id("leaf"), COSIGN_IDS["p256"])
    assert len({holders[name].key for name in names}) == 1
    assert holders[COSIGN_IDS["ci"]].key != holders[COSIGN_IDS["p256"]].key
    said = [warning.message for warning in loaded.warnings]
    assert said == [
        "this key of 'b' is also listed for 'a' at 0.yaml:3",
        "the key of this certificate of 'c' is also listed for 'a' at 0.yaml:3",
        "this key of 'd' is also listed for 'a' at 0.yaml:3",
    ]


@pytest.mark.parametrize(
    ("fields", "column", "says"),
    [
        ("", 7, "signer 'it' has no keys (list some under pgp, key, certificate or cosign)"),
        ("certificate: leaf.pem", 21, "must be a mapping, and is 'leaf.pem' (write {file: 'leaf.pem', roots: [ROOT"),
        ("certificate: []", 21, "certificate of signer 'it' is an empty list"),
        ("certificate: [leaf.pem]", 22, "must be a mapping"),
        ("certificate: {roots: root.pem}", 21, "certificate of signer 'it' needs 'file'"),
        ("certificate: {file: leaf.pem}", 21, "certificate of signer 'it' needs 'roots'"),
        ("certificate: {file: leaf.pem, roots: []}", 45, "roots in certificate of signer 'it' is an empty list"),
        ("certificate: {file: leaf.pem, roots: }", 45, "must be text, and is nothing"),
        ("certificate: {file: [leaf.pem], roots: root.pem}", 28, "must be text, and is a list"),
        ("certificate: {file: leaf.pem, root: root.pem, roots: root.pem}", 38, "did you mean 'roots'?"),
        ("certificate: {file: leaf.pem, roots: root.pem, ocsp: no}", 61, "must be one of require, off, and is 'no'"),
        ("certificate: {file: leaf.pem, roots: root.pem, ocsp: requird}", 61, "did you mean 'require'?"),
        ("certificate: {file: none.pem, roots: root.pem}", 28, "'none.pem' cannot be used: no such key"),
        ("certificate: {file: leaf.pem, roots: none.pem}", 45, "'none.pem' cannot be used: no such key"),
        ("certificate: {file: p256.pem, roots: root.pem}", 28, "(list a public key under key, or under cosign"),
        ("certificate: {file: leaf-key.pem, roots: root.pem}", 28, "holds a private key"),
        ("certificate: {file: leaf.pem, intermediates: ci.pub, roots: root.pem}", 53, "blocks CERTIFICATE"),
        ("certificate: {file: leaf.pem, roots: [root.pem, root-key.pem]}", 56, "holds a private key"),
        ("key: [leaf.pem]", 14, "(list a certificate under certificate: {file: LEAF.pem, roots: [ROOT.pem]})"),
        ("cosign: ci.pub", 16, "must be a list, and is 'ci.pub' (write it as [a, b])"),
        ("cosign: []", 16, "empty list"),
        ("cosign: [none.pub]", 17, "the key file 'none.pub' cannot be used"),
        ("cosign: [leaf.pem]", 17, "holds a certificate"),
        ("cosing: [ci.pub], key: [p256.pem]", 8, "did you mean 'cosign'?"),
        ("cosign: [ci.pub], annotations: {}", 39, "annotations of signer 'it' is an empty mapping (leave the key out"),
        ("cosign: [ci.pub], annotations: [env]", 39, "must be a mapping"),
        ("cosign: [ci.pub], annotations: {env: }", 45, "'env' in annotations of signer 'it' must be text"),
        ("cosign: [ci.pub], annotations: {env: [a]}", 45, "must be text, and is a list"),
        ("cosign: [ci.pub], annotations: {env: a, env: b}", 48, "duplicate key 'env'"),
        ("cosign: [ci.pub], repository: [a]", 38, "must be text"),
        ("cosign: [ci.pub], repository: docker://a/b", 38, "has a scheme (begin it with the registry's name"),
        ("key: [p256.pem], annotations: {env: a}", 38, "it has no cosign keys (list keys under cosign, or remove anno"),
        ("key: [p256.pem], repository: a/**", 37, "repository of signer 'it' is about cosign signatures"),
    ],
)
def test_a_mistake_in_a_signer_is_an_error_with_its_place_and_advice(fields: str, column: int, says: str) -> None:
    found = errors(signer(fields))
    assert len(found) == 1, found
    assert found[0].startswith(f"0.yaml:3:{column}: "), found
    assert says in found[0]


def test_annotations_alone_are_no_signer() -> None:
    assert errors(signer("annotations: {env: a}"))[0].startswith("0.yaml:3:7: signer 'it' has no keys")


def test_all_mistakes_in_a_certificate_are_reported_at_once() -> None:
    found = errors(
        signer("certificate: {file: p256.pem, intermediates: [none.pem, ci.pub], roots: [leaf-key.pem], ocsp: x}")
    )
    assert [error.split(": ")[0] for error in found] == [f"0.yaml:3:{n}" for n in (28, 54, 64, 81, 102)]


def test_a_file_is_named_once_in_its_error() -> None:
    found = errors(signer("certificate: {file: leaf-key.pem, roots: root.pem}"))
    reason = "holds a private key; give the certificate that belongs to it"
    assert found == [f"0.yaml:3:28: the certificate file 'leaf-key.pem' cannot be used: {reason}"]


def _load(text: str, read=read_key, now: datetime = NOW) -> Loaded:
    return load_policies(
        [PolicyFile("/etc/eclctl/p/a.yaml", text.encode())], LoadEnvironment(ring(), read, USERS.get, GROUPS.get, now)
    )


def test_certificate_files_are_relative_to_the_file_that_names_them_and_read_once() -> None:
    asked: list[str] = []

    def read(path: str) -> bytes:
        asked.append(path)
        return read_key(path)

    one = f"{{file: certs/leaf.pem, {CHAIN}}}"
    assert _load(signer(f"certificate: [{one}, {{file: certs/leaf.pem, roots: /ca/root.pem}}]"), read).errors == ()
    folder = "/etc/eclctl/p"
    assert asked == [f"{folder}/certs/leaf.pem", f"{folder}/intermediate.pem", f"{folder}/root.pem", "/ca/root.pem"]


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), ConfigError("is not owned by root")])
def test_a_certificate_file_that_cannot_be_read_is_an_error_at_its_place(error: Exception) -> None:
    def read(path: str) -> bytes:
        if path.endswith("root.pem"):
            raise error
        return read_key(path)

    found = [str(problem) for problem in _load(signer(f"certificate: {{file: leaf.pem, {CHAIN}}}"), read).errors]
    assert len(found) == 1
    assert found[0].startswith("/etc/eclctl/p/a.yaml:3:78: the certificate file 'root.pem' cannot be used: ")


@pytest.mark.parametrize("name", ["leaf.pem", "intermediate.pem", "root.pem"])
def test_the_digest_covers_every_certificate_file(name: str) -> None:
    def changed(path: str) -> bytes:
        return read_key(path) + (b"\n" if path.endswith(f"/{name}") else b"")

    text = signer(f"certificate: {{file: leaf.pem, {CHAIN}}}")
    before, after = _load(text).policy, _load(text, changed).policy
    assert before is not None
    assert after is not None
    assert before.digest != after.digest
    assert before.listed == after.listed


def test_the_digest_covers_cosign_keys_and_not_the_time() -> None:
    text = signer("cosign: [ci.pub]")
    before, later = _load(text).policy, _load(text, now=datetime(2050, 1, 1, tzinfo=UTC)).policy
    other = _load(text, lambda path: read_key(path.replace("ci.pub", "site.pub"))).policy
    assert before is not None
    assert later is not None
    assert other is not None
    assert before.digest == later.digest != other.digest


# Warnings


@pytest.mark.parametrize(
    ("leaf", "chain", "why"),
    [
        ("leaf-expired", CHAIN, "certificate has expired or is not yet valid"),
        ("leaf-notyet", CHAIN, "certificate has expired or is not yet valid"),
        ("leaf-noeku", CHAIN, "incompatible key usage"),
        ("leaf-serverauth", CHAIN, "incompatible key usage"),
        ("leaf-other-root", CHAIN, "signed by unknown authority"),
        ("leaf", "intermediates: intermediate.pem, roots: other-root.pem", "signed by unknown authority"),
        ("leaf", "roots: root.pem", "signed by unknown authority"),
        ("leaf-under-expired", "intermediates: intermediate-expired.pem, roots: root.pem", "has expired"),
    ],
)
def test_a_certificate_by_which_nothing_counts_loads_with_a_warning(leaf: str, chain: str, why: str) -> None:
    found = warnings(signer(f"certificate: {{file: {leaf}.pem, {chain}, ocsp: off}}"))
    assert len(found) == 1, found
    start = f"0.yaml:3:28: no signature by the certificate '{leaf}.pem' of signer 'it' counts now: x509: "
    assert found[0].startswith(start)
    assert why in found[0]


def test_a_good_certificate_is_no_warning() -> None:
    assert warnings(signer(f"certificate: {{file: leaf.pem, {CHAIN}}}")) == []


def test_whether_a_certificate_is_warned_of_depends_on_the_time_of_loading() -> None:
    text = signer(f"certificate: {{file: leaf.pem, {CHAIN}}}")
    assert _load(text).warnings == ()
    assert len(_load(text, now=datetime(2046, 1, 1, tzinfo=UTC)).warnings) == 1


def test_a_certificate_without_a_responder_is_a_warning_when_one_must_be_asked() -> None:
    text = signer(f"certificate: {{file: leaf-noocsp.pem, {CHAIN}, ocsp: WORD}}")
    found = warnings(text.replace("WORD", "require"))
    assert len(found) == 1
    assert "can ever count: ocsp is required, and 'CN=" in found[0]
    assert found[0].endswith("(get certificates that name one, or write ocsp: off)")
    assert warnings(text.replace("WORD", "off")) == []


def test_a_certificate_listed_twice_for_one_signer_is_a_warning() -> None:
    one = f"{{file: leaf.pem, {CHAIN}, ocsp: off}}"
    found = warnings(signer(f"certificate: [{one}, {one}]"))
    assert [line.partition(": ")[2] for line in found] == ["this certificate is listed twice for 'it'"]


# Rules that cosign signers alone can never meet

HEAD = (
    f"version: 1\nsigners:\n  alice: {{pgp: [{fingerprint('A')}]}}\n  oci: {{cosign: [ci.pub]}}\n"
    "  both: {cosign: [site.pub], key: [p384.pem]}\nroles: {team: [alice, oci], all: [alice, oci, both]}\nrules:\n"
)
PART = "objects: {groups: [1], holds: [oci-blob]}"


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (f"require: [{{any_of: [oci], {PART}}}]", "can never be met: a cosign signature approves an image, and never"),
        (f"require: [{{all_of: [alice, oci], {PART}}}]", "never a part of one (ask for signers with other keys)"),
        (f"require: [{{approvals: {{count: 2, of: team}}, {PART}}}]", "2 needed, and 'team' has 1"),
        ("match: {kinds: [sif]}, require: [{any_of: [oci]}]", "only images of the kind oci-sif carry cosign"),
        ("match: {kinds: [sif]}, require: [{approvals: {count: 3, of: all}}]", "that can count here: only images"),
        ("require: [{approvals: {count: 4, of: all}}]", "'all' has 3 with a key of their own"),
    ],
)
def test_a_requirement_that_only_cosign_could_meet_and_never_does_is_an_error(rule: str, says: str) -> None:
    found = errors(f"{HEAD}  - {{name: it, {rule}}}\n")
    assert len(found) == 1, found
    assert says in found[0]


@pytest.mark.parametrize(
    ("rule", "warned"),
    [
        ("require: [{any_of: [oci]}]", 0),
        ("match: {kinds: [oci-sif]}, require: [{all_of: [alice, oci, both]}]", 0),
        ("match: {kinds: [sif]}, require: [{any_of: [both]}]", 0),
        (f"require: [{{any_of: [both], {PART}}}]", 0),
        (f"require: [{{approvals: {{count: 2, of: all}}, {PART}}}]", 0),
        (f"require: [{{any_of: [alice, oci], {PART}}}]", 1),
        ("match: {kinds: [sif]}, require: [{any_of: [alice, oci]}]", 1),
    ],
)
def test_a_signer_who_never_counts_for_a_requirement_is_a_warning(rule: str, warned: int) -> None:
    found = warnings(f"{HEAD}  - {{name: it, {rule}}}\n")
    assert len(found) == warned, found
    assert all("'oci' never counts" in warning for warning in found)


def test_every_leaf_of_the_corpus_loads() -> None:
    for name in X509_FILES:
        if name.startswith("leaf") and "key" not in name:
            made(f"certificate: {{file: {name}, {CHAIN}}}")
