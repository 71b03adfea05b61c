"""Who holds which key, which names are one key, and which keys are withdrawn.

A key has several names: the fingerprints of OpenPGP certificates that contain it, the digest of a PEM file, the X.509
certificates that were issued for it, and its name as a cosign key. Names that share any key material count as one key,
so that a person's certificate and PEM file, or two people's copies of one key, never count twice.

The signatures of an unknown key cannot be recognised. So a withdrawn key has to be known to a signer or a keyring, and
a name that is not is an error: a withdrawal that silently stops nothing would be worse than none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from eclctl.config.document import Report
from eclctl.dataclass import dataclass, field
from eclctl.policy.declare import DIGEST, Declarations, place
from eclctl.policy.language import Holder, Signer
from eclctl.policy.matching import match
from eclctl.policy.signer_declarations import FINGERPRINT
from eclctl.text import quoted
from eclctl.trust.signer_types import names_called, signer_type


@dataclass(frozen=True, slots=True)
class Holders:
    """Every key that can count, and its people.

    `by_name` is by `KeyRef.id`. `keys` has the key numbers of each person, `native` those of them that make signatures
    in the SIF format, which is all but cosign keys, and `ring` only those in the keyrings. `shared` has the keys that
    more than one person lists.
    """

    by_name: dict[str, Holder]
    keys: dict[str, frozenset[int]]
    native: dict[str, frozenset[int]]
    ring: dict[str, frozenset[int]]
    shared: frozenset[int]
    signers: Mapping[str, Signer]
    _able: dict[tuple[bool, str | None], dict[str, frozenset[int]]] = field(default_factory=dict)
    _counted: dict[tuple[tuple[str, ...], int], int] = field(default_factory=dict)

    def most(self, people: Iterable[str], *, native: bool = False) -> int:
        """Return how many of these people could count at once, when no key counts for two of them.

        With `native`, only by signatures in the SIF format.
        """
        return self._most(tuple(people), self.native if native else self.keys)

    def most_for(self, people: Iterable[str], purpose: str | None, *, native: bool) -> int:
        """Return the same, when only signatures for a purpose count, or, for None, only those without bounds."""
        return self._most(tuple(people), self.able(purpose, native=native))

    def able(self, purpose: str | None, *, native: bool) -> dict[str, frozenset[int]]:
        """Return the key numbers of each person that can make signatures for a purpose, or without bounds."""

        def can_sign(key: str, person: str) -> bool:
            return person not in self.signers or self.signers[person].can_sign_for(key, purpose)

        which = (native, purpose)
        if which in self._able:
            return self._able[which]
        if purpose is None and not any(signer.purposes for signer in self.signers.values()):
            self._able[which] = self.native if native else self.keys
        else:
            names = [name for name in self.by_name if not native or signer_type(name).approves_parts]
            self._able[which] = _collect(self.by_name, names, can_sign)
        return self._able[which]

    def all_have_keys(self, people: Iterable[str]) -> bool:
        """Tell whether each of these people has a key; one without is an error that has been reported."""
        return all(person in self.keys for person in people)

    def most_of_ring(self) -> int:
        """Return how many people the role `anyone` has."""
        return self._most(tuple(self.ring), self.ring)

    def _most(self, people: tuple[str, ...], keys: dict[str, frozenset[int]]) -> int:
        """A person with an unshared key counts beside all others; the rest have to be matched."""
        which = (people, id(keys))
        if which not in self._counted:
            held = [keys[person] for person in people if person in keys]
            sharing = [each for each in held if each <= self.shared]
            self._counted[which] = len(held) - len(sharing) + sum(key is not None for key in match(sharing))
        return self._counted[which]

    def keys_of(self, people: Iterable[str]) -> frozenset[int]:
        """Return every key of these people."""
        return frozenset().union(*(self.keys.get(person, ()) for person in people))


def find_holders(declared: Declarations) -> Holders:
    """Number the keys of all signers and of all OpenPGP certificates, and say who holds each."""
    certificates = {
        certificate.fingerprint: certificate.materials for certificate in declared.material.keyring.certificates
    }
    names = {**declared.material.names(), **certificates}
    numbers = _numbered(names)
    people: dict[str, tuple[str, ...]] = {}
    for signer in declared.signers.values():
        for key in signer.keys:
            people[key] = (*people.get(key, ()), signer.name)
    by_name = {name: Holder(number, people.get(name, (name,))) for name, number in numbers.items()}
    keys = _collect(by_name, by_name)
    claimed = Counter(key for held in keys.values() for key in held)
    shared = frozenset(key for key, count in claimed.items() if count > 1)
    others = [name for name in by_name if signer_type(name).approves_parts]
    native = keys if len(others) == len(by_name) else _collect(by_name, others)
    ring = keys if len(certificates) == len(by_name) else _collect(by_name, certificates)
    return Holders(by_name, keys, native, ring, shared, declared.signers)


def _collect(
    by_name: dict[str, Holder], names: Iterable[str], counts: Callable[[str, str], bool] | None = None
) -> dict[str, frozenset[int]]:
    """Return the key numbers of each person, over these names of keys, as far as a name counts for the person."""
    keys: dict[str, list[int]] = {}
    for name in names:
        holder = by_name[name]
        for person in holder.people:
            if counts is None or counts(name, person):
                keys.setdefault(person, []).append(holder.key)
    return {person: frozenset(held) for person, held in keys.items()}


def _numbered(names: dict[str, frozenset[str]]) -> dict[str, int]:
    """Give names that share material, directly or through others, one number (union-find)."""
    parent: dict[str, str] = {}

    def root(token: str) -> str:
        while parent.setdefault(token, token) != token:
            parent[token] = parent[parent[token]]
            token = parent[token]
        return token

    for name, materials in names.items():
        for material in materials:
            if material in parent or name in parent:
                parent[root(material)] = root(name)
            else:  # as good as always: material that nothing has had yet
                parent[name] = parent[material] = name
    numbers: dict[str, int] = {}
    return {name: numbers.setdefault(root(name), len(numbers)) for name in names}


def warn_of_shared_keys(declared: Declarations, holders: Holders, report: Report) -> None:
    """Warn of every key that two signers list: it counts for one of them at a time."""
    first: dict[int, tuple[str, str]] = {}
    for key, person, entry in declared.key_places:
        holder = holders.by_name.get(key)
        if holder is None:
            continue
        known_person, where = first.setdefault(holder.key, (person, place(entry)))
        if known_person != person:
            this = "this key" if (noun := signer_type(key).noun) == "key" else f"the key of this {noun}"
            message = f"{this} of {quoted(person)} is also listed for {quoted(known_person)} at {where}"
            report.warning(entry, message, "it counts for one of them at a time, never for both")


def withdrawn_keys(declared: Declarations, holders: Holders, report: Report) -> frozenset[int]:
    """Return the numbers (`Holder.key`) of all keys that are withdrawn, under each of their names."""
    found = set(holders.keys_of(declared.withdrawn_signers))
    for entry in declared.withdrawn_keys:
        fingerprint, digest = entry.text.upper(), entry.text.lower()
        if FINGERPRINT.fullmatch(fingerprint):
            names = [fingerprint]
        elif DIGEST.fullmatch(digest):  # of the key itself, or of a certificate for it
            names = [*names_called(declared.material.listed, digest)]
            names += [each.fingerprint for each in declared.material.keyring.certificates if digest in each.materials]
        else:
            hint = "an OpenPGP fingerprint, or sha256:… of a PEM key or certificate; for a person, signers: [NAME]"
            report.error(entry, f"{quoted(entry.text)} is no name of a key", hint)
            continue
        numbers = {holders.by_name[name].key for name in names if name in holders.by_name}
        found |= numbers
        if not numbers:
            hint = "keep it with its signer or in a keyring, so that its signatures are recognised"
            report.error(entry, f"no signer and no keyring has the key {quoted(entry.text)}", hint)
    return frozenset(found)
