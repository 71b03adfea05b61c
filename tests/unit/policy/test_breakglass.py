"""The language of exceptions: every error with the text that an admin sees, and what a good one says."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from eclctl.config.document import Report
from eclctl.model import Caller, Identity
from eclctl.policy.breakglass import FileName, PolicyException, approvers, read_exception
from eclctl.policy.breakglass_write import Draft, write_exception
from eclctl.policy.language import ExceptionTerms
from tests.helpers.deciding import loaded

DIGEST = "sha256:" + "ab" * 32
TERMS = ExceptionTerms("/etc/eclctl/exceptions.d", "security", ("scanner", "approver"), 2, 72 * 3600.0, "p.yaml:9")
GOOD = {
    "version": "1",
    "exception": "drain",
    "reason": "scanner down",
    "users": "[alice, 77]",
    "starts": "2026-11-22T03:00:00Z",
    "ends": "2026-11-23T03:00:00Z",
    "images": f"[{{sha256: {DIGEST}, size: 4}}]",
}
SIGNERS = """\
version: 1
signers:
  builder:  {pgp: [81F111F6190C46143937EF7C22BC3A3BC942487F]}
  scanner:  {pgp: [F69053E5830DBDBA72B3D8F61BDDA97D14902F26]}
  approver: {pgp: [25B8EEE0382B85FDCBDD9B4F7A750C002A7A02D4]}
  robot:    {key: [ed25519-public.pem]}
roles:
  security: [scanner, approver]
  robots:   [robot]
  mixed:    [scanner, robot]
