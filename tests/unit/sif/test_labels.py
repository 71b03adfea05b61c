"""The numbers of a SIF image are called what the reference calls them."""

from __future__ import annotations

import struct

import pytest

from eclctl.sif import labels
from eclctl.sif.inspect import inspect
from tests.helpers.sifbuilder import SifBuilder, opened


def descriptor(kind, extra=b""):
    builder = SifBuilder()
    builder.add(b"x", kind, extra=extra)
    with opened(builder) as fd:
        return inspect(fd).slots[0].descriptor


def texts(kind, *numbers, tail=b""):
    return [
        meaning.text for meaning in labels.meanings(descriptor(kind, struct.pack(f"<{len(numbers)}i", *numbers) + tail))
    ]


TYPES = ["Def.FILE", "Env.Vars", "JSON.Labels", "FS", "Signature", "JSON.Generic", "Generic/Raw"]
TYPES += ["Cryptographic Message", "SBOM", "OCI.RootIndex", "OCI.Blob"]


@pytest.mark.parametrize(("kind", "word"), list(enumerate(TYPES, 0x4001)))
def test_data_types(kind, word):
    assert labels.data_type(descriptor(kind)) == word


@pytest.mark.parametrize("kind", [0, 0x4000, 0x400C, -1])
def test_an_unknown_data_type(kind):
    assert labels.data_type(descriptor(kind)) == "Unknown"
    assert labels.meanings(descriptor(kind)) == ()


@pytest.mark.parametrize(
    ("number", "word"),
    list(enumerate(["Unknown", "Squashfs", "Ext3", "Archive", "Raw", "Encrypted squashfs", "Unknown"])),
)
def test_file_systems(number, word):
    assert texts(0x4004, number, 1, tail=b"02\0") == [word, "System", "amd64"]


@pytest.mark.parametrize(
    ("number", "word"), list(enumerate(["Unknown", "System", "*System", "Data", "Overlay", "Unknown"]))
)
def test_partition_types(number, word):
    assert texts(0x4004, 1, number, tail=b"02\0") == ["Squashfs", word, "amd64"]


ARCHITECTURES = "unknown 386 amd64 arm arm64 ppc64 ppc64le mips mipsle mips64 mips64le s390x riscv64 loong64 unknown"


@pytest.mark.parametrize(("number", "word"), list(enumerate(ARCHITECTURES.split())))
def test_architectures(number, word):
    raw = b"%02d\0" % number
    assert labels.architecture(raw) == word
    assert texts(0x4004, 1, 1, tail=raw)[2] == word


HASHES = ["Unknown", "SHA-256", "SHA-384", "SHA-512", "BLAKE2s-256", "BLAKE2b-256", "Unknown"]


@pytest.mark.parametrize(("number", "word"), list(enumerate(HASHES)))
def test_hashes(number, word):
    assert texts(0x4005, number) == [word]


@pytest.mark.parametrize(
    ("form", "message", "expected"),
    [
        (1, 0x100, ["OpenPGP", "Clear Signature"]),
        (2, 0x200, ["PEM", "RSA-OAEP"]),
        (0, 0, ["Unknown", "Unknown"]),
        (3, 0x300, ["Unknown", "Unknown"]),
    ],
)
def test_cryptographic_messages(form, message, expected):
    assert texts(0x4008, form, message) == expected


BILLS = "unknown cyclonedx-json cyclonedx-xml github-json spdx-json spdx-rdf spdx-tag-value spdx-yaml syft-json unknown"


@pytest.mark.parametrize(("number", "word"), list(enumerate(BILLS.split())))
def test_bills_of_materials(number, word):
    assert texts(0x4009, number) == [word]
