"""What an OCI-SIF runs: exactly one image, found as a launcher finds it; what is attached, and what carries it."""

from __future__ import annotations

import os

import pytest

from eclctl.sif import oci_sif, reader
from eclctl.sif.oci_sif import MAX_ALL_CARRIED, MAX_DOCUMENT, MAX_PAYLOAD, AttachmentKind, Layout
from tests.helpers.ocibuilder import (
    ATTESTATION,
    BUNDLE,
    CONFIG_TYPE,
    INDEX_TYPE,
    MANIFEST_TYPE,
    ROOT_INDEX,
    SQUASHFS_TYPE,
    OciBuilder,
    compact,
    cosign_key,
    digest_of,
    oci_sample,
)
from tests.helpers.sifbuilder import SifBuilder, opened
from tests.helpers.support import CORPUS


def layout_of(image: OciBuilder | SifBuilder | bytes) -> Layout:
    data = image.build() if isinstance(image, OciBuilder) else image
    with opened(data) as fd:
        return oci_sif.read_layout(reader.read(fd))


def ids(layout: Layout) -> list[int]:
    assert layout.image is not None
    blobs = [layout.image.manifest, *layout.image.parts]
    return [blob.object.id for blob in blobs if blob.object is not None]


def test_the_image_of_the_corpus_is_its_manifest_config_and_layers():
    fd = os.open(CORPUS / "oci" / "layers-ci.oci.sif", os.O_RDONLY)
    layout = oci_sif.read_layout(reader.read(fd))
    os.close(fd)
    assert layout.problem is None
    assert layout.image is not None
    assert layout.image.digest == "sha256:76405080162d545377bcef94ae3842ab4bea603d17f31da95eb608a18c0b81cb"
    assert ids(layout) == [5, 4, 1, 2, 3]
    assert layout.root == 9
    (attachment,) = layout.attachments
    assert [identity for identity, _ in attachment.carries] == [8, 7, 6]
    assert layout.signatures_of(layout.image.digest) == (attachment,)


def test_an_image_without_signatures_has_nothing_attached():
    layout = layout_of(oci_sample())
    assert layout.image is not None
    assert layout.image.problem is None
    assert (layout.attachments, layout.bundles) == ((), ())


def test_a_layer_that_is_listed_twice_is_one_object():
    builder = OciBuilder()
    builder.add_image(b"same", b"same")
    assert ids(layout_of(builder)) == [3, 2, 1, 1]


def test_an_image_may_have_any_name_that_is_not_cosign_s():
    builder = OciBuilder()
    builder.add_image(b"layer", name="docker.io/library/app:1")
    layout = layout_of(builder)
    assert layout.image is not None
    assert layout.image.name == "docker.io/library/app:1"
    builder = OciBuilder()
    builder.add_image(b"layer", name="_cosignature")
    assert layout_of(builder).image is None


def two_images() -> OciBuilder:
    builder = oci_sample(cosign_key())
    builder.add_image(b"another")
    return builder


def image_twice() -> OciBuilder:
    builder = oci_sample(cosign_key())
    builder.index.append(builder.index[0])
    return builder


