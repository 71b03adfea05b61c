"""OCI indexes and manifests: what is read, and what is refused because it could be read in another way."""

from __future__ import annotations

import json

import pytest

from eclctl.sif.oci import MAX_ENTRIES, MAX_LAYERS, Index, Manifest, is_digest, parse_index, parse_manifest
from eclctl.terms import Finding
from tests.helpers.ocibuilder import CONFIG_TYPE, INDEX_TYPE, MANIFEST_TYPE, SQUASHFS_TYPE

DIGEST = "sha256:" + "ab" * 32


def content(**members):
    return {"mediaType": SQUASHFS_TYPE, "size": 7, "digest": DIGEST, **members}


def index(**members):
    return {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [content(mediaType=MANIFEST_TYPE)], **members}


def manifest(**members):
    config = content(mediaType=CONFIG_TYPE)
    return {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": [content()], **members}


def text(document):
    return json.dumps(document).encode()


def without(document, name):
    return {key: value for key, value in document.items() if key != name}


def test_an_index_lists_manifests_in_order():
    listed = [content(annotations={"a": "b"}, artifactType="t"), content(size=8, mediaType="x/y")]
    found = parse_index(text(index(manifests=listed)))
    assert isinstance(found, Index)
    first, second = found.manifests
    assert (first.media_type, first.digest, first.size) == (SQUASHFS_TYPE, DIGEST, 7)
    assert (first.annotations, first.artifact_type) == ({"a": "b"}, "t")
    assert (second.media_type, second.size, second.annotations, second.artifact_type) == ("x/y", 8, {}, "")


def test_a_manifest_has_a_config_and_layers():
    found = parse_manifest(text(manifest(artifactType="t", layers=[content(), content(size=9)])))
    assert isinstance(found, Manifest)
    assert found.config.media_type == CONFIG_TYPE
    assert [layer.size for layer in found.layers] == [7, 9]
    assert (found.media_type, found.artifact_type) == (MANIFEST_TYPE, "t")


def test_optional_members_may_be_absent_or_null_and_unknown_ones_are_passed_over():
    bare = {"schemaVersion": 2, "manifests": [content(annotations=None, platform={"os": "linux"}, size=0)]}
    assert isinstance(parse_index(text(bare)), Index)
    odd = manifest(subject=content(), annotations={"x": "y"}, mediaType=None, later=[-1, 0.5, {"deep": [True]}])
    assert isinstance(parse_manifest(text(odd)), Manifest)


@pytest.mark.parametrize(
    "digest", [DIGEST.upper(), DIGEST[:-1], DIGEST + "0", "sha256:../x", "sha512:" + "ab" * 64, ""]
)
def test_only_lower_case_sha256_digests_are_digests(digest):
    assert not is_digest(digest)
    found = parse_index(text(index(manifests=[content(digest=digest)])))
    assert isinstance(found, Finding)
    assert found.code == "bad-index"


HOSTILE = {
    "both kinds: an index with layers": index(layers=[]),
    "both kinds: an index with config": index(config=content()),
    "another mediaType": index(mediaType=MANIFEST_TYPE),
    "mediaType is no text": index(mediaType=7),
    "schemaVersion 1": index(schemaVersion=1),
    "schemaVersion is true": index(schemaVersion=True),
    "schemaVersion as a fraction": index(schemaVersion=2.0),
    "no schemaVersion": without(index(), "schemaVersion"),
    "no manifests": without(index(), "manifests"),
    "manifests null": index(manifests=None),
    "manifests in other letters": index(Manifests=[]),
    "manifests with a long s": {**index(), "manife\u017fts": []},
    "mediaType in other letters": index(mediatype=INDEX_TYPE),
    "too many": index(manifests=[content()] * (MAX_ENTRIES + 1)),
    "a digest in other letters": index(manifests=[content(Digest=DIGEST)]),
    "annotations in other letters": index(manifests=[content(Annotations={})]),
    "a size with a long s": index(manifests=[{**content(), "\u017fize": 8}]),
    "a negative size": index(manifests=[content(size=-1)]),
    "a fraction of a byte": index(manifests=[content(size=7.5)]),
    "a size that is true": index(manifests=[content(size=True)]),
    "a size past 63 bits": index(manifests=[content(size=1 << 63)]),
    "a size as text": index(manifests=[content(size="7")]),
    "no size": index(manifests=[without(content(), "size")]),
    "no digest": index(manifests=[without(content(), "digest")]),
    "an entry that is no object": index(manifests=[DIGEST]),
    "annotations that are no texts": index(manifests=[content(annotations={"a": 1})]),
    "annotations with null": index(manifests=[content(annotations={"a": None})]),
    "annotations as a list": index(manifests=[content(annotations=[])]),
    "a list": [],
    "null": None,
}


@pytest.mark.parametrize("document", HOSTILE.values(), ids=HOSTILE.keys())
def test_an_index_that_could_be_read_in_another_way_is_refused(document):
    found = parse_index(text(document))
    assert isinstance(found, Finding)
    assert found.code == "bad-index"


HOSTILE_MANIFESTS = {
    "both kinds": manifest(manifests=[]),
    "layers in other letters": manifest(Layers=[]),
    "layers with a long s": {**manifest(), "layer\u017f": []},
    "config in other letters": manifest(CONFIG=content()),
    "the index's mediaType": manifest(mediaType=INDEX_TYPE),
    "no layers": without(manifest(), "layers"),
    "layers null": manifest(layers=None),
    "no config": without(manifest(), "config"),
    "config as a list": manifest(config=[content()]),
    "artifactType is no text": manifest(artifactType={}),
    "too many layers": manifest(layers=[content()] * (MAX_LAYERS + 1)),
}


@pytest.mark.parametrize("document", HOSTILE_MANIFESTS.values(), ids=HOSTILE_MANIFESTS.keys())
def test_a_manifest_that_could_be_read_in_another_way_is_refused(document):
    found = parse_manifest(text(document))
    assert isinstance(found, Finding)
    assert found.code == "bad-manifest"


@pytest.mark.parametrize("many", [[1] * 17_000, [[]] * 9_000], ids=["values", "arrays"])
def test_a_manifest_of_too_many_values_is_not_parsed(many):
    found = parse_manifest(text(manifest(x=many)))
    assert isinstance(found, Finding)
    assert found.message.endswith("more in it than is looked at")
    assert isinstance(parse_manifest(text(manifest(x=many[:8000]))), Manifest)


@pytest.mark.parametrize(
    "data",
    [
        text(manifest())[:-1],
        text(manifest()) + b"{}",
        text(manifest()).replace(b'"layers"', b'"layers": [], "layers"'),
        text(manifest()).replace(b'"size"', b'"size": 1, "size"'),
        b'{"a":' + b"[" * 9000 + b"]" * 9000 + b"}",
        b"[" * 8000 + b"]" * 8000,
        b"[" + b"1," * 17000 + b"1]",
        b'{"schemaVersion":2,"a":NaN}',
        b'{"schemaVersion":2,"a":1e999}',
        b"\xff",
        b"",
    ],
    ids=[
        "cut",
        "two documents",
        "layers twice",
        "size twice",
        "deep",
        "deeper",
        "long",
        "NaN",
        "1e999",
        "bytes",
        "empty",
    ],
)
def test_what_is_no_json_or_too_much_of_it_is_refused(data):
    found = parse_manifest(data)
    assert isinstance(found, Finding)
    assert found.code == "bad-manifest"
    assert len(found.message) < 300
