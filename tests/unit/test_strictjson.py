"""JSON of one meaning: what is read, and what is refused."""

from __future__ import annotations

import pytest

from eclctl.strictjson import MAX_DEPTH, JsonError, loads, variant


def test_plain_json_is_read():
    assert loads(b' {"a": [1, "x", true, null, {}]} ') == {"a": [1, "x", True, None, {}]}
    assert loads(b"[-1, 0.5, 1e3]", any_number=True) == [-1, 0.5, 1000.0]


@pytest.mark.parametrize("text", [b"[-1]", b"[0.5]", b"[1e3]"])
def test_only_natural_numbers_are_read_unless_others_are_asked_for(text):
    with pytest.raises(JsonError):
        loads(text)


@pytest.mark.parametrize("any_number", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{} {}",
        b'{"a":1,"a":1}',
        b'{"b":{"a":1,"\\u0061":2}}',
        b"[NaN]",
        b"[Infinity]",
        b"[-Infinity]",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"[1e999]",
        b"[" + b"9" * 5000 + b"]",
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(text, any_number):
    with pytest.raises(JsonError):
        loads(text, any_number=any_number)


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_nesting_is_bounded_whatever_the_interpreter_would_take(opening, closing):
    assert loads(opening * MAX_DEPTH + b"1" + closing * MAX_DEPTH)
    for depth in (MAX_DEPTH + 1, 900, 9_000, 200_000):
        with pytest.raises(JsonError, match="nested too deeply"):
            loads(opening * depth + b"1" + closing * depth)


def test_many_values_side_by_side_are_not_deep():
    assert len(loads(b"[" + b",".join([b"[[]]"] * 1000) + b"]")) == 1000


def test_members_in_other_letters_are_found_as_go_would_find_them():
    names = ("layers", "mediaType")
    assert variant(["layers", "other", "layers2"], names) is None
    for name in ("Layers", "LAYERS", "layer\u017f", "mediatype"):
        assert variant(["layers", name], names) == name
    assert variant(["\u212aind"], ("kind",)) == "\u212aind"
