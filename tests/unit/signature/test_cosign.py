"""cosign payloads and the signatures over them."""

from __future__ import annotations

import base64
import json

import pytest

from eclctl.signature import cosign
from eclctl.signature.cosign import Payload, parse_payload, verify_payload
from eclctl.signature.dsse import Effort
from eclctl.signature.keys import PublicKey, parse_public_key
from eclctl.terms import Finding
from tests.helpers.ocibuilder import cosign_key, payload
from tests.helpers.support import CORPUS

DIGEST = "sha256:" + "ab" * 32
KINDS = ["p256", "p384", "rsa", "ed25519"]


def signed(key, text):
    return base64.b64encode(key.sign(text)).decode()


def document(**changes):
    """The JSON values of a payload, with members of `critical` replaced, or removed where None."""
    found = json.loads(payload(DIGEST))
    found["critical"].update(changes)
    found["critical"] = {name: value for name, value in found["critical"].items() if value is not None}
    return found


def test_a_payload_names_an_image_and_what_the_signer_added():
    found = parse_payload(
        payload(DIGEST, reference="registry.example/app", env="prod", timestamp=7, nested={"a": [1.5, None]})
    )
    assert isinstance(found, Payload)
    assert (found.digest, found.repository) == (DIGEST, "registry.example/app")
    assert found.annotations == {("env", "prod")}
    assert found.optional == {"env": "prod", "timestamp": 7, "nested": {"a": [1.5, None]}}


@pytest.mark.parametrize("text", [payload(DIGEST), payload(DIGEST).replace(b',"optional":null', b"")])
def test_a_payload_without_annotations_prints_null_as_the_reference_does(text):
    found = parse_payload(text)
    assert isinstance(found, Payload)
    assert found.annotations == frozenset()
    assert found.document == json.loads(payload(DIGEST))


def test_the_document_of_a_payload_is_what_was_signed():
    text = payload(DIGEST, reference="a/b", creator="x", timestamp=1)
    found = parse_payload(text)
    assert isinstance(found, Payload)
    assert found.document == json.loads(text)


HOSTILE = {
    "another type": document(type="atomic container signature"),
    "no type": document(type=None),
    "type in another case": document(type="Cosign container image signature"),
    "no image": document(image=None),
    "no identity": document(identity=None),
    "identity without a reference": document(identity={}),
    "a reference that is no text": document(identity={"docker-reference": None}),
    "a digest that is none": document(image={"docker-manifest-digest": "sha256:../x"}),
    "a digest that is no text": document(image={"docker-manifest-digest": 7}),
    "a digest in upper case": document(image={"docker-manifest-digest": DIGEST.upper()}),
    "more in image": document(image={"docker-manifest-digest": DIGEST, "Docker-Manifest-Digest": DIGEST}),
    "more in identity": document(identity={"docker-reference": "", "x": ""}),
    "more in critical": document(extra=1),
    "another case": document(Type="x"),
    "more outside": {**document(), "critical2": {}},
    "Optional": {**document(), "Optional": {}},
    "optional is a list": {**document(), "optional": []},
    "critical is a list": {"critical": [], "optional": None},
    "no critical": {"optional": None},
    "a list": [],
    "null": None,
}


@pytest.mark.parametrize("values", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_no_payload_is_a_finding(values):
    found = parse_payload(json.dumps(values).encode())
    assert isinstance(found, Finding)
    assert found.code == "bad-payload"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        payload(DIGEST) + b" x",
        payload(DIGEST).replace(b'"type"', b'"type":"x","type"'),
        payload(DIGEST).replace(b"null", b'{"a":1,"a":2}'),
        payload(DIGEST).replace(b"null", b'{"a":NaN}'),
        payload(DIGEST).replace(b"null", b'{"a":1e999}'),
        payload(DIGEST).replace(b"null", b'{"a":' + b"[" * 9000 + b"]" * 9000 + b"}"),
        payload(DIGEST).replace(b"cosign", b"\xff"),
    ],
    ids=["empty", "cut", "more", "type twice", "a key twice", "NaN", "1e999", "deep", "bytes"],
)
def test_what_is_no_json_of_one_meaning_is_a_finding(text):
    found = parse_payload(text)
    assert isinstance(found, Finding)
    assert found.code == "bad-payload"


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_key_verifies_exactly_its_own_bytes(kind):
    key, other = cosign_key("ci", kind), cosign_key("other", kind)
    text = payload(DIGEST)
    keys = (other.public, key.public)
    assert verify_payload(text, signed(key, text), keys, Effort()) == key.public
    for changed in (text + b" ", text[:-1], text.replace(b"ab", b"ba", 1)):
        found = verify_payload(changed, signed(key, text), keys, Effort())
        assert isinstance(found, Finding)
        assert found.code == "unknown-key"
    assert isinstance(verify_payload(text, signed(key, text), (other.public,), Effort()), Finding)


def test_a_signature_by_sigstore_verifies():
    """The payload and the annotation of an image that cosign itself signed."""
    text = payload(
        "sha256:e8dca7479c9600fd0248e220f4ac704e8b524f54aa8c347899912fec5dba12b4",
        reference="127.0.0.1:5055/lab/app101",
        env="prod",
        scan="passed",
    )
    signature = "MEUCIQCDIUkhoO7hSJ3DDPfSwIxyhcI5m9r/FlPWVEDMSOj7EQIgP4RUe7E++VRWUNPOf5bm7J+xB4huGukqI0UcnrM9h08="
    keys = [parse_public_key((CORPUS / "keys" / "cosign" / f"{name}.pub").read_bytes()) for name in ("site", "ci")]
    assert isinstance(verify_payload(text, signature, keys, Effort()), PublicKey)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: None,
        lambda text: "",
        lambda text: text[:-1],
        lambda text: text.rstrip("=")[:-2],
        lambda text: text + "\n",
        lambda text: text.replace("M", "-", 1),
        lambda text: " " + text,
        lambda text: text + "====",
        lambda text: text * 100,
        lambda text: text + "\N{FULLWIDTH DIGIT ONE}",
    ],
)
def test_a_signature_that_is_no_base64_is_a_finding(change):
    key = cosign_key()
    text = payload(DIGEST)
    found = verify_payload(text, change(signed(key, text)), (key.public,), Effort())
    assert isinstance(found, Finding)
    assert found.code in {"bad-signature", "unknown-key"}


def test_a_signature_longer_than_any_key_makes_is_not_tried():
    effort = Effort(1)
    found = verify_payload(payload(DIGEST), "A" * 4100, (cosign_key().public,), effort)
    assert isinstance(found, Finding)
    assert (found.code, effort.left) == ("bad-signature", 1)


def test_tries_are_bounded_for_the_whole_image():
    key, others = cosign_key(), tuple(cosign_key(f"other {number}").public for number in range(4))
    text, effort = payload(DIGEST), Effort(6)
    first = verify_payload(text, signed(key, text), (*others, key.public), effort)
    assert first == key.public
    second = verify_payload(text, signed(key, text), (*others, key.public), effort)
    assert isinstance(second, Finding)
    assert second.code == "too-many"


def test_the_unsupported_format_says_how_to_sign():
    assert cosign.UNSUPPORTED.code == "unsupported-signature-format"
    assert "--new-bundle-format=false" in cosign.UNSUPPORTED.message
