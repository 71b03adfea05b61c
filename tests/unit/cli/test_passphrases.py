"""Passphrases: from a descriptor line by line, from the variable, and from nowhere else without a terminal."""

from __future__ import annotations

import os
import re

import pytest

from eclctl.cli.passphrases import VARIABLE, Passphrases
from eclctl.errors import KeyMaterialError


def reading(data: bytes, environ: dict[str, str] | None = None) -> Passphrases:
    """Return passphrases from a pipe that holds `data` and has ended."""
    read, write = os.pipe()
    os.write(write, data)
    os.close(write)
    return Passphrases(read, {} if environ is None else environ, ask=False)


def test_each_key_takes_a_line_and_the_last_serves_the_rest():
    found = reading(b"one\ntwo\n")
    assert [found.get(str(number)) for number in range(4)] == ["one", "two", "two", "two"]


@pytest.mark.parametrize(
    ("data", "expected"), [(b"last", "last"), (b"\n", ""), (b" a b \n", " a b "), (b"\xff\n", "\udcff")]
)
def test_a_line_is_taken_as_it_is(data, expected):
    assert reading(data).get("k") == expected


def test_what_comes_after_the_line_is_left_to_others():
    read, write = os.pipe()
    os.write(write, b"secret\nrest")
    assert Passphrases(read, {}, ask=False).get("k") == "secret"
    assert os.read(read, 100) == b"rest"
    os.close(read)
    os.close(write)


@pytest.mark.parametrize(
    ("data", "message"), [(b"", "ended before a passphrase for k.pem came"), (b"x" * 5000, "longer than 4096 bytes")]
)
def test_a_descriptor_without_a_passphrase_is_an_error(data, message):
    with pytest.raises(KeyMaterialError, match=message):
        reading(data).get("k.pem")


def test_a_descriptor_that_is_not_open_is_an_error():
    read, write = os.pipe()
    os.close(read)
    os.close(write)
    with pytest.raises(KeyMaterialError, match=f"from descriptor {read}: Bad file descriptor"):
        Passphrases(read, {}, ask=False).get("k")


def test_the_variable_is_taken_out_of_the_environment():
    environ = {VARIABLE: "secret", "PATH": "/bin"}
    assert Passphrases(None, environ, ask=False).get("k") == "secret"
    assert environ == {"PATH": "/bin"}


def test_the_descriptor_goes_before_the_variable_which_is_gone_all_the_same():
    environ = {VARIABLE: "variable"}
    assert reading(b"descriptor\n", environ).get("k") == "descriptor"
    assert environ == {}


def test_where_nobody_can_be_asked_it_is_said_how_to_give_one():
    with pytest.raises(
        KeyMaterialError,
        match=re.escape(f"k\\x1b.pem has a passphrase; give it with --passphrase-fd N or in ${VARIABLE}"),
    ):
        Passphrases(None, {}, ask=False).get("k\x1b.pem")
