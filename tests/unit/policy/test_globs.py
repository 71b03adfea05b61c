"""Path patterns match by component."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eclctl.policy.globs import compile_glob, compile_repository, matches_repository, objection, repository_objection


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/srv/**", "/srv/a.sif", True),
        ("/srv/**", "/srv/a/b/c.sif", True),
        ("/srv/**", "/srv", False),
        ("/srv/**", "/srv2/a.sif", False),
        ("/scratch/**", "/scratch2/a.sif", False),
        ("/srv/*", "/srv/a/b.sif", False),
        ("/srv/*.sif", "/srv/a.sif", True),
        ("/srv/*.sif", "/srv/.sif", True),
        ("/srv/**/x.sif", "/srv/x.sif", True),
        ("/srv/**/x.sif", "/srv/a/b/x.sif", True),
        ("/srv/**/x.sif", "/srv/a/yx.sif", False),
        ("/srv/*/prod/**", "/srv/team/prod/a", True),
        ("/srv/*/prod/**", "/srv/a/b/prod/a", False),
        ("/srv/a?.sif", "/srv/ab.sif", True),
        ("/srv/a?b", "/srv/a/b", False),
        ("/srv/a.sif", "/srv/a.sif", True),
        ("/srv/a.sif", "/srv/aXsif", False),
        ("/srv/a+(b)|^$", "/srv/a+(b)|^$", True),
        ("/srv/*", "/srv/a\nb", True),
        ("/srv/a", "/srv/a\n", False),
        ("/srv/*", "/srv/\udcff.sif", True),
        ("/**", "/a", True),
        ("/a/**/**", "/a/b", True),
    ],
)
def test_a_pattern_matches_by_component(pattern: str, path: str, expected: bool) -> None:
    assert objection(pattern) is None
    assert compile_glob(pattern).matches(path) is expected


@pytest.mark.parametrize(
    "pattern",
    ["", "srv", "/", "/srv/", "//srv", "/srv//a", "/srv/./a", "/srv/../a", "/a**", "/**a/b", "/[ab]", "/{a,b}"],
)
def test_patterns_that_mean_something_else_elsewhere_are_refused(pattern: str) -> None:
    assert objection(pattern) is not None


def test_what_a_pattern_matches_lies_in_its_prefix() -> None:
    patterns = ("/srv/a*/b", "/srv/a/b", "/**", "/srv/**", "/a")
    assert [compile_glob(pattern).prefix for pattern in patterns] == ["/srv", "/srv/a", "", "/srv", ""]


def _plainly(pattern: list[str], path: list[str]) -> bool:
    """The definition, by recursion."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        if len(pattern) == 1:
            return bool(path)
        return _plainly(pattern[1:], path) or (bool(path) and _plainly(pattern, path[1:]))
    return bool(path) and _component(pattern[0], path[0]) and _plainly(pattern[1:], path[1:])


def _component(pattern: str, name: str) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "*":
        return _component(pattern[1:], name) or (bool(name) and _component(pattern, name[1:]))
    return bool(name) and pattern[0] in {"?", name[0]} and _component(pattern[1:], name[1:])


NAMES = st.text("ab", min_size=1, max_size=5)
PATTERNS = st.lists(st.one_of(st.just("**"), st.text("ab*?", min_size=1, max_size=5)), min_size=1, max_size=6)


@given(
    PATTERNS.filter(lambda parts: not any("**" in part and part != "**" for part in parts)),
    st.lists(NAMES, min_size=1, max_size=7),
)
def test_the_expression_means_what_the_definition_says(pattern: list[str], path: list[str]) -> None:
    glob = compile_glob("/" + "/".join(pattern))
    assert glob.matches("/" + "/".join(path)) is _plainly(pattern, path)


def test_no_path_makes_a_pattern_slow() -> None:
    """Backtracking between wildcards would take longer than the age of the universe here."""
    pattern = "/**/" + "*a" * 40 + "b/**/" + "/**/".join(["a*"] * 40) + "/z"
    path = "/" + "/".join(["a" * 200] * 20) + "/y" * 50
    assert not compile_glob(pattern).matches(path)


@pytest.mark.parametrize(
    ("pattern", "reference", "expected"),
    [
        ("registry.example/prod/**", "registry.example/prod/app", True),
        ("registry.example/prod/**", "registry.example/prod/a/b", True),
        ("registry.example/prod/**", "registry.example/prod", False),
        ("registry.example/prod/**", "registry.example/production/app", False),
        ("registry.example/prod/**", "evil.example/registry.example/prod/app", False),
        ("registry.example/prod/**", "registry.example.evil/prod/app", False),
        ("registry.example/prod/**", "registry.example/prod/../dev/app", False),
        ("registry.example/prod/*", "registry.example/prod/", False),
        ("registry.example/*/app", "registry.example//app", False),
        ("registry.example:5000/app", "registry.example:5000/app", True),
        ("registry.example/app", "registry.example/app:1.2", False),
        ("registry.example/app*", "registry.example/app:1.2", True),
        ("registry?example/app", "registry/example/app", False),
        ("*", "app", True),
        ("*", "", False),
        ("**", "", False),
        ("**", "registry.example/prod/app", True),
        ("**", "/srv/a", False),
        ("app", "/app", False),
        ("app", "app\n", False),
    ],
)
def test_a_repository_matches_by_component_and_never_when_it_is_empty(
    pattern: str, reference: str, expected: bool
) -> None:
    assert repository_objection(pattern) is None
    assert matches_repository(compile_repository(pattern), reference) is expected


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("", "empty"),
        ("/registry.example/app", "empty"),
        ("registry.example/app/", "empty"),
        ("registry.example//app", "empty"),
        ("registry.example/../app", "'..'"),
        ("docker://registry.example/app", "scheme"),
        (f"registry.example/app@sha256:{'0' * 64}", "digest"),
        ("registry.example/{a,b}", "brackets"),
        ("registry.example/app**", "**"),
        ("a" * 5000, "longer"),
    ],
)
def test_patterns_that_could_never_match_a_repository_are_refused(pattern: str, says: str) -> None:
    found = repository_objection(pattern)
    assert found is not None
    assert says in found[0]
