"""What is signed is, byte for byte, what the reference signs."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest

from eclctl.errors import SigningError
from eclctl.sif import reader
from eclctl.sign import metadata
from eclctl.signature.metadata import Metadata, parse_metadata
from tests.helpers.sifbuilder import opened, sample
from tests.helpers.support import CORPUS

SIGNED_BY_THE_REFERENCE = {
    "one-builder.sif": {4: (1, 2, 3)},
    "one-object1.sif": {4: (1,)},
    "one-objects1,3.sif": {4: (1, 3)},
    "two-builder.sif": {6: (1, 2, 3), 7: (4, 5)},
    "two-group1-builder.sif": {6: (1, 2, 3)},
    "one-dsse-p521.sif": {4: (1, 2, 3)},
    "two-dsse-p256.sif": {6: (1, 2, 3), 7: (4, 5)},
}


def signed_text(data: bytes) -> bytes:
    """The text in a signature object, taken out by hand."""
    if data.startswith(b"{"):
        return base64.b64decode(json.loads(data)["payload"])
    return data.split(b"\n\n", 1)[1].split(b"\n-----BEGIN PGP SIGNATURE", 1)[0]


def written(image: reader.Sif, objects: tuple[int, ...], algorithm: str = "sha256") -> bytes:
    chosen = [each for each in image.descriptors if each.id in objects]
    digests = {each.id: hashlib.new(algorithm, image.data(each)).digest() for each in chosen}
    return metadata.write(image.header, chosen, digests, algorithm)


@pytest.mark.parametrize("name", SIGNED_BY_THE_REFERENCE)
def test_the_text_is_the_references_byte_by_byte(name):
    with opened(CORPUS / "images" / name) as fd:
        image = reader.read(fd)
        for signature, objects in SIGNED_BY_THE_REFERENCE[name].items():
            data = bytes(image.data(next(each for each in image.descriptors if each.id == signature)))
            assert written(image, objects) == signed_text(data)


@pytest.mark.parametrize("algorithm", metadata.HASHES)
def test_every_digest_that_can_be_written_can_be_read(algorithm):
    builder = sample()
    with opened(builder) as fd:
        text = written(reader.read(fd), (1, 2, 3), algorithm)
    assert text == builder.metadata(algorithm=algorithm)
    assert isinstance(parse_metadata(text), Metadata)


def test_objects_are_listed_once_and_in_the_order_of_their_ids():
    with opened(sample()) as fd:
        image = reader.read(fd)
        one, two, three = image.descriptors
        digests = {each.id: bytes(32) for each in image.descriptors}
        text = metadata.write(image.header, [three, one, two, one], digests, "sha256")
    assert [item["relativeId"] for item in json.loads(text)["objects"]] == [0, 1, 2]


def test_ids_count_from_the_lowest_of_the_group_also_when_that_is_not_signed():
    builder = sample()
    builder.add(b"x", id=9, group=2)
    builder.add(b"y", id=12, group=2)
    with opened(builder) as fd:
        image = reader.read(fd)
        assert json.loads(written(image, (12,)))["objects"][0]["relativeId"] == 3


@pytest.mark.parametrize("chosen", [(), (1, 4)])
def test_nothing_and_objects_of_two_groups_are_refused(chosen):
    builder = sample()
    builder.add(b"x", group=2)
    with opened(builder) as fd, pytest.raises(SigningError, match="those of one group alone"):
        written(reader.read(fd), chosen)


def test_a_digest_that_no_reader_knows_is_refused():
    with opened(sample()) as fd, pytest.raises(SigningError, match="md5 is no digest"):
        written(reader.read(fd), (1,), "md5")
