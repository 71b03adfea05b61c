"""`eclctl sign` with PEM keys: what it shows, asks, refuses and writes."""

from __future__ import annotations

import json
import os
import stat

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from eclctl.cli.sign import command as sign
from eclctl.cli.terminal.passphrases import VARIABLE
from eclctl.cli.verify import command as verify
from tests.helpers.edits import begun
from tests.helpers.scribes import built, corpus_copy, objects_of
from tests.helpers.sifbuilder import corpus_pgp_key, pem_key, sample
from tests.helpers.signing import note
from tests.helpers.support import CORPUS

PEM = CORPUS / "keys" / "pem"
KEY = str(PEM / "p256-private.pem")
OTHER = str(PEM / "ed25519-private.pem")
BUILDER_SECRET = str(CORPUS / "keys" / "pgp" / "builder-secret.asc")
POLICY = """\
version: 1
signers:
  ci: {key: [%s]}
  approver: {key: [%s]}
rules:
  - name: production
    match: {paths: ["/srv/**"]}
    chain:
      - build:  {any_of: [ci]}
      - review: {any_of: [approver]}
default: deny
"""


@pytest.fixture(autouse=True)
def nobody_at_the_terminal(monkeypatch):
    with open(os.devnull) as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        yield


@pytest.fixture
def policy(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY % (PEM / "p256-public.pem", PEM / "ed25519-public.pem"))
    return str(path)


def run_json(capsys, *arguments):
    status = sign.run(["--json", *map(str, arguments)])
    return status, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def run_text(capsys, *arguments):
    status = sign.run([*map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def usage(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        sign.run([*map(str, arguments), "a.sif"])
    assert ended.value.code == 2
    return capsys.readouterr().err


def encrypted_key(folder, passphrase=b"secret"):
    path = folder / "encrypted.pem"
    key = pem_key("p384").private
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase)))
    return path


def test_it_says_what_the_reference_says_and_eclctl_verifies_it(capsys, tmp_path):
    path = corpus_copy("one-unsigned.sif", tmp_path)
    status, _, err = run_text(capsys, "--key", KEY, path)
    assert status == 0
    assert err.splitlines() == [
        f"INFO:    Signing image with key material from '{KEY}'",
        f"INFO:    Signature created and applied to image '{path}'",
    ]
    assert verify.run(["--key", str(PEM / "p256-public.pem"), str(path)]) == 0


def test_before_signing_it_shows_objects_groups_sizes_digest_and_signer(capsys, tmp_path):
    path = corpus_copy("two-unsigned.sif", tmp_path)
    _, out, _ = run_text(capsys, "--key", KEY, "--hash", "sha512", path)
    assert out.splitlines() == [
        f"To be signed in {path}: 2 signatures (SHA-512)",
        f"Signing key: {KEY}",
        f"Fingerprint: {pem_key('p256').public.id}",
        "ID  |GROUP   |TYPE                  |      SIZE |NAME",
        "-" * 72,
        "1   |1       |Def.FILE              |      42 B |Singularity",
        "2   |1       |JSON.Generic          |      58 B |labels.json",
        "3   |1       |FS                    |   4.0 KiB |squash",
        "4   |2       |FS                    |   4.0 KiB |overlay",
        "5   |2       |SBOM                  |      61 B |sbom.cdx.json",
        "and the image's header: launch script, version and UUID",
    ]


def test_json_has_the_documented_shape(capsys, tmp_path):
    path = corpus_copy("two-unsigned.sif", tmp_path)
    status, (shape,) = run_json(capsys, "--key", KEY, "--key", OTHER, path)
    assert status == 0
    assert shape == {
        "v": 1,
        "image": str(path),
        "signed": True,
        "error": None,
        "format": "dsse",
        "signers": [
            {"kind": "key", "id": pem_key("p256").public.id, "name": KEY},
            {"kind": "key", "id": pem_key("ed25519").public.id, "name": OTHER},
        ],
        "hash": "sha256",
        "purpose": None,
        "signatures": [
            {"id": 6, "group": 1, "objects": [1, 2, 3], "whole_group": True},
            {"id": 7, "group": 2, "objects": [4, 5], "whole_group": True},
        ],
        "warnings": [],
        "policy": None,
    }


