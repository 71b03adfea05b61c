"""The policy language as frozen types: what a loaded policy says, with everything resolved and nothing left to look up.

`load` makes these, `select` and `evaluate` read them. Names of users, groups, roles and files are gone: what remains
is numbers, compiled patterns, and who holds which key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from eclctl.dataclass import dataclass, field
from eclctl.policy.globs import Glob
from eclctl.policy.messages import Message
from eclctl.policy.windows import Window
from eclctl.terms import Assurance, Finding, Kind, Verdict
from eclctl.trust.signer_types import Listing, signer_type

ANYONE = "anyone"
"""The built-in role: every certificate in the keyrings."""

SIGNED_KINDS = frozenset({Kind.SIF, Kind.OCI_SIF})
"""The kinds of image that can carry signatures, and the ones that a rule matches when it names none."""

HOLDS = (
    "deffile",
    "envvar",
    "labels",
    "partition",
    "system",
    "primary",
    "data",
    "overlay",
    "squashfs",
    "ext3",
    "archive",
    "raw",
    "encrypted-squashfs",
    "generic-json",
    "generic",
    "crypt-message",
    "sbom",
    "oci-root-index",
    "oci-blob",
)
"""The words of `holds`: object types, and for partitions their use and file system (`model.DataObject.holds`)."""

_TOO_OLD = Finding("too-old", "it is older than the rule accepts")


@dataclass(frozen=True, slots=True)
class Signer:
    """A person, team or robot, with every key that speaks for it.

    `keys` are `KeyRef.id`s, whose prefixes tell the types of signer apart (`trust.signer_types`). A cosign signature
    speaks for them only when it has all of `annotations`, and names a repository that matches `repository` where that
    is not None. `purposes` are what their DSSE signatures are for, which cannot say so themselves; none is an approval
    without bounds.
    """

    name: str
    keys: tuple[str, ...]
    where: str
    annotations: frozenset[tuple[str, str]] = frozenset()
    repository: Glob | None = None
    purposes: frozenset[str] = frozenset()

    def can_sign_for(self, key: str, purpose: str | None) -> bool:
        """Whether signatures with one of the keys can be for this purpose, or, for None, without bounds.

        Some types of signature say themselves what they are for; those of other keys are as the entry says.
        """
        if signer_type(key).states_purpose:
            return True
        return not self.purposes if purpose is None else purpose in self.purposes


@dataclass(frozen=True, slots=True)
class Scope:
    """The part of an image that a requirement is about.

    With `groups`: each of them, which together must exist and each hold at least `holds`. With `ids`: one signature
    over all of these objects, which together hold at least `holds`. With `holds` alone: every group that holds them.
    """

    groups: frozenset[int] = frozenset()
    ids: frozenset[int] = frozenset()
    holds: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Requirement:
    """At least `count` of `people` must approve `scope`, or the whole image when that is None.

    `anyone` stands for every certificate in the keyrings; `people` is empty then. `text` says what is needed as a
    noun phrase ("2 approvals from security"), `where` is `file:line`. Only signatures for `purpose` count, or, where
    that is None, those that are for everything. `stage` is the requirement's name in the rule's chain. `role` is the
    role that `people` are, None where the rule lists them.
    """

    people: tuple[str, ...]
    count: int
    text: str
    where: str
    anyone: bool = False
    scope: Scope | None = None
    purpose: str | None = None
    stage: str | None = None
    role: str | None = None
    names: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", frozenset(self.people))


@dataclass(frozen=True, slots=True)
class Match:
    """Which questions a rule answers. None means any; all that is given must match.

    `hosts` were compared with the name of this host when the policy was loaded: `here` is what came of it. `narrow`
    tells whether there is more to match than path and kind.
    """

    paths: tuple[Glob, ...] | None = None
    kinds: frozenset[Kind] = SIGNED_KINDS
    users: frozenset[int] | None = None
    groups: frozenset[int] | None = None
    hosts: tuple[str, ...] | None = None
    here: bool = True
    times: tuple[Window, ...] | None = None
    narrow: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        given = (self.users, self.groups, self.times)
        object.__setattr__(self, "narrow", any(each is not None for each in given))


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. It has either requirements or a decision.

    `order` is its place among all rules, from 0. `forbidden` are the names of `forbid: {signed_by: …}` and
    `forbidden_keys` every key of theirs, by key number (`Holder.key`). `asks_anyone` tells whether a
    requirement is of the role `anyone`, `asks_purpose` whether any asks for one. `max_age` is in seconds, and
    `too_old` what is said of a signature beyond it. `message` is as it was written, and `template` what is to be filled
    in when it has placeholders. `chain` are the names of its stages, in order.
    """

    name: str
    where: str
    order: int
    match: Match
    require: tuple[Requirement, ...] = ()
    decision: Verdict | None = None
    distinct: bool = False
    forbidden: tuple[str, ...] = ()
    forbidden_keys: frozenset[int] = frozenset()
    deny_unknown: bool = False
    deny_discounted: bool = False
    accept_legacy: bool = False
    assurance: Assurance = Assurance.TRUSTED_PATH
    permissive: bool = False
    message: str | None = None
    max_age: float | None = None
    too_old: Finding = _TOO_OLD
    template: Message | None = None
    chain: tuple[str, ...] = ()
    asks_anyone: bool = field(init=False, repr=False, compare=False)
    asks_purpose: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "asks_anyone", any(need.anyone for need in self.require))
        object.__setattr__(self, "asks_purpose", any(need.purpose is not None for need in self.require))

    @property
    def requires(self) -> bool:
        """Whether the answer depends on the image's content; a rule that denies, or allows a sandbox, needs none."""
        return self.decision is not Verdict.DENY and not self.match.kinds.isdisjoint(SIGNED_KINDS)

    @property
    def mode(self) -> str:
        """`enforce` or `permissive`."""
        return "permissive" if self.permissive else "enforce"


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What may not run under any rule. Digests are `sha256:` and lower-case hex."""

    digests: frozenset[str] = frozenset()
    signers: tuple[str, ...] = ()
    keys: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class ExceptionTerms:
    """What the policy says about exceptions: where they lie, who approves them, and how long one may last.

    `directory` is a path, `count` of the signers `people` of the role `role` must approve, and `longest` is in seconds.
    `where` is `file:line`.
    """

    directory: str
    role: str
    people: tuple[str, ...]
    count: int
    longest: float
    where: str


@dataclass(frozen=True, slots=True)
class Holder:
    """Who speaks with a key.

    `key` numbers the key: all names of one key (an OpenPGP certificate, a PEM file, an X.509 certificate, a cosign key)
    have the same number. `people` are the signers that list this name of it; an OpenPGP certificate that no signer
    lists is a person of its own.
    """

    key: int
    people: tuple[str, ...]


Entry: TypeAlias = tuple[int, Glob | None]
"""A rule's place among all rules, and one of its paths; None when it has none."""


