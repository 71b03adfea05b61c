"""`eclctl pull` and `push`: what they print, what they refuse, and what the policy is asked."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from eclctl.cli.registry import pull, push
from tests.helpers.registries import OCI, FakeRegistry, answer, in_turn, on
from tests.helpers.site import Site
from tests.helpers.support import CORPUS

COSIGN_POLICY = """version: 1
signers:
  ci: {{cosign: [keys.d/ci.pub]}}
rules:
  - name: production
    match: {{paths: ["{root}/images/*.oci.sif"]}}
    require: [{{any_of: [ci]}}]
default: deny
"""


@pytest.fixture(autouse=True)
def _nothing_of_this_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("http_proxy", "HTTP_PROXY", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def server() -> Iterator[FakeRegistry]:
    with FakeRegistry() as running:
        yield running


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    try:
        yield made
    finally:
        made.close()


def arguments(server: FakeRegistry, *options: str, path: str | None = None, name: str = "prod/app:1") -> list[str]:
    scheme = "oras" if "oras" in name else "docker"
    return ["--no-https", "--arch", "amd64", *options, *([path] if path else []), f"{scheme}://{server.host}/{name}"]


def test_without_a_name_the_file_is_called_after_image_and_tag(server: FakeRegistry) -> None:
    digest = server.store.add_image(OCI / "app-ci.oci.sif")
    assert pull.run(arguments(server)) == 0
    assert pull.run(arguments(server, name=f"prod/app@{digest}")) == 0
    assert sorted(os.listdir()) == ["app_1.oci.sif", f"app_sha256-{digest[7:19]}.oci.sif"]


def test_what_was_done_is_said_in_words_and_as_json(server: FakeRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    digest = server.store.add_image(OCI / "app-ci.oci.sif")
    assert pull.run(arguments(server, "--with-cosign", path="a.sif")) == 0
    assert capsys.readouterr().out == (
        f"pulled docker://{server.host}/prod/app:1 to a.sif\ndigest {digest}, 17776 bytes\n"
        "1 cosign signature; eclctl verify --cosign --key … tells whose\n"
    )
    assert pull.run(arguments(server, "--json", "--with-cosign", path="b.sif")) == 0
    assert json.loads(capsys.readouterr().out) == {
        "v": 1,
        "image": "b.sif",
        "reference": f"docker://{server.host}/prod/app:1",
        "digest": digest,
        "size": 17776,
        "resumed": 0,
        "signatures": 1,
        "warnings": [],
        "decision": None,
        "error": None,
    }


def test_what_went_wrong_is_said_as_json_too(server: FakeRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    assert pull.run(arguments(server, "--json", path="a.sif")) == 1
    shape = json.loads(capsys.readouterr().out)
    assert shape["error"] == {"code": "remote", "message": f"{server.host}/prod/app:1 does not exist"}
    assert (shape["v"], shape["image"], shape["decision"]) == (1, "a.sif", None)


def test_a_push_says_what_was_sent(server: FakeRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    image = str(OCI / "app-ci.oci.sif")
    where = f"docker://{server.host}/prod/app:1"
    assert push.run(["--no-https", "--json", "--with-cosign", image, where]) == 0
    shape = json.loads(capsys.readouterr().out)
    assert shape["signatures"].removesuffix(".sig").replace("-", ":") == shape["digest"]
    assert (shape["blobs"], shape["sent"], shape["warnings"], shape["error"]) == (4, 4, [], None)


def test_signatures_are_in_the_registry_before_the_image_is(server: FakeRegistry) -> None:
    push.run(["--no-https", "--with-cosign", str(OCI / "app-ci.oci.sif"), f"docker://{server.host}/prod/app:1"])
    put = [ask.path.rpartition("/")[2] for ask in server.asked if ask.method == "PUT" and "/manifests/" in ask.path]
    assert put[0].endswith(".sig")
    assert put[1:] == ["1"]


def test_an_image_without_signatures_is_pulled_with_a_warning(
    server: FakeRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    server.store.add_image(OCI / "app-unsigned.oci.sif")
    assert pull.run(arguments(server, "--with-cosign", path="a.sif")) == 0
    assert "the registry has no cosign signatures of sha256:" in capsys.readouterr().err
    assert Path("a.sif").read_bytes() == (OCI / "app-unsigned.oci.sif").read_bytes()


def test_an_image_for_another_machine_is_not_pulled(server: FakeRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    server.store.add_image(OCI / "app-ci.oci.sif")
    assert pull.run(["--no-https", "--arch", "arm64", "a.sif", f"docker://{server.host}/prod/app:1"]) == 1
    assert "the image is for amd64, not for arm64; --arch chooses" in capsys.readouterr().err
    assert os.listdir() == []


def test_a_whole_sif_is_not_taken_for_an_oci_image_nor_the_reverse(
    server: FakeRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    push.run(["--no-https", str(CORPUS / "images" / "one-builder.sif"), f"oras://{server.host}/oras/app:1"])
    server.store.add_image(OCI / "app-ci.oci.sif", "2")
    assert pull.run(["--no-https", "a.sif", f"docker://{server.host}/oras/app:1"]) == 1
    assert "pull it by oras://" in capsys.readouterr().err
    assert pull.run(["--no-https", "a.sif", f"oras://{server.host}/oras/app:2"]) == 1
    assert "OCI images are pulled by docker://" in capsys.readouterr().err


def test_what_was_pushed_as_a_sif_and_is_none_gets_no_name(server: FakeRegistry) -> None:
    push.run(["--no-https", str(CORPUS / "images" / "one-builder.sif"), f"oras://{server.host}/oras/app:1"])
    manifest = json.loads(server.store.manifests["1"][1])
    junk = b"no SIF at all" * 100
    manifest["layers"][0] |= {"digest": server.store.add_blob(junk), "size": len(junk)}
    server.store.add_manifest(json.dumps(manifest).encode(), "1")
    assert pull.run(arguments(server, path="a.sif", name="oras/app:1")) == 1
    assert os.listdir() == []


def test_an_interrupted_pull_says_so_and_goes_on(server: FakeRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    server.store.add_image(OCI / "layers-ci.oci.sif")
    blob = json.loads(server.store.manifests["1"][1])["layers"][2]["digest"]
    broken = on("GET", blob, answer(status="404 Not Found"))
    server.rules.append(broken)
    assert pull.run(arguments(server, path="a.sif")) == 1
    capsys.readouterr()
    server.rules.remove(broken)
    server.asked.clear()
    assert pull.run(arguments(server, path="a.sif")) == 0
    assert "8192 of them from before" in capsys.readouterr().out
    assert len([ask for ask in server.asked if "/blobs/" in ask.path]) == 2, (
        "the config, and the layer that was missing"
    )


def test_options_may_stand_between_the_names(server: FakeRegistry) -> None:
    server.store.add_image(OCI / "app-ci.oci.sif")
    where = f"docker://{server.host}/prod/app:1"
    assert pull.run(["--arch", "amd64", "a.sif", "--no-https", where]) == 0
    assert pull.run(["b.sif", where, "--no-https", "--arch", "amd64"]) == 0
    assert sorted(os.listdir()) == ["a.sif", "b.sif"]


@pytest.mark.parametrize("path", ["folder", "folder/"])
@pytest.mark.parametrize("options", [[], ["--force"]])
def test_a_directory_is_named_as_one(
    server: FakeRegistry, capsys: pytest.CaptureFixture[str], path: str, options: list[str]
) -> None:
    """Many programs would put the file into it. The message does not offer --force, which would not help."""
    Path("folder").mkdir()
    assert pull.run(arguments(server, *options, path=path)) == 1
    assert f"{path}: this is a directory; name the file in it" in capsys.readouterr().err
    assert server.asked == []


def test_a_full_file_system_is_named_and_what_came_is_kept(
    server: FakeRegistry, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.store.add_image(OCI / "layers-ci.oci.sif")
    honest = os.pwrite

    def full(fd: int, data: bytes, offset: int) -> int:
        if offset > 16_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return honest(fd, data, offset)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        assert pull.run(arguments(server, path="a.sif")) == 1
    assert f"{os.getcwd()}/a.sif: No space left on device. What has come is kept" in capsys.readouterr().err
    assert pull.run(arguments(server, path="a.sif")) == 0
    assert "of them from before" in capsys.readouterr().out


def test_a_file_that_is_there_is_named_before_anything_is_fetched(
    server: FakeRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("a.sif").write_text("mine")
    assert pull.run(arguments(server, path="a.sif")) == 1
    assert "image file already exists: 'a.sif' - will not overwrite; --force does" in capsys.readouterr().err
    assert server.asked == []


@pytest.mark.parametrize(
    "wrong",
    [
        ["nothing"],
        ["--with-cosign", "a.sif", "oras://h.example/a:1"],
        ["--config", "c.yaml", "a.sif", "docker://h.example/a:1"],
        ["--timeout", "0", "docker://h.example/a:1"],
        [],
    ],
)
def test_a_command_line_that_makes_no_sense_is_usage(wrong: list[str]) -> None:
    try:
        status: object = pull.run(wrong)
    except SystemExit as end:
        status = end.code
    assert status == 2


@pytest.mark.parametrize("where", ["nothing", "docker://h.example/a@sha256:" + "a" * 64])
def test_a_push_names_a_tag(where: str) -> None:
    assert push.run([str(OCI / "app-ci.oci.sif"), where]) == 2


# -- only what the policy allows


def cosign_site(site: Site) -> list[str]:
    key = site.root / "ci.pub"
    key.write_bytes((CORPUS / "keys" / "cosign" / "ci.pub").read_bytes())
    key.chmod(0o644)
    policy = site.root / "policies.d" / "10.yaml"
    policy.write_text(COSIGN_POLICY.replace("keys.d/ci.pub", str(key)).format(root=site.root))
    return ["--require-allow", "--with-cosign", "--config", str(site.config)]


def test_the_policy_decides_for_the_name_that_the_file_will_have(
    server: FakeRegistry, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rule is for `*.oci.sif`, which the file is not called while it is decided on."""
    options = cosign_site(site)
    server.store.add_image(OCI / "app-ci.oci.sif")
    before = sorted(os.listdir(site.root / "images"))
    assert pull.run(arguments(server, *options, path=site.image("app.sif"))) == 1
    assert "not allowed: no rule matches" in capsys.readouterr().err
    assert pull.run(arguments(server, *options, path=site.image("app.oci.sif"))) == 0
    assert "allowed: all requirements of rule 'production' are met" in capsys.readouterr().out
    assert sorted(os.listdir(site.root / "images")) == sorted([*before, "app.oci.sif"])