def nested_index() -> OciBuilder:
    builder = oci_sample(cosign_key())
    inner = compact({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": builder.index})
    builder.index = []
    builder.entry(inner, media_type=INDEX_TYPE)
    return builder


def index_beside() -> OciBuilder:
    builder = oci_sample(cosign_key())
    builder.entry(compact({"schemaVersion": 2, "manifests": []}), media_type=INDEX_TYPE)
    return builder


def unknown_type() -> OciBuilder:
    builder = oci_sample(cosign_key())
    builder.index[0]["mediaType"] = "application/vnd.example.thing"
    return builder


def only_cosign() -> OciBuilder:
    builder = oci_sample(cosign_key())
    builder.index = []
    return builder


def empty_index() -> OciBuilder:
    return OciBuilder()


def index_of(root: bytes):
    def build() -> OciBuilder:
        builder = oci_sample()
        builder.root = root
        return builder

    return build


def index_and_manifest() -> OciBuilder:
    builder = oci_sample()
    document = {"schemaVersion": 2, "manifests": builder.index, "layers": []}
    builder.root = compact(document)
    return builder


NO_IMAGE = {
    "two images": (two_images, "several-images"),
    "one image listed twice": (image_twice, "several-images"),
    "an index beside the image": (index_beside, "several-images"),
    "an index instead of an image": (nested_index, "no-image"),
    "an unknown media type": (unknown_type, "no-image"),
    "cosign manifests alone": (only_cosign, "no-image"),
    "nothing": (empty_index, "no-image"),
    "an index that is also a manifest": (index_and_manifest, "bad-index"),
    "a path for a digest": (
        index_of(
            compact(
                {"schemaVersion": 2, "manifests": [{"mediaType": MANIFEST_TYPE, "size": 1, "digest": "sha256:../x"}]}
            )
        ),
        "bad-index",
    ),
    "no JSON": (index_of(b"hsqs"), "bad-index"),
    "no bytes": (index_of(b""), "bad-index"),
    "a huge index": (index_of(b" " * (MAX_DOCUMENT + 1)), "too-large"),
}


@pytest.mark.parametrize(("build", "code"), NO_IMAGE.values(), ids=NO_IMAGE.keys())
def test_what_is_not_exactly_one_image_is_none(build, code):
    layout = layout_of(build())
    assert layout.image is None
    assert layout.problem is not None
    assert layout.problem.code == code


def test_several_root_indexes_are_no_image():
    builder = oci_sample(cosign_key()).finish()
    builder.add(b"{}", ROOT_INDEX, extra=digest_of(b"{}").encode())
    layout = layout_of(builder.build())
    assert layout.image is None
    assert layout.problem is not None
    assert layout.problem.code == "several-indexes"


def changed_manifest(change) -> OciBuilder:
    """An image whose manifest was changed before it was added."""
    builder = OciBuilder()
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": builder.content(b"{}", CONFIG_TYPE),
        "layers": [builder.content(b"layer", SQUASHFS_TYPE)],
    }
    change(document)
    builder.entry(compact(document))
    return builder


def state_another_digest(builder: OciBuilder, number: int) -> OciBuilder:
    builder.sif.entries[number].extra = digest_of(b"something else").encode()
    return builder


def change_bytes(builder: OciBuilder, number: int) -> OciBuilder:
    entry = builder.sif.entries[number]
    entry.data = bytes([entry.data[0] ^ 1]) + entry.data[1:]
    return builder


def lengthen(builder: OciBuilder, number: int) -> OciBuilder:
    builder.sif.entries[number].data += b" "
    return builder


def twice(builder: OciBuilder, number: int) -> OciBuilder:
    builder.blob(builder.sif.entries[number].data, once=False)
    return builder


def claimed_by_root(builder: OciBuilder) -> SifBuilder:
    finished = builder.finish()
    finished.entries[-1].extra = finished.entries[0].extra
    return finished


UNSOUND = {
    "a manifest that is also an index": (lambda: changed_manifest(lambda m: m.update(manifests=[])), "bad-manifest"),
    "another media type inside": (lambda: changed_manifest(lambda m: m.update(mediaType=INDEX_TYPE)), "bad-manifest"),
    "the other manifest type inside": (
        lambda: changed_manifest(lambda m: m.update(mediaType="application/vnd.docker.distribution.manifest.v2+json")),
        "bad-manifest",
    ),
    "a path for a layer": (
        lambda: changed_manifest(lambda m: m["layers"][0].update(digest="sha256:../x")),
        "bad-manifest",
    ),
    "a layer's size that lies": (lambda: changed_manifest(lambda m: m["layers"][0].update(size=6)), "wrong-size"),
    "a config's size that lies": (lambda: changed_manifest(lambda m: m["config"].update(size=0)), "wrong-size"),
    "a layer that is not there": (lambda: state_another_digest(oci_sample(), 0), "blob-missing"),
    "a config that is not there": (lambda: state_another_digest(oci_sample(), 2), "blob-missing"),
    "a manifest that is not there": (lambda: state_another_digest(oci_sample(), 3), "blob-missing"),
    "a manifest that was changed": (lambda: change_bytes(oci_sample(), 3), "data-changed"),
    "a manifest that is longer": (lambda: lengthen(oci_sample(), 3), "wrong-size"),
    "a layer twice": (lambda: twice(oci_sample(), 0), "blob-twice"),
    "a config twice": (lambda: twice(oci_sample(), 2), "blob-twice"),
    "a manifest twice": (lambda: twice(oci_sample(), 3), "blob-twice"),
    "a layer that the root index states too": (lambda: claimed_by_root(oci_sample()), "blob-twice"),
}


@pytest.mark.parametrize(("build", "code"), UNSOUND.values(), ids=UNSOUND.keys())
def test_an_image_that_cannot_be_followed_to_its_layers_is_unsound(build, code):
    built = build()
    layout = layout_of(built.build())
    assert layout.image is not None
    assert layout.image.parts == ()
    assert layout.image.problem is not None
    assert layout.image.problem.code == code


def carried(layout: Layout) -> set[int]:
    return {identity for attachment in layout.attachments for identity, _ in attachment.carries}


def attach(layers, name: str, config: bytes = b"{}") -> tuple[OciBuilder, int]:
    """Return an image with something attached, and how many objects the image itself has."""
    builder = oci_sample()
    own = len(builder.sif.entries)
    builder.entry(builder.manifest([builder.content(*layer) for layer in layers], config), name)
    return builder, own


SIG = "_cosign:sha256-" + "ab" * 32 + ".sig"
ATT = "_cosign:sha256-" + "ab" * 32 + ".att"
SIMPLE = "application/vnd.dev.cosign.simplesigning.v1+json"


@pytest.mark.parametrize(
    ("layers", "name"),
    [
        ([(b"{}p", SIMPLE)], SIG),
        ([(b"{}p", SIMPLE), (b"{}q", SIMPLE)], SIG),
        ([(b"{}p", ATTESTATION)], ATT),
        ([(b"x" * (MAX_PAYLOAD + 1), ATTESTATION)], ATT),
        ([(b"{}p", BUNDLE)], ATT[: -len(".att")]),
        ([], SIG),
    ],
)
def test_what_can_only_be_signatures_carries_signatures(layers, name):
    builder, own = attach(layers, name)
    assert carried(layout_of(builder)) == set(range(own + 1, own + len(layers) + 3))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (SIG, AttachmentKind.SIGNATURES),
        ("_cosign:other.sig", AttachmentKind.SIGNATURES),
        (SIG.removesuffix("sig") + "att", AttachmentKind.ATTESTATIONS),
        (SIG.removesuffix("sig") + "sbom", AttachmentKind.OTHER),
        ("_cosign", AttachmentKind.OTHER),
        ("_cosign.", AttachmentKind.OTHER),
    ],
)
def test_the_name_of_an_attachment_tells_its_kind(name, kind):
    builder, _ = attach([(b"{}p", SIMPLE)], name)
    (attachment,) = layout_of(builder).attachments
    assert attachment.kind is kind