"""


def read(text: str, path: str = "/etc/eclctl/exceptions.d/drain.yaml") -> tuple[PolicyException | None, list[str]]:
    report = Report()
    found = read_exception(
        path, text.encode(), TERMS, report, resolve_user={"alice": 1000}.get, resolve_group={"hpc": 50}.get
    )
    return found, [str(problem).removeprefix("/etc/eclctl/exceptions.d/") for problem in report.errors]


def said(**changes: str | None) -> str:
    fields = GOOD | changes
    return "".join(f"{key}: {value}\n" for key, value in fields.items() if value is not None)


def test_a_good_one_says_what_is_written() -> None:
    found, errors = read(said())
    assert errors == []
    assert found is not None
    assert (found.name, found.reason, found.users, found.groups) == ("drain", "scanner down", {1000, 77}, None)
    assert found.files == {FileName(DIGEST, 4)}
    assert (found.starts, found.ends) == (datetime(2026, 11, 22, 3, tzinfo=UTC), datetime(2026, 11, 23, 3, tzinfo=UTC))


def test_times_are_taken_in_any_zone() -> None:
    found, _ = read(said(starts="2026-11-22T04:30:00+01:30", ends='"2026-11-22T03:01Z"'))
    assert found is not None
    assert (found.starts, found.ends) == (
        datetime(2026, 11, 22, 3, tzinfo=UTC),
        datetime(2026, 11, 22, 3, 1, tzinfo=UTC),
    )


def test_it_is_for_its_users_or_for_members_of_its_groups() -> None:
    by_user, _ = read(said())
    by_group, _ = read(said(users=None, groups="[hpc]"))
    assert by_user is not None
    assert by_group is not None
    assert [by_user.is_for(Caller(uid, 50, frozenset({50}))) for uid in (1000, 77, 50)] == [True, True, False]
    members = [Caller(1, 50), Caller(1, 1, frozenset({50})), Caller(50, 1, frozenset({2}))]
    assert [by_group.is_for(caller) for caller in members] == [True, True, False]


def test_it_is_for_the_person_behind_a_subordinate_uid_and_never_for_one_who_may_be_behind_it() -> None:
    by_user, _ = read(said())
    by_group, _ = read(said(users=None, groups="[hpc]"))
    assert by_user is not None
    assert by_group is not None
    found = Caller(100001, 1, identity=Identity(1000, frozenset({50})))
    may_be = Caller(1000, 50, identity=Identity(None, frozenset(), frozenset({1000}), frozenset({50}), unknown=True))
    assert [[each.is_for(caller) for caller in (found, may_be)] for each in (by_user, by_group)] == [[True, False]] * 2


ERRORS = [
    (said(version="2"), "drain.yaml:1:10: version must be a number from 1 to 1, and is '2'"),
    (said(version=None), "drain.yaml:1:1: the exception needs 'version'"),
    (said(extra="1"), "drain.yaml:8:1: unknown key 'extra' in the exception"),
    (said(exceptoin="x"), "drain.yaml:8:1: unknown key 'exceptoin' in the exception (did you mean 'exception'?)"),
    (said() + "reason: twice\n", "drain.yaml:8:1: duplicate key 'reason' (first on line 3)"),
    (said(exception="Drain"), "'Drain' is no name (1 to 64 of a-z, 0-9, dot, dash and underscore)"),
    (said(exception="../x"), "'../x' is no name"),
    (
        said(exception="other"),
        (
            "the exception is called 'other' and its file 'drain.yaml' "
            "(an exception has the name of its file, so that it cannot be copied)"
        ),
    ),
    (said(reason='" "'), "drain.yaml:3:9: reason is blank, or has control characters or several lines"),
    (said(reason='"a\\nb"'), "reason is blank, or has control characters or several lines (write one line)"),
    (said(reason=None), "the exception needs 'reason'"),
    (said(groups="[hpc]"), "the exception has both users and groups (say who it is for with one of them)"),
    (said(users=None), "the exception has neither users nor groups (say who it is for with one of them)"),
    (said(users="[]"), "users is an empty list (leave the key out, or list something)"),
    (said(users="[mallory]"), "drain.yaml:4:9: there is no user 'mallory' on this host"),
    (said(users="[4294967295]"), "there is no user '4294967295' on this host"),
    (said(users=None, groups="[alice]"), "there is no group 'alice' on this host"),
    (said(images="[]"), "images is an empty list"),
    (said(images="[x]"), "an image must be a mapping, and is 'x'"),
    (
        said(images="[{}]"),
        "an image is named by sha256 and size, or by path (write {sha256: sha256:…, size: BYTES}, or {path: /srv/…})",
    ),
    (said(images=f"[{{sha256: {DIGEST}}}]"), "an image is named by sha256 and size, or by path"),
    (said(images=f"[{{sha256: {DIGEST}, size: 4, path: /a}}]"), "an image is named by sha256 and size, or by path"),
    (said(images="[{sha256: abc, size: 4}]"), "'abc' is no digest (sha256: and 64 hex digits)"),
    (said(images=f"[{{sha256: {DIGEST}, size: 0}}]"), "size of an image must be a number from 1 to"),
    (said(images="[{path: srv/a.sif}]"), "the path 'srv/a.sif' is not absolute (begin it with /)"),
    (said(images='[{path: "/srv/[ab].sif"}]'), "uses brackets or braces"),
    (
        said(starts="2026-11-22T03:00:00"),
        (
            "drain.yaml:5:9: starts '2026-11-22T03:00:00' names no time zone "
            "(a day, a time and Z for UTC: 2026-11-22T03:00:00Z)"
        ),
    ),
    (said(ends="tomorrow"), "ends 'tomorrow' is no time (a day, a time and Z for UTC: 2026-11-22T03:00:00Z)"),
    (said(ends="2026-11-31T03:00:00Z"), "ends '2026-11-31T03:00:00Z' is no time"),
    (said(ends="9999-12-31T23:59:59-23:59"), "ends '9999-12-31T23:59:59-23:59' is no time"),
    (said(ends="2026-11-22T03:00:00Z"), "drain.yaml:6:7: the exception ends before it starts"),
    (
        said(ends="2026-11-25T03:00:01Z"),
        (
            "drain.yaml:6:7: the exception lasts 259201s, and 72h is the longest that there is "
            "(the policy says so at p.yaml:9)"
        ),
    ),
    ("a: &x 1\nb: *x\n", "YAML anchors and aliases are not accepted"),
    ("[1]\n", "the exception must be a mapping, and is a list"),
    ("", "the file is empty"),
    ("a:\n\t- b\n", "not valid YAML"),
]


@pytest.mark.parametrize(("text", "message"), ERRORS, ids=[message[:40] for _, message in ERRORS])
def test_what_is_wrong_is_said_with_its_place(text: str, message: str) -> None:
    found, errors = read(text)
    assert found is None
    assert any(message in error for error in errors), errors


def test_all_errors_are_said_at_once() -> None:
    _, errors = read(said(version="2", reason='" "', users="[mallory]", starts="now", images="[x]"))
    assert len(errors) == 5


def test_the_longest_time_is_allowed() -> None:
    found, errors = read(said(ends="2026-11-25T03:00:00Z"))
    assert errors == []
    assert found is not None


# -- what the policy says ----------------------------------------------------------------------------------------------


def terms(text: str) -> tuple[ExceptionTerms | None, list[str]]:
    made = loaded(SIGNERS + text)
    errors = [str(problem) for problem in (*made.errors, *made.warnings) if "no rules" not in problem.message]
    return (None if made.policy is None else made.policy.exceptions), errors


def test_the_policy_says_where_exceptions_lie_and_who_approves_them() -> None:
    found, errors = terms("exceptions: {directory: exceptions.d, approvals: {count: 2, of: security}, longest: 3d}\n")
    assert errors == []
    assert found is not None
    assert (found.directory, found.role, found.count) == ("exceptions.d", "security", 2)
    assert (found.people, found.longest, found.where) == (("scanner", "approver"), 259200.0, "0.yaml:11")


SCANNER = "F69053E5830DBDBA72B3D8F61BDDA97D14902F26"
APPROVALS = "approvals: {count: 2, of: security}"
WRONG_TERMS = [
    ("exceptions: [x]\n", "0.yaml:11:13: exceptions must be a mapping, and is a list"),
    (f"exceptions: {{{APPROVALS}, longest: 3d}}\n", "exceptions needs 'directory'"),
    ("exceptions: {directory: d, longest: 3d}\n", "exceptions needs 'approvals'"),
    (f"exceptions: {{directory: d, {APPROVALS}}}\n", "exceptions needs 'longest'"),
    (f"exceptions: {{directory: d, {APPROVALS}, longest: 3d, lenght: 1}}\n", "unknown key 'lenght' in exceptions"),
    (f"exceptions: {{directory: d, {APPROVALS}, longest: 32d}}\n", "longest of exceptions must be from 60s to"),
    (f"exceptions: {{directory: d, {APPROVALS}, longest: 0s}}\n", "longest of exceptions must be from 60s to"),
    (
        "exceptions: {directory: d, approvals: {count: 0, of: security}, longest: 3d}\n",
        "count in approvals of exceptions must be a number from 1 to 1000, and is '0'",
    ),
    (
        "exceptions: {directory: d, approvals: {count: 3, of: security}, longest: 3d}\n",
        "exceptions can never be approved: 3 needed, and 'security' has 2 with an OpenPGP key of their own",
    ),
    (
        "exceptions: {directory: d, approvals: {count: 1, of: robots}, longest: 3d}\n",
        (
            "exceptions can never be approved: 1 needed, and 'robots' has 0 with an OpenPGP key of their own "
            "(an exception is approved with OpenPGP, whose signatures say when they were made)"
        ),
    ),
    (
        "exceptions: {directory: d, approvals: {count: 1, of: mixed}, longest: 3d}\n",
        "'robot' of 'mixed' cannot approve exceptions (an exception is approved with OpenPGP",
    ),
    (
        "exceptions: {directory: d, approvals: {count: 1, of: anyone}, longest: 3d}\n",
        "'anyone' cannot approve exceptions (name a role of people that you trust with that)",
    ),
    (
        "exceptions: {directory: d, approvals: {count: 1, of: securty}, longest: 3d}\n",
        "unknown role 'securty' (did you mean 'security'?)",
    ),
    (
        f"exceptions: {{directory: d, {APPROVALS}, longest: 3d}}\nwithdrawn: {{signers: [scanner]}}\n",
        "exceptions cannot be approved: 2 needed, and the keys of 1 of 'security' are left",
    ),
    (
        f"exceptions: {{directory: d, {APPROVALS}, longest: 3d}}\nwithdrawn: {{keys: [{SCANNER}]}}\n",
        "exceptions cannot be approved: 2 needed, and the keys of 1 of 'security' are left",
    ),
]


@pytest.mark.parametrize(("text", "message"), WRONG_TERMS, ids=[message[:50] for _, message in WRONG_TERMS])
def test_what_is_wrong_in_the_policy_is_said_with_its_place(text: str, message: str) -> None:
    _, errors = terms(text)
    assert any(message in error for error in errors), errors


def test_a_key_can_be_withdrawn_also_when_approvers_of_exceptions_are_missing_then() -> None:
    """A withdrawal that keeps the policy from loading would leave a stolen key in force."""
    made, _ = terms(f"exceptions: {{directory: d, {APPROVALS}, longest: 3d}}\nwithdrawn: {{signers: [scanner]}}\n")
    assert made is not None


def test_they_are_declared_once() -> None:
    text = f"exceptions: {{directory: d, {APPROVALS}, longest: 3d}}\n"
    made = loaded(SIGNERS + text, "version: 1\n" + text)
    assert [str(problem) for problem in made.errors] == [
        (
            "1.yaml:2:13: exceptions are declared twice (first at 0.yaml:11) "
            "(keep one: there is one directory of exceptions, and one way to approve)"
        )
    ]


def test_approvers_are_those_of_the_role_who_hold_the_keys() -> None:
    policy = loaded(SIGNERS + f"exceptions: {{directory: d, {APPROVALS}, longest: 3d}}\n").policy
    assert policy is not None
    assert policy.exceptions is not None
    keys = [key for name in ("builder", "approver", "scanner", "scanner") for key in policy.signers[name].keys]
    assert approvers(policy, policy.exceptions, [*keys, "F" * 40]) == ("scanner", "approver")


# -- writing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["plain", 'quotes " and \\ and : and #', "ümläut 🔥", "yes", "[x"])
def test_what_is_written_is_read_back(reason: str) -> None:
    file = (FileName(DIGEST, 4), "/srv/a\nb.sif")
    starts, ends = datetime(2026, 11, 22, 3, tzinfo=UTC), datetime(2026, 11, 23, 3, tzinfo=UTC)
    draft = Draft("drain", reason, ["alice"], [], starts, ends, [file], ["/srv/*.sif"])
    found, errors = read(write_exception(draft))
    assert errors == []
    assert found is not None
    assert (found.reason, found.starts, found.ends, found.files) == (reason, starts, ends, {file[0]})
    assert [glob.pattern for glob in found.paths] == ["/srv/*.sif"]
