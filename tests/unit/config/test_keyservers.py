"""Which keyservers are asked: config.yaml, keys.yaml and URLs."""

from __future__ import annotations

from pathlib import Path

import pytest

from eclctl.config.keyservers import Keyserver, Keyservers, parse_keyserver_url, read_user_file
from eclctl.errors import ConfigError


def reading(tmp_path: Path, text: str) -> tuple[Keyservers, list[str]]:
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    found, problems = read_user_file(str(path))
    return found, [str(problem).removeprefix(f"{path}:") for problem in problems]


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("hkps://keys.example.org", "https://keys.example.org"),
        ("hkp://Keys.Example.org", "http://keys.example.org:11371"),
        ("hkp://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("https://example.org/keys/v1", "https://example.org/keys/v1"),
        ("http://[::1]:11371", "http://[::1]:11371"),
        ("hkps://keys.example.org:0443", "https://keys.example.org:443"),
    ],
)
def test_a_url_says_scheme_and_port(text: str, url: str) -> None:
    assert parse_keyserver_url(text) == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "keys.example.org",
        "ldap://keys.example.org",
        "file:///etc/passwd",
        "https://user:word@keys.example.org",
        "https://keys.example.org?x=y",
        "https://keys.example.org#x",
        "https://keys.example.org:0",
        "https://keys.example.org:70000",
        "https://keys example.org",
        "https://keys.example.org\n",
        "https://" + "x" * 600,
    ],
)
def test_what_is_no_keyserver_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_keyserver_url(text)
    assert "is no keyserver; write for instance hkps://keys.example.org" in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_user_s_file_says_it_in_the_same_words(tmp_path: Path) -> None:
    text = """version: 1
keyservers:
  servers:
    - hkps://keys.example.org
    - {url: "https://other.example.org", ca: ca.pem, token_file: /etc/token}
    - hkps://keys.example.org
  timeout: 3s
  refresh: null
"""
    first = Keyserver("https://keys.example.org")
    second = Keyserver("https://other.example.org", str(tmp_path / "ca.pem"), "/etc/token")
    assert reading(tmp_path, text) == (Keyservers((first, second), None, 3.0), [])


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("version: 1\n", "1:1: the file needs 'keyservers'"),
        ("version: 1\nkeyservers: []\n", "2:13: keyservers must be a mapping"),
        ("version: 1\nkeyservers: {servers: []}\n", "2:23: keyservers.servers is an empty list"),
        ("version: 1\nkeyservers: {servers: [gopher://x]}\n", "2:24: 'gopher://x' is no keyserver"),
        ("version: 1\nkeyservers: {servers: [hkps://x], refresh: 1s}\n", "2:44: keyservers.refresh must be from"),
        ("version: 1\nkeyservers: {servers: [{ca: x}]}\n", "2:24: a keyserver needs 'url'"),
        ("version: 1\nkeyservers: {servers: [hkps://x], every: 1h}\n", "2:35: unknown key 'every' in keyservers"),
        (
            'version: 1\nkeyservers: {servers: [{url: "hkp://keys.example", token_file: t}]}\n',
            "2:64: a token would be sent in the clear (write hkps:// or https:// as the url)",
        ),
    ],
)
def test_errors_are_found_at_their_places(tmp_path: Path, text: str, error: str) -> None:
    assert any(problem.startswith(error) for problem in reading(tmp_path, text)[1]), reading(tmp_path, text)[1]


def test_a_token_may_go_to_this_host_in_the_clear(tmp_path: Path) -> None:
    text = 'version: 1\nkeyservers: {servers: [{url: "hkp://127.0.0.1", token_file: t}]}\n'
    assert reading(tmp_path, text)[1] == []
    text = 'version: 1\nkeyservers: {servers: [{url: "hkp://127.0.0.1.example.org", token_file: t}]}\n'
    assert reading(tmp_path, text)[1] != []


def test_a_file_that_is_not_there_is_an_error() -> None:
    _, problems = read_user_file("/nonexistent/keys.yaml")
    assert [str(problem) for problem in problems] == [
        "/nonexistent/keys.yaml: the file cannot be opened: No such file or directory"
    ]
