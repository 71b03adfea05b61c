"""Tells the kind of an image by its first bytes."""

from __future__ import annotations

import os

from eclctl.sif.layout import HEADER_FIELDS, MAGIC
from eclctl.terms import Kind

_SIF_MAGIC_AT = HEADER_FIELDS["magic"]
_SQUASHFS_MAGIC = b"hsqs"  # little-endian; Linux mounts no other
_EXT_MAGIC = b"\x53\xef"
_EXT_MAGIC_AT = 1080  # superblock at 1024, s_magic at 56


def sniff(fd: int) -> Kind:
    """Return the kind of a regular file by its magic numbers, with one pread of 1,082 bytes.

    A SIF file is told as `Kind.SIF`; only reading its descriptors shows whether it is an OCI-SIF. Raises OSError when
    the file cannot be read.
    """
    head = os.pread(fd, _EXT_MAGIC_AT + len(_EXT_MAGIC), 0)
    if head[_SIF_MAGIC_AT : _SIF_MAGIC_AT + len(MAGIC)] == MAGIC:
        return Kind.SIF
    if head.startswith(_SQUASHFS_MAGIC):
        return Kind.SQUASHFS
    if head[_EXT_MAGIC_AT:] == _EXT_MAGIC:
        return Kind.EXT3
    return Kind.OTHER
