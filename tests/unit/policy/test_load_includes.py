"""Policies of several files: what includes what, in which order, and what becomes of circles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from eclctl.errors import ConfigError
from eclctl.policy.declare import LoadEnvironment, PolicyFile
from eclctl.policy.load import MAX_DEPTH, Loaded, load_policies
from tests.helpers.facts import ring
from tests.helpers.support import NOW


def file(*rules: str, include: str = "") -> str:
    lines = "".join(f"  - {{name: {name}, decision: deny}}\n" for name in rules)
    return "version: 1\n" + (f"include: {include}\n" if include else "") + (f"rules:\n{lines}" if rules else "")


def loaded(files: Mapping[str, str], *given: str) -> Loaded:
    """Load the `given` files (the first, when none is) out of a made-up tree of files by their paths."""

    def read_sources(path: str) -> Sequence[PolicyFile]:
        inside = sorted(name for name in files if name.startswith(f"{path}/"))
        if not inside and path not in files and not path.endswith("empty.d"):
            raise ConfigError("cannot be opened: No such file or directory")
        return [PolicyFile(name, files[name].encode()) for name in ([path] if path in files else inside)]

    environment = LoadEnvironment(ring(), lambda _: b"", {}.get, {}.get, NOW, read_sources=read_sources)
    return load_policies([PolicyFile(name, files[name].encode()) for name in given or list(files)[:1]], environment)


def rules(made: Loaded) -> list[str]:
    assert made.policy is not None, made.errors
    return [rule.name for rule in made.policy.rules]


def test_what_a_file_includes_follows_it_in_the_order_listed_and_directories_in_name_order() -> None:
    files = {
        "/p/a.yaml": file("a", include="[z.yaml, site.d]"),
        "/p/b.yaml": file("b"),
        "/p/z.yaml": file("z", include="[sub/deep.yaml]"),
        "/p/sub/deep.yaml": file("deep", include="[../up.yaml]"),
        "/p/up.yaml": file("up"),
        "/p/site.d/20.yaml": file("20"),
        "/p/site.d/10.yaml": file("10"),
    }
    assert rules(loaded(files, "/p/a.yaml", "/p/b.yaml")) == ["a", "z", "deep", "up", "10", "20", "b"]


def test_a_file_of_includes_alone_is_a_policy() -> None:
    assert rules(loaded({"/p/a.yaml": file(include="[b.yaml]"), "/p/b.yaml": file("b")})) == ["b"]


def test_signers_of_an_included_file_are_known_to_all_and_its_key_files_lie_beside_it() -> None:
    asked: list[str] = []

    def read_key(path: str) -> bytes:
        asked.append(path)
        raise ConfigError("no")

    files = {"/p/sub/b.yaml": b"version: 1\nsigners: {ci: {key: [ci.pem]}}\n"}
    environment = LoadEnvironment(
        ring(), read_key, {}.get, {}.get, NOW, read_sources=lambda path: [PolicyFile(path, files[path])]
    )
    text = b"version: 1\ninclude: [sub/b.yaml]\nrules: [{name: a, require: [{any_of: [ci]}]}]\n"
    errors = [str(error) for error in load_policies([PolicyFile("/p/a.yaml", text)], environment).errors]
    assert asked == ["/p/sub/ci.pem"]
    assert errors == ["/p/sub/b.yaml:2:22: the key file 'ci.pem' cannot be used: no"]


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"/p/a.yaml": file(include="[a.yaml]")}, "/p/a.yaml:2:11: the file '/p/a.yaml' is included twice"),
        (
            {"/p/a.yaml": file(include="[b.yaml]"), "/p/b.yaml": file(include="[../p/./a.yaml]")},
            "/p/b.yaml:2:11: the file '/p/a.yaml' is included twice (it is one of the policies that are named",
        ),
        (
            {"/p/a.yaml": file(include="[b.yaml, b.yaml]"), "/p/b.yaml": file("b")},
            "/p/a.yaml:2:19: 'b.yaml' is listed twice in include",
        ),
        (
            {"/p/a.yaml": file(include="[b.yaml, ./b.yaml]"), "/p/b.yaml": file("b")},
            "/p/a.yaml:2:19: the file '/p/b.yaml' is included twice (it is included at /p/a.yaml:2 already)",
        ),
        (
            {"/p/a.yaml": file(include="[none.yaml]")},
            "the include 'none.yaml' cannot be used: cannot be opened: No such",
        ),
        ({"/p/a.yaml": file(include="b.yaml")}, "include must be a list"),
        ({"/p/a.yaml": file(include="[]")}, "include is an empty list"),
        ({"/p/a.yaml": file(include="[{a: b}]")}, "must be text"),
        ({"/p/a.yaml": file(include="[b.yaml]"), "/p/b.yaml": "rules: ["}, "/p/b.yaml:2:1: not valid YAML"),
        (
            {"/p/a.yaml": file(include="[b.yaml]"), "/p/b.yaml": "rules: []\n"},
            "/p/b.yaml:1:1: the policy needs 'version'",
        ),
    ],
)
def test_what_cannot_be_included_is_an_error_at_the_line_that_includes_it(files: Mapping[str, str], says: str) -> None:
    errors = [str(error) for error in loaded(files).errors]
    assert any(says in error for error in errors), errors


def test_a_file_that_lies_among_the_given_ones_is_not_included_again() -> None:
    files = {"/p/10.yaml": file("a", include="[20.yaml]"), "/p/20.yaml": file("b")}
    (error,) = loaded(files, *files).errors
    assert str(error).startswith("/p/10.yaml:2:11: the file '/p/20.yaml' is included twice")


def test_files_include_files_so_deep_and_no_deeper() -> None:
    files = {f"/p/{n}.yaml": file(f"r{n}", include=f"[{n + 1}.yaml]") for n in range(MAX_DEPTH)}
    files[f"/p/{MAX_DEPTH}.yaml"] = file("last")
    assert len(rules(loaded(files))) == MAX_DEPTH + 1
    files[f"/p/{MAX_DEPTH}.yaml"] = file(include="[more.yaml]")
    assert f"more than {MAX_DEPTH} deep" in str(loaded(files).errors[0])


def test_an_empty_directory_is_a_warning() -> None:
    made = loaded({"/p/a.yaml": file("a", include="[empty.d]")})
    assert [str(each) for each in made.warnings] == [
        "/p/a.yaml:2:11: the include 'empty.d' is a directory without policies"
    ]


def test_the_digest_is_over_included_files_too() -> None:
    files = {"/p/a.yaml": file("a", include="[b.yaml]"), "/p/b.yaml": file("b")}
    digests = [made.digest for text in (file("b"), file("c")) if (made := loaded(files | {"/p/b.yaml": text}).policy)]
    assert len(set(digests)) == 2


def test_where_nothing_can_be_read_an_include_is_an_error() -> None:
    environment = LoadEnvironment(ring(), lambda _: b"", {}.get, {}.get, NOW)
    (error,) = load_policies([PolicyFile("a.yaml", file("a", include="[b.yaml]").encode())], environment).errors
    assert "there are no files to include here" in str(error)
