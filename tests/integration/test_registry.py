"""`eclctl push` and `pull` with Debian's `docker-registry` and `skopeo`: what one side writes the other reads."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from eclctl.cli.registry import pull, push
from eclctl.cli.verify import command as verify
from tests.helpers.pki import Authority
from tests.helpers.registries import OCI, RealRegistry, digest_of, needs_registry, needs_skopeo
from tests.helpers.site import ECLCTL
from tests.helpers.support import CORPUS

pytestmark = needs_registry

SIGNED = sorted(OCI.glob("[al]*-[cs]*.oci.sif"))
UNSIGNED = sorted(OCI.glob("*-unsigned.oci.sif"))


@pytest.fixture(autouse=True)
def _nothing_of_this_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with RealRegistry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def pushed(registry: RealRegistry, image: Path, name: str, *options: str, scheme: str = "docker") -> None:
    assert push.run(["--no-https", *options, str(image), f"{scheme}://{registry.host}/{name}"]) == 0


def pulled(registry: RealRegistry, path: Path, name: str, *options: str, scheme: str = "docker") -> bytes:
    assert pull.run(["--no-https", *options, str(path), f"{scheme}://{registry.host}/{name}"]) == 0
    return path.read_bytes()


def skopeo(*arguments: str) -> str:
    return subprocess.run(["skopeo", *arguments], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("image", SIGNED, ids=lambda path: path.name)
def test_what_singularity_made_and_signed_comes_back_the_same_byte_by_byte(
    registry: RealRegistry, tmp_path: Path, image: Path
) -> None:
    name = f"signed/{hashlib.sha256(image.name.encode()).hexdigest()[:8]}:1"
    pushed(registry, image, name, "--with-cosign")
    assert pulled(registry, tmp_path / "back.sif", name, "--with-cosign", "--arch", "amd64") == image.read_bytes()


@pytest.mark.parametrize("image", UNSIGNED, ids=lambda path: path.name)
def test_what_is_not_signed_comes_back_the_same_too(registry: RealRegistry, tmp_path: Path, image: Path) -> None:
    pushed(registry, image, "unsigned/app:1")
    assert pulled(registry, tmp_path / "back.sif", "unsigned/app:1", "--arch", "amd64") == image.read_bytes()


def test_signatures_that_came_through_a_registry_verify(registry: RealRegistry, tmp_path: Path) -> None:
    pushed(registry, OCI / "app-ci.oci.sif", "verified/app:1", "--with-cosign")
    pulled(registry, tmp_path / "back.sif", "verified/app:1", "--with-cosign", "--arch", "amd64")
    key = CORPUS / "keys" / "cosign"
    assert verify.run(["--cosign", "--key", str(key / "ci.pub"), str(tmp_path / "back.sif")]) == 0
    assert verify.run(["--cosign", "--key", str(key / "stranger.pub"), str(tmp_path / "back.sif")]) == 1


def test_an_image_is_pulled_by_its_digest(registry: RealRegistry, tmp_path: Path) -> None:
    pushed(registry, OCI / "app-ci.oci.sif", "digest/app:1")
    digest = digest_of(registry.raw("digest/app", "1"))
    back = pulled(registry, tmp_path / "back.sif", f"digest/app@{digest}", "--arch", "amd64")
    assert back == (OCI / "app-unsigned.oci.sif").read_bytes()


@pytest.mark.parametrize("name", ["one-builder+scanner.sif", "two-builder.sif"])
def test_a_whole_sif_comes_back_the_same(registry: RealRegistry, tmp_path: Path, name: str) -> None:
    image = CORPUS / "images" / name
    tag = name.partition(".")[0].replace("+", "-")
    pushed(registry, image, f"whole/app:{tag}", scheme="oras")
    assert pulled(registry, tmp_path / "back.sif", f"whole/app:{tag}", scheme="oras") == image.read_bytes()


def test_an_oci_sif_goes_whole_with_its_native_signatures(registry: RealRegistry, tmp_path: Path) -> None:
    image = CORPUS / "oci-native" / "app-ci+pgp-builder.oci.sif"
    pushed(registry, image, "whole/oci:1", scheme="oras")
    assert pulled(registry, tmp_path / "back.sif", "whole/oci:1", scheme="oras") == image.read_bytes()


def test_an_artifact_has_the_types_that_singularity_and_apptainer_give_it(registry: RealRegistry) -> None:
    image = CORPUS / "images" / "one-builder.sif"
    pushed(registry, image, "types/app:1", scheme="oras")
    manifest = json.loads(registry.raw("types/app", "1"))
    assert manifest == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.sylabs.sif.config.v1+json",
            "size": 2,
            "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        },
        "layers": [
            {
                "mediaType": "application/vnd.sylabs.sif.layer.v1.sif",
                "size": image.stat().st_size,
                "digest": digest_of(image.read_bytes()),
                "annotations": {"org.opencontainers.image.title": "one-builder.sif"},
            }
        ],
    }


def test_an_artifact_of_singularity_before_3_7_is_pulled(registry: RealRegistry, tmp_path: Path) -> None:
    image = CORPUS / "images" / "one-builder.sif"
    pushed(registry, image, "old/app:1", scheme="oras")
    old = registry.raw("old/app", "1").replace(
        b"application/vnd.sylabs.sif.layer.v1.sif", b"appliciation/vnd.sylabs.sif.layer.tar"
    )
    curl_put(registry, "old/app", "0", old)
    assert pulled(registry, tmp_path / "back.sif", "old/app:0", scheme="oras") == image.read_bytes()


def curl_put(registry: RealRegistry, repository: str, tag: str, manifest: bytes) -> None:
    """Put a manifest without the code under test."""
    import urllib.request

    request = urllib.request.Request(
        f"http://{registry.host}/v2/{repository}/manifests/{tag}",
        data=manifest,
        method="PUT",
        headers={"Content-Type": "application/vnd.oci.image.manifest.v1+json"},
    )
    with urllib.request.urlopen(request, timeout=60) as done:
        assert done.status == 201


@needs_skopeo
def test_skopeo_copies_what_was_pushed_and_what_it_copies_is_pulled(registry: RealRegistry, tmp_path: Path) -> None:
    """Through a directory and back under another name, signatures too, which cosign finds by their tag."""
    image = OCI / "layers-ci+approver.oci.sif"
    pushed(registry, image, "skopeo/from:1", "--with-cosign")
    digest = digest_of(registry.raw("skopeo/from", "1"))
    signatures = f"{digest.replace(':', '-')}.sig"
    plain = ("--src-tls-verify=false", "--dest-tls-verify=false")
    for tag in ("1", signatures):
        skopeo("copy", *plain, f"docker://{registry.host}/skopeo/from:{tag}", f"dir:{tmp_path / tag}")
        skopeo("copy", *plain, f"dir:{tmp_path / tag}", f"docker://{registry.host}/skopeo/to:{tag}")
    back = pulled(registry, tmp_path / "back.sif", "skopeo/to:1", "--with-cosign", "--arch", "amd64")
    assert back == image.read_bytes()


@needs_skopeo
def test_skopeo_reads_the_signatures_as_cosign_writes_them(registry: RealRegistry) -> None:
    pushed(registry, OCI / "app-ci.oci.sif", "shape/app:1", "--with-cosign")
    digest = digest_of(registry.raw("shape/app", "1"))
    name = f"docker://{registry.host}/shape/app:{digest.replace(':', '-')}.sig"
    (layer,) = json.loads(skopeo("inspect", "--raw", "--tls-verify=false", name))["layers"]
    assert layer["mediaType"] == "application/vnd.dev.cosign.simplesigning.v1+json"
    assert base64.b64decode(layer["annotations"]["dev.cosignproject.cosign/signature"], validate=True)


@needs_skopeo
def test_an_image_whose_layers_are_tar_cannot_become_an_oci_sif(
    registry: RealRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layer = subprocess.run(["tar", "-cz", "-C", str(tmp_path), "."], check=True, capture_output=True).stdout
    write_layout(tmp_path / "layout", layer)
    skopeo("copy", "--dest-tls-verify=false", f"oci:{tmp_path / 'layout'}:x", f"docker://{registry.host}/tar/app:1")
    assert pull.run(["--no-https", str(tmp_path / "a.sif"), f"docker://{registry.host}/tar/app:1"]) == 1
    said = capsys.readouterr().err
    assert "layer 1 of 1 is application/vnd.oci.image.layer.v1.tar+gzip, and an OCI-SIF holds squashfs" in said
    assert "singularity pull --oci" in said
    assert not (tmp_path / "a.sif").exists()


def write_layout(folder: Path, layer: bytes) -> None:
    """An OCI image layout of one image with one gzipped layer."""
    (folder / "blobs" / "sha256").mkdir(parents=True)

    def blob(data: bytes, media_type: str) -> dict[str, object]:
        (folder / "blobs" / "sha256" / hashlib.sha256(data).hexdigest()).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{media_type}", "size": len(data), "digest": digest_of(data)}

    diff_id = digest_of(subprocess.run(["gunzip"], input=layer, check=True, capture_output=True).stdout)
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(json.dumps(config).encode(), "config.v1+json"),
        "layers": [blob(layer, "layer.v1.tar+gzip")],
    }
    entry = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": "x"}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')


def test_what_was_pushed_is_not_sent_again(
    registry: RealRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = OCI / "layers-unsigned.oci.sif"
    for sent in (4, 0):
        capsys.readouterr()
        pushed(registry, image, "again/app:1", "--json")
        shape = json.loads(capsys.readouterr().out)
        assert (shape["sent"], shape["blobs"]) == (sent, 4)


def test_signatures_of_others_in_the_registry_are_not_lost_unseen(
    registry: RealRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    pushed(registry, OCI / "app-ci+approver.oci.sif", "others/app:1", "--with-cosign")
    where = f"docker://{registry.host}/others/app:1"
    assert push.run(["--no-https", "--with-cosign", str(OCI / "app-ci.oci.sif"), where]) == 1
    assert "the registry holds 1 cosign signature of this image that the file does not have" in capsys.readouterr().err
    pushed(registry, OCI / "app-ci.oci.sif", "others/app:1", "--with-cosign", "--force")


def test_a_push_says_what_stays_behind(registry: RealRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    pushed(registry, CORPUS / "oci-native" / "app-ci+pgp-builder.oci.sif", "stays/app:1")
    said = capsys.readouterr().err
    assert "a PGP or PEM signature stays behind" in said
    assert "--with-cosign carries its signatures" in said


def test_a_plain_sif_is_no_oci_image(registry: RealRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    image = str(CORPUS / "images" / "one-builder.sif")
    assert push.run(["--no-https", image, f"docker://{registry.host}/plain/app:1"]) == 1
    assert "can only be pushed to OCI registries via oras://" in capsys.readouterr().err


@pytest.mark.parametrize("image", sorted(OCI.glob("tampered-*.oci.sif")), ids=lambda path: path.name)
def test_an_image_that_was_tampered_with_is_not_pushed(registry: RealRegistry, image: Path) -> None:
    """Whichever blob was changed, its digest is no longer what the manifest says, or it is no image any more."""
    name = image.name.partition(".")[0]
    options = ["--no-https", "--with-cosign", "--force"]
    status = push.run([*options, str(image), f"docker://{registry.host}/tampered/app:{name}"])
    assert status == 1
    assert not registry.has("tampered/app", name)


def test_a_server_without_tls_is_named_as_such(registry: RealRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    assert pull.run([f"docker://{registry.host}/x:1"]) == 1
    assert "does not speak TLS; if that is as it should be, give --no-https" in capsys.readouterr().err


def test_a_gigantic_blob_takes_no_memory(registry: RealRegistry, tmp_path: Path) -> None:
    """256 MiB come and go while the process may have half of that."""
    image = tmp_path / "large.sif"
    shutil.copyfile(CORPUS / "images" / "one-builder.sif", image)
    with image.open("ab") as file:
        block = os.urandom(1 << 20)
        for _ in range(256):
            file.write(block)
    where = f"oras://{registry.host}/large/app:1"
    # Not ru_maxrss, which a process inherits from the one that started it.
    limit = "import sys;from eclctl.cli.entry import main;code=main();"
    limit += "print(*[line for line in open('/proc/self/status') if line.startswith('VmHWM')]);sys.exit(code)"
    for arguments in (["push", str(image), where], ["pull", str(tmp_path / "back.sif"), where]):
        command = [ECLCTL[0], "-c", limit, arguments[0], "--no-https", *arguments[1:]]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        assert int(re.findall(r"\d+", done.stdout)[-1]) < 128 * 1024, "kilobytes"
    assert (tmp_path / "back.sif").read_bytes() == image.read_bytes()


# -- a registry with users and TLS


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RealRegistry, Path]]:
    """A registry that wants joe's password, and the root that its certificate is from."""
    folder = tmp_path_factory.mktemp("guarded")
    users = folder / "htpasswd"
    users.write_text("joe:$2b$05$abcdefghijklmnopqrstuuumdHvtDbXLiMUnSzTg5m4tpQDY2nJOK\n")
    authority = Authority()
    certificate, key = authority.leaf("localhost", names=("localhost",)).write(folder, "server")
    certificate.write_bytes(certificate.read_bytes() + authority.intermediate.pem)
    root = authority.root.write(folder, "root")[0]
    with RealRegistry(folder, users=users, tls=(certificate, key), host="localhost") as running:
        yield running, root


