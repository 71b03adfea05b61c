"""Which path patterns include which: the cases that administrators write."""

from __future__ import annotations

import pytest

from eclctl.policy.globs import compile_glob, includes


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ("/srv/**", "/srv/**"),
        ("/srv/**", "/srv/a/**"),
        ("/srv/**", "/srv/a.sif"),
        ("/srv/**", "/srv/*/x/**"),
        ("/srv/*", "/srv/*.sif"),
        ("/srv/*", "/srv/?*"),
        ("/srv/?*", "/srv/*"),
        ("/srv/*/*", "/srv/?/a"),
        ("/**", "/**/x"),
        ("/**/x", "/a/**/x"),
        ("/**/x", "/x"),
        ("/a/**/*", "/a/**"),
        ("/a/**", "/a/*/**"),
        ("/a/**/b/**", "/a/c/b/d/*"),
        ("/srv/a*", "/srv/ab*c"),
        ("/srv/*a*", "/srv/?a"),
        ("/srv/**/**", "/srv/**"),
    ],
)
def test_a_pattern_includes_what_it_matches_among_others(wide: str, narrow: str) -> None:
    assert includes(compile_glob(wide), compile_glob(narrow))


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ("/srv/a/**", "/srv/**"),
        ("/srv/**", "/srv"),
        ("/srv/**", "/srv2/**"),
        ("/srv/*", "/srv/**"),
        ("/srv/*/**", "/srv/**"),
        ("/srv/*.sif", "/srv/*"),
        ("/srv/?", "/srv/*"),
        ("/srv/??*", "/srv/*"),
        ("/a/**/b", "/a/**"),
        ("/srv/a", "/srv/?"),
    ],
)
def test_a_pattern_does_not_include_what_matches_more(wide: str, narrow: str) -> None:
    assert not includes(compile_glob(wide), compile_glob(narrow))
