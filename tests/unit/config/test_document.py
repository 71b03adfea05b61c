"""YAML documents as marked nodes: what is refused, where the error points, and how values are typed."""

from __future__ import annotations

import pytest

from eclctl.config import document
from eclctl.config.document import ListNode, MapNode, Mark, Problem, Report, Scalar, read_document


def read(text: str | bytes) -> tuple[document.Node | None, list[str]]:
    report = Report()
    node = read_document("f.yaml", text.encode() if isinstance(text, str) else text, report)
    assert (node is None) == bool(report.errors)
    return node, [str(problem) for problem in report.errors]


def scalar(text: str) -> Scalar:
    return Scalar(Mark("f.yaml", 1, 1), text)


def test_nodes_know_where_they_were_written() -> None:
    node, _ = read("a:\n  - b\n  - {c: d}\n")
    assert isinstance(node, MapNode)
    value = node.pairs[0][1]
    assert isinstance(value, ListNode)
    assert [item.mark[1:] for item in value.items] == [(2, 5), (3, 5)]


@pytest.mark.parametrize("word", ["0123456789", "no", "1e3", "0x10", "2026-01-01", "true", "~"])
def test_every_scalar_is_the_text_that_was_written(word: str) -> None:
    node, _ = read(word)
    assert isinstance(node, Scalar)
    assert node.text == word


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("a: &x 1\nb: *x\n", "f.yaml:1:4:", "aliases"),
        ("b: *x\n", "f.yaml:1:4:", "aliases"),
        ("a: !!python/object/apply:os.system [id]\n", "f.yaml:1:4:", "tags"),
        ("a:\n\tb: 1\n", "f.yaml:2:1:", "never tabs"),
        ("a: [1\nb: 2\n", "f.yaml:2:2:", "not valid YAML"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2:1:", "second YAML document"),
        ("a: é\x00", "f.yaml:1:5:", "control character"),
        ("a: \x1b[31m", "f.yaml:1:4:", "control character"),
        ("", "f.yaml:", "empty"),
        ("# only a comment\n", "f.yaml:", "empty"),
    ],
)
def test_refused_yaml_is_located(text: str, place: str, says: str) -> None:
    _, errors = read(text)
    assert len(errors) == 1
    assert errors[0].startswith(place)
    assert says in errors[0]


def test_bytes_that_are_not_utf8_are_located() -> None:
    assert read(b"a: 1\nb: \xff")[1] == ["f.yaml:2:4: the file is not valid UTF-8"]


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_deep_nesting_stops_at_the_bound_and_never_recurses(opening: str) -> None:
    _, errors = read(opening * 200_000)
    assert "nested deeper than 64 levels" in errors[0]


def test_depth_of_exactly_the_bound_is_accepted() -> None:
    assert read("[" * document.MAX_DEPTH + "]" * document.MAX_DEPTH)[1] == []


def test_a_file_above_the_size_bound_is_refused_before_it_is_parsed() -> None:
    assert "16 MiB" in read(b" " * (document.MAX_BYTES + 1))[1][0]


def test_the_number_of_values_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "MAX_NODES", 10)
    assert read("[1,2,3,4,5,6,7,8,9]")[1] == []
    assert "more than 10 values" in read("[1,2,3,4,5,6,7,8,9,10]")[1][0]


def test_a_problem_prints_as_place_message_hint_and_escapes_what_could_move_a_terminal() -> None:
    assert str(Problem("a\x1b[2J\n.yaml", 3, 7, "bad", "do this")) == "a\\x1b[2J\\x0a.yaml:3:7: bad (do this)"
    assert str(Problem("a\udcff.yaml", 0, 0, "bad")) == "a\\xff.yaml: bad"


def test_mapping_reports_duplicate_unknown_and_required_keys_together() -> None:
    node, _ = read("name: a\nname: b\nmach: c\n")
    report = Report()
    assert node is not None
    fields = document.mapping(node, report, "a rule", ("name", "match", "require"), required=("require",))
    assert [str(problem) for problem in report.errors] == [
        "f.yaml:2:1: duplicate key 'name' (first on line 1)",
        "f.yaml:3:1: unknown key 'mach' in a rule (did you mean 'match'?)",
        "f.yaml:1:1: a rule needs 'require'",
    ]
    assert fields is not None
    assert list(fields) == ["name"]


def test_keys_that_are_no_words_are_errors() -> None:
    node, _ = read("? [a]\n: b\n")
    report = Report()
    assert node is not None
    assert document.pairs(node, report, "roles") == ()
    assert "must be a word" in report.errors[0].message


def test_a_list_that_is_empty_is_an_error_unless_it_may_be() -> None:
    node = ListNode(Mark("f", 1, 1), ())
    report = Report()
    assert document.items(node, report, "watch", may_be_empty=True) == ()
    assert report.errors == []
    assert document.items(node, report, "paths") is None
    assert "empty list" in report.errors[0].message


def test_an_entry_listed_twice_is_an_error_and_counts_once() -> None:
    node, _ = read("[a, b, a]")
    report = Report()
    assert node is not None
    assert [s.text for s in document.texts(node, report, "signers") or ()] == ["a", "b"]
    assert "listed twice" in report.errors[0].message


@pytest.mark.parametrize(
    ("word", "seconds"), [("30s", 30), ("15m", 900), ("2h", 7200), ("365d", 31536000), ("1w", 604800)]
)
def test_durations_are_seconds(word: str, seconds: float) -> None:
    report = Report()
    assert document.duration(scalar(word), report, "rescan") == seconds
    assert report.errors == []


@pytest.mark.parametrize("word", ["15", "m", "-1m", "1.5h", "15 m", "1h30m", "\u0661m", "9999999999d", "15M"])
def test_other_spellings_of_durations_are_errors(word: str) -> None:
    report = Report()
    assert document.duration(scalar(word), report, "rescan") is None
    assert len(report.errors) == 1


def test_a_duration_out_of_its_range_is_an_error() -> None:
    report = Report()
    assert document.duration(scalar("1s"), report, "rescan", low=60) is None
    assert len(report.errors) == 1


@pytest.mark.parametrize("word", ["yes", "no", "on", "True", "1", "null"])
def test_only_true_and_false_are_booleans(word: str) -> None:
    report = Report()
    assert document.boolean(scalar(word), report, "recursive") is None
    assert len(report.errors) == 1


def test_true_and_false_are_booleans() -> None:
    assert document.boolean(scalar("true"), Report(), "x") is True
    assert document.boolean(scalar("false"), Report(), "x") is False


@pytest.mark.parametrize("word", ["", "2.0", "0x2", "two", "\u0662", "1_0", "9" * 30, "-1", "11"])
def test_integers_are_decimal_and_in_range(word: str) -> None:
    report = Report()
    assert document.integer(scalar(word), report, "count", 0, 10) is None
    assert len(report.errors) == 1


def test_null_is_told_from_the_quoted_word() -> None:
    node, _ = read("[null, 'null', ~, '', ]")
    assert isinstance(node, ListNode)
    assert [document.is_null(item) for item in node.items] == [True, False, True, False]


def test_a_flood_of_errors_is_cut_and_counted() -> None:
    report = Report()
    for line in range(1, 1000):
        report.error(Mark("f", line, 1), "bad")
    assert len(report.errors) == document.MAX_PROBLEMS
    assert report.errors.left_out == 999 - document.MAX_PROBLEMS


def test_what_is_quoted_is_bounded_and_escaped() -> None:
    assert len(document.quoted("x" * 10_000)) < 100
    assert document.quoted("\x1b[31m") == "'\\x1b[31m'"
