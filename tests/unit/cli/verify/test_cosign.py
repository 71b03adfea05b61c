"""`eclctl verify --cosign`: the reference's words, the shape in JSON, and what goes with it."""

from __future__ import annotations

import json

import pytest

from eclctl.cli.verify import command as verify
from tests.helpers.ocibuilder import BUNDLE, cosign_key, oci_sample
from tests.helpers.support import CORPUS

OCI = CORPUS / "oci"
APP, UNSIGNED = str(OCI / "app-ci.oci.sif"), str(OCI / "app-unsigned.oci.sif")
CI, STRANGER, APPROVER = (str(CORPUS / "keys" / "cosign" / f"{name}.pub") for name in ("ci", "stranger", "approver"))
RING = str(CORPUS / "keys" / "pgp" / "site-ring.asc")
DIGEST = "sha256:e8dca7479c9600fd0248e220f4ac704e8b524f54aa8c347899912fec5dba12b4"
PAYLOAD = (
    '{"critical":{"identity":{"docker-reference":""},"image":{"docker-manifest-digest":"' + DIGEST + '"},'
    '"type":"cosign container image signature"},"optional":{"creator":"Singularity-Ce/4.5.1 (Linux amd64) Go/1.26.8",'
    '"timestamp":1795365456}}'
)


def run(capsys, *arguments):
    status = verify.run([*arguments])
    said = capsys.readouterr()
    return status, said.out, said.err.splitlines()


def test_a_verified_image_prints_its_payloads_in_the_references_words(capsys):
    status, out, err = run(capsys, "--cosign", "--key", CI, APP)
    assert status == 0
    assert out == f"[{PAYLOAD}]\n"
    assert err == [
        f"INFO:    Verifying image with sigstore/cosign signature, using key material from '{CI}'",
        "INFO:    Verifying digests for 6 OCI Blobs",
        f"INFO:    Image digest: {DIGEST}",
        "INFO:    Image has 1 associated signatures",
        "INFO:    Image has 1 signatures that are valid with provided key material",
    ]


def test_a_key_that_signed_nothing_finds_no_valid_signatures(capsys):
    status, out, err = run(capsys, "-c", "--key", STRANGER, APP)
    assert (status, out) == (1, "")
    assert err[-2:] == [
        "INFO:    Image has 0 signatures that are valid with provided key material",
        "FATAL:   no valid signatures found",
    ]


def test_damaged_blobs_are_all_named_and_the_first_is_fatal(capsys, tmp_path):
    builder = oci_sample(cosign_key())
    for entry in builder.sif.entries[:2]:
        entry.data = b"other" + entry.data[5:]
    (tmp_path / "damaged.sif").write_bytes(builder.build())
    status, out, err = run(capsys, "--cosign", "--key", CI, str(tmp_path / "damaged.sif"))
    assert (status, out) == (1, "")
    assert err[1] == "INFO:    Verifying digests for 7 OCI Blobs"
    stated = [f'"{entry.extra.decode()}"' for entry in builder.sif.entries[:2]]
    assert err[2].startswith(f"ERROR:   OCI blob digest mismatch: expected {stated[1]}, found ")
    assert err[3].startswith(f"FATAL:   OCI blob digest mismatch: expected {stated[0]}, found ")
    assert len(err) == 4


def test_json_has_the_documented_shape(capsys):
    status, out, err = run(capsys, "--cosign", "--json", "--key", CI, "--key", APPROVER, APP)
    assert (status, err) == (0, [])
    signer = {
        "kind": "cosign",
        "id": "sha256:32692605a2abfc30e3e55fe561ee34723d2fc975c1d99c33430f8830f3e1f208",
        "name": CI,
    }
    assert json.loads(out) == {
        "v": 1,
        "image": APP,
        "verified": True,
        "error": None,
        "signatures": [
            {"id": 4, "format": "cosign", "valid": True, "signer": signer, "objects": [1, 2, 3], "error": None}
        ],
        "payloads": [json.loads(PAYLOAD)],
    }


def test_payloads_are_in_file_order_and_duplicates_are_kept(capsys):
    _, out, _ = run(capsys, "--cosign", "--json", "--key", CI, "--key", APPROVER, str(OCI / "app-ci+approver.oci.sif"))
    stamps = [found["optional"]["timestamp"] for found in json.loads(out)["payloads"]]
    assert stamps == [1795365456, 1795365457]
    _, out, _ = run(capsys, "--cosign", "--json", "--key", CI, str(OCI / "app-ci+ci.oci.sif"))
    first, second = json.loads(out)["payloads"]
    assert first == second


