"""Shared by the tests of editing: an image, a signature to add to it, and what it must then be, byte for byte."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from eclctl.sif import reader
from eclctl.sign.edit.assembly import Edit, NewObject
from eclctl.sign.edit.editing import editing
from eclctl.trust.keyring import KeyStore
from eclctl.verify.reference import CheckedObjects, GivenKeys, verify_scope
from tests.helpers.sifbuilder import SIGNATURE, SifBuilder, corpus_pgp_key, corpus_store, opened, sample
from tests.helpers.support import NOW

WHEN = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
BIG = bytes(range(256)) * 12288
"""Three MiB: what is not hashed in one step."""

STORE: KeyStore = corpus_store("site-ring")


def signed_once(data: bytes = b"hsqs" + bytes(4092)) -> SifBuilder:
    """Return an image of three objects that its builder has signed; `data` is its partition's."""
    image = sample()
    image.entries[-1].data = data
    image.sign_pgp(corpus_pgp_key("builder"))
    return image


def second_signature(image: SifBuilder) -> Edit:
    """Return what adds a second signer's signature to an image."""
    entry = SifBuilder(entries=list(image.entries)).sign_pgp(corpus_pgp_key("scanner"))
    return Edit(add=(NewObject(SIGNATURE, entry.data, link=1, links_group=True, extra=entry.extra),))


def note(text: bytes = b"a note") -> Edit:
    """Return what adds a signature object that is no signature: enough where only the file matters."""
    return Edit(add=(NewObject(SIGNATURE, text, link=1, links_group=True, extra=b"\1\0\0\0"),))


def edit(path: Path | str, change: Edit) -> tuple[str, ...]:
    """Change an image; return what the person is told."""
    with editing(str(path)) as opened_image:
        opened_image.commit(change, WHEN)
    return opened_image.notes


def data_of(image: Path, object_id: int) -> bytes:
    """Return the data of an object."""
    with opened(image) as fd:
        found = reader.read(fd)
        return bytes(found.data(next(each for each in found.descriptors if each.id == object_id)))


def signers(image: bytes | Path) -> int:
    """Return how many good signatures an image has; fail unless it verifies."""
    with opened(image) as fd:
        report = verify_scope(fd, GivenKeys(STORE, has_keyring=True, has_keys=False), CheckedObjects(), NOW)
    assert report.verified
    return len(report.signatures)


@contextmanager
def as_user(user: int, *groups: int) -> Iterator[None]:
    """Be another user, for a moment; the caller is root."""
    before = os.getgroups(), os.getegid()
    os.setgroups(groups)
    os.setegid(groups[0])
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(before[1])
        os.setgroups(before[0])
