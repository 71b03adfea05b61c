"""Attacks on cosign signatures and on what an OCI-SIF runs: what a policy with a cosign signer answers.

Each image is built so that every digest is right, and put to the policy as a file that is verified for real.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import IO

import pytest

from eclctl.errors import MalformedImageError
from eclctl.model import Code
from eclctl.verify.cosign import MAX_SIGNATURES, verify_cosign
from eclctl.verify.examine import examine
from tests.helpers.deciding import ask
from tests.helpers.ocibuilder import (
    ATTESTATION,
    BUNDLE,
    CONFIG_TYPE,
    INDEX_TYPE,
    MANIFEST_TYPE,
    ROOT_INDEX,
    SIMPLE_SIGNING,
    SQUASHFS_TYPE,
    OciBuilder,
    compact,
    cosign_key,
    cosign_store,
    digest_of,
    oci_sample,
    payload,
)
from tests.helpers.sifbuilder import SifBuilder, opened

KEY, STRANGER = cosign_key("ci"), cosign_key("stranger")
STORE = cosign_store(KEY)
FILES = {"ci.pem": KEY.pem}
POLICY = "version: 1\nsigners: {ci: {cosign: [ci.pem]}}\nrules: [{name: it, require: [{any_of: [ci]}]}]\n"
PERMISSIVE = POLICY.replace("name: it,", "name: it, mode: permissive,")
EVIL = b"hsqs" + b"\xee" * 4092


def code(image: OciBuilder | SifBuilder | Path, policy: str = POLICY) -> Code:
    made = image.finish() if isinstance(image, OciBuilder) else image
    return ask(made, policy, files=FILES).code


def signed_manifest(**changes: object) -> OciBuilder:
    """An image whose manifest has members changed, and which the trusted key signed all the same."""
    builder = OciBuilder()
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": builder.content(b"{}", CONFIG_TYPE),
        "layers": [builder.content(b"hsqs", SQUASHFS_TYPE)],
        **changes,
    }
    manifest = compact(document)
    builder.entry(manifest)
    builder.image = digest_of(manifest)
    builder.sign(KEY)
    return builder


def test_cosign_the_image_as_it_was_signed_is_allowed():
    """Cosign | the answer without an attack."""
    assert code(oci_sample(KEY)) is Code.REQUIREMENTS_MET
    assert code(signed_manifest()) is Code.REQUIREMENTS_MET
    assert code(oci_sample(STRANGER)) is Code.REQUIREMENTS_NOT_MET


def test_cosign_a_payload_for_another_digest_denies():
    """Cosign | payload for another digest: a signature of the trusted key, moved to another image."""
    good, evil = oci_sample(KEY), OciBuilder()
    evil.add_image(EVIL)
    evil.sign(KEY, payload(good.image))
    assert code(evil) is Code.TAMPERED
    evil = OciBuilder()
    evil.add_image(EVIL)
    evil.sign(KEY, payload(good.image))
    assert code(evil, PERMISSIVE) is Code.TAMPERED


def test_cosign_a_manifest_of_signatures_for_another_digest_counts_for_nothing():
    """Cosign | payload for another digest: with the cosign manifest of the image that it is for."""
    good, evil = oci_sample(KEY), OciBuilder()
    evil.add_image(EVIL)
    layer = evil.content(payload(good.image), SIMPLE_SIGNING, annotations=good.signatures[0]["annotations"])
    evil.entry(evil.manifest([layer]), good.signature_name)
    assert code(evil) is Code.REQUIREMENTS_NOT_MET


@pytest.mark.parametrize("kind", ["atomic container signature", "", "Cosign Container Image Signature"])
def test_cosign_a_payload_of_another_type_counts_for_nothing(kind):
    """Cosign | payload of another type string."""
    builder = oci_sample()
    builder.sign(KEY, payload(builder.image, kind=kind))
    assert code(builder) is Code.REQUIREMENTS_NOT_MET


def test_cosign_a_million_signatures_are_not_looked_at():
    """Cosign | 10⁶ signatures: a manifest of them is too large to be read, and the tries of one that is not are few."""
    builder = oci_sample()
    layers = b",".join([b"{}"] * 1_000_000)
    builder.entry(b'{"schemaVersion":2,"config":{},"layers":[' + layers + b"]}", builder.signature_name)
    image = builder.finish()
    assert code(image) is Code.REQUIREMENTS_NOT_MET
    with opened(image) as fd:
        assert [failure.finding.code for failure in examine(fd, STORE).failures] == ["too-large"]
    builder = oci_sample(STRANGER)
    builder.signatures *= 900
    builder.sign(KEY)
    image = builder.finish()
    assert code(image) is Code.REQUIREMENTS_NOT_MET
    with opened(image) as fd:
        found = examine(fd, STORE)
    assert (len(found.failures), found.failures[0].finding.code) == (MAX_SIGNATURES + 1, "too-many")


HUGE = 10 << 30


def huge_payload(builder: OciBuilder) -> bytes:
    builder.signatures[0]["size"] = HUGE
    return builder.sif.entries[4].data


def huge_attestation(builder: OciBuilder) -> bytes:
    layer = {**builder.content(b"{}a", ATTESTATION), "size": HUGE}
    builder.entry(builder.manifest([layer], b"{} "), builder.signature_name.replace(".sig", ".att"))
    return b"{}a"


def huge_layer(builder: OciBuilder) -> bytes:
    layer = {**builder.content(b"{}l", SQUASHFS_TYPE), "size": HUGE}
    manifest = builder.manifest([layer], b"{} ")
    builder.index = []
    builder.entry(manifest)
    builder.image = digest_of(manifest)
    builder.signatures = []
    builder.sign(STRANGER)
    return b"{}l"


def huge_manifest(builder: OciBuilder) -> bytes:
    builder.entry(b"{}m", builder.signature_name.replace(".sig", ".att"))["size"] = HUGE
    return b"{}m"


def grown(builder: OciBuilder, data: bytes, file: IO[bytes]) -> None:
    """Write the image with one blob moved to the end and made huge, as everything in it says."""
    image = builder.finish()
    (blob,) = (entry for entry in image.entries if entry.extra == digest_of(data).encode())
    laid_out = image.build()
    blob.offset, blob.size = len(laid_out), HUGE
    file.write(image.build())
    file.truncate(len(laid_out) + HUGE)
    file.flush()


def bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split("\n")[0])


@pytest.mark.parametrize("grow", [huge_payload, huge_attestation, huge_layer, huge_manifest])
def test_cosign_a_10_gb_blob_is_not_read_unless_the_trusted_key_signed_it(grow):
    """Cosign | a 10 GB layer (a file of holes), in each place where one could be."""
    builder = oci_sample(KEY)
    data = grow(builder)
    with tempfile.TemporaryFile() as file:
        grown(builder, data, file)
        before = bytes_read()
        found = examine(file.fileno(), STORE)
        assert bytes_read() - before < 1 << 20
        huge = next(item.id for item in found.objects if item.size == HUGE)
        assert not any(huge in claim.objects for claim in found.claims)
        assert found.oci is None or huge not in found.oci.carriers
        assert code(Path(f"/proc/self/fd/{file.fileno()}")) is not Code.REQUIREMENTS_MET


def test_cosign_a_manifest_that_is_also_an_index_denies():
    """Cosign | manifest that is also an index, signed by the trusted key; and an index that is also a manifest."""
    assert code(signed_manifest(manifests=[])) is Code.TAMPERED
    inner = signed_manifest()
    builder = signed_manifest(manifests=inner.index, mediaType=INDEX_TYPE)
    builder.index[0]["mediaType"] = INDEX_TYPE
    assert code(builder) is Code.REQUIREMENTS_NOT_MET
    builder = oci_sample(KEY)
    builder.root = compact({"schemaVersion": 2, "manifests": builder.index, "layers": [], "config": builder.index[0]})
    assert code(builder) is Code.REQUIREMENTS_NOT_MET


@pytest.mark.parametrize(
    "digest", ["sha256:../x", "sha256:", "sha256:" + "A" * 64, "md5:" + "a" * 32, "../../etc/passwd"]
)
def test_cosign_a_digest_that_is_a_path_denies(digest):
    """Cosign | `sha256:../x`, in the manifest, the index, a cosign manifest, a payload and a blob's descriptor."""
    layer = {"mediaType": SQUASHFS_TYPE, "size": 4, "digest": digest}
    assert code(signed_manifest(layers=[layer])) is Code.TAMPERED
    builder = oci_sample(KEY)
    builder.index[0]["digest"] = digest
    assert code(builder) is Code.REQUIREMENTS_NOT_MET
    builder = oci_sample(KEY)
    builder.signatures[0]["digest"] = digest
    assert code(builder) is Code.REQUIREMENTS_NOT_MET
    builder = oci_sample()
    builder.sign(KEY, payload(digest))
    assert code(builder) is Code.REQUIREMENTS_NOT_MET
    builder = oci_sample(KEY)
    builder.sif.entries[0].extra = digest.encode()
    assert code(builder) is Code.TAMPERED


