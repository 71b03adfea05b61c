"""A new OCI-SIF is laid out as SingularityCE lays one out, to the last byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eclctl.errors import MalformedImageError
from eclctl.sif import oci_sif, reader
from eclctl.sif.oci import Manifest, parse_manifest
from eclctl.sign.new_oci_sif import Member, PlannedImage, compact, plan_oci_sif
from tests.helpers.registries import MANIFEST_TYPE, digest_of
from tests.helpers.sifbuilder import opened
from tests.helpers.support import CORPUS

IMAGES = sorted((CORPUS / "oci").glob("[al]*.oci.sif"))


def parsed(raw: bytes) -> Manifest:
    manifest = parse_manifest(raw)
    assert isinstance(manifest, Manifest)
    return manifest


def member(*layers: bytes, sizes: int = 0, name: str = "") -> Member:
    """An image of layers; `sizes` is added to what the manifest says of theirs."""
    contents = [{"mediaType": "x/layer", "size": len(layer) + sizes, "digest": digest_of(layer)} for layer in layers]
    config = {"mediaType": "x/config", "size": 2, "digest": digest_of(b"{}")}
    raw = compact({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": contents})
    return Member(raw, parsed(raw), MANIFEST_TYPE, name)


def filled(drawn: PlannedImage, *blobs: bytes) -> bytes:
    known = {digest_of(blob): blob for blob in blobs}
    return drawn.head + b"".join(known[each.digest] if each.data is None else each.data for each in drawn.placed)


@pytest.mark.parametrize("image", IMAGES, ids=lambda path: path.name)
def test_a_file_that_singularity_wrote_comes_out_the_same_byte_by_byte(image: Path) -> None:
    with opened(image) as fd:
        file = reader.read(fd)
        layout = oci_sif.read_layout(file)
        blobs = [bytes(file.data(descriptor)) for descriptor in file.descriptors]
    assert layout.image is not None
    by_digest = {digest_of(blob): blob for blob in blobs}
    raw = by_digest[layout.image.digest]
    members = [Member(raw, parsed(raw), layout.image.manifest.content.media_type)]
    for attachment in layout.signatures_of(layout.image.digest):
        raw = by_digest[attachment.manifest.content.digest]
        members.append(Member(raw, parsed(raw), MANIFEST_TYPE, attachment.name))
    drawn = plan_oci_sif(members)
    assert filled(drawn, *blobs) == image.read_bytes()
    assert drawn.size == image.stat().st_size


def test_a_layer_that_is_listed_twice_is_in_the_file_once(tmp_path: Path) -> None:
    drawn = plan_oci_sif([member(b"a" * 100, b"b" * 50, b"a" * 100)])
    (tmp_path / "f").write_bytes(filled(drawn, b"a" * 100, b"b" * 50, b"{}"))
    with opened(tmp_path / "f") as fd:
        file = reader.read(fd)
        layout = oci_sif.read_layout(file)
    assert len(file.descriptors) == 5
    assert layout.image is not None
    assert layout.image.problem is None
    assert len(layout.image.parts) == 4


def test_blobs_stand_one_behind_the_other() -> None:
    drawn = plan_oci_sif([member(b"a" * 100, b"b" * 33)])
    at = len(drawn.head)
    for each in drawn.placed:
        assert each.offset == at
        at += each.size
    assert at == drawn.size


def test_more_signatures_than_spare_slots_make_more_slots(tmp_path: Path) -> None:
    signatures = [bytes([number]) * 9 for number in range(40)]
    drawn = plan_oci_sif([member(b"a"), member(*signatures, name="_cosign:sha256-x.sig")])
    (tmp_path / "f").write_bytes(filled(drawn, b"a", b"{}", *signatures))
    with opened(tmp_path / "f") as fd:
        assert len(reader.read(fd).descriptors) == 1 + 2 + 40 + 1 + 1


def test_two_opinions_of_a_blobs_size_are_no_image() -> None:
    layers = [{"mediaType": "x/l", "size": size, "digest": digest_of(b"a")} for size in (1, 2)]
    config = {"mediaType": "x/c", "size": 2, "digest": digest_of(b"{}")}
    raw = compact({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": layers})
    with pytest.raises(MalformedImageError, match="two sizes"):
        plan_oci_sif([Member(raw, parsed(raw), MANIFEST_TYPE)])


@pytest.mark.parametrize("sizes", [1 << 61, (1 << 63) - 2])
def test_sizes_that_no_file_has_are_no_sizes(sizes: int) -> None:
    with pytest.raises(MalformedImageError, match="no sizes of blobs"):
        plan_oci_sif([member(b"a", sizes=sizes)])


def test_json_is_written_as_go_writes_it() -> None:
    assert compact({"a": "<&>\u2028é"}) == '{"a":"\\u003c\\u0026\\u003e\\u2028é"}'.encode()
    assert json.loads(compact({"a": "<&>"})) == {"a": "<&>"}
