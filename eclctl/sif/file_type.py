"""Recognises a file that is not a SIF image by its first bytes, and says what the user can do with it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple


class RecognisedFile(NamedTuple):
    """What a file looks like, and what to do: a sentence, in which `{image}` stands for its name."""

    kind: str
    what: str
    advice: str


_BUILD: Final = "make a SIF image of it: singularity build new.sif {image}"
_AGAIN: Final = "get the image again, and compare its size with the original's"

EMPTY: Final = RecognisedFile("empty", "an empty file", _AGAIN)
_ZEROS: Final = RecognisedFile(
    "zeros", "nothing but zeros at its start", f"the copy was not completed, perhaps: {_AGAIN}"
)
_SQUASHFS: Final = RecognisedFile("squashfs", "a bare squashfs file system", _BUILD)
_SINGULARITY_2: Final = RecognisedFile("singularity-2", "an image of Singularity 2, from before SIF", _BUILD)
_EXT: Final = RecognisedFile("ext3", "a bare ext2, ext3 or ext4 file system", _BUILD)
_OCI_ARCHIVE: Final = RecognisedFile(
    "oci-archive", "an OCI archive", "make a SIF image of it: singularity build new.sif oci-archive:{image}"
)
_DOCKER_ARCHIVE: Final = RecognisedFile(
    "docker-archive",
    "an archive by `docker save`",
    "make a SIF image of it: singularity build new.sif docker-archive:{image}",
)
_TAR: Final = RecognisedFile(
    "tar",
    "a tar archive",
    "if it holds an image, unpack it; for an archive by `docker save` or of OCI, singularity build"
    " new.sif docker-archive:{image} (or oci-archive:{image})",
)
_ELF: Final = RecognisedFile("program", "a program (ELF)", "name an image; this is no container")
_DEFINITION: Final = RecognisedFile(
    "definition", "a definition file", "build the image that it defines: singularity build new.sif {image}"
)
_HTML: Final = RecognisedFile(
    "html", "a web page", "a server answered the download with a page, perhaps one to log in or an error: open it"
)
_POINTER: Final = RecognisedFile("git-lfs-pointer", "a pointer of Git LFS", "fetch the file itself: git lfs pull")
_SIGNATURE: Final = RecognisedFile("pgp", "an OpenPGP key, message or signature", "name the image instead")
_PEM: Final = RecognisedFile("pem", "a key or certificate in PEM form", "name the image instead")
_JSON: Final = RecognisedFile(
    "json", "a JSON text", "if this is an OCI manifest or index, pull the image that it belongs to"
)
_SCRIPT: Final = RecognisedFile("script", "a script", "name an image; this is no container")
_TEXT: Final = RecognisedFile("text", "a text", "name an image; this is no container")
_OTHER: Final = RecognisedFile("unknown", "nothing that is known here", f"if it was an image, {_AGAIN}")

_OCI_LAYOUT: Final = RecognisedFile(
    "oci-layout", "an OCI layout in a directory", "make a SIF image of it: singularity build new.sif oci:{image}"
)
_SANDBOX: Final = RecognisedFile("sandbox", "a sandbox, a container in a directory", _BUILD)
_DIRECTORY: Final = RecognisedFile("directory", "a directory", "name an image in it")

_COMPRESSED: Final = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\0": "xz",
    b"BZh": "bzip2",
    b"PK\x03\x04": "zip",
}
_EXT_MAGIC_AT: Final = 1080
_TAR_MAGIC_AT: Final = 257
_LAUNCH_LINE: Final = re.compile(rb"#!/usr/bin/env run-singularity\n(?=hsqs|.{1080}\x53\xef)", re.DOTALL)
_TEXT_SAMPLE: Final = 4096
_WORDS: Final = re.compile(r"(?im)^(bootstrap|from)[ \t]*:")


def recognise(prefix: bytes, size: int) -> RecognisedFile:
    """Return what a file looks like that is no SIF image.

    Args:
        prefix: Its first bytes: all, or 2 KiB and more.
        size: Its size in bytes.
    """
    if not size:
        return EMPTY
    for kind in (_file_system, _archive, _compressed, _text):
        look = kind(prefix)
        if look is not None:
            return look
    return _OTHER if any(prefix) else _ZEROS


def recognise_directory(has: Callable[[str], bool]) -> RecognisedFile:
    """Return what a directory looks like; `has` says whether something of a name is in it."""
    if has("oci-layout"):
        return _OCI_LAYOUT
    return _SANDBOX if has(".singularity.d") or (has("bin") and has("etc")) else _DIRECTORY


def _file_system(prefix: bytes) -> RecognisedFile | None:
    if prefix.startswith(b"hsqs"):
        return _SQUASHFS
    if _LAUNCH_LINE.match(prefix):
        return _SINGULARITY_2
    if prefix[_EXT_MAGIC_AT : _EXT_MAGIC_AT + 2] == b"\x53\xef":
        return _EXT
    return _ELF if prefix.startswith(b"\x7fELF") else None


def _archive(prefix: bytes) -> RecognisedFile | None:
    if prefix[_TAR_MAGIC_AT : _TAR_MAGIC_AT + 5] != b"ustar":
        return None
    names = [prefix[at : at + 100].partition(b"\0")[0].removeprefix(b"./") for at in range(0, len(prefix) - 511, 512)]
    if b"manifest.json" in names or b"repositories" in names:
        return _DOCKER_ARCHIVE
    oci = any(name in {b"oci-layout", b"index.json"} or name.startswith(b"blobs/") for name in names)
    return _OCI_ARCHIVE if oci else _TAR


def _compressed(prefix: bytes) -> RecognisedFile | None:
    for magic, name in _COMPRESSED.items():
        if prefix.startswith(magic):
            return RecognisedFile("compressed", f"compressed data ({name})", "decompress it first")
    return None


def _text(prefix: bytes) -> RecognisedFile | None:
    sample = prefix[:_TEXT_SAMPLE]
    try:
        text = sample.decode()
    except UnicodeDecodeError as error:
        if error.start < len(sample) - 4 or len(sample) < _TEXT_SAMPLE:  # else a character cut by the sample's end
            return None
        text = sample[: error.start].decode()
    if any(character < " " and character not in "\t\n\r\f\x1b" for character in text):
        return None
    return _text_type(text.lstrip("\ufeff \t\r\n"))


def _text_type(text: str) -> RecognisedFile:
    begins = {
        "version https://git-lfs": _POINTER,
        "-----BEGIN PGP": _SIGNATURE,
        "-----BEGIN ": _PEM,
        "#!": _SCRIPT,
        "{": _JSON,
        "[": _JSON,
    }
    if text[:15].lower().startswith(("<!doctype html", "<html")):
        return _HTML
    if _WORDS.search(text):
        return _DEFINITION
    return next((look for begin, look in begins.items() if text.startswith(begin)), _TEXT)