@pytest.mark.parametrize("name", ["Layers", "LAYERS", "layer\u017f"])
def test_oci_layers_in_other_letters_deny(name):
    """OCI | JSON that launchers read in another way, in a manifest that the trusted key signed."""
    builder = OciBuilder()
    evil = builder.content(EVIL, SQUASHFS_TYPE)
    other = signed_manifest(**{name: [evil]})
    other.blob(EVIL)
    assert code(other) is Code.TAMPERED


def test_oci_layers_twice_deny():
    """OCI | a key that is there twice."""
    builder = oci_sample()
    (config, layer) = (builder.content(b"{}", CONFIG_TYPE), builder.content(EVIL, SQUASHFS_TYPE))
    good = builder.content(b"hsqs", SQUASHFS_TYPE)
    text = compact({"schemaVersion": 2, "config": config, "layers": [good], "more": [layer]})
    manifest = text.replace(b'"more"', b'"layers"')
    builder.index = []
    builder.entry(manifest)
    builder.image = digest_of(manifest)
    builder.sign(KEY)
    assert code(builder) is Code.TAMPERED


def test_oci_a_blob_that_states_another_s_digest_denies():
    """OCI | a layer swapped for another that states the digest that was signed, instead of it or beside it."""
    swapped = oci_sample(KEY)
    swapped.sif.entries[0].data = EVIL
    assert code(swapped) is Code.TAMPERED
    beside = oci_sample(KEY)
    beside.blob(EVIL, stated=digest_of(beside.sif.entries[0].data), once=False)
    assert code(beside) is Code.TAMPERED


