"""What ECL would not load is not imported, and every reason is said with its place."""

from __future__ import annotations

import errno
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eclctl.ecl.toml import MAX_ECL_FILE, ExecGroup, ListMode, Parsed, read_ecl

KEY = "81F111F6190C46143937EF7C22BC3A3BC942487F"
GROUP = f'[[execgroup]]\ntagname = "prod"\nmode = "whitelist"\ndirpath = "/srv/prod"\nkeyfp = ["{KEY}"]\n'


def read(text: str | bytes, links: dict[str, str] | None = None) -> Parsed:
    def resolve(path: str) -> str:
        if path.startswith("/missing"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return (links or {}).get(path, path)

    return read_ecl("ecl.toml", text.encode() if isinstance(text, str) else text, resolve)


def errors(text: str | bytes, links: dict[str, str] | None = None) -> list[str]:
    parsed = read(text, links)
    assert parsed.config is None
    return [str(problem) for problem in parsed.errors]


def test_a_configuration_is_read_with_the_line_of_each_group() -> None:
    config = read(f"activated = true\nlegacyinsecure = true\n\n{GROUP}\n{GROUP.replace('prod', 'lab')}").config
    assert config is not None
    assert (config.activated, config.legacy) == (True, True)
    assert config.groups == (
        ExecGroup(1, 4, "prod", ListMode.WHITELIST, "/srv/prod", (KEY,)),
        ExecGroup(2, 10, "lab", ListMode.WHITELIST, "/srv/lab", (KEY,)),
    )


def test_what_is_left_out_is_false_or_empty() -> None:
    config = read('[[execgroup]]\nmode = "blacklist"\n').config
    assert config is not None
    assert (config.activated, config.legacy) == (False, False)
    assert config.groups == (ExecGroup(1, 1, "", ListMode.BLACKLIST, "", ()),)


def test_an_empty_file_is_an_ecl_that_is_not_activated() -> None:
    assert read("").config is not None


def test_keys_match_in_any_case_as_upstreams_reader_does() -> None:
    config = read('Activated = true\nLegacyInsecure = true\n[[ExecGroup]]\nMode = "whitelist"\n').config
    assert config is not None
    assert (config.activated, config.legacy, len(config.groups)) == (True, True, 1)


def test_one_key_in_two_spellings_is_an_error_because_readers_differ() -> None:
    assert errors("activated = false\nActivated = true\n") == [
        "ecl.toml: activated is there twice, in two spellings (keep one of them)"
    ]


def test_fingerprints_are_upper_case_and_each_once() -> None:
    config = read(GROUP.replace(f'"{KEY}"', f'"{KEY.lower()}", "{KEY}"')).config
    assert config is not None
    assert config.groups[0].keys == (KEY,)


def test_groups_can_be_inline_tables_whose_lines_are_not_known() -> None:
    config = read('execgroup = [{mode = "whitelist"}, {mode = "blacklist", dirpath = "/a"}]').config
    assert config is not None
    assert [(group.number, group.line) for group in config.groups] == [(1, 0), (2, 0)]


def test_a_text_that_looks_like_a_header_gives_no_wrong_line() -> None:
    config = read('[[execgroup]]\nmode = "whitelist"\ntagname = """\n[[execgroup]]\n"""\n').config
    assert config is not None
    assert config.groups[0].line == 0


def test_unknown_keys_are_ignored_as_upstream_does_and_remarked_on() -> None:
    parsed = read(f"activatd = true\n{GROUP}keyfps = []\nowner = 3\n")
    assert parsed.config is not None
    assert [str(problem) for problem in parsed.remarks] == [
        "ecl.toml: ECL ignores the key 'activatd' (did you mean 'activated'?)",
        "ecl.toml:2:1: execgroup 1: ECL ignores the key 'keyfps' (did you mean 'keyfp'?)",
        "ecl.toml:2:1: execgroup 1: ECL ignores the key 'owner'",
    ]


def test_a_directory_that_is_not_on_this_host_is_only_remarked_on() -> None:
    parsed = read(GROUP.replace("/srv/prod", "/missing"))
    assert parsed.config is not None
    assert [str(problem) for problem in parsed.remarks] == [
        (
            "ecl.toml:1:1: execgroup 1 ('prod'): dirpath '/missing' cannot be looked at here: No such file or directory"
            " (where that is so, ECL does not load)"
        )
    ]


def test_a_directory_that_is_reached_by_a_symbolic_link_is_an_error() -> None:
    assert errors(GROUP, {"/srv/prod": "/data/prod"}) == [
        (
            "ecl.toml:1:1: execgroup 1 ('prod'): dirpath '/srv/prod' leads through a symbolic link"
            " (ECL wants the resolved path, '/data/prod')"
        )
    ]


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("srv/prod", "is not absolute"),
        (".", "is not absolute"),
        ("/srv/prod/", "has an empty, '.' or '..' component or a slash at its end"),
        ("//srv", "has an empty, '.' or '..' component or a slash at its end"),
        ("/srv//prod", "has an empty, '.' or '..' component or a slash at its end"),
        ("/srv/./prod", "has an empty, '.' or '..' component or a slash at its end"),
        ("/srv/lab/../prod", "has an empty, '.' or '..' component or a slash at its end"),
        ("/srv\\u0000", "contains NUL"),
        ("/" + "a/" * 2046 + "b", "is longer than the path of a directory with files in it can be"),
    ],
)
def test_a_directory_that_is_not_clean_is_an_error(path: str, why: str) -> None:
    (error,) = errors(GROUP.replace("/srv/prod", path))
    assert error.endswith(f" {why} (ECL wants the resolved path)")


