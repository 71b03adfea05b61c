"""What indexes and manifests in an image say of its blobs, within bounds and without errors."""

from __future__ import annotations

import hashlib
import json

from eclctl.sif.inspect import inspect
from eclctl.sif.media_types import media_types
from tests.helpers.sifbuilder import OCI_BLOB, ROOT_INDEX, SifBuilder, opened

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG, LAYER = "application/x.config", "application/x.layer"


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def entry(data, media_type):
    return {"mediaType": media_type, "digest": digest(data), "size": len(data)}


def index(*entries):
    return json.dumps({"schemaVersion": 2, "manifests": list(entries)}).encode()


def manifest(config, *layers):
    return json.dumps({"schemaVersion": 2, "config": config, "layers": list(layers)}).encode()


def told(*objects):
    builder = SifBuilder(slots=400)
    for data, kind in objects:
        builder.add(data, kind, extra=digest(data).encode())
    with opened(builder) as fd:
        return media_types(inspect(fd))


IMAGE = manifest(entry(b"config", CONFIG), entry(b"layer", LAYER))


def test_manifest_config_and_layers_are_told():
    root = index(entry(IMAGE, MANIFEST))
    assert told((b"config", OCI_BLOB), (b"layer", OCI_BLOB), (IMAGE, OCI_BLOB), (root, ROOT_INDEX)) == {
        digest(IMAGE): (MANIFEST,),
        digest(b"config"): (CONFIG,),
        digest(b"layer"): (LAYER,),
    }


def test_an_index_in_an_index_is_followed():
    inner = index(entry(IMAGE, MANIFEST))
    assert digest(b"layer") in told((IMAGE, OCI_BLOB), (inner, OCI_BLOB), (index(entry(inner, INDEX)), ROOT_INDEX))


def test_two_types_of_one_blob_are_both_told_and_each_once():
    root = index(entry(b"x", "a/b"), entry(b"x", "c/d"), entry(b"x", "a/b"))
    assert told((b"x", OCI_BLOB), (root, ROOT_INDEX)) == {digest(b"x"): ("a/b", "c/d")}


def test_images_of_an_ambiguous_index_are_told_all_the_same():
    other = manifest(entry(b"config", CONFIG))
    root = index(entry(IMAGE, MANIFEST), entry(other, MANIFEST))
    assert set(told((IMAGE, OCI_BLOB), (other, OCI_BLOB), (root, ROOT_INDEX))) == {
        digest(data) for data in (IMAGE, other, b"config", b"layer")
    }


def test_an_index_that_lists_itself_ends():
    """No text names its own digest, but a descriptor states what it wants."""
    root = index(entry(b"itself", INDEX))
    builder = SifBuilder()
    builder.add(root, OCI_BLOB, extra=digest(b"itself").encode())
    builder.add(root, ROOT_INDEX)
    with opened(builder) as fd:
        assert media_types(inspect(fd)) == {digest(b"itself"): (INDEX,)}


def test_what_is_no_index_tells_nothing():
    assert told((b"{]", ROOT_INDEX)) == {}
    assert told((b"layer", OCI_BLOB)) == {}


def test_documents_beyond_the_bound_are_left_out():
    chain = [IMAGE]
    for _ in range(300):
        chain.append(index(entry(chain[-1], INDEX if len(chain) > 1 else MANIFEST)))
    found = told(*((data, OCI_BLOB) for data in chain[:-1]), (chain[-1], ROOT_INDEX))
    assert len(found) == 256


def test_a_document_that_is_too_long_or_not_in_the_file_is_left_out():
    long = index(entry(b"x", "a/b")) + b" " * (1 << 20)
    assert told((long, ROOT_INDEX)) == {}
    builder = SifBuilder()
    builder.add(index(entry(b"x", "a/b")), ROOT_INDEX, offset=1 << 40)
    with opened(builder) as fd:
        assert media_types(inspect(fd)) == {}
