"""Described images: from words in a test to the facts that reading such an image would have shown.

What is made here is what `verify.examine` makes of a file: data objects in groups, and for each signature a claim by
a key of the policy, or a failure. Nothing is judged here: whether a claim counts is for the engine to say.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import datetime

from eclctl.config import document
from eclctl.config.document import ListNode, Node, Report
from eclctl.dataclass import dataclass, field
from eclctl.model import DataObject, OciContent, Verification
from eclctl.policy.language import HOLDS, SIGNED_KINDS
from eclctl.policytest.cases import Supposed
from eclctl.policytest.signing import DescribedSignatures, SigningKeys
from eclctl.terms import Kind
from eclctl.text import quoted

IMAGE_KEYS = ("kind", "groups", "ungrouped", "tied", "digests", "signed_by", "signatures")
"""The keys of a test that describe an image; `image`, which names a file, goes with none of them."""
_ONLY_SIGNED = ("groups", "ungrouped", "tied", "signed_by", "signatures")
_DEFAULT = {
    Kind.SIF: (("deffile",), ("generic-json",), ("primary", "squashfs")),
    Kind.OCI_SIF: (("oci-blob",), ("oci-blob",), ("oci-blob",), ("oci-root-index",)),
}
_IMPLIED = {"primary": ("system",)}
_PARTITIONS = frozenset(
    {"system", "primary", "data", "overlay", "squashfs", "ext3", "archive", "raw", "encrypted-squashfs"}
)
_HIGHEST_GROUP = 0x0FFFFFFF
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(slots=True)
class _Objects:
    """The data objects of an image under description; numbers are given in the order in which they are written."""

    found: list[DataObject] = field(default_factory=list)

    def add(self, group: int, holds: frozenset[str]) -> None:
        self.found.append(DataObject(len(self.found) + 1, group, holds, 4096, ""))

    def groups(self) -> dict[int, frozenset[int]]:
        numbers = sorted({item.group for item in self.found} - {0})
        return {number: frozenset(item.id for item in self.found if item.group == number) for number in numbers}

    def holding(self, word: str) -> frozenset[int]:
        return frozenset(item.id for item in self.found if word in item.holds)


@dataclass(frozen=True, slots=True)
class Describer:
    """Reads descriptions against a policy and its keys; what is wrong is reported, and None returned."""

    material: SigningKeys
    report: Report

    def image(self, fields: Mapping[str, Node], what: str, now: datetime) -> Supposed | None:
        """Return the facts of an image that a test describes by `IMAGE_KEYS`; signatures are made at `now`."""
        kind = self._kind(fields.get("kind"), what)
        if kind is None:
            return None
        if kind not in SIGNED_KINDS:
            return self._unsigned(kind, fields, what)
        objects = self._objects(kind, fields, what)
        digests = self._digests(fields.get("digests"), objects, what)
        groups, subject, next_id = objects.groups(), objects.holding("oci-blob"), len(objects.found) + 1
        signing = DescribedSignatures(self.material, self.report, kind, groups, subject, next_id, now)
        signing.take(fields.get("signed_by"), fields.get("signatures"), what)
        found = Verification(
            kind=kind,
            objects=tuple(objects.found),
            groups=groups,
            tied=self._tied(fields.get("tied"), kind, what),
            claims=tuple(signing.claims),
            failures=tuple(signing.failures),
            digests=digests,
            oci=_oci(objects, digests) if kind is Kind.OCI_SIF else None,
        )
        return Supposed(found, frozenset(signing.revoked))

    def _tied(self, node: Node | None, kind: Kind, what: str) -> bool:
        """Whether the header has a UUID; those who build OCI-SIF images leave it nil."""
        if node is None:
            return kind is Kind.SIF
        return document.boolean(node, self.report, f"tied of {what}") is True

    def _kind(self, node: Node | None, what: str) -> Kind | None:
        if node is None:
            return Kind.SIF
        chosen = document.choice(node, self.report, f"kind of {what}", tuple(Kind))
        return None if chosen is None else Kind(chosen)

    def _unsigned(self, kind: Kind, fields: Mapping[str, Node], what: str) -> Supposed:
        """A sandbox, or a file that is no SIF image: nothing of it can be signed, as a whole it has a digest."""
        for key in _ONLY_SIGNED:
            if key in fields:
                self.report.error(fields[key], f"{what} is of kind {kind}, which has neither groups nor signatures")
        objects = _Objects()
        if kind is not Kind.SANDBOX:
            objects.add(0, frozenset())
        digests = self._digests(fields.get("digests"), objects, what)
        return Supposed(Verification(kind, tuple(objects.found), {}, tied=False, digests=digests))

    def _objects(self, kind: Kind, fields: Mapping[str, Node], what: str) -> _Objects:
        objects = _Objects()
        if "groups" not in fields:
            for words in _DEFAULT[kind]:
                objects.add(1, _union(_meaning(word) for word in words))
        else:
            self._groups(fields["groups"], objects, what)
        if "ungrouped" in fields:
            self._members(fields["ungrouped"], 0, objects, f"ungrouped of {what}")
        return objects

    def _groups(self, node: Node, objects: _Objects, what: str) -> None:
        where = f"groups of {what}"
        pairs = document.pairs(node, self.report, where)
        if pairs == ():
            self.report.error(node, f"{where} is an empty mapping", "write {1: [primary]}, or leave the key out")
        for key, value in pairs or ():
            number = document.integer(key, self.report, f"a group of {what}", 1, _HIGHEST_GROUP)
            if number is not None:
                self._members(value, number, objects, f"group {number} of {what}")

    def _members(self, node: Node, group: int, objects: _Objects, where: str) -> None:
        for item in document.items(node, self.report, where) or ():
            words = item.items if isinstance(item, ListNode) else (item,)
            objects.add(group, _union(self._word(word, where) for word in words))

    def _word(self, node: Node, where: str) -> frozenset[str]:
        word = document.text(node, self.report, f"an object of {where}")
        if word is None:
            return frozenset()
        if word not in HOLDS:
            self.report.unknown(node, "word for an object", word, HOLDS)
        return _meaning(word)

    def _digests(self, node: Node | None, objects: _Objects, what: str) -> dict[int, str]:
        """Return a digest for every object: the one that the test gives, else one that nothing else has."""
        digests = {each.id: _sha256(f"described object {each.id}") for each in objects.found}
        where = f"digests of {what}"
        for key, value in (document.pairs(node, self.report, where) or ()) if node is not None else ():
            number = document.integer(key, self.report, f"an object in {where}", 1, 0x7FFFFFFF)
            digest = document.text(value, self.report, f"a digest in {where}")
            if number is None or digest is None:
                continue
            if number not in digests:
                hint = f"its objects are 1 to {len(objects.found)}, as they are written" if objects.found else None
                self.report.error(key, f"{what} has no object {number}", hint)
            elif not _DIGEST.fullmatch(digest.lower()):
                self.report.error(value, f"{quoted(digest)} is no digest", "sha256: and 64 hex digits")
            else:
                digests[number] = digest.lower()
        return digests


def _meaning(word: str) -> frozenset[str]:
    """Return all that an object holds of which a test says one word, as a reader of real images would."""
    partition = ("partition",) if word in _PARTITIONS else ()
    return frozenset({word, *partition, *_IMPLIED.get(word, ())})


def _union(sets: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset().union(*sets)


def _sha256(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _oci(objects: _Objects, digests: Mapping[int, str]) -> OciContent | None:
    """Return the one image of an OCI-SIF: all of its blobs, of which the first is the manifest."""
    blobs = objects.holding("oci-blob")
    return OciContent(digests[min(blobs)], blobs, objects.holding("oci-root-index")) if blobs else None