def test_what_is_missing_is_named(server: FakeRegistry, site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    options = cosign_site(site)
    server.store.add_image(OCI / "app-site.oci.sif")
    assert pull.run(arguments(server, *options, path=site.image("app.oci.sif"))) == 1
    found = capsys.readouterr()
    assert "needs 1 approval from ci: 0 of 1; ci could sign" in found.out
    assert "nothing was kept" in found.err
    assert pull.run(arguments(server, "--json", *options, path=site.image("app.oci.sif"))) == 1
    shape = json.loads(capsys.readouterr().out)
    assert (shape["error"]["code"], shape["decision"]["decision"]) == ("denied", "deny")


def test_what_is_denied_does_not_replace_what_is_there(server: FakeRegistry, site: Site) -> None:
    options = cosign_site(site)
    Path(site.image("app.oci.sif")).write_text("old")
    server.store.add_image(OCI / "app-site.oci.sif")
    assert pull.run(arguments(server, "--force", *options, path=site.image("app.oci.sif"))) == 1
    assert Path(site.image("app.oci.sif")).read_text() == "old"


def test_a_policy_that_does_not_load_allows_nothing(
    server: FakeRegistry, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    options = cosign_site(site)
    (site.root / "policies.d" / "10.yaml").write_text("version: 7\n")
    server.store.add_image(OCI / "app-ci.oci.sif")
    assert pull.run(arguments(server, *options, path=site.image("app.oci.sif"))) == 1
    assert "10.yaml" in capsys.readouterr().err
    assert server.asked == [], "and nothing is fetched in vain"
    assert not Path(site.image("app.oci.sif")).exists()


def test_where_others_can_write_the_answer_is_what_a_check_would_say(
    server: FakeRegistry, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    options = cosign_site(site)
    (site.root / "images").chmod(0o777)
    server.store.add_image(OCI / "app-ci.oci.sif")
    assert pull.run(arguments(server, *options, path=site.image("app.oci.sif"))) == 1
    assert "assurance-too-low" in capsys.readouterr().err


def test_a_slow_registry_is_tried_again_by_the_command(server: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eclctl.remote.registry.client.PAUSE_SECONDS", 0.0)
    server.store.add_image(OCI / "app-ci.oci.sif")
    server.rules.append(in_turn("GET", "/manifests/", answer(status="503 Busy")))
    assert pull.run(arguments(server, path="a.sif")) == 0


PUSHED = {"v", "image", "reference", "digest", "signatures", "blobs", "sent", "warnings", "error"}
PULLED = {"v", "image", "reference", "digest", "size", "resumed", "signatures", "warnings", "decision", "error"}


def failed(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    """Return the object on standard output, whose message is on standard error, too."""
    found = capsys.readouterr()
    shape: dict[str, object] = json.loads(found.out)
    error = shape["error"]
    assert isinstance(error, dict)
    assert error["message"] in found.err
    return shape


def test_a_push_that_fails_has_the_members_of_one_that_does_not(
    server: FakeRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    image, where = str(OCI / "app-ci.oci.sif"), f"docker://{server.host}/prod/app:1"
    server.rules.append(on("POST", "/blobs/uploads/", answer(status="403 Forbidden")))
    assert push.run(["--no-https", "--json", image, where]) == 1
    refused = failed(capsys)
    assert refused.keys() == PUSHED
    assert (str(refused["digest"])[:7], refused["blobs"], refused["sent"]) == ("sha256:", 2, None)
    assert "--with-cosign carries its signatures" in str(refused["warnings"])
    assert push.run(["--no-https", "--json", "none.sif", where]) == 1
    missing = failed(capsys)
    assert (missing.keys(), missing["digest"], missing["warnings"]) == (PUSHED, None, [])


def test_a_pull_that_fails_has_the_members_of_one_that_does_not(
    server: FakeRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = server.store.add_image(OCI / "app-unsigned.oci.sif")
    blob = json.loads(server.store.manifests["1"][1])["layers"][0]["digest"]
    server.rules.append(on("GET", blob, answer(status="403 Forbidden")))
    assert pull.run(arguments(server, "--json", "--with-cosign", path="a.sif")) == 1
    refused = failed(capsys)
    assert (refused.keys(), refused["digest"], refused["signatures"], refused["resumed"]) == (PULLED, digest, 0, None)
    assert "no cosign signatures" in str(refused["warnings"])


@pytest.mark.parametrize("bad", ["library://a/b:1", "docker://Host/UPPER:1"])
def test_a_reference_that_is_wrong_is_in_the_object_as_it_was_given(
    bad: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push.run(["--json", "a.sif", bad]) == 2
    shape = failed(capsys)
    assert (shape.keys(), shape["image"], shape["reference"]) == (PUSHED, "a.sif", bad)
    assert pull.run(["--json", bad]) == 2
    shape = failed(capsys)
    assert (shape.keys(), shape["image"], shape["reference"]) == (PULLED, None, bad)


def test_a_file_that_cannot_be_opened_is_an_error_of_input_or_output(
    server: FakeRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    server.store.add_image(OCI / "app-ci.oci.sif")
    assert pull.run(arguments(server, "--json", path="nowhere/a.sif")) == 1
    assert failed(capsys)["error"] == {"code": "io", "message": f"{os.getcwd()}/nowhere: No such file or directory"}
