"""`eclctl verify`: scopes, output shapes and exit statuses."""

from __future__ import annotations

import io
import json
import os
import sys

import pytest

from eclctl.cli.verify import command as verify
from tests.helpers.sifbuilder import corpus_pgp_key, pem_key, sample
from tests.helpers.support import CORPUS

IMAGES = CORPUS / "images"
RING = str(CORPUS / "keys" / "pgp" / "site-ring.asc")
KEY = str(CORPUS / "keys" / "pem" / "p256-public.pem")
BUILDER = "81F111F6190C46143937EF7C22BC3A3BC942487F"


def image(name):
    return str(IMAGES / name)


def run_json(capsys, *arguments):
    status = verify.run(["--json", *arguments])
    return status, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_json_has_the_documented_shape(capsys):
    status, (shape,) = run_json(capsys, "--keyring", RING, image("one-builder.sif"))
    assert status == 0
    signer = {"kind": "pgp", "id": BUILDER, "name": "Builder (corpus 101) <builder@site101.example>"}
    assert shape == {
        "v": 1,
        "image": image("one-builder.sif"),
        "verified": True,
        "error": None,
        "signatures": [
            {"id": 4, "format": "pgp", "valid": True, "signer": signer, "objects": [1, 2, 3], "error": None}
        ],
        "payloads": [],
    }


def test_json_gives_one_object_for_each_path_in_order_whatever_fails(capsys, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "locked").write_bytes(sample().build())
    paths = [image("one-mallory.sif"), str(tmp_path / "none"), image("one-builder.sif"), str(tmp_path / "fifo")]
    paths += [str(tmp_path), image("struct-empty.sif"), image("not-a-sif.sif"), "/dev/null", "nul\0"]
    status, shapes = run_json(capsys, "--keyring", RING, *paths)
    assert status == 1
    assert [shape["image"] for shape in shapes] == paths
    assert [shape["verified"] for shape in shapes] == [path == image("one-builder.sif") for path in paths]
    codes = [shape["error"] and shape["error"]["code"] for shape in shapes]
    assert codes == [
        "unknown-key",
        "unreadable",
        None,
        "unsupported-file",
        "unsupported-file",
        "malformed",
        "malformed",
        "unsupported-file",
        "unreadable",
    ]


def test_a_pem_key_is_a_signer_of_kind_key(capsys):
    status, (shape,) = run_json(capsys, "--key", KEY, image("one-dsse-p256.sif"))
    assert status == 0
    signer = shape["signatures"][0]["signer"]
    assert (signer["kind"], signer["id"]) == ("key", pem_key("p256").public.id)


def test_keys_and_keyrings_are_used_together(capsys):
    both = ["--keyring", RING, "--key", KEY]
    assert run_json(capsys, *both, image("one-builder+dsse-p256.sif"))[0] == 0
    status, (shape,) = run_json(capsys, "--keyring", RING, image("one-builder+dsse-p256.sif"))
    assert status == 1
    assert shape["error"]["message"] == "integrity: key material not provided for DSSE envelope signature"
    assert [found["valid"] for found in shape["signatures"]] == [True, False]
    assert shape["signatures"][1]["signer"] is None


def test_keyrings_and_keys_repeat(capsys):
    rings = [str(CORPUS / "keys" / "pgp" / f"{name}.asc") for name in ("builder", "scanner")]
    status, _ = run_json(capsys, "--keyring", rings[0], "--keyring", rings[1], image("one-builder+scanner.sif"))
    assert status == 0
    other = str(CORPUS / "keys" / "pem" / "ed25519-public.pem")
    assert run_json(capsys, "--key", KEY, "--key", other, image("one-dsse-ed25519.sif"))[0] == 0


@pytest.mark.parametrize(
    ("arguments", "name", "status"),
    [
        (["-g", "1"], "two-group1-builder.sif", 0),
        (["--group-id", "2"], "two-group1-builder.sif", 1),
        (["-g", "1", "-g", "2"], "two-builder.sif", 0),
        (["-i", "1"], "one-object1.sif", 0),
        (["--sif-id", "2"], "one-object1.sif", 1),
        (["--all"], "one-builder.sif", 0),
        (["--legacy-insecure"], "../legacy/object-primary.sif", 0),
        (["--legacy-insecure", "--all"], "../legacy/object-primary.sif", 1),
        (["--legacy-insecure", "--all"], "../legacy/all-objects.sif", 0),
        (["--legacy-insecure", "-g", "1"], "../legacy/group.sif", 0),
        ([], "../legacy/group.sif", 1),
    ],
)
def test_scopes(arguments, name, status):
    assert verify.run(["--keyring", RING, *arguments, image(name)]) == status