def test_each_kind_of_attachment_is_found_for_its_own_image_alone():
    name = oci_sif.attachment_name("sha256:" + "ab" * 32, AttachmentKind.ATTESTATIONS)
    layout = layout_of(attach([(b"{}p", SIMPLE)], name)[0])
    assert layout.attached_to("sha256:" + "ab" * 32, AttachmentKind.ATTESTATIONS) == layout.attachments
    assert layout.attached_to("sha256:" + "ab" * 32, AttachmentKind.SIGNATURES) == ()
    assert layout.attached_to("sha256:" + "cd" * 32, AttachmentKind.ATTESTATIONS) == ()


@pytest.mark.parametrize(
    ("layers", "name"),
    [
        ([(b"hsqs", SQUASHFS_TYPE)], SIG),
        ([(b"{}p", SIMPLE), (b"hsqs", SQUASHFS_TYPE)], SIG),
        ([(b"{}p", SIMPLE)], "_cosign"),
        ([(b"{}p", SIMPLE)], "_cosign:latest"),
        ([(b"{}p", SIMPLE)], "_cosign:sha256-" + "ab" * 31 + ".sig"),
        ([(b"{}p", SIMPLE)], SIG + "x"),
        ([(b"{}p", SIMPLE)], SIG.upper().replace("_COSIGN", "_cosign")),
    ],
)
def test_what_might_be_something_else_carries_nothing(layers, name):
    builder, _ = attach(layers, name)
    layout = layout_of(builder)
    assert len(layout.attachments) == 1
    assert carried(layout) == set()
    assert layout.image is not None


