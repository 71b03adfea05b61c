"""The machine-readable index of a keyserver: what is read of it, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from eclctl.errors import RemoteError
from eclctl.remote.keyservers.index import MAX_KEYS, MAX_USER_IDS, SearchIndex, parse_search_index

FINGERPRINT = "81F111F6190C46143937EF7C22BC3A3BC942487F"
V6 = "CB186C4F0609A697E4D52DFA6C722B0C1F1E27C18A56708F6525EC27BAD9ACC9"


def read(text: str | bytes) -> SearchIndex:
    return parse_search_index(text if isinstance(text, bytes) else text.encode(), "http://keys.example")


def refused(text: str | bytes) -> str:
    with pytest.raises(RemoteError) as caught:
        read(text)
    message = str(caught.value)
    assert message.startswith("http://keys.example ")
    assert message.isprintable()
    return message


def test_an_index_as_onak_writes_it() -> None:
    found = read(f"info:1:1\npub:{FINGERPRINT}:1:4096:1764547200::\nuid:Builder (c 101) <b@example.org>\n")
    (key,) = found.keys
    assert (key.id, key.fingerprint, key.short) == (FINGERPRINT, FINGERPRINT, "C942487F")
    assert (key.algorithm_name, key.bits, key.status) == ("RSA", 4096, "enabled")
    assert (key.created, key.expires) == (datetime(2025, 12, 1, tzinfo=UTC), None)
    assert key.user_ids == ("Builder (c 101) <b@example.org>",)
    assert found.more == 0


def test_an_index_as_the_draft_writes_it() -> None:
    text = (
        "info:1:2\r\n"
        f"pub:{FINGERPRINT.lower()}:22:256:1764547200:1796083200:re\r\n"
        "uid:J%C3%BCrgen %3Aj%40example.org%3A:1764547200::\r\n"
        "uat::1764547200::\r\n"
        f"pub:{V6}:27::::\r\n"
    )
    first, second = read(text).keys
    assert first.user_ids == ("Jürgen :j@example.org:",)
    assert (first.flags, first.status) == (frozenset("re"), "revoked")
    assert first.expires == datetime(2026, 12, 1, tzinfo=UTC)
    assert (second.short, second.algorithm_name, second.bits, second.created) == ("CB186C4F", "Ed25519", None, None)


def test_a_key_id_is_no_fingerprint() -> None:
    short, long = read("info:1:2\npub:C942487F:1:4096:::\npub:22BC3A3BC942487F:1:4096:::\n").keys
    assert (short.fingerprint, long.fingerprint) == (None, None)


@pytest.mark.parametrize("time", ["-1", "0", "-99999999999", "999999999999", "none", ""])
def test_times_that_cannot_be_are_unknown(time: str) -> None:
    (key,) = read(f"info:1:1\npub:{FINGERPRINT}:1:4096:{time}:{time}:\n").keys
    assert (key.created, key.expires) == (None, None)


def test_nothing_found_is_an_empty_index() -> None:
    assert read("info:1:0\n") == SearchIndex(())


def test_bytes_that_are_no_text_are_replaced_never_an_error() -> None:
    (key,) = read(f"info:1:1\npub:{FINGERPRINT}:1::::\nuid:%FF%00%1B[2J\n").keys
    assert key.user_ids == ("�\x00\x1b[2J",)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no machine-readable index"),
        ("<html><body>Not here</body></html>", "no machine-readable index"),
        ("info:2:0\n", "no machine-readable index"),
        ("info:1:x\n", "no machine-readable index"),
        ("info:1:5\n", "announces 5 keys and lists 0"),
        (f"info:1:0\npub:{FINGERPRINT}:1:1:::\n", "announces 0 keys and lists 1"),
        ("info:1:1\nuid:early\n", "a user ID before any key"),
        ("info:1:1\npub:../../x:1:1:::\n", "a key without a fingerprint"),
        (f"info:1:1\npub:{FINGERPRINT}00:1:1:::\n", "a key without a fingerprint"),
        (f"info:1:1\npub:{FINGERPRINT}:one:1:::\n", "is not a number"),
        (f"info:1:1\npub:{FINGERPRINT}:1:-1:::\n", "is not a number"),
        (f"info:1:1\npub:{FINGERPRINT}:1:1:yesterday::\n", "is not a number of seconds"),
        (f"info:1:1\npub:{FINGERPRINT}:1:1:::x\n", "unknown flags"),
        ("info:1:1\npub:\x1b[31m:1:1:::\n", "a key without a fingerprint"),
    ],
)
def test_what_is_not_as_it_must_be_is_refused(text: str, why: str) -> None:
    assert why in refused(text)


def test_a_million_user_ids_are_counted_not_kept() -> None:
    (key,) = read(f"info:1:1\npub:{FINGERPRINT}:1::::\n".encode() + b"uid:x\n" * 170_000).keys
    assert len(key.user_ids) == MAX_USER_IDS
    assert key.more == 170_000 - MAX_USER_IDS


def test_very_many_keys_are_counted_not_kept() -> None:
    lines = [f"pub:{number:040X}:1::::\nuid:{number}" for number in range(2000)]
    found = read("info:1:2000\n" + "\n".join(lines))
    assert len(found.keys) == MAX_KEYS
    assert found.more == 2000 - MAX_KEYS
    assert found.keys[-1].user_ids == (str(MAX_KEYS - 1),)


def test_a_user_id_that_is_longer_than_any_can_be_is_left_out() -> None:
    (key,) = read(f"info:1:1\npub:{FINGERPRINT}:1::::\nuid:{'x' * 5000}\nuid:short\n").keys
    assert (key.user_ids, key.more) == (("short",), 1)
