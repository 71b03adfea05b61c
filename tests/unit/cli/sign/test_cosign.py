"""`eclctl sign --cosign`: what is shown, what is asked, what scripts read, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from eclctl.cli.sign import command as sign
from tests.helpers.cosigning import KEYS, PASSWORD, corpus_key, verified
from tests.helpers.support import CORPUS, own_copy

UNSIGNED = CORPUS / "oci" / "app-unsigned.oci.sif"
NATIVE = CORPUS / "oci-native" / "app-pgp-builder.oci.sif"
DIGEST = "sha256:e8dca7479c9600fd0248e220f4ac704e8b524f54aa8c347899912fec5dba12b4"
POLICY = """\
version: 1
signers: {ci: {cosign: [KEYS/ci.pub]}, approver: {cosign: [KEYS/approver.pub]}}
rules: [{name: prod, require: [{all_of: [ci, approver]}]}]
"""


@pytest.fixture
def key(tmp_path, monkeypatch) -> str:
    """The key of ci in a file of its owner's alone, its password where cosign takes it from."""
    monkeypatch.setenv("COSIGN_PASSWORD", PASSWORD)
    path = own_copy(KEYS / "ci.key", tmp_path)
    path.chmod(0o600)
    return str(path)


@pytest.fixture
def image(tmp_path) -> Path:
    return own_copy(UNSIGNED, tmp_path)


def run(capsys, *arguments: object) -> tuple[int, str, list[str]]:
    try:
        status = sign.run(["--cosign", *map(str, arguments)])
    except SystemExit as end:
        status = int(end.code or 0)
    said = capsys.readouterr()
    return status, said.out, said.err.splitlines()


def test_it_shows_what_is_signed_and_says_that_it_was(capsys, key, image):
    status, out, err = run(capsys, "--key", key, "--purpose", "scan", "--annotation", "env=prod", image)
    assert status == 0
    assert err == [
        f"INFO:    Sigstore/cosign compatible signature, using key material from '{key}'",
        f"INFO:    Signature created and applied to image '{image}'",
    ]
    assert out.splitlines() == [
        f"To be signed in {image}: 1 cosign signature of the image",
        DIGEST,
        f"Signing key: {key}",
        f"Fingerprint: {corpus_key('ci').public.id}",
        "Purpose: scan",
        "Annotation: env=prod",
        "ID  |PART      |            SIZE",
        "--------------------------------",
        "3   |manifest  |           405 B",
        "2   |config    |           428 B",
        "1   |layer     |         4.0 KiB",
        "and nothing else: neither the image's header nor any other object of the file",
    ]
    optional = verified(image, corpus_key("ci")).payloads[0]["optional"]
    assert sorted(optional) == ["creator", "env", "purpose", "timestamp"]
    assert optional["creator"].startswith("eclctl/")


def test_json_has_one_line_for_each_image(capsys, key, image, tmp_path):
    status, out, _ = run(capsys, "--json", "--key", key, "--annotation", "env=prod", image, tmp_path / "missing.sif")
    assert status == 1
    first, second = map(json.loads, out.splitlines())
    public = corpus_key("ci").public.id
    assert first == {
        "v": 1,
        "image": str(image),
        "signed": True,
        "error": None,
        "format": "cosign",
        "signers": [{"kind": "cosign", "id": public, "name": key}],
        "hash": "sha256",
        "purpose": None,
        "signatures": [{"id": 4, "group": None, "objects": [3, 2, 1], "whole_group": False}],
        "warnings": [],
        "policy": None,
        "digest": DIGEST,
        "annotations": {"env": "prod"},
        "count": 1,
        "broken": [],
    }
    assert (second["signed"], second["error"]["code"]) == (False, "unreadable")


def test_several_keys_take_their_passwords_from_one_descriptor(capsys, key, image, monkeypatch):
    monkeypatch.delenv("COSIGN_PASSWORD")
    read, write = os.pipe()
    os.write(write, f"{PASSWORD}\n{PASSWORD}\n".encode())
    os.close(write)
    status, _, _ = run(capsys, "--key", key, "--key", KEYS / "approver.key", "--passphrase-fd", read, image)
    os.close(read)
    assert status == 0
    assert len(verified(image, corpus_key("ci"), corpus_key("approver")).payloads) == 2


def test_a_key_that_others_can_read_is_warned_of(capsys, key, image):
    Path(key).chmod(0o644)
    status, _, err = run(capsys, "--key", key, image)
    assert status == 0
    assert f"WARNING: others can read {key}, and only its password is in their way: chmod 600" in err


def test_a_native_signature_is_not_broken_unasked(capsys, key, tmp_path):
    image = own_copy(NATIVE, tmp_path)
    before = image.read_bytes()
    status, _, err = run(capsys, "--key", key, image)
    assert status == 1
    assert err[1].startswith("WARNING: the image has native signatures (data objects 5), and this one breaks")
    assert err[-1].endswith("it would break native signatures (data objects 5); to do so all the same, add --yes")
    assert image.read_bytes() == before


