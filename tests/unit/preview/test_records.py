"""What is taken from an audit log, and what is counted instead."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from eclctl.preview.records import History, Launches, RecordedCaller
from tests.helpers.previews import history, record


def test_decisions_on_one_question_are_one_entry_with_their_number_and_the_newest() -> None:
    made = history([record("/a", number=1), record("/a", number=3, decision="deny"), record("/a", number=2)])
    assert made.questions == {
        "/a": {RecordedCaller(1000, 1000, "rootfs"): Launches(3, "2026-11-23T12:00:00.000000Z", False)}
    }
    assert (made.first, made.last) == ("2026-11-21T12:00:00.000000Z", "2026-11-23T12:00:00.000000Z")


def test_another_user_group_or_role_is_another_question() -> None:
    lines = [record("/a"), record("/a", uid=7), record("/a", gid=7), record("/a", role="overlay")]
    assert len(history(lines).questions["/a"]) == 4


def test_each_image_of_a_launch_counts_and_an_explanation_is_no_launch() -> None:
    made = history([record("/a", method="check_all"), record("/b", method="check_all"), record("/c", method="explain")])
    assert sorted(made.questions) == ["/a", "/b"]
    assert (made.decisions, made.broken) == (2, 0)


def test_what_is_no_decision_is_passed_over() -> None:
    made = history([b'{"time":"2026-11-22T12:00:00Z","event":"start","version":"1"}\n', b"\n"])
    assert (made.decisions, made.broken) == (0, 0)


def test_a_decision_without_a_path_is_counted_as_one_that_cannot_be_asked_again() -> None:
    made = history([record(None)])
    assert (made.unplaced, made.decisions, made.questions) == (1, 0, {})


@pytest.mark.parametrize(
    "line",
    [
        b'{"time":"2026-11-22T12:0',
        b"[]\n",
        b"null\n",
        b"\xff\xfe\n",
        b"[" * 100_000,
        record("relative"),
        record("/a\0b"),
        record("/a\ud800"),
        record("/" + "a" * 5000),
        record("/a", uid=-1),
        record("/a", uid=2**32),
        record("/a", uid=True),
        record("/a", gid="0"),
        record("/a", role=7),
        record("/a", role="r" * 300),
        record("/a", time="yesterday"),
        record("/a", time="2026-11-22T12:00:00"),
        record("/a", time=5),
        record(7),  # type: ignore[arg-type]
    ],
)
def test_a_line_that_is_no_record_costs_itself_and_no_other(line: bytes) -> None:
    made = history([record("/a"), line, record("/b")])
    assert (made.broken, made.decisions, sorted(made.questions)) == (1, 2, ["/a", "/b"])


def test_since_leaves_out_what_is_older() -> None:
    since = datetime(2026, 11, 22, 12, tzinfo=UTC)
    made = history([record("/a", number=1), record("/b", number=2), record("/c", number=3)], since)
    assert sorted(made.questions) == ["/b", "/c"]
    assert history([record(None, number=1), record(None, number=2)], since).unplaced == 1


def test_a_log_of_more_questions_than_are_kept_is_counted_and_known_ones_still_add_up() -> None:
    made = History(most=2)
    made.read([record("/a"), record("/b"), record("/c"), record("/a"), record("/d")])
    assert (sorted(made.questions), made.left_out, made.decisions) == (["/a", "/b"], 2, 5)
    assert made.questions["/a"][RecordedCaller(1000, 1000, "rootfs")].count == 2