def test_several_keys_make_one_envelope_for_each_group(capsys, tmp_path):
    path = corpus_copy("two-unsigned.sif", tmp_path)
    assert run_text(capsys, "--key", KEY, "--key", OTHER, path)[0] == 0
    assert len(objects_of(path)) == 7
    for name in ("p256", "ed25519"):
        assert verify.run(["--key", str(PEM / f"{name}-public.pem"), str(path)]) == 0


def test_chosen_groups_and_objects_are_signed_and_nothing_else(capsys, tmp_path):
    path = corpus_copy("two-unsigned.sif", tmp_path)
    _, (shape,) = run_json(capsys, "--key", KEY, "-g", "2", "--sif-id", "1", "--id", "3", path)
    assert [(each["group"], each["objects"]) for each in shape["signatures"]] == [(2, [4, 5]), (1, [1, 3])]
    assert [each["code"] for each in shape["warnings"]] == ["single-objects"]


def test_one_image_that_cannot_be_signed_does_not_keep_others_from_it(capsys, tmp_path):
    good, bad, gone = corpus_copy("one-unsigned.sif", tmp_path), tmp_path / "bad.sif", tmp_path / "gone.sif"
    bad.write_bytes(b"no image")
    os.mkfifo(tmp_path / "fifo")
    paths = [bad, gone, tmp_path / "fifo", tmp_path, good]
    status, shapes = run_json(capsys, "--key", KEY, *paths)
    assert status == 1
    assert [shape["image"] for shape in shapes] == [str(path) for path in paths]
    codes = [shape["error"] and shape["error"]["code"] for shape in shapes]
    assert codes == ["malformed", "unreadable", "unsupported-file", "unsupported-file", None]
    assert bad.read_bytes() == b"no image"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--group-id", "7"], "integrity: group not found: 7; there are: 1"),
        (["--sif-id", "7"], "integrity: object not found: 7; there are: 1, 2, 3, 4"),
        (["--sif-id", "4"], "integrity: invalid group ID: object 4 is in no object group"),
    ],
)
def test_what_cannot_be_signed_is_refused_in_the_references_words(options, message, capsys, tmp_path):
    path = corpus_copy("ungrouped-unsigned.sif", tmp_path)
    before = path.read_bytes()
    status, out, err = run_text(capsys, "--key", KEY, *options, path)
    assert (status, out) == (1, "")
    assert err.splitlines()[-1].startswith(f"FATAL:   failed to sign container '{path}': {message}")
    assert path.read_bytes() == before


def test_signing_twice_with_one_key_is_warned_of_and_done(capsys, tmp_path):
    path = corpus_copy("one-dsse-p256.sif", tmp_path)
    status, _, err = run_text(capsys, "--key", KEY, path)
    assert status == 0
    assert "WARNING: this key has signed group 1 before (signature 4); one key counts once" in err


def test_what_the_image_still_misses_is_said_with_its_stage(capsys, tmp_path, policy):
    path = corpus_copy("one-unsigned.sif", tmp_path)
    status, out, _ = run_text(capsys, "--key", KEY, "--policy", policy, "--as", "/srv/a.sif", path)
    assert status == 0
    said = " ".join(out.split("UUID\n")[1].split())
    assert said == (
        f"Policy for /srv/a.sif: rule production ({policy}:6)"
        " NEW stage build: 1 approval from ci (1 of 1)"
        " missing stage review: 1 approval from approver (0 of 1)"
        " stage review: still to sign: approver"
        " Once it is signed: deny (requirements-not-met): missing stage: review;"
        " not signed by approver yet (0 of 1)"
    )


def test_the_last_approval_turns_the_outlook_to_allow(capsys, tmp_path, policy):
    path = corpus_copy("one-dsse-p256.sif", tmp_path)
    _, (shape,) = run_json(capsys, "--key", OTHER, "--policy", policy, "--as", "/srv/a.sif", path)
    assert (shape["policy"]["path"], shape["policy"]["now"]["decision"]) == ("/srv/a.sif", "deny")
    assert shape["policy"]["now"]["missing"][0]["stage"] == "review"
    assert shape["policy"]["after"] == {
        "decision": "allow",
        "code": "requirements-met",
        "reason": "all requirements of rule 'production' are met",
        "rule": "production",
        "rule_where": f"{policy}:6",
        "missing": [],
    }


