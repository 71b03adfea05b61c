"""The vocabulary of eclctl: frozen types shared by every layer. No I/O, standard library only.

*Facts* (`Verification` and what it holds) say which key verified which signature over which objects. They hold for
the content of a file and a set of keys, at any time. Whether a key is expired or revoked is *judged* from
facts at a given time, at each decision: facts are cached, trust is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from eclctl.dataclass import dataclass, field
from eclctl.terms import Finding, KeyRef, Kind, SignatureFormat, Verdict


class Alias(NamedTuple):
    """Another name of a file than the one that rules use.

    A deny rule that matches it decides. A rule that names `point`, the mount point that it goes through, or something
    below it, means this name as well; None where no mount gives the name (a hard link).
    """

    path: str
    point: str | None = None


@dataclass(frozen=True, slots=True)
class DataObject:
    """A data object that is not a signature, as its descriptor shows it.

    `group` is 0 for an object outside every group. `holds` names what it is in the words that a policy's `holds`
    uses, for instance {"partition", "overlay"}; neither group nor ID is signed.
    """

    id: int
    group: int
    holds: frozenset[str]
    size: int
    name: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A signature that a key verified, and what it covers. A fact: expiry and revocation are judged later.

    `objects` are the data objects whose present content the signature covers. `group` is the object group it is
    linked to, or None when it is linked to an object (legacy). `whole_group` is true when it covers exactly the
    objects of that group, and `header` when it covers the image's header. A legacy claim covers data only.
    `created` and `expires` are the signature's own times; a DSSE signature has none. `key` names the key that
    made it: for OpenPGP the upper-case hex fingerprint of the primary key or subkey, else `signer.id`.
    A cosign claim belongs to no group and never covers the header; `annotations` are the texts in its payload's
    `optional`, and `repository` is its docker-reference, "" when it names none.
    `purposes` are what the signature itself says that it approves; none is an approval without bounds. A DSSE
    signature says nothing of the kind.
    `mismatch` is set when the key verified the signature, but over other content than the file holds now: such a
    claim covers nothing, and denies.
    """

    signature: int
    format: SignatureFormat
    signer: KeyRef
    key: str
    group: int | None
    objects: frozenset[int]
    whole_group: bool
    header: bool
    created: datetime | None = None
    expires: datetime | None = None
    mismatch: Finding | None = None
    annotations: frozenset[tuple[str, str]] = frozenset()
    repository: str = ""
    purposes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Failure:
    """A signature object that counts for nothing, and why. `signature` is the descriptor ID."""

    signature: int
    format: SignatureFormat
    finding: Finding


@dataclass(frozen=True, slots=True)
class OciContent:
    """The one image that an OCI-SIF runs, by data object IDs.

    `manifest` is its digest, `sha256:<hex>`. `subject` are its manifest, config and layers, which are what a cosign
    claim covers. `carriers` are the objects that only point at it or carry its signatures (root index, cosign
    manifests, their configs and payloads): nothing in them can run.
    """

    manifest: str
    subject: frozenset[int]
    carriers: frozenset[int]


@dataclass(frozen=True, slots=True)
class Verification:
    """Everything that is known of one image's content under one set of keys.

    `groups` maps each object group to the IDs of its data objects. `tied` is true when the header's UUID is not
    nil: only then do signatures over several groups belong together. `digests` maps data object IDs to
    `sha256:<hex>` for those whose SHA-256 was computed. `oci` is None for what is no OCI-SIF with exactly one image.
    """

    kind: Kind
    objects: tuple[DataObject, ...]
    groups: Mapping[int, frozenset[int]]
    tied: bool
    claims: tuple[Claim, ...] = ()
    failures: tuple[Failure, ...] = ()
    digests: Mapping[int, str] = field(default_factory=dict)
    oci: OciContent | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose rules apply to a caller whose uid or groups lie in ranges of subordinate IDs.

    uid: the user whose rules apply; None when it is no one user.
    groups: the groups whose rules apply.
    denied_uids, denied_groups: users and groups whose deny rules apply as well.
    unknown: not all owners of the ranges are known: every deny rule that names users or groups applies.
    person: whose limits count, a uid; a text where it is no one user.
    note: why, in one sentence.
    """

    uid: int | None
    groups: frozenset[int]
    denied_uids: frozenset[int] = frozenset()
    denied_groups: frozenset[int] = frozenset()
    unknown: bool = False
    person: int | str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    uid, gid, groups: what the kernel says. Rights (who may use the admin socket, what a file lets a user read) go by
    these alone.
    identity: whose rules and limits apply; None when it is that uid and those groups.
    """

    uid: int
    gid: int
    groups: frozenset[int] = frozenset()
    identity: Identity | None = None

    @property
    def person(self) -> int | str:
        """Whose limits count: mostly the uid itself."""
        return self.uid if self.identity is None else self.identity.person

    def matches(self, users: frozenset[int] | None, groups: frozenset[int] | None, *, denies: bool = False) -> bool:
        """Tell whether what names these users and groups is for this caller; None names any.

        With `denies`, it is for a rule that denies: those who may stand behind the caller count as well.
        """
        if self.identity is not None:
            return _matches_identity(self.identity, users, groups, denies=denies)
        if users is not None and self.uid not in users:
            return False
        return groups is None or self.gid in groups or not groups.isdisjoint(self.groups)


