"""Described signatures: each becomes the claims that verifying it would have made, or a failure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from eclctl.config import document
from eclctl.config.document import Node, Report, Scalar
from eclctl.dataclass import dataclass, field, replace
from eclctl.model import Claim, Failure
from eclctl.policy.declare import PURPOSE_SHAPE
from eclctl.policy.language import Policy, Signer
from eclctl.signature import cosign
from eclctl.terms import Finding, KeyRef, Kind, SignatureFormat, SignerKind, is_purpose, purpose
from eclctl.text import quoted
from eclctl.trust.keyring import KeyStore
from eclctl.trust.signer_types import SIGNER_TYPES, SignerType, signer_type

_FLAGS = ("expired", "revoked", "tampered", "legacy")
_FINGERPRINT = re.compile(r"(?:[0-9A-F]{40}|[0-9A-F]{64})")
_STRANGER = Finding("unknown-key", "openpgp: signature made by unknown entity")
_DAY = timedelta(days=1)
_OLDEST = 50 * 365 * 86400.0
_WILD = re.compile(r"\*+")


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """Whose signatures can be described: the signers of a policy, and the keys that they have."""

    policy: Policy
    store: KeyStore


@dataclass(slots=True)
class DescribedSignatures:
    """Takes the signatures of one image, made at `now`; the first has the descriptor ID `next_id`.

    `groups` are IDs of data objects, `subject` the objects that a cosign claim covers.
    """

    material: SigningKeys
    report: Report
    kind: Kind
    groups: Mapping[int, frozenset[int]]
    subject: frozenset[int]
    next_id: int
    now: datetime
    claims: list[Claim] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    revoked: set[int] = field(default_factory=set)

    def take(self, signed_by: Node | None, signatures: Node | None, what: str) -> None:
        """Take `signed_by`, a list of signers, and `signatures`, a list of signers and of mappings."""
        nodes: list[Node] = []
        if signed_by is not None:
            nodes += document.texts(signed_by, self.report, f"signed_by of {what}", may_be_empty=True) or ()
        if signatures is not None:
            nodes += document.items(signatures, self.report, f"signatures of {what}") or ()
        for node in nodes:
            if isinstance(node, Scalar):
                self._signature(_Written(node, {"by": node}, what))
            elif (fields := document.mapping(node, self.report, f"a signature of {what}", _KEYS)) is not None:
                self._signature(_Written(node, fields, what))

    def _signature(self, written: _Written) -> None:
        flags = {name: self._flag(written, name) for name in (*_FLAGS, "unknown")}
        if flags["unknown"]:
            self._stranger(written)
            return
        if "by" not in written.fields:
            self.report.error(written.node, f"a signature of {written.what} needs 'by'", "or write unknown: true")
            return
        signer = self._signer(written)
        if signer is None or not self._possible(written, signer, flags):
            return
        if not SIGNER_TYPES[signer.key.kind].approves_parts:
            self._add(self._cosign(written, signer), flags, of=signer.key)
            return
        for group, objects in self._parts(written, legacy=flags["legacy"]):
            number = self._number()
            for key in self.material.store.names_of(signer.key):
                self._add(self._native(written, key, (number, group, objects), flags), flags, of=signer.key)

    def _flag(self, written: _Written, name: str) -> bool:
        node = written.fields.get(name)
        return node is not None and document.boolean(node, self.report, f"{name} of {written.signature}") is True

    def _stranger(self, written: _Written) -> None:
        for name in written.fields.keys() - {"unknown"}:
            message = f"{name} of a signature by an unknown key says nothing"
            self.report.error(written.fields[name], message, "remove it")
        self.failures.append(Failure(self._number(), SignatureFormat.PGP, _STRANGER))

    def _number(self) -> int:
        self.next_id += 1
        return self.next_id - 1

    def _signer(self, written: _Written) -> _Signer | None:
        """Return whose key makes a signature: a signer's, or one that only the keyrings have, by its fingerprint."""
        by = written.fields["by"]
        name = document.text(by, self.report, f"by of {written.signature}")
        if name is None:
            return None
        node, kinds = written.fields.get("with"), tuple(SIGNER_TYPES)
        chosen = None if node is None else document.choice(node, self.report, f"with of {written.signature}", kinds)
        signer = self.material.policy.signers.get(name)
        if signer is not None:
            return self._with_key(written, signer, None if chosen is None else SignerKind(chosen))
        fingerprint = name.upper()
        if _FINGERPRINT.fullmatch(fingerprint) and self.material.store.pgp.get(fingerprint) is not None:
            return _Signer(name, KeyRef(SignerKind.PGP, fingerprint), None)
        self.report.unknown(by, "signer", name, self.material.policy.signers)
        return None

    def _with_key(self, written: _Written, signer: Signer, sort: SignerKind | None) -> _Signer | None:
        """Return a signer with their first key of a sort; without one, the first that can sign this kind of image."""
        keys = [KeyRef(signer_type(key).kind, key) for key in signer.keys]
        if sort is None:
            native = [key for key in keys if SIGNER_TYPES[key.kind].approves_parts]
            chosen = [*native, *keys] if self.kind is Kind.OCI_SIF else native
        else:
            chosen = [key for key in keys if key.kind is sort]
        if not chosen:
            has = ", ".join(sorted({key.kind for key in keys}))
            wanted = f"of the sort {sort.value}" if sort else f"that can sign an image of kind {self.kind}"
            self.report.error(written.node, f"signer {quoted(signer.name)} has no key {wanted}", f"they have: {has}")
            return None
        return _Signer(signer.name, chosen[0], signer)

    def _possible(self, written: _Written, signer: _Signer, flags: Mapping[str, bool]) -> bool:
        """Report what cannot be of a signature by this sort of key."""
        before = len(self.report.errors)
        entry = SIGNER_TYPES[signer.key.kind]
        for name, fits, hint in _ONLY:
            if (name in written.fields or flags.get(name)) and not fits(entry):
                message = f"{name} says nothing of a signature by a {entry.words}"
                self.report.error(written.fields[name], message, hint)
        if not entry.approves_parts and self.kind is not Kind.OCI_SIF:
            self.report.error(written.node, "only images of the kind oci-sif carry cosign signatures", "kind: oci-sif")
        asked = entry.status_is_asked(self.material.store, signer.key.id)
        if flags["revoked"] and entry.revocable and not asked:
            hint = "it would count: in the policy, write ocsp: require"
            message = f"the policy does not ask whether the {entry.noun} of {signer.name} is revoked"
            self.report.error(written.node, message, hint)
        return len(self.report.errors) == before

    def _parts(self, written: _Written, *, legacy: bool) -> Sequence[tuple[int, frozenset[int]]]:
        """Return what is signed, one signature for each: all groups, some of them, or objects of one group.

        A legacy signature over objects is over a single one.
        """
        if "objects" in written.fields:
            found = self._single_objects(written)
            return [(group, frozenset({one})) for group, ids in found for one in sorted(ids)] if legacy else found
        groups = self._numbers(written, "groups", self.groups)
        return [(number, ids) for number, ids in self.groups.items() if groups is None or number in groups]

    def _single_objects(self, written: _Written) -> Sequence[tuple[int, frozenset[int]]]:
        if "groups" in written.fields:
            self.report.error(written.node, f"{written.signature} has both groups and objects", "leave one out")
        known = frozenset().union(*self.groups.values())
        objects = self._numbers(written, "objects", known)
        if not objects:
            return ()
        for number, ids in self.groups.items():
            if objects <= ids:
                return [(number, objects)]
        self.report.error(written.fields["objects"], "one signature covers objects of one group alone")
        return ()

    def _numbers(self, written: _Written, key: str, known: Iterable[int]) -> frozenset[int] | None:
        if key not in written.fields:
            return None
        where = f"{key} of {written.signature}"
        found: set[int] = set()
        for entry in document.texts(written.fields[key], self.report, where) or ():
            number = document.integer(entry, self.report, f"an entry of {where}", 1, 0x7FFFFFFF)
            if number is not None and number not in known:
                hint = f"there are: {', '.join(map(str, sorted(known)))}"
                self.report.error(entry, f"the image has no {key.removesuffix('s')} {number} that can be signed", hint)
            elif number is not None:
                found.add(number)
        return frozenset(found)

    def _native(
        self, written: _Written, key: KeyRef, part: tuple[int, int, frozenset[int]], flags: Mapping[str, bool]
    ) -> Claim:
        """Return the claim of a signature with a number, over objects of a group, by one name of its key."""
        number, group, objects = part
        legacy = flags["legacy"]
        loose = legacy and "objects" in written.fields
        created, expires = self._times(written, key, expired=flags["expired"])
        return Claim(
            signature=number,
            format=SignatureFormat.LEGACY if legacy else SIGNER_TYPES[key.kind].format,
            signer=key,
            key=SIGNER_TYPES[key.kind].signing_key(self.material.store, key.id, created, self.now),
            group=None if loose else group,
            objects=objects,
            whole_group=not loose and objects == self.groups[group],
            header=not legacy,
            created=created,
            expires=expires,
            purposes=self._purposes(written),
        )

    def _times(self, written: _Written, key: KeyRef, *, expired: bool) -> tuple[datetime | None, datetime | None]:
        """Return when a signature was made and when it expires; not all say so."""
        if not SIGNER_TYPES[key.kind].carries_time:
            return None, None
        node, where = written.fields.get("age"), f"age of {written.signature}"
        age = None if node is None else document.duration(node, self.report, where, high=_OLDEST)
        created = self.now - (timedelta(seconds=age) if age is not None else _DAY if expired else timedelta(0))
        return created, (created + (self.now - created) / 2 if expired else None)

    def _cosign(self, written: _Written, signer: _Signer) -> Claim:
        """Return a cosign claim over the image, with what the signer's entry asks for unless the test differs."""
        entry, said = signer.entry, self._said(written, signer.entry)
        repository = written.fields.get("repository")
        named = None if repository is None else document.text(repository, self.report, "repository of a signature")
        return Claim(
            signature=self._number(),
            format=SignatureFormat.COSIGN,
            signer=signer.key,
            key=signer.key.id,
            group=None,
            objects=self.subject,
            whole_group=False,
            header=False,
            annotations=frozenset(said.items()),
            repository=named or (_fitting(entry) if repository is None else ""),
            purposes=frozenset({purpose(said[cosign.PURPOSE])}) if cosign.PURPOSE in said else frozenset(),
        )

    def _said(self, written: _Written, entry: Signer | None) -> dict[str, str]:
        """Return the annotations of a cosign signature; its purpose is one of them."""
        if "annotations" in written.fields:
            said = self._annotations(written)
        else:
            said = dict(entry.annotations) if entry is not None else {}
        purposes = self._purposes(written)
        if len(purposes) > 1:
            self.report.error(written.fields["purpose"], "a cosign signature states one purpose", "write one word")
        return said | dict.fromkeys((cosign.PURPOSE,), min(purposes)) if purposes else said

    def _purposes(self, written: _Written) -> frozenset[str]:
        """Take what a signature says that it is for: one word, or a list of them."""
        node, where = written.fields.get("purpose"), f"purpose of {written.signature}"
        if node is None:
            return frozenset()
        words = (node,) if isinstance(node, Scalar) else document.texts(node, self.report, where) or ()
        for word in words:
            if document.text(word, self.report, where) is not None and not is_purpose(word.text):
                self.report.error(word, f"{quoted(word.text)} is no purpose", PURPOSE_SHAPE)
        return frozenset(word.text for word in words)

    def _annotations(self, written: _Written) -> dict[str, str]:
        where = f"annotations of {written.signature}"
        found = {}
        for key, value in document.pairs(written.fields["annotations"], self.report, where) or ():
            text = document.text(value, self.report, f"{quoted(key.text)} in {where}")
            if text is not None:
                found[key.text] = text
        return found

    def _add(self, claim: Claim, flags: Mapping[str, bool], *, of: KeyRef) -> None:
        """Take a claim; what a test supposes of a key, it does of the name that it gives, `of`."""
        if flags["revoked"] and claim.signer == of:
            self.revoked.add(len(self.claims))
        self.claims.append(_over_other_content(claim) if flags["tampered"] else claim)


