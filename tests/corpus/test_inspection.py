"""Inspection of every image and every damaged copy: it finds fault with exactly what deciding refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eclctl.cli.sif.command import run
from eclctl.errors import MalformedImageError
from eclctl.sif import reader
from eclctl.sif.inspect import Inspection, inspect
from eclctl.sif.warnings import unusual_values
from tests.corpus.test_mutations import IMAGES, MUTATIONS
from tests.helpers.sifbuilder import opened
from tests.helpers.support import CORPUS, UPSTREAM, needs_upstream

FOLDERS = [CORPUS / "images", CORPUS / "legacy", CORPUS / "oci", CORPUS / "oci-native"]
FILES = sorted(path for folder in FOLDERS for path in folder.glob("*.sif"))
ODD = {
    "signature-link-nowhere.sif": ["link"],
    "struct-object-type-signature.sif": ["link"],
    "struct-object-type-unknown.sif": ["data type"],
    "struct-object-unused.sif": ["descriptors free"],
    "struct-trailing-bytes.sif": ["file"],
}
DAMAGED = {
    "not-a-sif.sif": [("magic", 32)],
    "struct-descr-offset-negative.sif": [("descriptors offset", 96)],
    "struct-descr-offset-past-end.sif": [("descriptors offset", 96)],
    "struct-descr-size-huge.sif": [("descriptors size", 104)],
    "struct-descr-total-huge.sif": [("descriptors total", 88)],
    "struct-descr-total-negative.sif": [("descriptors total", 88)],
    "struct-empty.sif": [("file", 0)],
    "struct-magic-broken.sif": [("magic", 32)],
    "struct-object-duplicate-id.sif": [("ID", 5271)],
    "struct-object-id-zero.sif": [("ID", 5271)],
    "struct-object-offset-negative.sif": [("offset", 5283)],
    "struct-object-offset-overflow.sif": [("offset", 5283)],
    "struct-object-over-header.sif": [("offset", 5283)],
    "struct-object-size-huge.sif": [("size", 5291)],
    "struct-object-size-negative.sif": [("size", 5291)],
    "struct-truncated-half.sif": [("file", 20000), ("place", 4113), ("place", 4698), ("place", 5283), ("place", 5868)],
    "struct-truncated-header.sif": [("file", 100)],
    "struct-version-99.sif": [("version", 42)],
}
"""What is wrong with each damaged image of the corpus, and at which byte; nothing is wrong with any other."""


def both(image: bytes | Path) -> tuple[bool, Inspection]:
    """Whether deciding refuses an image, and what inspection says."""
    with opened(image) as fd:
        inspection = inspect(fd)
        try:
            reader.read(fd)
        except MalformedImageError:
            return True, inspection
    return False, inspection


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_image_is_found_damaged_where_it_is_and_only_there(path: Path) -> None:
    refused, inspection = both(path)
    assert refused == inspection.damaged
    assert [(fault.field, fault.at) for fault in inspection.faults] == DAMAGED.get(path.name, [])


@pytest.mark.parametrize("path", [path for path in FILES if path.name not in DAMAGED], ids=lambda path: path.name)
def test_what_the_reference_writes_is_not_odd(path: Path) -> None:
    assert [note.field for note in unusual_values(both(path)[1])] == ODD.get(path.name, [])


@pytest.mark.parametrize("image", IMAGES)
def test_every_damaged_copy_is_found_damaged_exactly_when_deciding_refuses_it(image: str) -> None:
    original = (CORPUS / "images" / image).read_bytes()
    wrong = []
    for mutation in (mutation for mutation in MUTATIONS if mutation["image"] == image):
        copy = bytearray(original)
        for offset, patch in mutation["patches"]:
            data = bytes.fromhex(patch)
            copy[offset : offset + len(data)] = data
        refused, inspection = both(bytes(copy))
        if refused != inspection.damaged:
            wrong.append(mutation["patches"])
    assert wrong == []


@needs_upstream
def test_inspection_of_upstream_s_own_images_agrees_with_deciding() -> None:
    assert UPSTREAM is not None
    answers = [both(path) for path in sorted(UPSTREAM.rglob("*.sif"))]
    assert [inspection.damaged for _, inspection in answers] == [refused for refused, _ in answers]
    assert False in {refused for refused, _ in answers}


LIST = """\
------------------------------------------------------------------------------
ID   |GROUP   |LINK    |SIF POSITION (start-end)  |TYPE
------------------------------------------------------------------------------
"""


def test_the_list_of_an_oci_sif_is_the_reference_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", str(CORPUS / "oci" / "app-ci.oci.sif")]) == 0
    assert capsys.readouterr().out == LIST + (
        "1    |1       |NONE    |11116-15212               |OCI.Blob\n"
        "2    |1       |NONE    |15212-15640               |OCI.Blob\n"
        "3    |1       |NONE    |15640-16045               |OCI.Blob\n"
        "4    |1       |NONE    |16045-16338               |OCI.Blob\n"
        "5    |1       |NONE    |16338-16571               |OCI.Blob\n"
        "6    |1       |NONE    |16571-17129               |OCI.Blob\n"
        "7    |1       |NONE    |17129-17776               |OCI.RootIndex\n"
    )


def test_the_list_of_a_sif_is_the_reference_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", str(CORPUS / "images" / "two-builder.sif")]) == 0
    assert capsys.readouterr().out == LIST + (
        "1    |1       |NONE    |32176-32218               |Def.FILE\n"
        "2    |1       |NONE    |32218-32276               |JSON.Generic\n"
        "3    |1       |NONE    |32768-36864               |FS (Squashfs/*System/amd64)\n"
        "4    |2       |NONE    |36864-40960               |FS (Squashfs/Overlay/amd64)\n"
        "5    |2       |NONE    |40960-41021               |SBOM (cyclonedx-json)\n"
        "6    |NONE    |1   (G) |41021-42686               |Signature (SHA-256)\n"
        "7    |NONE    |2   (G) |42686-44152               |Signature (SHA-256)\n"
    )


def test_the_header_is_the_reference_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["header", str(CORPUS / "images" / "one-builder.sif")]) == 0
    assert capsys.readouterr().out == (
        "Launch Script:        #!/usr/bin/env run-singularity\n"
        "Version:              01\n"
        "Primary Architecture: amd64\n"
        "ID:                   e88b7591-31db-6e32-d8dc-b35f94c662cd\n"
        "Created At:           2023-11-14 22:13:20 +0000 UTC\n"
        "Modified At:          2026-01-01 00:00:00 +0000 UTC\n"
        "Descriptors Free:     44\n"
        "Descriptors Total:    48\n"
        "Descriptors Offset:   4096\n"
        "Descriptors Size:     27 KiB\n"
        "Data Offset:          32176\n"
        "Data Size:            6 KiB\n"
    )


def test_a_header_without_script_times_and_identity_leaves_them_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["header", str(CORPUS / "oci" / "app-ci.oci.sif")]) == 0
    assert capsys.readouterr().out == (
        "Version:            01\n"
        "Descriptors Free:   5\n"
        "Descriptors Total:  12\n"
        "Descriptors Offset: 4096\n"
        "Descriptors Size:   7 KiB\n"
        "Data Offset:        11116\n"
        "Data Size:          7 KiB\n"
    )


def test_info_on_a_signature_is_the_reference_s_and_says_what_it_is_worth(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["info", "4", str(CORPUS / "images" / "one-builder.sif")]) == 0
    assert capsys.readouterr().out == (
        "  Data Type:    Signature\n"
        "  ID:           4\n"
        "  Group ID:     NONE\n"
        "  Linked ID:    1 (G)\n"
        "  Offset:       36864\n"
        "  Size:         1665\n"
        "  Created At:   2026-01-01 00:00:00 +0000 UTC\n"
        "  Modified At:  2026-01-01 00:00:00 +0000 UTC\n"
        "  Hash Type:    SHA-256\n"
        "  Entity:       81F111F6190C46143937EF7C22BC3A3BC942487F (a claim, no proof)\n"
        "  Format:       PGP clear-sign\n"
    )


def test_info_on_an_oci_blob_has_the_reference_s_lines_and_the_media_type(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["info", "6", str(CORPUS / "oci" / "app-ci.oci.sif")]) == 0
    assert capsys.readouterr().out == (
        "  Data Type:  OCI.Blob\n"
        "  ID:         6\n"
        "  Group ID:   1\n"
        "  Linked ID:  NONE\n"
        "  Offset:     16571\n"
        "  Size:       558\n"
        "  Digest:     sha256:66366d6f251eba77258e52fe6ed6a5eb8477b9f105f831fe190fc0bf7fa94b3e\n"
        "  Media Type: application/vnd.oci.image.manifest.v1+json\n"
    )


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("images/one-dsse-p256.sif", "DSSE envelope"),
        ("legacy/object-primary.sif", "legacy (clear-signed SIFHASH, covers data only)"),
    ],
)
def test_info_names_the_format_of_other_signatures(image: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    signature = next(slot for slot in both(CORPUS / image)[1].slots if slot.descriptor.is_signature)
    assert run(["info", str(signature.descriptor.id), str(CORPUS / image)]) == 0
    assert f"  Format:       {words}\n" in capsys.readouterr().out


def test_every_object_of_every_sound_image_is_written_as_it_is_in_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in FILES[::9]:
        refused, inspection = both(path)
        for slot in inspection.slots if not refused else ():
            output = tmp_path / f"{path.name}.{slot.number}"
            assert run(["dump", "--json", str(slot.descriptor.id), str(path), "-o", str(output)]) == 0
            start, size = slot.descriptor.offset, slot.descriptor.size
            assert output.read_bytes() == path.read_bytes()[start : start + size]
            assert json.loads(capsys.readouterr().out)["written"] == {
                "file": str(output),
                "bytes": size,
                "whole": True,
            }
