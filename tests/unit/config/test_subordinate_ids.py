"""Ranges of subordinate IDs: what files grant, as newuidmap reads them, and what is wrong with them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from eclctl.config import subordinate_ids
from eclctl.config.subordinate_ids import (
    MANY,
    NOT_READ,
    Files,
    Overlap,
    Range,
    other_sources,
    parse_ranges,
    read_subordinate_ids,
    state_of,
    status_fields,
    table,
)
from eclctl.errors import ConfigError
from eclctl.files.guarded import read_guarded


def owners(text: str, number: int) -> tuple[str, ...]:
    return parse_ranges(text.encode()).ranges.owners_of(number)


def test_an_id_is_its_ranges_owners_from_the_first_to_the_last() -> None:
    text = "alice:100000:65536\nbob:165536:65536\n"
    found = [owners(text, number) for number in (99999, 100000, 165535, 165536, 231071, 231072)]
    assert found == [(), ("alice",), ("alice",), ("bob",), ("bob",), ()]


def test_an_id_in_several_ranges_has_all_their_owners() -> None:
    text = "bob:5:5\nalice:1:7\nalice:6:1\n"
    assert [owners(text, number) for number in (4, 6, 8)] == [("alice",), ("alice", "bob"), ("bob",)]


def test_of_very_many_owners_none_is_told_from_another() -> None:
    text = "".join(f"u{number}:100:10\n" for number in range(subordinate_ids.MOST_OWNERS + 1))
    assert owners(text, 105) == MANY
    assert owners(text.replace("u0:", "u1:"), 105) != MANY


@pytest.mark.parametrize(
    "line",
    [
        "alice:0x64:10",
        "alice:0144:10",
        "alice: 100:+10",
        "alice:100:10:what follows is ignored",
        "alice:100:0xA",
    ],
)
def test_a_line_grants_what_newuidmap_takes_it_to_grant(line: str) -> None:
    found = parse_ranges(line.encode())
    assert found.malformed_count == 0
    assert [found.ranges.owners_of(number) for number in (99, 100, 109, 110)] == [(), ("alice",), ("alice",), ()]


@pytest.mark.parametrize(
    "line",
    [
        "alice",
        "alice:100",
        ":100:10",
        "alice::10",
        "alice:100:",
        "alice:-100:10",
        "alice:100:10\r",
        "alice:0o144:10",
        "alice:1_00:10",
        "alice:0189:10",
        "alice:4294967295:10",
        "+alice:100:10",
        "a" * 1024 + ":100:10",
    ],
)
def test_a_line_that_grants_nothing_is_reported_and_costs_no_other_line(line: str) -> None:
    found = parse_ranges(f"bob:1:1\n{line}\ncarol:2:1\n".encode())
    assert (found.malformed, found.malformed_count, found.ranges.count) == ((2,), 1, 2)
    assert [found.ranges.owners_of(number) for number in (1, 2, 100)] == [("bob",), ("carol",), ()]


def test_comments_empty_lines_and_empty_ranges_are_nothing_wrong() -> None:
    found = parse_ranges(b"# alice:1:1\n\n \nalice:100:0\n")
    assert (found.malformed_count, found.ranges.starts) == (0, ())


def test_a_range_beyond_the_last_id_ends_there() -> None:
    found = parse_ranges(b"alice:4294967290:100\nbob:1:99999999999999999999\n")
    assert found.ranges.owners_of(2**32 - 2) == ("alice", "bob")
    assert found.ranges.owners_of(2**32 - 1) == ()


def test_malformed_lines_are_listed_up_to_a_bound() -> None:
    found = parse_ranges(b"nonsense\n" * 1000)
    assert (found.malformed_count, len(found.malformed)) == (1000, 20)


def test_a_file_of_too_many_lines_is_refused() -> None:
    with pytest.raises(ConfigError):
        parse_ranges(b"a:1:1\n" * (subordinate_ids.MOST_LINES + 1))


def test_staggered_ranges_take_no_more_room_than_their_owners_who_are_told_apart() -> None:
    found = table([Range(f"u{number}", number, number + 20_000) for number in range(20_000)])
    assert sum(map(len, found.owners)) < 20_000


def test_overlaps_are_those_of_different_people() -> None:
    found = parse_ranges(b"alice:100:10\n1000:100:10\nbob:105:10\n").ranges
    assert list(found.overlaps({"alice": 1000})) == [Overlap(105, 109, ("1000", "alice", "bob"))]
    assert next(found.overlaps({})).first == 100


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("passwd: files sss\n", None),
        ("subid: files\n", None),
        ("#subid: sss\n", None),
        ("passwd: files\nsubid:\tsss\n", "sss"),
        ("SubId: sss # remote\n", "sss"),
        ("subid: files sss\n", "files sss"),
        ("subid:\n", "nothing"),
    ],
)
def test_other_sources_of_ranges_are_named(text: str, named: str | None) -> None:
    assert other_sources(text.encode()) == named


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> Files:
    found = Files(*(str(tmp_path / name) for name in Files._fields))
    Path(found.passwd).write_text("root:x:0:0::/:\nalice:x:1000:100::/:\ncarol:x:100007:100::/:\n")
    Path(found.group).write_text("root:x:0:\nstaff:x:200007:\n")
    return found


def grant(path: str, text: str) -> None:
    Path(path).write_text(text)
    Path(path).chmod(0o644)


def test_files_that_are_missing_grant_nothing(tmp_path: Path) -> None:
    found = read_subordinate_ids(Files(*(str(tmp_path / name) for name in Files._fields)))
    assert (found.uids.ranges.starts, found.gids.ranges.starts) == ((), ())
    assert (found.uids.problem, found.gids.problem, found.not_read) == (None, None, None)


def test_files_that_are_empty_grant_nothing(files: Files) -> None:
    grant(files.subuid, "")
    grant(files.subgid, "\n# none\n")
    shown = status_fields(read_subordinate_ids(files))
    assert [(shown[sort]["ranges"], shown[sort]["overlaps"], shown[sort]["problem"]) for sort in ("uids", "gids")] == [
        (0, 0, None)
    ] * 2


def test_overlaps_and_accounts_in_ranges_are_named(files: Files) -> None:
    grant(files.subuid, "alice:100000:10\nbob:100005:10\n1000:100000:1\n")
    grant(files.subgid, "alice:200000:10\n")
    grant(files.nsswitch, "subid: sss\n")
    shown = status_fields(read_subordinate_ids(files))
    assert shown["not_read"] == "sss"
    assert shown["uids"]["overlapping"] == [{"first": 100005, "last": 100009, "owners": ["alice", "bob"]}]
    assert shown["uids"]["holding"] == [{"first": 100007, "last": 100007, "owners": ["alice", "bob"]}]
    assert shown["gids"]["holding"] == [{"first": 200007, "last": 200007, "owners": ["alice"]}]


def test_an_account_in_a_range_of_its_own_is_nothing_to_name(files: Files) -> None:
    grant(files.subuid, "alice:1000:1\ncarol:100007:1\n")
    assert status_fields(read_subordinate_ids(files))["uids"]["accounts"] == 0


def test_what_is_named_is_bounded(files: Files) -> None:
    grant(files.subuid, "".join(f"a:{2 * number}:1\nb:{2 * number}:1\n" for number in range(5000)))
    shown = status_fields(read_subordinate_ids(files))["uids"]
    assert (shown["overlaps"], len(shown["overlapping"])) == (5000, 20)


def test_a_file_that_cannot_be_read_leaves_the_ranges_read_before(files: Files) -> None:
    grant(files.subuid, "alice:100000:10\n")
    before = read_subordinate_ids(files)
    os.unlink(files.subuid)
    os.mkdir(files.subuid)
    found = read_subordinate_ids(files, before)
    assert found.uids.ranges == before.uids.ranges
    assert found.uids.problem == "is not a regular file; the ranges read before stay in force"


def test_without_ranges_from_before_every_id_may_be_any_users_until_the_file_can_be_read(files: Files) -> None:
    os.mkdir(files.subuid)
    first = read_subordinate_ids(files)
    second = read_subordinate_ids(files, first)
    for found in (first, second):
        assert found.uids.ranges.owners_of(5) == NOT_READ
        assert found.uids.problem == "is not a regular file; whose a subordinate ID is cannot be told"
    os.rmdir(files.subuid)
    assert read_subordinate_ids(files, second).uids.ranges.starts == ()


def test_a_file_of_too_many_lines_is_not_trusted(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subordinate_ids, "MOST_LINES", 2)
    grant(files.subuid, "a:1:1\n" * 3)
    assert read_subordinate_ids(files).uids.ranges.owners_of(1) == NOT_READ


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, whose files must be root's alone")
def test_a_file_that_others_can_write_is_not_trusted(files: Files) -> None:
    os.chmod(os.path.dirname(files.subuid), 0o755)
    grant(files.subuid, "alice:100000:10\n")
    before = read_subordinate_ids(files)
    assert before.uids.problem is None
    grant(files.subuid, "mallory:0:4294967295\n")
    os.chmod(files.subuid, 0o664)
    found = read_subordinate_ids(files, before, read_guarded)
    assert found.uids.ranges.owners_of(100001) == ("alice",)
    assert found.uids.problem is not None
    assert "writable by others" in found.uids.problem


def test_a_change_of_a_file_shows_in_their_state_and_one_of_just_now_in_any_case(files: Files) -> None:
    grant(files.subuid, "alice:100000:10\n")
    now = os.stat(files.subuid).st_ctime
    later = now + 10.0
    settled = state_of(files, later)
    assert state_of(files, later) == settled
    assert state_of(files, now + 1.0) != state_of(files, now + 1.0)
    grant(files.subuid, "alice:100000:11\n")
    assert state_of(files, os.stat(files.subuid).st_ctime + 10.0) != settled
    os.unlink(files.subuid)
    assert state_of(files, later) != settled