def test_a_payload_that_is_too_large_carries_nothing():
    builder, own = attach([(b"x" * (MAX_PAYLOAD + 1), SIMPLE)], SIG)
    assert carried(layout_of(builder)) == {own + 2, own + 3}


def test_no_more_carries_signatures_than_may_be_hashed_of_unsigned_data(tmp_path):
    builder, each = OciBuilder(), 60 << 20
    builder.add_image(b"hsqs")
    layers = [{**builder.content(b"{}%d" % number, ATTESTATION), "size": each} for number in range(6)]
    builder.entry(builder.manifest(layers), SIG.replace(".sig", ".att"))
    finished = builder.finish()
    holes = [entry for entry in finished.entries if entry.data.startswith(b"{}") and len(entry.data) == 3]
    end = len(finished.build())
    for number, entry in enumerate(holes):
        entry.offset, entry.size = end + number * each, each
    path = tmp_path / "holes.sif"
    path.write_bytes(finished.build())
    os.truncate(path, end + len(holes) * each)
    with opened(path) as fd:
        found = oci_sif.read_layout(reader.read(fd))
        sizes = {descriptor.id: descriptor.size for descriptor in reader.read(fd).descriptors}
    carriers = [sizes[identity] for identity in carried(found)]
    assert carriers.count(each) == MAX_ALL_CARRIED // each == 4
    assert len(carriers) == 4 + 2


def test_a_carrier_s_size_that_lies_carries_nothing():
    builder = oci_sample()
    layer = {**builder.content(b"{}p", SIMPLE), "size": 4}
    builder.entry(builder.manifest([layer]), SIG)
    assert len(builder.sif.entries) == 7
    assert carried(layout_of(builder)) == {6, 7}


def test_a_cosign_entry_of_another_type_carries_nothing_and_is_refused():
    builder = oci_sample(cosign_key()).finish()
    index = builder.entries[-1]
    index.data = index.data.replace(b"vnd.oci.image.manifest.v1+json", b"vnd.oci.image.nanifest.v1+json")
    index.data = index.data.replace(b"nanifest", b"manifest", 1)
    layout = layout_of(builder.build())
    assert layout.image is not None
    assert carried(layout) == set()
    assert layout.attachments[0].problem is not None
    assert layout.attachments[0].problem.code == "wrong-type"


def test_a_cosign_manifest_that_was_changed_carries_nothing():
    builder = oci_sample(cosign_key())
    finished = builder.finish()
    entry = finished.entries[-2]
    entry.data = entry.data.replace(b"schemaVersion", b"schemaversion")
    layout = layout_of(finished.build())
    assert layout.attachments[0].problem is not None
    assert layout.attachments[0].problem.code == "data-changed"
    assert carried(layout) == set()