def test_a_registry_with_users_and_tls_takes_the_credentials_of_docker(
    guarded: tuple[RealRegistry, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server, root = guarded
    image, where = OCI / "app-ci.oci.sif", f"docker://{server.host}/prod/app:1"
    tls = ["--tls-ca", str(root)]
    assert push.run([*tls, str(image), where]) == 1
    assert "log in (`docker login`" in capsys.readouterr().err
    (tmp_path / "home" / ".docker").mkdir(parents=True)
    config = tmp_path / "home" / ".docker" / "config.json"
    config.write_text(json.dumps({"auths": {server.host: {"auth": base64.b64encode(b"joe:testpassword").decode()}}}))
    config.chmod(0o644)
    assert push.run([*tls, "--with-cosign", str(image), where]) == 0
    assert "others can read the passwords in it" in capsys.readouterr().err
    config.chmod(0o600)
    assert pull.run([*tls, "--with-cosign", "--arch", "amd64", str(tmp_path / "back.sif"), where]) == 0
    assert capsys.readouterr().err == ""
    assert (tmp_path / "back.sif").read_bytes() == image.read_bytes()
    config.write_text(json.dumps({"auths": {server.host: {"auth": base64.b64encode(b"joe:wrong").decode()}}}))
    assert pull.run([*tls, "--force", str(tmp_path / "back.sif"), where]) == 1
    assert "the registry refuses joe, whose credentials are from" in capsys.readouterr().err
    assert pull.run(["--force", str(tmp_path / "back.sif"), where]) == 1
    assert "certificate is not trusted" in capsys.readouterr().err
