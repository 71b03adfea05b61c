"""What the rule for each execution group of an `ecl.toml` says, before it is written down.

What ECL does, in its order (SingularityCE's `internal/pkg/syecl`):

1. Not activated: every SIF image runs.
2. The group whose directory is the image's own, exactly; else the one with an empty directory; else the image is
   refused. As rules: those for `DIR/*` before the one for `/**`.
3. Every object is in a group, every group has a signature, and every signature of every group is by a key of the global
   keyring, valid now, and over exactly that group. With `legacyinsecure` none of that is looked at; the signatures of
   before 3.6 on the only primary partition are, instead.
4. whitelist: one of the keys signed every group. whitestrict: each of them did, so that an empty list is satisfied by
   in any case. blacklist: none of them signed any group.

Nothing drafted here takes for an approval what is none in eclctl's own terms. What is left is a `Difference`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Literal

from eclctl.dataclass import dataclass, field, replace
from eclctl.ecl.differences import Difference
from eclctl.ecl.toml import EclConfig, ExecGroup, ListMode
from eclctl.signature.openpgp import Certificate, Keyring
from eclctl.terms import Assurance, Verdict
from eclctl.text import quoted

_LONGEST_NAME = 56  # of the 64 characters that a rule's name may have; the rest is for a number
_NOT_IN_NAMES = re.compile(r"[^\w .@+:/-]+")
_NOT_FIRST = " .@+:/-"
_NOT_LAST = " :/-"
_SPECIAL = re.compile(r"[*?\[\]{}]")


@dataclass(frozen=True, slots=True)
class Choices:
    """What the administrator chose.

    `assurance` is what every rule asks of a file's place. Groups under `legacyinsecure` refuse everything, or with
    `modern` ask for modern signatures by the same keys. `permissive` rules only observe, which goes with `modern`: a
    flat refusal observes nothing.
    """

    assurance: Assurance = Assurance.TRUSTED_PATH
    permissive: bool = False
    modern: bool = False


@dataclass(frozen=True, slots=True)
class RuleDraft:
    """A rule for an execution group, or for all SIF images (`group` and `path` are None) when ECL is not activated.

    It decides, or asks for an approval: by one or each of `keys`, or by anyone in the keyring; and refuses what has a
    signature by one of `forbidden`. `instead` is what it can say once the images are signed anew. `says` is a clause;
    `remarks` are such about keys of the group that were left out.
    """

    name: str
    group: ExecGroup | None
    path: str | None
    says: str
    differences: tuple[Difference, ...] = ()
    decision: Verdict | None = None
    ask: Literal["any_of", "all_of", "anyone"] = "anyone"
    keys: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    instead: RuleDraft | None = None
    remarks: tuple[str, ...] = ()

    @property
    def named(self) -> tuple[str, ...]:
        """The fingerprints that the rule names."""
        return self.keys + self.forbidden


def draft_rules(config: EclConfig, ring: Keyring | None, choices: Choices) -> tuple[RuleDraft, ...]:
    """Return the rules for a configuration in their order.

    Args:
        config: a valid ecl.toml.
        ring: ECL's global keyring; None when it is not known, and every key is taken to be in it.
        choices: what the administrator chose.
    """
    drafter = _Drafter(config.legacy, ring, choices)
    if not config.activated:
        differences = (drafter.place(), Difference.STRICT_READING, Difference.TAMPERED)
        says = "ECL is not activated, so that every SIF image may run"
        remarks = ("its execgroups are left out: import a copy with activated = true",) if config.groups else ()
        return (RuleDraft("ecl-not-activated", None, None, says, differences, Verdict.ALLOW, remarks=remarks),)
    last_without_directory = sorted(config.groups, key=lambda group: not group.directory)
    return tuple([drafter.draft(group) for group in last_without_directory])


@dataclass(slots=True)
class _Drafter:
    """Drafts the rules of one configuration. `names` are those that its rules have so far."""

    legacy: bool
    ring: Keyring | None
    choices: Choices
    names: set[str] = field(default_factory=set)

    def draft(self, group: ExecGroup) -> RuleDraft:
        path, exact = _pattern(group.directory)
        name = next(name for name in _candidates(group.tag) if name not in self.names)
        self.names.add(name)
        asking = self._asking(RuleDraft(name, group, path, "", remarks=tuple(self._absent(group))), group)
        if not exact:
            says = "nothing may run, since the directory cannot be written as a pattern"
            return _denying(asking, says, Difference.UNWRITABLE_PATH)
        if asking.decision is None and self.legacy and not (self.choices.modern or self.choices.permissive):
            says = "nothing may run until it is signed anew"
            return replace(_denying(asking, says, Difference.LEGACY_SIGNATURES), instead=asking)
        return asking

    def _asking(self, draft: RuleDraft, group: ExecGroup) -> RuleDraft:
        """Return what a group asks for, or a flat deny when nothing can meet that."""
        present = tuple(key for key in group.keys if self._certificate(key) is not None or self.ring is None)
        strict = group.mode is ListMode.WHITESTRICT
        if group.mode is ListMode.BLACKLIST or (strict and not group.keys):
            return self._asking_anyone(draft, present)
        if not present:
            which = "none of its keys is in the keyring" if group.keys else "it lists no key"
            return _denying(draft, f"nothing may run, as in ECL: {which}")
        if strict and len(present) < len(group.keys):
            return _denying(draft, "nothing may run, as in ECL: not all of its keys are in the keyring")
        if strict and self._share_a_key(present):
            says = "nothing may run, since one key is in two of the listed certificates"
            return _denying(draft, says, Difference.SHARED_KEY)
        says = f"{'each' if strict else 'one'} of these keys must have signed every object group"
        asked: Literal["any_of", "all_of"] = "all_of" if strict else "any_of"
        return replace(draft, says=says, differences=self._differences(), ask=asked, keys=present)

    def _asking_anyone(self, draft: RuleDraft, forbidden: tuple[str, ...]) -> RuleDraft:
        if self.ring is not None and not self.ring.certificates:
            return _denying(draft, "nothing may run, as in ECL: the keyring is empty")
        says = "a key of the keyring must have signed every object group"
        says += ", and no forbidden one anything" if forbidden else ""
        more = (Difference.SEVERAL_SIGNERS, *((Difference.ANY_TRACE,) if forbidden else ()))
        return replace(draft, says=says, differences=self._differences(*more), forbidden=forbidden)

    def _differences(self, *more: Difference) -> tuple[Difference, ...]:
        """Return where a rule that asks for approvals differs, in the order of `Difference`."""
        found = {
            self.place(),
            Difference.UNRESOLVED_NAME,
            Difference.STRICT_READING,
            Difference.STRAY_SIGNATURES,
            Difference.NIL_UUID,
            *more,
        }
        if self.legacy:
            found |= {Difference.LEGACY_SIGNATURES, Difference.MODERN_INSTEAD}
        if self.choices.permissive:
            found.add(Difference.PERMISSIVE)
        return tuple(each for each in Difference if each in found)

    def place(self) -> Difference:
        trusted = self.choices.assurance is Assurance.TRUSTED_PATH
        return Difference.USER_WRITABLE if trusted else Difference.LATER_CHANGES

    def _certificate(self, fingerprint: str) -> Certificate | None:
        return self.ring.get(fingerprint) if self.ring is not None else None

    def _absent(self, group: ExecGroup) -> Iterator[str]:
        """Yield a remark on each key of a group that is not in the keyring, so that ECL can never find it either.

        What a blacklist has, ECL finds once it is put into the keyring; what is left out here counts for `anyone` then.
        """
        later = "; forbid it before its certificate comes into a keyring" if group.mode is ListMode.BLACKLIST else ""
        for key in group.keys if self.ring is not None else ():
            if self._certificate(key) is None:
                where = self._where(key)
                left_out = f"left out: {key}, which {where or 'is not in the keyring'}, so that ECL never finds it"
                yield left_out if where else left_out + later

    def _where(self, key: str) -> str | None:
        """Return what a key is that is not the primary key of a certificate; None when no certificate has it."""
        for certificate in self.ring.certificates if self.ring is not None else ():
            if any(each.fingerprint == key for each in certificate.keys):
                return f"is a subkey of {certificate.fingerprint} and no primary key"
        return None

    def _share_a_key(self, fingerprints: Iterable[str]) -> bool:
        """Tell whether two of these certificates count as one, directly or through others (`policy.holders`)."""
        clusters: list[set[str]] = []
        for each in self.ring.certificates if self.ring is not None else ():
            apart = [cluster for cluster in clusters if cluster.isdisjoint(each.materials)]
            clusters = [*apart, set(each.materials).union(*(cluster for cluster in clusters if cluster not in apart))]
        certificates = [found for key in fingerprints if (found := self._certificate(key)) is not None]
        held = [n for each in certificates for n, cluster in enumerate(clusters) if cluster & each.materials]
        return len(held) > len(set(held))


def _denying(draft: RuleDraft, says: str, *differences: Difference) -> RuleDraft:
    return RuleDraft(draft.name, draft.group, draft.path, says, differences, Verdict.DENY, remarks=draft.remarks)


def _candidates(tag: str) -> Iterator[str]:
    """Yield names that a rule can have, made of a group's tag."""
    base = _NOT_IN_NAMES.sub("-", tag)[:_LONGEST_NAME].lstrip(_NOT_FIRST).rstrip(_NOT_LAST) or "execgroup"
    yield base
    for number in count(2):
        yield f"{base}-{number}"


def _pattern(directory: str) -> tuple[str, bool]:
    """Return the pattern for the images directly in a directory, and whether it matches no others.

    There is no way to write `*` and its like as themselves; `?` takes their place, and what is next to it.
    """
    if not directory:
        return "/**", True
    return _SPECIAL.sub("?", directory.rstrip("/")) + "/*", _SPECIAL.search(directory) is None


def described(group: ExecGroup, file: str) -> str:
    """Return what a group is in the file it came from, for a comment."""
    place = f"{file}:{group.line}" if group.line else file
    tag = f" {quoted(group.tag)}" if group.tag else ""
    where = f"directly in {quoted(group.directory)}" if group.directory else "for images in no other execgroup"
    return f"{place}: execgroup {group.number}{tag}, {group.mode}, {where}"