def test_the_root_is_a_clean_directory() -> None:
    assert read(GROUP.replace("/srv/prod", "/")).config is not None


@pytest.mark.parametrize("path", ["/srv/prod", ""])
def test_a_directory_in_two_groups_is_an_error(path: str) -> None:
    group = GROUP.replace("/srv/prod", path)
    (error,) = errors(group + group)
    which = "dirpath '/srv/prod'" if path else "an empty dirpath"
    assert (
        error == f"ecl.toml:6:1: execgroup 2: {which} is in execgroup 1 too (a directory can be in one execgroup only)"
    )


@pytest.mark.parametrize("mode", ["", "Whitelist", "whitelists"])
def test_a_mode_must_be_one_of_three(mode: str) -> None:
    (error,) = errors(GROUP.replace('"whitelist"', f'"{mode}"'))
    assert f"mode must be one of whitelist, whitestrict, blacklist, and is '{mode}'" in error


@pytest.mark.parametrize("key", ["bad", KEY[:-1], KEY + "0" * 24, f"0x{KEY[2:]}", KEY[:-1] + "G", KEY[:-1] + "٣"])
def test_a_fingerprint_must_be_forty_hex_digits(key: str) -> None:
    (error,) = errors(GROUP.replace(KEY, key))
    assert f"a fingerprint in keyfp is '{key}'" in error


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("activated = 'yes'", "ecl.toml: activated must be true or false, without quotes"),
        ("legacyinsecure = 1", "ecl.toml: legacyinsecure must be true or false, without quotes"),
        ("[execgroup]\n", "ecl.toml: execgroup must be a list of tables (write [[execgroup]] before each)"),
        (GROUP.replace('"prod"', "1"), "ecl.toml:1:1: execgroup 1: tagname must be text, in quotes"),
        (GROUP.replace('"/srv/prod"', "[]"), "ecl.toml:1:1: execgroup 1 ('prod'): dirpath must be text, in quotes"),
        (
            GROUP.replace(f'["{KEY}"]', f'"{KEY}"'),
            (
                "ecl.toml:1:1: execgroup 1 ('prod'): keyfp must be a list of fingerprints"
                ' (write keyfp = ["40 hex digits"])'
            ),
        ),
    ],
)
def test_a_value_of_another_type_is_an_error(text: str, error: str) -> None:
    assert errors(text) == [error]


def test_everything_that_is_wrong_is_reported() -> None:
    group = GROUP.replace("whitelist", "x").replace(KEY, "y").replace("/srv/prod", "z")
    assert len(errors(f"activated = 1\n{group}{group}")) == 8


def test_an_ecl_that_is_not_activated_must_be_valid_too() -> None:
    assert errors("activated = false\n" + GROUP.replace("whitelist", "x"))


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"activated = true\nx = ", "ecl.toml: not valid TOML: Invalid value (at end of document)"),
        (b"activated = true\n  = 3\n", "ecl.toml:2:3: not valid TOML: Invalid statement"),
        (b"a = 1\nb = '\xff'\n", "ecl.toml:2:1: the file is not valid UTF-8"),
        (b"a = " + b"[" * 100_000, "ecl.toml: not valid TOML: nested too deep"),
        (b"#" * (MAX_ECL_FILE + 1), "ecl.toml: the file is larger than 4 MiB"),
    ],
    ids=["cut", "statement", "bytes", "deep", "large"],
)
def test_what_is_not_toml_is_one_error(content: bytes, error: str) -> None:
    assert errors(content) == [error]


def test_a_number_that_python_would_not_read_is_an_error_and_no_traceback() -> None:
    (error,) = errors(b"a = " + b"1" * 5000)
    assert error.startswith("ecl.toml: not valid TOML: ")


PIECES = st.sampled_from(
    [
        *(
            "activated",
            "legacyinsecure",
            "execgroup",
            "[[execgroup]]",
            "[execgroup]",
            "tagname",
            "mode",
            "dirpath",
            "keyfp",
        ),
        *(
            "=",
            "\n",
            "[",
            "]",
            "{",
            "}",
            ",",
            ".",
            '"',
            "'",
            '"""',
            "true",
            "false",
            "whitelist",
            "/srv",
            KEY,
            "\\u0000",
        ),
        *("1e999", "-0", "2024-02-30", "07:32:00", "0xff", "inf", "#", "\r", "\x00", "\u202e", " "),
    ]
)


@settings(max_examples=500, deadline=None)
@given(st.lists(PIECES, max_size=40).map("".join) | st.text(max_size=60))
def test_any_file_is_a_configuration_or_errors(text: str) -> None:
    parsed = read(text.encode("utf-8", "surrogatepass"))
    assert (parsed.config is None) is bool(parsed.errors)
    assert all(str(problem).isprintable() for problem in (*parsed.errors, *parsed.remarks))
