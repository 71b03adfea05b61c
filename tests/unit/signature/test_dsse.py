"""DSSE envelopes count only as they were signed, over their type and payload together."""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace

import pytest

from eclctl.signature import dsse
from eclctl.terms import Finding
from tests.helpers.sifbuilder import PAYLOAD_TYPE, envelope, pem_key, same_in_every_process

P256, ED25519, STRANGER = "p256", "ed25519", "stranger"


def verified(data, *names, effort=None):
    """Return the payload and the keys that signed it, or why there are none."""
    parsed = dsse.parse_envelope(data)
    if isinstance(parsed, Finding):
        return parsed
    keys = dsse.verify_envelope(parsed, [pem_key(name).public for name in names], effort)
    return keys if isinstance(keys, Finding) else SimpleNamespace(payload=parsed.payload, keys=keys)


def changed(data, **members):
    return json.dumps(json.loads(data) | members).encode()


def signature(**members):
    data = json.loads(envelope(b"text", pem_key(P256)))
    return json.dumps(data | {"signatures": [data["signatures"][0] | members]}).encode()


@pytest.mark.parametrize("name", ["p256", "p384", "p521", "ed25519", "rsa2048", "rsa4096"])
def test_an_envelope_verifies_with_the_key_that_signed_it(name):
    found = verified(envelope(b"text", pem_key(name)), STRANGER, name)
    assert found.payload == b"text"
    assert [key.id for key in found.keys] == [pem_key(name).public.id]


def test_two_signatures_by_two_keys_name_both():
    found = verified(envelope(b"text", pem_key(P256), pem_key(ED25519)), ED25519, P256)
    assert [key.algorithm for key in found.keys] == ["P-256", "Ed25519"]


def test_the_same_signature_twice_is_one_signer():
    assert len(verified(envelope(b"text", pem_key(P256), pem_key(P256)), P256).keys) == 1


def test_an_unknown_key_is_reported_in_the_references_words():
    found = verified(envelope(b"text", pem_key(STRANGER)), P256)
    assert found.code == "unknown-key"
    assert found.message == (
        "dsse: verify envelope failed: accepted signatures do not match threshold, Found: 0, Expected 1"
    )


def test_a_signature_over_other_content_is_a_bad_signature():
    data = changed(envelope(b"text", pem_key(P256)), payload=base64.b64encode(b"other").decode())
    assert verified(data, P256).code == "bad-signature"


def test_a_payload_cannot_change_its_type():
    data = changed(envelope(b"text", pem_key(P256), payload_type="text/plain"), payloadType=PAYLOAD_TYPE)
    assert verified(data, P256).code == "bad-signature"


def test_a_keyid_that_names_another_key_makes_the_signature_nobodys():
    assert verified(signature(keyid=pem_key(STRANGER).keyid), P256).code == "unknown-key"


@pytest.mark.parametrize("keyid", ["", None])
def test_without_a_keyid_every_key_is_tried(keyid):
    assert verified(signature(keyid=keyid), STRANGER, P256).payload == b"text"


def test_url_safe_base64_is_read():
    data = json.loads(envelope(b"??>>", pem_key(P256)))
    data["payload"] = base64.urlsafe_b64encode(b"??>>").decode()
    assert verified(json.dumps(data).encode(), P256).payload == b"??>>"


def test_members_that_are_not_ours_are_ignored():
    assert verified(changed(envelope(b"text", pem_key(P256)), comment="x"), P256).payload == b"text"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{",
        b"{}",
        b"\xff{}",
        changed(envelope(b"text", pem_key(P256)), payloadType="text/plain"),
        changed(envelope(b"text", pem_key(P256)), signatures=[]),
        changed(envelope(b"text", pem_key(P256)), signatures={}),
        changed(envelope(b"text", pem_key(P256)), signatures=["x"]),
        changed(envelope(b"text", pem_key(P256)), payload=7),
        changed(envelope(b"text", pem_key(P256)), payload="x"),
        changed(envelope(b"text", pem_key(P256)), payload="dGV4dA=="[:-1] + "é"),
        changed(envelope(b"text", pem_key(P256)), Payload="dGV4dA=="),
        changed(envelope(b"text", pem_key(P256)), signatures=[{"sig": "AAAA"}] * 17),
        signature(Sig="AAAA"),
        signature(keyid=7),
        signature(sig="A"),
        signature(sig=None),
        envelope(b"text", pem_key(P256)).replace(b'{"payloadType"', b'{"payload":"AAAA","payloadType"', 1),
        envelope(b"text", pem_key(P256)) + b"{}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
    ids=same_in_every_process,
)
def test_broken_envelopes_are_findings(data):
    found = verified(data, P256)
    assert isinstance(found, Finding)
    assert found.code == "bad-envelope"


def test_trying_keys_is_bounded_over_all_envelopes():
    data = envelope(b"text", *[pem_key(STRANGER)] * 4, keyids=False)
    assert verified(data, P256, effort=dsse.Effort(4)).code == "unknown-key"
    assert verified(data, P256, effort=dsse.Effort(3)).code == "too-many"


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (envelope(b"x", pem_key(P256)), True),
        (b"\n " + envelope(b"x", pem_key(P256)), True),
        (envelope(b"x", pem_key(P256)) + b"junk", True),
        (envelope(b"x", pem_key(P256), payload_type="text/plain"), False),
        (b"{", False),
        (b"[]", False),
        (b"", False),
        (b'{"a":' * 100_000, False),
    ],
    ids=same_in_every_process,
)
def test_what_says_it_is_an_envelope_is_recognized(data, answer):
    assert dsse.is_envelope(data) is answer


def test_the_pre_authentication_encoding_is_the_specifications():
    assert dsse.pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