def _matches_identity(
    identity: Identity, users: frozenset[int] | None, groups: frozenset[int] | None, *, denies: bool
) -> bool:
    if denies and identity.unknown:
        return True
    by_user = users is None or identity.uid in users or (denies and not users.isdisjoint(identity.denied_uids))
    if not by_user or groups is None:
        return by_user
    return not groups.isdisjoint(identity.groups) or (denies and not groups.isdisjoint(identity.denied_groups))


class Code(StrEnum):
    """The closed list of decision codes."""

    REQUIREMENTS_MET = "requirements-met"
    RULE_ALLOW = "rule-allow"
    PERMISSIVE = "permissive"
    EXCEPTION = "exception"

    REQUIREMENTS_NOT_MET = "requirements-not-met"
    OBJECT_NOT_APPROVED = "object-not-approved"
    TAMPERED = "tampered"
    FORBIDDEN = "forbidden"
    WITHDRAWN = "withdrawn"
    UNKNOWN_SIGNATURE = "unknown-signature"
    DISCOUNTED_SIGNATURE = "discounted-signature"
    UNSUPPORTED_SIGNATURE_FORMAT = "unsupported-signature-format"
    RULE_DENY = "rule-deny"
    NO_RULE = "no-rule"
    NO_POLICY = "no-policy"
    ASSURANCE_TOO_LOW = "assurance-too-low"
    MALFORMED = "malformed"
    UNREADABLE = "unreadable"
    UNSUPPORTED_FILE = "unsupported-file"
    BUSY = "busy"
    TIMEOUT = "timeout"
    INTERNAL_ERROR = "internal-error"


ALLOWING: frozenset[Code] = frozenset({Code.REQUIREMENTS_MET, Code.RULE_ALLOW, Code.PERMISSIVE, Code.EXCEPTION})


@dataclass(frozen=True, slots=True)
class Missing:
    """One unmet requirement: what is needed, what there is, and who could still sign.

    `stage` is its name in the rule's chain, None outside of one.
    """

    requirement: str
    needed: int
    have: int
    signed: tuple[str, ...]
    could_sign: tuple[str, ...]
    stage: str | None = None


@dataclass(frozen=True, slots=True)
class SignerReport:
    """One signer of a requirement: whether they count, and when not, why not (one sentence)."""

    signer: str
    counts: bool
    why: str


@dataclass(frozen=True, slots=True)
class RequirementReport:
    """How one requirement came out, for `explain`. `where` is `file:line`, `stage` as in `Missing`."""

    text: str
    where: str
    met: bool
    needed: int
    have: int
    signers: tuple[SignerReport, ...]
    stage: str | None = None


@dataclass(frozen=True, slots=True)
class SignatureReport:
    """What became of one signature of the image, for `explain`.

    `id` is the signature object's. `signer` is who made it, None when that is not known. `why` is one sentence.
    """

    id: int
    format: SignatureFormat
    signer: str | None
    counts: bool
    why: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a policy says of one image and caller.

    `would` is the code that a permissive rule turned into allow, else None. `rule_where` is `file:line` of the
    rule, else None. `exception` is the name of the exception that allowed it, else None. `verdict` follows from
    `code`: allow only for the codes that say so.
    """

    code: Code
    reason: str
    rule: str | None = None
    rule_where: str | None = None
    mode: str = "enforce"
    signers: tuple[str, ...] = ()
    missing: tuple[Missing, ...] = ()
    requirements: tuple[RequirementReport, ...] = ()
    message: str | None = None
    would: Code | None = None
    exception: str | None = None
    verdict: Verdict = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "verdict", Verdict.ALLOW if self.code in ALLOWING else Verdict.DENY)