@dataclass(frozen=True, slots=True)
class _Written:
    """A signature as a test has it: `what` is the test."""

    node: Node
    fields: Mapping[str, Node]
    what: str

    @property
    def signature(self) -> str:
        return f"a signature of {self.what}"


@dataclass(frozen=True, slots=True)
class _Signer:
    """Who signs and with which key; `entry` is None for a key that no signer lists."""

    name: str
    key: KeyRef
    entry: Signer | None


_TIMELESS = "only OpenPGP signatures carry times; for a certificate, set `now` of the test"
_LISTED = "a PEM key is trusted for as long as the policy lists it"
_BY_ENTRY = "it cannot say so itself: write purpose in the signer's entry, in the policy"
_ONE_IMAGE = "a cosign signature is over the image, never over a part of the file"
_ONLY: tuple[tuple[str, Callable[[SignerType], bool], str], ...] = (
    ("purpose", lambda entry: entry.states_purpose, _BY_ENTRY),
    ("age", lambda entry: entry.carries_time, _TIMELESS),
    ("expired", lambda entry: entry.carries_time, _TIMELESS),
    ("revoked", lambda entry: entry.revocable, _LISTED),
    ("legacy", lambda entry: entry.format is SignatureFormat.PGP, "legacy signatures are made with OpenPGP keys"),
    ("groups", lambda entry: entry.approves_parts, _ONE_IMAGE),
    ("objects", lambda entry: entry.approves_parts, _ONE_IMAGE),
    ("annotations", lambda entry: not entry.approves_parts, "they are part of a cosign signature"),
    ("repository", lambda entry: not entry.approves_parts, "it is part of a cosign signature"),
)
"""What says something only of signatures by some types of signer, and what to write instead."""
_KEYS = ("by", "with", "tampered", "unknown", *(name for name, _, _ in _ONLY))


def _fitting(entry: Signer | None) -> str:
    """Return a repository that a signer's pattern matches; "" when any, or none, will do."""
    if entry is None or entry.repository is None:
        return ""
    return _WILD.sub("app", entry.repository.pattern).replace("?", "a")


def _over_other_content(claim: Claim) -> Claim:
    """Return the claim of a signature that its key verified, over content that the file does not hold any more."""
    changed = Finding("data-changed", f"data object integrity compromised: {max(claim.objects, default=0)}")
    return replace(claim, objects=frozenset(), whole_group=False, header=False, mismatch=changed)
