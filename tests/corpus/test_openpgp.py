"""Every clear-signed message of the corpora comes out as its manifest says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eclctl.signature import openpgp
from tests.helpers.support import CORPUS, NOW, UPSTREAM, needs_upstream

OURS = CORPUS / "openpgp"
THEIRS = None if UPSTREAM is None else UPSTREAM / "openpgp"


def load(folder: Path | None) -> list:
    if folder is None:
        return []
    cases = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["cases"]
    return [pytest.param(folder, case, id=case["id"]) for case in cases]


def outcome(folder: Path, case: dict) -> openpgp.VerifiedMessage | openpgp.VerificationError:
    try:
        return openpgp.verify((folder / case["msg"]).read_bytes(), (folder / case["cert"]).read_bytes(), now=NOW)
    except openpgp.VerificationError as error:
        return error


def agree(folder: Path, case: dict) -> None:
    found = outcome(folder, case)
    accepted = isinstance(found, openpgp.VerifiedMessage)
    if case["expect"] != "any":
        assert accepted == (case["expect"] == "accept"), found
    if accepted:
        assert [signer.id for signer in found.signers] == [case["primary"].upper()]
        assert [signer.key for signer in found.signers] == [case["signer"].upper()]


@pytest.mark.parametrize(("folder", "case"), load(OURS))
def test_message_comes_out_as_the_manifest_says(folder, case):
    agree(folder, case)


@needs_upstream
@pytest.mark.parametrize(("folder", "case"), load(THEIRS))
def test_real_message_comes_out_as_the_manifest_says(folder, case):
    agree(folder, case)


def test_corpus_has_not_shrunk():
    """The parametrized tests above would pass with no cases at all."""
    assert len(load(OURS)) >= 88


@pytest.mark.parametrize(("folder", "case"), [p for p in load(OURS) if p.values[1]["text"] and "text-" not in p.id])
def test_accepted_text_is_what_was_signed(folder, case):
    found = outcome(folder, case)
    if isinstance(found, openpgp.VerifiedMessage):
        assert found.text == case["text"].encode().replace(b"\n", b"\r\n")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("text-trailws", b'{"a": 1}\r\n  "b": 2\r\nend'),
        ("text-frm", b'From me\r\n{"a":1}'),
        ("text-trail-added", None),
        ("text-utf8", '{"n":"žluťoučký kůň 🐍"}'.encode()),
    ],
)
def test_text_is_canonical(name, text):
    """Lines end in CR LF and have no trailing white space, as they were hashed."""
    message = (OURS / "msgs" / f"{name}.asc").read_bytes()
    found = openpgp.verify(message, (OURS / "keys" / f"{name}.asc").read_bytes(), now=NOW)
    plain = (OURS / "msgs" / "alg-ed25519legacy.asc").read_bytes().split(b"\n")[3]
    assert found.text == (plain if text is None else text)


# Where the reference refuses a message in its own words, they are ours as well.
SAME_WORDS = [
    "sig-corrupt",
    "sig-ctime-unhashed",
    "sig-issuer-lies",
    "sig-crit-notation",
    "type-standalone",
    "type-timestamp",
    "key-primary-noS",
    "sub-nosign",
    "gpg-key-revoked",
    "uid-revoked",
    "key-revoked-sha1",
    "sub-revoked-hard",
    "key-expired-at-sig",
    "key-notyet",
    "sig-expired",
    "sig-future",
    "sub-binding-future",
    "sub-expired",
    "hash-SHA1",
    "v3sig-rsa-sha256",
]


@pytest.mark.parametrize(("folder", "case"), [p for p in load(OURS) if p.id in SAME_WORDS])
def test_refusal_uses_the_words_of_the_reference(folder, case):
    assert str(outcome(folder, case)) == case["go_err"]
