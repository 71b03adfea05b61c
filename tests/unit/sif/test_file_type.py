"""What is no SIF image is named, with what to do about it."""

from __future__ import annotations

import gzip
import io
import tarfile

import pytest

from eclctl.sif.file_type import recognise, recognise_directory


def archive(*names):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 700
            tar.addfile(member, io.BytesIO(b"x" * 700))
    return file.getvalue()


EXT = bytes(1080) + b"\x53\xef" + bytes(100)
LAUNCH = b"#!/usr/bin/env run-singularity\n"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "empty"),
        (bytes(4096), "zeros"),
        (b"hsqs" + bytes(2000), "squashfs"),
        (EXT, "ext3"),
        (LAUNCH + b"hsqs" + bytes(2000), "singularity-2"),
        (LAUNCH + EXT, "singularity-2"),
        (b"\x7fELF" + bytes(2000), "program"),
        (archive("oci-layout", "index.json"), "oci-archive"),
        (archive("./blobs/sha256/0"), "oci-archive"),
        (archive("manifest.json", "repositories"), "docker-archive"),
        (archive("etc/passwd"), "tar"),
        (gzip.compress(b"x", mtime=0), "compressed"),
        (b"\x28\xb5\x2f\xfd" + bytes(10), "compressed"),
        (b"Bootstrap: docker\nFrom: alpine\n", "definition"),
        (b"# a comment\nBootStrap: library\n", "definition"),
        (b"\n<!DOCTYPE html><title>Log in</title>", "html"),
        (b"<HTML>", "html"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git-lfs-pointer"),
        (b"-----BEGIN PGP SIGNED MESSAGE-----\n", "pgp"),
        (b"-----BEGIN PUBLIC KEY-----\n", "pem"),
        (b'{"schemaVersion": 2}', "json"),
        (b"#!/bin/sh\necho\n", "script"),
        (b"hello", "text"),
        ("ä".encode() * 4000, "text"),
        (b"x" + "ä".encode() * 4000, "text"),
        (b"\xff\xfe\x00\x01", "unknown"),
        (b"text with a\0NUL", "unknown"),
        (b"cut character \xc3", "unknown"),
    ],
)
def test_a_file_is_told_by_its_first_bytes(data, kind):
    look = recognise(data[: 64 * 1024], len(data))
    assert look.kind == kind
    assert look.advice.format(image="x")


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        ({"oci-layout", "index.json"}, "oci-layout"),
        ({".singularity.d"}, "sandbox"),
        ({"bin", "etc"}, "sandbox"),
        ({"etc"}, "directory"),
        (set(), "directory"),
    ],
)
def test_a_directory_is_told_by_what_is_in_it(names, kind):
    assert recognise_directory(names.__contains__).kind == kind
