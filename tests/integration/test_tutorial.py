"""The tutorial is true: its commands, at a terminal, against real servers, show what the page says."""

from __future__ import annotations

import shutil

import pytest

from tests.helpers.gnupg import needs_gpg
from tests.helpers.keyservers import needs_onak
from tests.helpers.openssl import needs_openssl
from tests.helpers.registries import needs_registry
from tests.helpers.tutorial import PAGE, commands, place, renewed, sessions, shape, written

needs_setsid = pytest.mark.skipif(shutil.which("setsid") is None, reason="needs setsid (util-linux)")


@needs_gpg
@needs_onak
@needs_openssl
@needs_registry
@needs_setsid
def test_every_command_of_the_tutorial_shows_what_the_page_says() -> None:
    """What is made anew each time, as keys are, is compared by shape, over the page as a whole."""
    page = PAGE.read_text()
    with place() as here:
        now = renewed(page, here.run)
    for before, after in zip(sessions(page), sessions(now), strict=True):
        for old, new in zip(before, after, strict=True):
            assert shape(new.shown) == shape(old.shown), f"{old.text}\n{new.shown}"
    assert shape(now) == shape(page)


def test_sessions_are_taken_apart_into_commands_and_what_they_show() -> None:
    block = "$ cat <<END\n> one\n> END\none\n$ true\n$ ls\na\nb\n"
    found = commands(block)
    assert [(one.text, one.shown) for one in found] == [
        ("cat <<END\none\nEND", "one\n"),
        ("true", ""),
        ("ls", "a\nb\n"),
    ]
    assert "".join(map(written, found)) == block


def test_what_varies_is_compared_by_where_it_is_the_same() -> None:
    first, second, third = "A" * 40, "B" * 40, "C" * 40
    assert shape(f"{first} by {second}, {first}") == shape(f"{second} by {third}, {second}")
    assert shape(f"{first} by {second}, {first}") != shape(f"{second} by {third}, {third}")
    assert shape("1 key at 2026-11-23 00:32:29 +0000 UTC") != shape("2 keys at 2026-11-24 10:32:29 +0000 UTC")
