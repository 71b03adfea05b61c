"""Where a policy made of an `ecl.toml` answers otherwise than ECL: by name, and in sentences for an administrator."""

from __future__ import annotations

from enum import StrEnum


class Relation(StrEnum):
    """Which of the two says no where the other says yes."""

    STRICTER = "stricter"
    LAXER = "laxer"


class Difference(StrEnum):
    """Where eclctl answers otherwise than ECL."""

    USER_WRITABLE = "user-writable"
    UNRESOLVED_NAME = "unresolved-name"
    STRICT_READING = "strict-reading"
    STRAY_SIGNATURES = "stray-signatures"
    NIL_UUID = "nil-uuid"
    SEVERAL_SIGNERS = "several-signers"
    ANY_TRACE = "any-trace"
    SHARED_KEY = "shared-key"
    LEGACY_SIGNATURES = "legacy-signatures"
    UNWRITABLE_PATH = "unwritable-path"
    TAMPERED = "tampered"
    OTHER_KINDS = "other-kinds"
    LATER_CHANGES = "later-changes"
    MODERN_INSTEAD = "modern-instead"
    PERMISSIVE = "permissive"

    @property
    def relation(self) -> Relation:
        """Whether eclctl is the stricter one."""
        return Relation.LAXER if self in _LAXER else Relation.STRICTER


_LAXER = frozenset({Difference.LATER_CHANGES, Difference.MODERN_INSTEAD, Difference.PERMISSIVE})  # each one chosen

EXPLANATIONS: dict[Difference, str] = {
    Difference.USER_WRITABLE: (
        "An image is refused when others than the daemon's trusted_owners can write it, or a directory above it: it"
        " could change after the answer. ECL does not ask. (`assurance: none` accepts such images.)"
    ),
    Difference.UNRESOLVED_NAME: (
        "The daemon, opening the image's name itself, must reach the very file. ECL takes the name as its"
        " caller sees it."
    ),
    Difference.STRICT_READING: (
        "Images and signatures that contradict themselves, or that no honest program writes, are refused. ECL reads"
        " more leniently."
    ),
    Difference.STRAY_SIGNATURES: (
        "A signature that ECL does not look at (of before 3.6, linked to an object or to a group that is not there;"
        " with legacyinsecure every modern one) refuses the image when it is broken or by a key in no keyring, and a"
        " modern one, too, when its key has expired or was revoked or it covers only a part of its group:"
        " unknown_signatures: deny and discounted_signatures: deny mean all signatures in the file."
    ),
    Difference.NIL_UUID: (
        "An image of several object groups is refused when the UUID in its header is nil: nothing ties the groups'"
        " signatures together."
    ),
    Difference.SEVERAL_SIGNERS: (
        "One and the same signer must have signed every object group. ECL takes an image of which each group has"
        " another signer."
    ),
    Difference.ANY_TRACE: (
        "Any valid signature by a listed key refuses the image, also one of before 3.6, over a single object, expired,"
        " or by another certificate with the same key. ECL looks at the signatures of object groups."
    ),
    Difference.SHARED_KEY: (
        "Two of the listed certificates are of one key, which cannot approve for two: eclctl refuses all images."
    ),
    Difference.LEGACY_SIGNATURES: (
        "ECL looks at signatures of before Singularity 3.6 on the primary partition, and at nothing else. In eclctl"
        " such a signature never approves an image, since it leaves header, names and all other objects open: the"
        " images must be signed anew."
    ),
    Difference.UNWRITABLE_PATH: (
        "A directory with one of * ? [ ] { } in its name cannot be written as a pattern. It is refused, with every"
        " directory whose name differs from it in these characters alone."
    ),
    Difference.TAMPERED: (
        "An image with a signature over other content than it holds is refused, whichever rule applies. ECL that is not"
        " activated looks at nothing."
    ),
    Difference.OTHER_KINDS: (
        "ECL sees SIF images alone. OCI-SIF images, sandboxes, bare SquashFS and ext3 images run without being asked"
        " about there; here they are refused until a rule allows them. The end of the policy has one to start from."
    ),
    Difference.LATER_CHANGES: (
        "With assurance: none, a writer of the image or its directory can exchange it after the answer. ECL"
        " checks the file that the launcher has open, which can be written to, but not be exchanged."
    ),
    Difference.MODERN_INSTEAD: (
        "An image with modern signatures by the same keys runs. ECL with legacyinsecure does not look at those, and"
        " refuses an image that has nothing else."
    ),
    Difference.PERMISSIVE: (
        "Images that lack approvals run all the same, and what would have been said is recorded. Forbidden signers,"
        " signatures that are unknown or do not count, and changed content are refused even so."
    ),
}
"""What each difference is, in sentences for an administrator."""