@dataclass(frozen=True, slots=True)
class Askers:
    """Rules by who asks: those that name users by each of them, those that name only groups by each of these."""

    everybody: tuple[Entry, ...]
    users: Mapping[int, tuple[Entry, ...]]
    groups: Mapping[int, tuple[Entry, ...]]


@dataclass(frozen=True, slots=True)
class RuleIndex:
    """Rules by what their paths begin and end with, as far as there is no wildcard in it.

    `paths` has, for each length of a beginning, the beginnings, and for each of these the same of the ends; lengths are
    in order. `anywhere` are the rules without paths, and `here`, in order, the rules that can match on this host; the
    others are in none.
    """

    paths: tuple[tuple[int, Mapping[str, tuple[tuple[int, Mapping[str, Askers]], ...]]], ...]
    anywhere: Askers
    here: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole policy. `digest` is `sha256:<hex>` over its files and the key and certificate files that they name.

    `listed` is what its signers list beside OpenPGP fingerprints, by kind and name, each once. `holders`
    is by `KeyRef.id`. `shared` has the numbers of the keys that more than one person
    could claim. `exceptions` is None where the policy knows none. `host` is the name of the host that it was loaded
    for. `binds` tells whether the entry of any signer says what their signatures are for, `timed` whether any rule
    matches at some times only, and `templates` has the messages with placeholders, by rule.
    """

    digest: str
    signers: Mapping[str, Signer]
    roles: Mapping[str, tuple[str, ...]]
    rules: tuple[Rule, ...]
    withdrawn: Withdrawn
    listed: Listing
    holders: Mapping[str, Holder] = field(repr=False)
    shared: frozenset[int]
    index: RuleIndex = field(repr=False)
    exceptions: ExceptionTerms | None = None
    host: str = ""
    binds: bool = field(init=False, repr=False, compare=False)
    timed: bool = field(init=False, repr=False, compare=False)
    templates: Mapping[str, Message] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "binds", any(signer.purposes for signer in self.signers.values()))
        object.__setattr__(self, "timed", any(rule.match.times is not None for rule in self.rules))
        templates = {rule.name: rule.template for rule in self.rules if rule.template is not None}
        object.__setattr__(self, "templates", templates)

    @property
    def withdraws(self) -> bool:
        """Whether anything is withdrawn, so that content must be looked at before all rules."""
        return bool(self.withdrawn.digests or self.withdrawn.keys)

    @property
    def withdraws_objects(self) -> bool:
        """Whether the digest of every data object is needed."""
        return bool(self.withdrawn.digests)