def bundle_as_referrer() -> OciBuilder:
    builder = oci_sample()
    subject = builder.index[0]
    manifest = builder.manifest([builder.content(b"{}b", BUNDLE)], subject=subject, artifactType=BUNDLE)
    builder.entry(manifest)
    return builder


def bundle_in_cosign_manifest() -> OciBuilder:
    return attach([(b"{}b", BUNDLE)], SIG)[0]


def bundle_by_artifact_type() -> OciBuilder:
    builder = oci_sample()
    builder.entry(builder.manifest([builder.content(b"{}b", "application/json")]), SIG, artifactType=BUNDLE)
    return builder


def bundle_in_referrers_index() -> OciBuilder:
    builder = oci_sample()
    manifest = builder.manifest([builder.content(b"{}b", BUNDLE)], artifactType=BUNDLE)
    listed = builder.content(manifest, MANIFEST_TYPE, artifactType=BUNDLE)
    inner = compact({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [listed]})
    builder.entry(inner, SIG[: -len(".sig")], media_type=INDEX_TYPE)
    return builder


@pytest.mark.parametrize(
    "build", [bundle_as_referrer, bundle_in_cosign_manifest, bundle_by_artifact_type, bundle_in_referrers_index]
)
def test_cosign_s_bundle_format_is_found_wherever_it_is(build):
    builder = build()
    layout = layout_of(builder)
    assert layout.bundles == (len(builder.sif.entries) - 1,)


def test_no_bundle_is_found_where_there_is_none():
    assert layout_of(oci_sample(cosign_key())).bundles == ()
    assert layout_of(two_images()).bundles == ()


def test_documents_are_read_up_to_a_bound_for_the_whole_file():
    builder = oci_sample()
    padding = {"x": "y" * (MAX_DOCUMENT - 700)}
    for number in range(6):
        manifest = builder.manifest([builder.content(b"{}%d" % number, SIMPLE)], annotations=padding)
        builder.entry(manifest, SIG.replace("ab", f"{number:02x}"))
    problems = [attachment.problem for attachment in layout_of(builder).attachments]
    assert [problem is None for problem in problems] == [True, True, True, False, False, False]
    assert problems[-1] is not None
    assert problems[-1].code == "too-large"


def test_values_are_read_up_to_a_bound_for_the_whole_file():
    builder = oci_sample()
    for number in range(4):
        manifest = builder.manifest([builder.content(b"{}%d" % number, SIMPLE)], x=[""] * 12000)
        builder.entry(manifest, SIG.replace("ab", f"{number:02x}"))
    problems = [attachment.problem for attachment in layout_of(builder).attachments]
    assert [problem and problem.code for problem in problems] == [None, None, "too-large", "too-large"]


def test_what_is_attached_uses_up_no_bound_before_the_image_and_its_signatures_are_read():
    builder = OciBuilder()
    for number in range(4):
        manifest = builder.manifest([builder.content(b"{}%d" % number, SIMPLE)], x=[""] * 12000)
        builder.entry(manifest, SIG.replace("ab", f"{number:02x}"))
    builder.add_image(b"hsqs")
    builder.sign(cosign_key())
    layout = layout_of(builder)
    assert layout.image is not None
    assert layout.image.problem is None
    (own,) = layout.signatures_of(builder.image)
    assert own.problem is None
    assert own is layout.attachments[-1]
    assert [each.problem and each.problem.code for each in layout.attachments[:4]] == [None, None, *["too-large"] * 2]


def test_the_digest_that_a_blob_states_ends_at_the_first_nul():
    builder = oci_sample().finish()
    builder.entries[0].extra += b"\0junk"
    with opened(builder) as fd:
        first = reader.read(fd).descriptors[0]
        assert oci_sif.stated_digest(first) == digest_of(builder.entries[0].data)
    builder.entries[0].extra = b"sha256:../x"
    with opened(builder) as fd:
        assert oci_sif.stated_digest(reader.read(fd).descriptors[0]) is None