def test_a_native_signature_is_broken_where_that_is_said(capsys, key, tmp_path):
    image = own_copy(NATIVE, tmp_path)
    status, out, err = run(capsys, "--yes", "--json", "--key", key, image)
    shape = json.loads(out)
    assert (status, shape["broken"], shape["warnings"][0]["code"]) == (0, [5], "breaks-native")
    assert verified(image, corpus_key("ci")).verified
    assert err, "what key is used is said beside the output"


def test_a_key_that_signs_again_is_told_so(capsys, key, image, monkeypatch):
    run(capsys, "--key", key, image)
    monkeypatch.setenv("COSIGN_PASSWORD", PASSWORD)
    status, _, err = run(capsys, "--key", key, image)
    assert status == 0
    said = " ".join(line.strip() for line in err)
    assert f"WARNING: the key {key} has signed this image before; one key counts once" in said


def test_a_policy_says_what_is_still_missing_before_anything_changes(capsys, key, image, tmp_path, monkeypatch):
    policy = tmp_path / "p.yaml"
    policy.write_text(POLICY.replace("KEYS", str(KEYS)))
    status, out, _ = run(capsys, "--key", key, "--policy", policy, image)
    assert status == 0
    assert "  still to sign: approver" in out.splitlines()
    assert "deny (requirements-not-met)" in out
    monkeypatch.setenv("COSIGN_PASSWORD", PASSWORD)
    status, out, _ = run(capsys, "--json", "--key", KEYS / "approver.key", "--policy", policy, image)
    found = json.loads(out)["policy"]
    assert (status, found["now"]["decision"], found["after"]["decision"]) == (0, "deny", "allow")


def test_a_policy_that_knows_nothing_of_the_key_is_named(capsys, key, image, tmp_path):
    policy = tmp_path / "p.yaml"
    policy.write_text(POLICY.replace("KEYS", str(KEYS)))
    status, out, _ = run(capsys, "--json", "--key", KEYS / "stranger.key", "--policy", policy, image)
    assert status == 0
    assert [each["code"] for each in json.loads(out)["warnings"]] == ["unknown-to-policy"]


def test_a_wrong_password_signs_nothing(capsys, key, image, monkeypatch):
    monkeypatch.setenv("COSIGN_PASSWORD", "other")
    before = image.read_bytes()
    status, out, err = run(capsys, "--json", "--key", key, image, "other.sif")
    assert status == 1
    assert [json.loads(line)["error"]["code"] for line in out.splitlines()] == ["key-material", "key-material"]
    assert err[-1] == f"FATAL:   failed to sign container: {key}: wrong password, or the file has been changed"
    assert image.read_bytes() == before


def test_without_a_password_and_a_terminal_it_says_how_to_give_one(capsys, key, image, monkeypatch):
    monkeypatch.delenv("COSIGN_PASSWORD")
    status, _, err = run(capsys, "--key", key, image)
    assert status == 1
    assert err[-1].endswith("give it with --passphrase-fd or in COSIGN_PASSWORD")


def test_the_password_does_not_stay_in_the_environment(capsys, key, image):
    run(capsys, "--key", key, image)
    assert "COSIGN_PASSWORD" not in os.environ


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--cosign signatures require a private --key to be specified"),
        (["--key", "k", "--group-id", "1"], "specifying SIF descriptors / groups is not supported"),
        (["--key", "k", "--sif-id", "1"], "specifying SIF descriptors / groups is not supported"),
        (["--key", "k", "--annotation", "scan"], "NAME=VALUE is needed"),
        (["--key", "k", "--annotation", "=scan"], "NAME=VALUE is needed"),
        (["--key", "k", "--annotation", "purpose=scan"], "say it with --purpose"),
        (["--key", "k", "--annotation", "creator=x"], "eclctl writes that one"),
        (["--key", "k", "--annotation", "timestamp=1"], "eclctl writes that one"),
        (["--key", "k", "--annotation", "a=1", "--annotation", "a=2"], "is given twice"),
        (["--key", "k", "--annotation", "a=\udcff"], "not UTF-8"),
        (["--key", "k", "--purpose", "No Purpose"], "is no purpose"),
    ],
)
def test_what_does_not_go_with_cosign_is_a_usage_error(capsys, arguments, words):
    status, out, err = run(capsys, *arguments, "app.sif")
    assert (status, out) == (2, "")
    assert words in err[0]


def test_the_same_key_twice_is_one_too_many(capsys, key, image):
    status, _, err = run(capsys, "--key", key, "--key", KEYS / "ci.key", image)
    assert status == 1
    assert "the same key is given twice" in err[-1]


def test_a_key_that_is_not_there_is_named(capsys, image, tmp_path):
    status, _, err = run(capsys, "--key", tmp_path / "no.key", image)
    assert (status, err[-1]) == (1, f"FATAL:   failed to sign container: {tmp_path}/no.key: No such file or directory")


def test_nothing_hostile_reaches_the_terminal(capsys, key, image, tmp_path):
    hostile = tmp_path / "a\x1b[2J.sif"
    image.rename(hostile)
    _, out, err = run(capsys, "--key", key, "--annotation", "a=\x1b[2J", hostile)
    assert "\x1b" not in out + "".join(err)
    assert "\\x1b[2J" in out