def test_oci_a_size_that_lies_denies():
    """OCI | sizes that are not the blob's, in the signed manifest and in the index."""
    builder = OciBuilder()
    layer = {**builder.content(b"hsqs", SQUASHFS_TYPE), "size": 3}
    lying = signed_manifest(layers=[layer])
    assert code(lying) is Code.TAMPERED
    builder = oci_sample(KEY)
    builder.index[0]["size"] += 1
    assert code(builder) is Code.TAMPERED


def test_oci_an_image_that_is_named_as_if_it_were_cosign_s_is_not_approved():
    """OCI | another image, hidden from the launcher by its name, and not hidden here."""
    builder = oci_sample(KEY)
    builder.add_image(EVIL, name="_cosign:sha256-" + "ab" * 32 + ".sig")
    assert code(builder) is Code.OBJECT_NOT_APPROVED


def test_oci_several_images_are_none():
    """OCI | another image in the index: before or after the signed one, or the same one twice."""
    builder = oci_sample(KEY)
    builder.add_image(EVIL)
    assert code(builder) is Code.REQUIREMENTS_NOT_MET
    builder = oci_sample(KEY)
    builder.add_image(EVIL)
    builder.index.reverse()
    assert code(builder) is Code.REQUIREMENTS_NOT_MET
    builder = oci_sample(KEY)
    builder.index.append(builder.index[0])
    assert code(builder) is Code.REQUIREMENTS_NOT_MET


def test_oci_a_second_root_index_makes_it_another_kind_of_image_for_launchers_and_denies():
    """OCI | with two root indexes SingularityCE takes the file for a plain SIF, and would run a partition."""
    image = oci_sample(KEY).finish()
    image.partition(EVIL)
    image.add(b"{}", ROOT_INDEX, extra=digest_of(b"{}").encode())
    assert code(image) is Code.REQUIREMENTS_NOT_MET
    with opened(image) as fd:
        report = verify_cosign(fd, [KEY.public])
    assert report.error is not None
    assert report.error.code == "several-indexes"


def test_oci_a_layer_disguised_as_a_payload_is_not_approved():
    """OCI | a file system in what should carry signatures: by its type, or by its size."""
    builder = oci_sample(KEY)
    builder.signatures.append(builder.content(EVIL, SQUASHFS_TYPE))
    assert code(builder) is Code.OBJECT_NOT_APPROVED
    builder = oci_sample(KEY)
    builder.signatures.append(builder.content(EVIL * 20, SIMPLE_SIGNING))
    assert code(builder) is Code.OBJECT_NOT_APPROVED


def test_oci_a_signature_in_a_format_that_is_not_read_says_so():
    """OCI | cosign's bundle format is no approval, and the answer says what to do."""
    builder = oci_sample()
    builder.entry(builder.manifest([builder.content(b"{}b", BUNDLE)]), builder.signature_name)
    outcome = ask(builder.finish(), POLICY, files=FILES)
    assert outcome.code is Code.UNSUPPORTED_SIGNATURE_FORMAT
    assert "--new-bundle-format=false" in outcome.reason


def test_oci_a_truncated_file_is_malformed(tmp_path):
    """OCI | truncation: a signed image that was cut anywhere is malformed."""
    image = oci_sample(KEY).build()
    path = tmp_path / "cut.sif"
    path.write_bytes(image)
    for length in range(len(image) - 1, len(image) - 3000, -7):
        os.truncate(path, length)
        with pytest.raises(MalformedImageError, match=r"outside the file"):
            code(path)
