"""Signing OCI-SIF images with cosign keys: what changes in a file, what stays, and what is not signed at all."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from eclctl.errors import SigningError
from eclctl.sif.reader import Sif
from eclctl.sign import cosign_sign
from eclctl.sign.cosign_sign import Subject
from eclctl.sign.edit.editing import editing
from eclctl.sign.pem import PrivateKey
from eclctl.verify.cosign import MAX_SIGNATURES
from tests.helpers.cosigning import WHEN, laid_open, made_key, sign, verified
from tests.helpers.ocibuilder import (
    ATTESTATION,
    INDEX_TYPE,
    OCI_BLOB,
    REF_NAME,
    ROOT_INDEX,
    OciBuilder,
    compact,
    cosign_key,
    digest_of,
    oci_sample,
    payload,
)
from tests.helpers.sifbuilder import GENERIC, SifBuilder, corpus_pgp_key, sample

CI, RELEASE = made_key("ci"), made_key("release")
THEIRS = cosign_key("ci", "p256")


def written(folder: Path, image: OciBuilder | SifBuilder | bytes) -> Path:
    path = folder / "image.sif"
    path.write_bytes(image if isinstance(image, bytes) else image.build())
    return path


def subject(path: Path) -> Subject:
    with editing(str(path)) as edited:
        return cosign_sign.signing_subject(edited.image)


def blobs(path: Path) -> dict[str, bytes]:
    return {digest_of(data): data for data in laid_open(path)[2]}


def root(path: Path) -> dict[str, Any]:
    _, fields, data = laid_open(path)
    return json.loads(next(each for field, each in zip(fields, data, strict=True) if field[0] == ROOT_INDEX))


def manifest(path: Path, name: str) -> dict[str, Any]:
    entry = next(each for each in root(path)["manifests"] if each.get("annotations", {}).get(REF_NAME) == name)
    return json.loads(blobs(path)[entry["digest"]])


def refused(path: Path, words: str, *keys: PrivateKey) -> None:
    """A file is not signed, and is byte for byte as it was, with nothing beside it."""
    before = path.read_bytes()
    with pytest.raises(SigningError, match=words):
        sign(path, *(keys or (CI,)))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_several_keys_sign_in_one_edit(tmp_path, count):
    path = written(tmp_path, oci_sample())
    keys = [made_key(f"k{number}") for number in range(count)]
    made = sign(path, *keys)
    assert made.signatures == count
    assert len(verified(path, *keys).payloads) == count
    assert [d[0] for d in laid_open(path)[1]].count(OCI_BLOB) == 4 + 3, "one payload serves all keys of a moment"


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa", "ed25519"])
def test_every_kind_of_key_that_is_verified_signs(tmp_path, kind):
    path = written(tmp_path, oci_sample())
    sign(path, made_key("x", kind))
    assert verified(path, made_key("x", kind)).verified


def test_the_subject_tells_what_a_signature_covers_and_replaces(tmp_path):
    what = subject(written(tmp_path, oci_sample(THEIRS, cosign_key("b"))))
    assert what.signatures == 2
    assert what.objects == (4, 3, 1, 2), "manifest, config, layers"
    assert what.breaks == ()
    _, fields, data = laid_open(tmp_path / "image.sif")
    gone = [data[number] for number, field in enumerate(fields) if field[1] in what.removes]
    assert [sorted(json.loads(each)) for each in gone] == [
        ["rootfs"],
        ["config", "layers", "mediaType", "schemaVersion"],
        ["manifests", "mediaType", "schemaVersion"],
    ]


def test_nothing_of_what_was_replaced_stays_in_the_file(tmp_path):
    image = oci_sample(THEIRS).finish()
    image.attach(b"a native signature behind them", link=1)
    path = written(tmp_path, image)
    _, fields, data = laid_open(path)
    removes = subject(path).removes
    gone = [each for field, each in zip(fields, data, strict=True) if field[1] in removes]
    assert len(gone) == 3
    sign(path, RELEASE, at=2)
    left = path.read_bytes()
    assert not any(each in left for each in gone)
    assert b"a native signature behind them" in left


def test_a_payload_says_what_the_signer_adds_in_the_order_of_go(tmp_path):
    path = written(tmp_path, oci_sample())
    sign(path, CI, at=7, purpose="scan", Zone="<a>&\u2028é")
    text = next(each for each in laid_open(path)[2] if each.startswith(b'{"critical'))
    assert text == (
        b'{"critical":{"identity":{"docker-reference":""},"image":{"docker-manifest-digest":"'
        + subject(path).digest.encode()
        + b'"},"type":"cosign container image signature"},"optional":{"Zone":"\\u003ca\\u003e\\u0026\\u2028\xc3\xa9",'
        b'"creator":"Singularity-Ce/4.5.1 (Linux amd64) Go/1.26.8","purpose":"scan","timestamp":7}}'
    )


def test_an_attestation_and_other_members_of_the_index_stay(tmp_path):
    image = oci_sample()
    statement = image.content(b'{"payload":""}', ATTESTATION)
    image.entry(
        image.manifest([statement], b'{"a":1}'), f"_cosign:{image.image.replace(':', '-')}.att", platform={"os": "x"}
    )
    image.root = compact(
        {
            "annotations": {"z": "1", "a": "2"},
            "org.example.unknown": [1, 2],
            "manifests": image.index,
            "mediaType": INDEX_TYPE,
            "schemaVersion": 2,
        }
    )
    path = written(tmp_path, image)
    before = root(path)
    sign(path, CI)
    sign(path, RELEASE)
    after = root(path)
    assert after["manifests"][:2] == before["manifests"]
    assert len(after["manifests"]) == 3
    assert after["annotations"] == before["annotations"]
    assert list(after) == ["schemaVersion", "mediaType", "manifests", "annotations", "org.example.unknown"]
    assert after["org.example.unknown"] == [1, 2]
    assert blobs(path)[statement["digest"]] == b'{"payload":""}'


def test_a_config_that_another_entry_names_stays(tmp_path):
    image = oci_sample()
    shared = b'{"rootfs":{"diff_ids":[]}}'
    name = f"_cosign:{image.image.replace(':', '-')}"
    layer = image.content(b'{"payload":""}', ATTESTATION)
    image.entry(image.manifest([layer], shared), f"{name}.att")
    image.entry(image.manifest([], shared), f"{name}.sig")
    path = written(tmp_path, image)
    sign(path, CI)
    assert digest_of(shared) in blobs(path)
    sign(path, RELEASE)
    assert verified(path, CI, RELEASE).verified
    assert len(verified(path, CI, RELEASE).payloads) == 2


def test_nothing_but_the_root_index_is_removed_where_an_entry_cannot_be_read(tmp_path):
    image = oci_sample(THEIRS)
    image.entry(b"no manifest", "_cosign:other")
    path = written(tmp_path, image)
    what = subject(path)
    assert what.removes == {what.root}
    before = blobs(path)
    sign(path, RELEASE)
    assert len(before.keys() - blobs(path).keys()) == 1
    assert len(verified(path, CI, RELEASE).payloads) == 2


@pytest.mark.parametrize(
    "config", [b"{}", b"[]", b"no JSON", b'{"rootfs":7,"history":7}', b'{"rootfs":{"diff_ids":[]}}']
)
def test_a_config_that_leaves_layers_out_gets_them(tmp_path, config):
    image = oci_sample()
    image.sign(THEIRS)
    image.entry(image.manifest(image.signatures, config), image.signature_name)
    image.signatures = []
    path = written(tmp_path, image)
    sign(path, RELEASE)
    document = manifest(path, image.signature_name)
    found = json.loads(blobs(path)[document["config"]["digest"]])
    assert found["rootfs"]["diff_ids"] == [layer["digest"] for layer in document["layers"]]
    assert len(document["layers"]) == 2
    assert len(verified(path, CI, RELEASE).payloads) == 2


def test_what_is_written_into_a_config_inside_the_manifest_is_the_new_config(tmp_path):
    image = oci_sample()
    image.sign(THEIRS)
    document = json.loads(image.manifest(image.signatures))
    document["config"]["data"] = "e30="
    image.entry(compact(document), image.signature_name)
    image.signatures = []
    path = written(tmp_path, image)
    sign(path, RELEASE)
    content = manifest(path, image.signature_name)["config"]
    assert hashlib.sha256(base64.b64decode(content["data"])).hexdigest() == content["digest"][7:]


@pytest.mark.parametrize(
    ("covers", "broken"), [("group", True), ("root", True), ("layer", False), ("other group", False)]
)
def test_the_native_signatures_that_would_break_are_named(tmp_path, covers, broken):
    image = oci_sample(THEIRS).finish()
    match covers:
        case "group":
            entry = image.sign_pgp(corpus_pgp_key("builder"))
        case "root":
            last = max(each.id for each in image.entries)
            entry = image.attach(b"signature", link=last)
        case "layer":
            entry = image.attach(b"signature", link=1)
        case _:
            image.add(b"beside", GENERIC, group=2)
            entry = image.attach(b"signature", link=2 | 0xF0000000)
    assert subject(written(tmp_path, image)).breaks == ((entry.id,) if broken else ())


def test_a_plain_sif_image_is_not_signed_by_cosign(tmp_path):
    refused(written(tmp_path, sample()), "not an OCI-SIF")


def test_an_image_that_would_be_one_of_several_is_not_signed(tmp_path):
    image = oci_sample()
    image.add_image(b"other")
    refused(written(tmp_path, image), "multiple matching images")


def test_an_image_that_the_reference_would_not_find_is_not_signed(tmp_path):
    image = OciBuilder()
    image.add_image(b"layer", name="app:latest")
    refused(written(tmp_path, image), "no matching image / index found")


def test_an_index_without_an_image_is_not_signed(tmp_path):
    refused(written(tmp_path, OciBuilder()), "no matching image / index found")


def test_an_image_whose_layer_is_missing_is_not_signed(tmp_path):
    image = oci_sample()
    image.sif.entries = image.sif.entries[1:]
    refused(written(tmp_path, image), "the image is damaged: no object holds the blob")


def test_an_image_with_a_damaged_blob_beside_it_is_not_signed(tmp_path):
    image = oci_sample()
    image.blob(b"what is not named", stated=digest_of(b"other"))
    refused(written(tmp_path, image), "OCI blob digest mismatch")


def test_a_root_index_that_is_not_what_it_states_is_not_built_upon(tmp_path):
    image = oci_sample().finish()
    image.entries[-1].extra = digest_of(b"other").encode()
    refused(written(tmp_path, image), "OCI blob digest mismatch")


def test_signatures_in_two_places_are_not_added_to(tmp_path):
    image = oci_sample()
    for number in range(2):
        layer = image.content(payload(image.image, n=number), "application/vnd.dev.cosign.simplesigning.v1+json")
        image.entry(image.manifest([layer]), image.signature_name)
    refused(written(tmp_path, image), "several cosign manifests")


def test_signatures_that_are_damaged_are_not_added_to(tmp_path):
    image = oci_sample()
    image.sign(THEIRS)
    image.signatures[0]["size"] += 1
    refused(written(tmp_path, image), "the cosign signatures of the image are damaged")


def test_no_more_signatures_are_made_than_are_looked_at(tmp_path):
    image = oci_sample()
    layer = image.sign(THEIRS)
    image.signatures = [layer] * (MAX_SIGNATURES - 1)
    path = written(tmp_path, image)
    refused(path, "at most 256", CI, RELEASE)
    sign(path, RELEASE)
    assert subject(path).signatures == MAX_SIGNATURES
    assert verified(path, RELEASE).verified


def test_a_payload_that_no_reader_would_take_is_not_signed(tmp_path):
    path = written(tmp_path, oci_sample())
    with pytest.raises(SigningError, match="at most 65536 are read"):
        sign(path, CI, note="x" * 70_000)


def test_an_image_without_free_descriptors_stays_as_it_was(tmp_path):
    sif = oci_sample().finish()
    sif.slots = len(sif.entries) + 2
    refused(written(tmp_path, sif), "descriptor slots")


class LyingKey(PrivateKey):
    """A key that makes no signatures."""

    def sign(self, message: bytes) -> bytes:
        return bytes(70)


def test_a_signature_that_does_not_verify_never_reaches_the_file(tmp_path):
    refused(written(tmp_path, oci_sample()), "does not verify", LyingKey(CI.public, CI._key))


def test_who_looks_at_the_signed_file_can_keep_it_from_its_name(tmp_path):
    path = written(tmp_path, oci_sample())
    before = path.read_bytes()

    def witness(*_: object) -> None:
        assert path.read_bytes() == before
        raise SigningError("no")

    with editing(str(path)) as edited, pytest.raises(SigningError, match="no"):
        cosign_sign.sign_cosign(edited, [CI], {}, WHEN, witness=witness)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("said", "asked", "again"), [({}, None, True), ({"purpose": "scan"}, None, False), ({}, "scan", False)]
)
def test_a_key_that_signed_before_for_the_same_is_known(tmp_path, said, asked, again):
    path = written(tmp_path, oci_sample())
    sign(path, CI, **said)
    with editing(str(path)) as edited:
        image: Sif = edited.image
        assert cosign_sign.repeated(image, [CI, RELEASE], asked) == ((CI,) if again else ())
