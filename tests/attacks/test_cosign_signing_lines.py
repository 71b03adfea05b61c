"""Attacks on users who sign with cosign keys: by a key file, by an image, by the content of either."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path

import pytest

from eclctl.errors import EclctlError, KeyMaterialError, SigningError
from eclctl.sign.cosign_keys import KeyPair, read_cosign_key, write_pair
from eclctl.signature import cosign
from tests.helpers.cosigning import KEYS, laid_open, made_key, sign, verified
from tests.helpers.ocibuilder import OciBuilder, cosign_key, digest_of, oci_sample
from tests.helpers.sifbuilder import GENERIC

CI, RELEASE = made_key("ci"), made_key("release")
CI_KEY = cosign_key("ci", "p256")


def written(folder: Path, image: OciBuilder) -> Path:
    path = folder / "image.sif"
    path.write_bytes(image.build())
    return path


def with_params(**params: object) -> bytes:
    """The corpus' key file, asking scrypt for something else."""
    lines = (KEYS / "ci.key").read_bytes().splitlines()
    document = json.loads(base64.b64decode(b"".join(lines[1:-1])))
    document["kdf"]["params"].update(params)
    body = base64.encodebytes(json.dumps(document).encode())
    return b"\n".join((lines[0], body.rstrip(), lines[-1], b""))


@pytest.mark.parametrize(
    "params", [{"N": 1 << 31}, {"r": 1 << 24}, {"p": 1 << 24}, {"N": 1 << 62, "r": 1 << 62}, {"N": 1}, {"N": 0, "p": 0}]
)
def test_cosign_signing_with_a_key_file_that_asks_for_the_whole_memory(params, monkeypatch):
    monkeypatch.setattr(hashlib, "scrypt", lambda *_, **__: pytest.fail("scrypt was asked"))
    with pytest.raises(KeyMaterialError, match="params of scrypt"):
        read_cosign_key(with_params(**params), lambda: pytest.fail("a password was asked for"))


@pytest.mark.parametrize(
    "annotations",
    [
        {"critical": "x", "optional": "y", "type": "z"},
        {"a": '","critical":{"image":{"docker-manifest-digest":"sha256:' + "0" * 64 + '"}},"b":"'},
        {'"},"critical":{"x': "\\u0022}"},
        {"a": "\x00\x1f\u2028</script>"},
    ],
)
def test_cosign_signing_cannot_be_talked_into_another_payload(tmp_path, annotations):
    image = oci_sample()
    path = written(tmp_path, image)
    sign(path, CI, **annotations)
    data = next(each for each in laid_open(path)[2] if each.startswith(b'{"critical'))
    said = cosign.parse_payload(data)
    assert isinstance(said, cosign.Payload)
    assert said.digest == image.image
    assert {*annotations.items()} <= said.annotations
    assert verified(path, CI).verified


def test_cosign_signing_of_a_blob_that_states_the_digest_of_another(tmp_path):
    image = oci_sample()
    image.sif.entries[0].data = b"evil" + image.sif.entries[0].data[4:]
    path = written(tmp_path, image)
    before = path.read_bytes()
    with pytest.raises(SigningError, match="OCI blob digest mismatch"):
        sign(path, CI)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", [None, "_Cosign", "cosign:x", "app"])
def test_cosign_signing_of_one_image_beside_another_that_could_run(tmp_path, name):
    image = oci_sample()
    image.add_image(b"other", name=name)
    path = written(tmp_path, image)
    before = path.read_bytes()
    with pytest.raises(SigningError, match="multiple matching images"):
        sign(path, CI)
    assert path.read_bytes() == before


def test_cosign_signing_removes_no_object_that_merely_claims_a_digest(tmp_path):
    image = oci_sample(CI_KEY)
    sif = image.finish()
    manifest = sif.entries[-2]
    sif.add(b"not a blob", GENERIC, group=2, extra=digest_of(manifest.data).encode())
    path = tmp_path / "image.sif"
    path.write_bytes(sif.build())
    sign(path, RELEASE)
    assert b"not a blob" in laid_open(path)[2]
    assert len(verified(path, CI, RELEASE).payloads) == 2


@pytest.mark.parametrize(
    "config",
    [
        b"[" * 500_000,
        b'{"history":[' + b"{}," * 100_000 + b"{}]}",
        b'{"a":1,"a":2}',
        b'{"a":"\\ud800"}',
        b'{"rootfs":{"diff_ids":{}}}',
    ],
)
def test_cosign_signing_beside_a_config_that_is_a_bomb(tmp_path, config):
    image = oci_sample()
    image.sign(CI_KEY)
    image.entry(image.manifest(image.signatures, config), image.signature_name)
    image.signatures = []
    path = written(tmp_path, image)
    before = path.read_bytes()
    try:
        sign(path, RELEASE)
    except EclctlError:
        assert path.read_bytes() == before
    else:
        assert len(verified(path, CI, RELEASE).payloads) == 2


def test_cosign_signing_beside_a_manifest_that_could_be_read_in_two_ways(tmp_path):
    image = oci_sample()
    image.sign(CI_KEY)
    twice = image.manifest(image.signatures)[:-1] + b',"Layers":[]}'
    image.entry(twice, image.signature_name)
    image.signatures = []
    path = written(tmp_path, image)
    before = path.read_bytes()
    with pytest.raises(SigningError, match="damaged"):
        sign(path, RELEASE)
    assert path.read_bytes() == before


def test_cosign_signing_keeps_no_entry_of_the_same_name_beside_its_own(tmp_path):
    image = oci_sample(CI_KEY)
    path = written(tmp_path, image)
    sign(path, RELEASE)
    sign(path, RELEASE, at=2)
    _, _, data = laid_open(path)
    names = [each.get("annotations", {}) for each in json.loads(data[-1])["manifests"]]
    assert len(names) == 2
    assert len(verified(path, RELEASE).payloads) == 2


def test_cosign_signing_keys_are_never_open_to_others_for_a_moment(tmp_path, monkeypatch):
    opened: dict[str, tuple[int, int]] = {}
    really = os.open

    def watch(path: object, flags: int, mode: int = 0o777, **named: object) -> int:
        if flags & os.O_CREAT:
            opened[str(path)] = (flags, mode)
        return really(path, flags, mode, **named)

    monkeypatch.setattr(os, "open", watch)
    old = os.umask(0)
    try:
        write_pair(str(tmp_path / "ci"), KeyPair(b"secret", b"public"))
        write_pair(str(tmp_path / "ci"), KeyPair(b"secret", b"public"), overwrite=True)
    finally:
        os.umask(old)
    secret = [mode for name, (_, mode) in opened.items() if "ci.key" in name]
    assert secret == [0o600, 0o600]
    assert all(flags & os.O_EXCL for flags, _ in opened.values())
