"""One more withdrawal in a policy file, and every other character as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eclctl.errors import ConfigError
from eclctl.preview.entries import SORTS, with_entry

ONE = "sha256:" + "1" * 64
TWO = "sha256:" + "2" * 64


def add(text: str | None, sort: str, name: str, comment: str = "why") -> str | None:
    made = with_entry("w.yaml", None if text is None else text.encode(), sort, name, comment)
    return None if made is None else made.decode()


def test_a_new_file_has_a_header_and_the_entry() -> None:
    made = add(None, "signers", "mallory", "2026-11-22 12:00Z by root: left")
    assert made is not None
    assert made.startswith("# What may not run, under any rule.")
    assert made.endswith('version: 1\nwithdrawn:\n  signers:\n    # 2026-11-22 12:00Z by root: left\n    - "mallory"\n')


def test_entries_are_added_below_the_others_of_their_list_and_comments_stay() -> None:
    text = f"# mine\nversion: 1\nwithdrawn:  # all of it\n  objects:\n    - {ONE}   # first\n  # last\n"
    assert add(text, "objects", TWO) == text.replace("# first\n", f'# first\n    # why\n    - "{TWO}"\n')


def test_another_list_comes_first_with_the_indentation_of_the_others() -> None:
    text = f"version: 1\nwithdrawn:\n    objects:\n    - {ONE}\n"
    made = add(text, "signers", "mallory")
    assert made == text.replace("withdrawn:\n", 'withdrawn:\n    signers:\n      # why\n      - "mallory"\n')


@pytest.mark.parametrize("text", ["version: 1\n", "version: 1", "version: 1\nwithdrawn:\n"])
def test_a_file_that_withdraws_nothing_yet_gets_the_lists(text: str) -> None:
    assert add(text, "keys", ONE) == f'version: 1\nwithdrawn:\n  keys:\n    # why\n    - "{ONE}"\n'


def test_what_is_there_already_is_not_added() -> None:
    made = add(None, "objects", ONE)
    assert made is not None
    assert add(made, "objects", ONE) is None
    assert add(made, "manifests", ONE) is not None


@pytest.mark.parametrize(
    "text",
    [
        "version: 1\nwithdrawn: ~\n",
        f"version: 1\nwithdrawn: {{objects: [{ONE}]}}\n",
        f"version: 1\nwithdrawn:\n  objects: [{ONE}]\n",
        "version: 1\nwithdrawn:\n  objects: {}\n",
        "version: 1\nwithdrawn: []\n",
        f"version: 1\nwithdrawn:\n  objects:\n    - >-\n      {ONE}\n",
        "version: 1\nrules:\n  - {name: x, decision: deny}\n...\n",
    ],
)
def test_a_file_that_is_written_otherwise_is_refused_and_not_changed_wrongly(text: str) -> None:
    with pytest.raises(ConfigError, match="write it by hand"):
        add(text, "objects", TWO)


@pytest.mark.parametrize("text", ["", "- a\n", "a: b: c\n", "version: 1\nversion: 1\nwithdrawn: *x\n"])
def test_a_file_that_is_no_policy_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        add(text, "objects", ONE)


def test_bytes_that_are_no_utf_8_are_refused() -> None:
    with pytest.raises(ConfigError, match="not valid UTF-8"):
        with_entry("w.yaml", b"version: 1 # \xff\n", "objects", ONE, "why")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(SORTS),
            st.from_regex(r"[a-z][a-z .@+:/-]{0,10}[a-z]", fullmatch=True),
            st.text(st.characters(exclude_categories=("C", "Z")), max_size=30),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_any_entries_in_any_order_are_all_in_the_file_with_their_comments(entries: list[tuple[str, str, str]]) -> None:
    text: str | None = None
    for sort, name, comment in entries:
        made = add(text, sort, name, comment)
        if made is not None:
            text = made
            assert f"# {comment}\n" in text
    for sort, name, _ in entries:
        assert add(text, sort, name) is None