def test_paths_come_from_files_and_standard_input(capsys, monkeypatch, tmp_path):
    listed = tmp_path / "list"
    listed.write_text(f"{image('one-builder.sif')}\n\n{image('one-scanner.sif')}\n")
    status, shapes = run_json(capsys, "--keyring", RING, "--from-file", str(listed), image("gpg-subkey.sif"))
    assert len(shapes) == 3
    assert shapes[0]["image"] == image("gpg-subkey.sif")
    stdin = io.TextIOWrapper(io.BytesIO(b"\xff.sif\n"))
    monkeypatch.setattr(sys, "stdin", stdin)
    status, (shape,) = run_json(capsys, "--keyring", RING, "--from-file", "-")
    assert status == 1
    assert shape["image"] == os.fsdecode(b"\xff.sif")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name an image"),
        (["a.sif"], "--keyring FILE or --key FILE"),
        (["--keyring", "/nonexistent", "a.sif"], "/nonexistent: cannot be opened: No such file"),
        (["--key", RING, "a.sif"], "as a keyring"),
        (["--from-file", "/nonexistent"], "/nonexistent: No such file"),
        (["-g", "0", "a.sif"], "no number from 1"),
        (["-i", "x", "a.sif"], "no number from 1"),
        (["--cosign", "a.sif"], "--cosign needs a public --key FILE"),
        (["--keyr", RING, "a.sif"], "unrecognized arguments"),
    ],
)
def test_usage_errors_exit_with_2_and_say_why(capsys, monkeypatch, arguments, words):
    monkeypatch.setattr(verify, "SYSTEM_KEYS", "/nonexistent/keys.d")
    assert verify.run(arguments) == 2
    assert words in capsys.readouterr().err


def test_key_material_that_does_not_load_still_answers_for_each_path(capsys):
    status, shapes = run_json(capsys, "--keyring", "/nonexistent", "a.sif", "b.sif")
    assert status == 2
    assert [(shape["image"], shape["error"]["code"]) for shape in shapes] == [
        ("a.sif", "key-material"),
        ("b.sif", "key-material"),
    ]


def test_the_system_keyring_is_used_only_when_no_key_is_given(monkeypatch, tmp_path):
    (tmp_path / "site.asc").write_bytes((CORPUS / "keys" / "pgp" / "site-ring.asc").read_bytes())
    monkeypatch.setattr(verify, "SYSTEM_KEYS", str(tmp_path))
    assert verify.run([image("one-builder.sif")]) == 0
    assert verify.run(["--key", KEY, image("one-builder.sif")]) == 1


def test_text_shows_signer_table_and_result(capsys):
    assert verify.run(["--keyring", RING, image("one-builder.sif")]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "[LOCAL]            Signing entity: Builder (corpus 101) <builder@site101.example>",
        f"[LOCAL]            Fingerprint: {BUILDER}",
        "Objects verified:",
        "ID  |GROUP   |LINK    |TYPE",
        "------------------------------------------------",
        "1   |1       |NONE    |Def.FILE",
        "2   |1       |NONE    |JSON.Generic",
        "3   |1       |NONE    |FS",
    ]
    assert captured.err.splitlines() == [
        "INFO:    Verifying image with PGP key material",
        f"INFO:    Verified signature(s) from image '{image('one-builder.sif')}'",
    ]


def test_text_reports_every_failing_signature(capsys, tmp_path):
    builder = sample()
    builder.attach(b"junk")
    builder.sign_pgp(corpus_pgp_key("mallory"))
    path = tmp_path / "\x1b[31mred.sif"
    path.write_bytes(builder.build())
    assert verify.run(["--keyring", RING, str(path)]) == 1
    captured = capsys.readouterr()
    assert "signature format not recognized" in captured.out
    assert "signature object 5 not valid: openpgp: signature made by unknown entity" in captured.out
    assert "\x1b" not in captured.out + captured.err
    assert r"\x1b[31mred.sif" in captured.err


def test_help_ends_in_examples(capsys):
    assert verify.run(["--help"]) == 0
    assert "examples:" in capsys.readouterr().out


def test_a_keyring_that_holds_a_private_key_verifies_and_is_complained_about(capsys):
    secret = str(CORPUS / "keys" / "pgp" / "builder-secret.asc")
    assert verify.run(["--json", "--keyring", RING, "--keyring", secret, image("one-builder.sif")]) == 0
    complaints = capsys.readouterr().err.splitlines()
    assert len(complaints) == 1
    assert complaints[0].startswith(f"WARNING: {secret} holds the private key of {BUILDER},")


def test_without_any_keys_each_image_still_gets_its_json_object(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(verify, "SYSTEM_KEYS", str(tmp_path / "none"))
    status, shapes = run_json(capsys, image("one-builder.sif"), "none")
    assert status == 2
    assert [(shape["image"], shape["verified"]) for shape in shapes] == [
        (image("one-builder.sif"), False),
        ("none", False),
    ]
    assert {shape["error"]["code"] for shape in shapes} == {"key-material"}
