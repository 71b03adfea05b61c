"""Any image that the builder makes: once signed it verifies, and with any change to what was signed it does not."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from eclctl.errors import EclctlError
from eclctl.sif import reader
from eclctl.sif.reader import DataType
from eclctl.sign.coverage import plan_coverage
from eclctl.sign.metadata import HASHES
from eclctl.sign.native import Signing
from eclctl.verify.examine import examine
from eclctl.verify.reference import CheckedObjects, GivenKeys, ReferenceReport, verify_scope
from tests.helpers.scribes import built, objects_of, pem_signing, pgp_signing, sign_file
from tests.helpers.sifbuilder import DEFFILE, GENERIC, JSON, SifBuilder, opened
from tests.helpers.support import NOW

KEYS: tuple[Signing, ...] = (pem_signing("ed25519"), pem_signing("p256", "p384"), pgp_signing("approver"))

entries = st.tuples(
    st.sampled_from([DEFFILE, JSON, GENERIC, "partition"]),
    st.binary(max_size=600),
    st.integers(1, 3),
    st.binary(max_size=128),
    st.integers(0, 2**40),
)


@st.composite
def images(draw: st.DrawFn) -> SifBuilder:
    """An image of some objects in up to three groups, the slots in any order."""
    uuid = draw(st.sampled_from([bytes(16), bytes(range(16))]))
    builder = SifBuilder(uuid=uuid, launch=draw(st.binary(min_size=32, max_size=32)))
    for kind, data, group, name, created in draw(st.lists(entries, min_size=1, max_size=6)):
        fields = {"group": group, "name": name, "created": created}
        if kind == "partition":
            builder.partition(data, **fields)
        else:
            builder.add(data, kind, **fields)
    builder.entries = draw(st.permutations(builder.entries))
    return builder


def verify(path: Path | bytes, signing: Signing, **scope: frozenset[int]) -> ReferenceReport:
    with opened(path) as fd:
        return verify_scope(fd, GivenKeys(signing.store, has_keyring=True, has_keys=True), CheckedObjects(**scope), NOW)


@settings(max_examples=60, deadline=None)
@given(builder=images(), signing=st.sampled_from(KEYS), algorithm=st.sampled_from(HASHES), again=st.booleans())
def test_a_signed_image_verifies_for_any_content(builder, signing, algorithm, again):
    with tempfile.TemporaryDirectory() as folder:
        path = built(builder, Path(folder))
        before = {each.id: (each, digest) for each, digest in objects_of(path)}
        ids = sign_file(path, signing, algorithm=algorithm)
        if again:
            ids += sign_file(path, signing)
        after = {each.id: (each, digest) for each, digest in objects_of(path)}
        assert {key: after[key] for key in before} == before
        assert set(after) == set(before) | set(ids)
        assert verify(path, signing).verified
        with opened(path) as fd:
            claims = examine(fd, signing.store).claims
        groups = {each.group for each, _ in before.values()}
        assert all(claim.whole_group and claim.header and claim.mismatch is None for claim in claims)
        assert {claim.group for claim in claims} == groups


@settings(max_examples=40, deadline=None)
@given(builder=images(), signing=st.sampled_from(KEYS), data=st.data())
def test_signed_objects_are_covered_and_no_others(builder, signing, data):
    ids = sorted(entry.id for entry in builder.entries)
    chosen = data.draw(st.lists(st.sampled_from(ids), min_size=1, unique=True))
    with tempfile.TemporaryDirectory() as folder:
        path = built(builder, Path(folder))
        sign_file(path, signing, objects=tuple(chosen))
        with opened(path) as fd:
            claims = examine(fd, signing.store).claims
            parts = plan_coverage(reader.read(fd), (), chosen)
        assert {each for claim in claims for each in claim.objects} == set(chosen)
        assert {(claim.group, claim.whole_group) for claim in claims} == {(part.group, part.whole) for part in parts}


@settings(max_examples=120, deadline=None)
@given(builder=images(), signing=st.sampled_from(KEYS), data=st.data())
def test_one_changed_byte_of_what_was_signed_fails(builder, signing, data):
    """Header, descriptors and data: every byte that a signature covers, and the signature itself."""
    with tempfile.TemporaryDirectory() as folder:
        path = built(builder, Path(folder))
        sign_file(path, signing)
        image = path.read_bytes()
        at = data.draw(st.sampled_from(sorted(covered(path))))
    changed = bytearray(image)
    changed[at] ^= data.draw(st.integers(1, 255))
    with opened(bytes(changed)) as fd:
        assert not passes(fd, signing)


def covered(path: Path) -> set[int]:
    """Return offsets of what is signed: of the header, and of each object its type, name, extra and first data.

    The architecture, three bytes at 45, is not signed.
    """
    with opened(path) as fd:
        image = reader.read(fd)
    found = set(range(45)) | set(range(48, 64))
    order = [each.id for each in image.descriptors]
    for each in image.descriptors:
        slot = image.header.table_offset + 585 * order.index(each.id)
        found |= set(range(each.offset, each.offset + min(each.size, 64)))
        if each.type != DataType.SIGNATURE:
            found |= {slot, slot + 1, slot + 2, *range(slot + 73, slot + 585)}
    return found


def passes(fd: int, signing: Signing) -> bool:
    try:
        return verify_scope(
            fd, GivenKeys(signing.store, has_keyring=True, has_keys=True), CheckedObjects(), NOW
        ).verified
    except EclctlError:
        return False