def test_several_images_answer_in_order_whatever_fails(capsys, tmp_path):
    listed = tmp_path / "list"
    plain = str(CORPUS / "images" / "one-builder.sif")
    listed.write_text(f"{plain}\n/nonexistent.sif\n")
    status, out, _ = run(capsys, "--cosign", "--json", "--key", CI, "--from-file", str(listed), UNSIGNED, APP)
    assert status == 1
    shapes = [json.loads(line) for line in out.splitlines()]
    assert [shape["image"] for shape in shapes] == [UNSIGNED, APP, plain, "/nonexistent.sif"]
    assert [shape["error"] and shape["error"]["code"] for shape in shapes] == [
        "no-valid-signatures",
        None,
        "not-oci-sif",
        "unreadable",
    ]
    assert shapes[2]["error"]["message"] == f'not an OCI-SIF: "{plain}"'
    status, out, err = run(capsys, "--cosign", "--key", CI, UNSIGNED, APP)
    assert status == 1
    assert [line for line in out.splitlines() if line.startswith("Image: ")] == [f"Image: {UNSIGNED}", f"Image: {APP}"]
    assert "FATAL:   no valid signatures found" in err


def test_a_signature_in_the_newer_format_is_pointed_out(capsys, tmp_path):
    builder = oci_sample()
    builder.entry(builder.manifest([builder.content(b"{}", BUNDLE)]), builder.signature_name)
    (tmp_path / "bundle.sif").write_bytes(builder.build())
    status, _, err = run(capsys, "--cosign", "--key", CI, str(tmp_path / "bundle.sif"))
    assert status == 1
    assert "--new-bundle-format=false" in err[-2]
    assert err[-1] == "FATAL:   no valid signatures found"


def test_nothing_from_a_payload_or_a_name_is_obeyed_by_a_terminal(capsys, tmp_path):
    builder = oci_sample()
    builder.sign(cosign_key(), note="\x1b[31m\x7f\u202e<&>")
    path = tmp_path / "\x1b[2J.sif"
    path.write_bytes(builder.build())
    (tmp_path / "ci.pem").write_bytes(cosign_key().pem)
    status, out, err = run(capsys, "--cosign", "--key", str(tmp_path / "ci.pem"), str(path), str(path))
    assert status == 0
    text = out + "\n".join(err)
    assert "\x1b" not in text
    assert "\x7f" not in text
    assert "\u202e" not in text
    assert r"\u001b[31m\u007f\u202e\u003c\u0026\u003e" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([APP], "--cosign needs a public --key FILE"),
        (["--keyring", RING, "--key", CI, APP], "--keyring is not for --cosign"),
        (["--certificate", CI, "--key", CI, APP], "--certificate is not for --cosign"),
        (["--local", "--key", CI, APP], "--local is not for --cosign"),
        (["--group-id", "1", "--key", CI, APP], "--group-id is not for --cosign"),
        (["--sif-id", "1", "--key", CI, APP], "--sif-id is not for --cosign"),
        (["--all", "--key", CI, APP], "--all is not for --cosign"),
        (["--legacy-insecure", "--key", CI, APP], "--legacy-insecure is not for --cosign"),
        (["--key", "/nonexistent", APP], "/nonexistent: cannot be opened: No such file"),
        (["--key", RING, APP], "as a keyring"),
        (["--key", CI], "name an image"),
    ],
)
def test_usage_errors_exit_with_2_and_say_why(capsys, arguments, words):
    status, out, err = run(capsys, "--cosign", *arguments)
    assert (status, out) == (2, "")
    assert words in err[0]


def test_a_key_that_does_not_load_still_answers_for_each_path(capsys):
    status, out, _ = run(capsys, "--cosign", "--json", "--key", "/nonexistent", APP, UNSIGNED)
    assert status == 2
    shapes = [json.loads(line) for line in out.splitlines()]
    assert [(shape["image"], shape["error"]["code"]) for shape in shapes] == [
        (APP, "key-material"),
        (UNSIGNED, "key-material"),
    ]


def test_verify_without_cosign_points_to_it_for_an_oci_sif_alone(capsys):
    hint = "INFO:    Image is an OCI-SIF, use `--cosign` to verify cosign compatible signatures."
    assert run(capsys, "--keyring", RING, APP)[2][0] == hint
    assert hint not in run(capsys, "--keyring", RING, str(CORPUS / "images" / "one-builder.sif"))[2]
    assert run(capsys, "--keyring", RING, "--json", APP)[2] == []