def test_a_key_that_the_policy_does_not_know_is_warned_of(capsys, tmp_path, policy):
    path = corpus_copy("one-unsigned.sif", tmp_path)
    stranger = str(PEM / "stranger-private.pem")
    _, (shape,) = run_json(capsys, "--key", stranger, "--policy", policy, path)
    assert [each["code"] for each in shape["warnings"]] == ["unknown-to-policy"]
    assert shape["policy"]["after"]["code"] == "no-rule"


def test_a_policy_that_does_not_load_signs_nothing(capsys, tmp_path):
    path, broken = corpus_copy("one-unsigned.sif", tmp_path), tmp_path / "broken.yaml"
    broken.write_text("version: 1\nrules: 7\n")
    before = path.read_bytes()
    status, (shape,) = run_json(capsys, "--key", KEY, "--policy", broken, path)
    assert (status, shape["error"]["code"]) == (1, "config")
    assert f"{broken}:2:8" in shape["error"]["message"]
    assert path.read_bytes() == before


def test_an_encrypted_key_takes_its_passphrase_from_a_descriptor_or_the_variable(capsys, tmp_path, monkeypatch):
    path, key = corpus_copy("one-unsigned.sif", tmp_path), encrypted_key(tmp_path)
    read, write = os.pipe()
    os.write(write, b"secret\n")
    os.close(write)
    assert run_text(capsys, "--key", key, "--passphrase-fd", read, path)[0] == 0
    monkeypatch.setenv(VARIABLE, "secret")
    assert run_text(capsys, "--key", key, path)[0] == 0
    assert VARIABLE not in os.environ
    assert verify.run(["--key", str(PEM / "p384-public.pem"), str(path)]) == 0


@pytest.mark.parametrize("passphrase", [None, "wrong"])
def test_without_the_right_passphrase_nothing_is_signed(passphrase, capsys, tmp_path, monkeypatch):
    path, key = corpus_copy("one-unsigned.sif", tmp_path), encrypted_key(tmp_path)
    if passphrase is not None:
        monkeypatch.setenv(VARIABLE, passphrase)
    before = path.read_bytes()
    status, out, err = run_text(capsys, "--key", key, path)
    assert (status, out) == (1, "")
    words = "has a passphrase; give it with" if passphrase is None else "wrong passphrase"
    assert f"FATAL:   failed to sign container: {key}" in err
    assert words in err
    assert path.read_bytes() == before


def test_a_key_of_cosigns_signs_natively_too(capsys, tmp_path, monkeypatch):
    path = corpus_copy("one-unsigned.sif", tmp_path)
    monkeypatch.setenv(VARIABLE, (CORPUS / "keys" / "cosign" / "password.txt").read_text().strip())
    assert run_text(capsys, "--key", CORPUS / "keys" / "cosign" / "ci.key", path)[0] == 0
    assert verify.run(["--key", str(CORPUS / "keys" / "cosign" / "ci.pub"), str(path)]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--key", str(PEM / "p256-public.pem")], "holds a public key, which cannot sign"),
        (["--key", "/nowhere/k.pem"], "/nowhere/k.pem: cannot be opened: No such file or directory"),
        (["--key", KEY, "--key", KEY], "the same key is given twice"),
        (["--secret-keyring", str(CORPUS / "keys" / "pgp" / "builder.asc")], "only public keys"),
        (["--secret-keyring", BUILDER_SECRET, "--keyidx", "1"], "no key has the index 1; 0) 81F111F6190C4614"),
        (["--secret-keyring", BUILDER_SECRET, "--fingerprint", "nobody@x"], "no key 'nobody@x'"),
    ],
)
def test_a_key_that_is_none_is_called_what_it_is(options, message, capsys, tmp_path):
    path = corpus_copy("one-unsigned.sif", tmp_path)
    status, out, err = run_text(capsys, *options, path)
    assert (status, out) == (1, "")
    assert message in err


