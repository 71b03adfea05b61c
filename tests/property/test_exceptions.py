"""Exceptions, over random ones and random questions: only what one names, for those it names, and while it stands.

A second, naive reading of the rules says what must come out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from eclctl.decide.breakglass import Approval, Candidate, Exceptions, State, standing
from eclctl.decide.breakglass_apply import apply_exceptions
from eclctl.decide.place import TrustedPlace
from eclctl.decide.snapshot import Snapshot
from eclctl.model import Caller, Code, Outcome
from eclctl.policy.breakglass import FileName, PolicyException
from eclctl.policy.globs import compile_glob
from eclctl.policy.outcome import EXCUSED
from eclctl.terms import Assurance, KeyRef, SignerKind
from eclctl.trust.keyring import KeyStore
from tests.helpers.deciding import RING, loaded
from tests.helpers.support import NOW

KEYS = {
    "builder": "81F111F6190C46143937EF7C22BC3A3BC942487F",
    "scanner": "F69053E5830DBDBA72B3D8F61BDDA97D14902F26",
    "approver": "25B8EEE0382B85FDCBDD9B4F7A750C002A7A02D4",
}
ROLE = ("scanner", "approver")
LONGEST = timedelta(hours=10)
POLICY = loaded(
    "version: 1\nsigners:\n"
    + "".join(f"  {name}: {{pgp: [{key}]}}\n" for name, key in KEYS.items())
    + "roles: {security: [scanner, approver]}\n"
    "exceptions: {directory: d, approvals: {count: 2, of: security}, longest: 10h}\n"
    "rules: [{name: production, require: [{any_of: [builder]}]}]\n"
).policy
assert POLICY is not None
EMPTY = Snapshot(1, POLICY, KeyStore(RING), "sha256:00", NOW)

DIGESTS = [f"sha256:{number:064x}" for number in range(3)]
PATHS = ["/srv/a.sif", "/srv/b.sif", "/home/u/a.sif"]
PATTERNS = ["/srv/*", "/srv/a.sif", "/home/**"]

hours = st.integers(-12, 24).map(lambda number: NOW + timedelta(hours=number))
numbers = st.integers(1, 3)
files = st.builds(FileName, st.sampled_from(DIGESTS), numbers)


@st.composite
def exceptions(draw: st.DrawFn) -> PolicyException:
    starts = draw(hours)
    members = draw(st.frozensets(numbers, min_size=1))
    by_user = draw(st.booleans())
    return PolicyException(
        draw(st.sampled_from(["one", "two", "three"])),
        "a reason",
        draw(st.frozensets(files, max_size=2)),
        tuple(compile_glob(pattern) for pattern in draw(st.lists(st.sampled_from(PATTERNS), max_size=2))),
        members if by_user else None,
        None if by_user else members,
        starts,
        starts + timedelta(hours=draw(st.integers(1, 10))),
        "x.yaml:1",
    )


def approval(who: str, at: datetime) -> Approval:
    return Approval(KeyRef(SignerKind.PGP, KEYS[who]), KEYS[who], at, None, "x.asc")


@st.composite
def candidates(draw: st.DrawFn) -> Candidate:
    """Often one that both of the role have approved in time."""
    found = draw(st.none() | exceptions() | exceptions() | exceptions())
    signed = draw(st.lists(st.tuples(st.sampled_from(sorted(KEYS)), hours), max_size=3))
    if found is not None and draw(st.integers(0, 3)):
        signed += [(who, found.starts) for who in ROLE]
    approvals = tuple(approval(who, at) for who, at in draw(st.permutations(signed)))
    return Candidate("one", "x.yaml", "sha256:11", found, approvals)


@dataclass(frozen=True)
class Asked:
    """A question: who asks, about which file, where, when."""

    caller: Caller
    path: str | None
    assurance: Assurance
    size: int
    whole: str | None
    now: datetime

    @property
    def place(self) -> TrustedPlace:
        return TrustedPlace(self.path, assurance=self.assurance, size=self.size)


questions = st.builds(
    Asked,
    st.builds(Caller, numbers, numbers, st.frozensets(numbers)),
    st.none() | st.sampled_from(PATHS),
    st.sampled_from(Assurance),
    numbers,
    st.none() | st.sampled_from(DIGESTS),
    hours,
)


FIELDS = ("caller", "path", "assurance", "size", "whole", "now")


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Candidate], Asked]:
    """Exceptions and a question: often what one of them is for, but for a thing or two."""
    found = draw(st.lists(candidates(), max_size=3))
    asked = draw(questions)
    named = [candidate.exception for candidate in found if candidate.exception is not None]
    if not named:
        return found, asked
    meant = draw(st.sampled_from(named))
    fitting = draw(fits(meant, asked))
    other = draw(st.lists(st.sampled_from(FIELDS), max_size=2))
    return found, replace(fitting, **{name: getattr(asked, name) for name in other})


@st.composite
def fits(draw: st.DrawFn, meant: PolicyException, asked: Asked) -> Asked:
    """The question made one that an exception is for, if it names anything."""
    if meant.users is not None:
        caller = Caller(min(meant.users), 50)
    else:
        caller = Caller(50, 50, frozenset({min(meant.groups or {0})}))
    now = meant.starts + draw(st.sampled_from([timedelta(0), (meant.ends - meant.starts) / 2]))
    asked = replace(asked, caller=caller, now=now, assurance=Assurance.TRUSTED_PATH)
    if meant.files:
        file = min(meant.files, key=lambda each: (each.digest, each.size))
        return replace(asked, whole=file.digest, size=file.size)
    return asked


def deny(code: Code = Code.REQUIREMENTS_NOT_MET) -> Outcome:
    return Outcome(code, "because", "production")


def answer(candidates: list[Candidate], asked: Asked, code: Code = Code.REQUIREMENTS_NOT_MET) -> Outcome:
    snapshot = replace(EMPTY, exceptions=Exceptions(tuple(candidates)))
    return apply_exceptions(deny(code), snapshot, asked.place, asked.whole, asked.caller, asked.now)


def stands(candidate: Candidate, asked: Asked) -> bool:
    """What the documentation says, step by step."""
    found = candidate.exception
    if found is None or not found.starts <= asked.now < found.ends:
        return False
    people = set()
    for approval in candidate.approvals:
        assert approval.created is not None
        if approval.created <= asked.now and found.ends - approval.created <= LONGEST:
            people |= {who for who in ROLE if KEYS[who] == approval.signer.id}
    if len(people) < 2:
        return False
    mine = {asked.caller.gid, *asked.caller.groups}
    if not (asked.caller.uid in found.users if found.users is not None else mine & (found.groups or set())):
        return False
    by_content = asked.whole is not None and FileName(asked.whole, asked.size) in found.files
    trusted = asked.path is not None and asked.assurance is Assurance.TRUSTED_PATH
    return by_content or (trusted and any(glob.regex.fullmatch(asked.path or "") for glob in found.paths))


@given(cases())
def test_it_allows_exactly_what_a_naive_reading_allows(case: tuple[list[Candidate], Asked]) -> None:
    found, asked = case
    outcome = answer(found, asked)
    standing_ones = [candidate for candidate in found if stands(candidate, asked)]
    if standing_ones:
        first = standing_ones[0].exception
        assert first is not None
        assert (outcome.code, outcome.exception, set(outcome.signers)) == (Code.EXCEPTION, first.name, set(ROLE))
    else:
        assert (outcome.code, outcome.exception) == (Code.REQUIREMENTS_NOT_MET, None)


@given(cases())
def test_it_never_holds_for_another_image_user_or_time(case: tuple[list[Candidate], Asked]) -> None:
    found, asked = case
    ends = max((each.exception.ends for each in found if each.exception is not None), default=NOW)
    stranger = replace(asked, caller=Caller(99, 99, frozenset({98})))
    elsewhere = replace(asked, whole="sha256:" + "f" * 64, path="/tmp/x.sif")
    for changed in (stranger, elsewhere, replace(asked, now=max(asked.now, ends))):
        assert answer(found, changed).code is Code.REQUIREMENTS_NOT_MET


@given(cases(), st.sampled_from(sorted(set(Code) - EXCUSED)))
def test_it_changes_no_other_answer(case: tuple[list[Candidate], Asked], code: Code) -> None:
    found, asked = case
    assert answer(found, asked, code) == deny(code)


@given(cases())
def test_one_signature_of_each_is_needed(case: tuple[list[Candidate], Asked]) -> None:
    found, asked = case
    for who in ROLE:
        fewer = [without(candidate, who) for candidate in found]
        assert answer(fewer, asked).code is Code.REQUIREMENTS_NOT_MET


def without(candidate: Candidate, who: str) -> Candidate:
    left = tuple(each for each in candidate.approvals if each.signer.id != KEYS[who])
    return replace(candidate, approvals=left)


def test_the_cases_are_of_both_kinds() -> None:
    """What is never allowed, or always, would show nothing."""
    seen: list[Code] = []

    @settings(max_examples=300, derandomize=True, database=None, deadline=None)
    @given(cases())
    def collect(case: tuple[list[Candidate], Asked]) -> None:
        seen.append(answer(*case).code)

    collect()
    assert seen.count(Code.EXCEPTION) > len(seen) // 20
    assert seen.count(Code.REQUIREMENTS_NOT_MET) > len(seen) // 20


@given(candidates(), st.lists(hours, min_size=2, max_size=6).map(sorted))
def test_once_it_has_ended_it_stays_so(found: Candidate, times: list[datetime]) -> None:
    assert POLICY is not None
    seen = [standing(found, POLICY, EMPTY.store, now).state for now in times]
    if State.ENDED in seen:
        assert set(seen[seen.index(State.ENDED) :]) == {State.ENDED}