def test_an_empty_ring_says_how_to_make_a_key(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("ECLCTL_KEYS", str(tmp_path / "keys"))
    status, _, err = run_text(capsys, corpus_copy("one-unsigned.sif", tmp_path))
    assert status == 1
    assert "no private key to sign with; make one: eclctl keys newpair" in err


def test_several_keys_are_listed_for_a_choice(capsys, tmp_path):
    ring = tmp_path / "secret.asc"
    secrets = [CORPUS / "keys" / "pgp" / f"{name}-secret.asc" for name in ("builder", "scanner")]
    ring.write_bytes(b"".join(path.read_bytes() for path in secrets))
    status, _, err = run_text(capsys, "--secret-keyring", ring, corpus_copy("one-unsigned.sif", tmp_path))
    assert status == 1
    assert "several private keys; choose one with --fingerprint or --keyidx: 0) 81F111F6190C4614" in err
    assert "; 1) F69053E5830DBDBA" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--key", KEY, "--gnupg"], "--key and --gnupg name keys in different places"),
        (["--key", KEY, "-k", "0"], "choose PGP keys"),
        (["--gnupg", "-k", "0"], "--keyidx counts the keys of your ring"),
        (["-u", "alice"], "--local-user is for --gnupg"),
        (["-k", "0", "--fingerprint", "A"], "give one of them"),
        (["--key", KEY, "--purpose", "review"], "has no place for it"),
        (["--purpose", "Not A Purpose"], "is no purpose"),
        (["--hash", "md5"], "invalid choice"),
        (["--group-id", "0"], "0 is no number from 1 to 268435455"),
        (["--sif-id", "x"], "x is no number from 1 to 268435455"),
        (["--keyring", "a"], "--keyring is for --policy"),
        (["--policy", "a", "--config", "b"], "--config names policies"),
        (["--as", "/srv"], "--as is for --policy"),
        (["--annotation", "a=b"], "--annotation is for --cosign"),
        (["--cosign"], "require a private --key"),
        (["--cosign", "--key", KEY, "--hash", "sha512"], "leave --hash out"),
        (["--cosign", "--key", KEY, "-g", "1"], "specifying SIF descriptors / groups is not supported"),
        (["--passphrase-fd", "x"], "x is no number from 0 to"),
    ],
)
def test_options_that_do_not_go_together_are_usage_errors(options, message, capsys):
    assert message in usage(capsys, *options)


def test_names_from_the_image_reach_the_terminal_escaped(capsys, tmp_path):
    builder = sample()
    builder.add(b"x", name="\x1b[2J\u202e evil\n".encode())
    path = built(builder, tmp_path, "a\x1b.sif")
    status, out, err = run_text(capsys, "--key", KEY, path)
    assert status == 0
    assert "\x1b" not in out + err
    assert r"\x1b[2J\u202e evil\x0a" in out


def test_mode_and_hidden_neighbours_are_as_before(capsys, tmp_path):
    path = corpus_copy("one-unsigned.sif", tmp_path)
    path.chmod(0o750)
    assert run_text(capsys, "--key", KEY, path)[0] == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o750
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_images_with_signatures_of_every_kind_are_signed_once_more(capsys, tmp_path):
    builder = sample()
    builder.sign_legacy(corpus_pgp_key("builder"), group=1)
    builder.sign_pgp(corpus_pgp_key("builder"))
    path = built(builder, tmp_path)
    status, (shape,) = run_json(capsys, "--key", KEY, path)
    assert (status, shape["signatures"][0]["id"]) == (0, 6)


def test_that_an_edit_was_cut_short_is_said_once(capsys, tmp_path):
    path = built(sample(), tmp_path)
    with path.open("r+b") as file:
        begun(file.fileno(), note())
    status, _, errors = run_text(capsys, "--key", KEY, path)
    assert (status, errors.count("was interrupted; it was undone")) == (0, 1)


def test_what_an_edit_left_that_was_cut_short_is_undone_before_anything_is_shown(capsys, tmp_path):
    path, clean = built(sample(), tmp_path), built(sample(), tmp_path, "clean.sif")
    with path.open("r+b") as file:
        begun(file.fileno(), note())
    status, (report,) = run_json(capsys, "--key", OTHER, path)
    run_json(capsys, "--key", OTHER, clean)
    assert (status, report["signed"], report["signatures"][0]["id"]) == (0, True, 4)
    assert report["warnings"] == [
        {"code": "note", "message": "an earlier edit of the image was interrupted; it was undone"}
    ]
    assert objects_of(path)[:3] == objects_of(clean)[:3]
    assert path.stat().st_size == clean.stat().st_size
