"""`eclctl policy withdraw`: the entry that it writes, and everything that keeps it from writing one."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from eclctl.cli.policy.command import run
from tests.helpers.site import APPROVED, BUILDER, HALF, SCANNER, Site

DIGEST = "sha256:" + "1" * 64


@pytest.fixture
def site() -> Iterator[Site]:
    """A site without a daemon."""
    made = Site()
    made.configure(more="watch: [{path: images}]\n")
    try:
        yield made
    finally:
        made.close()


def withdraw(site: Site, *arguments: str, reason: str = "stolen") -> int:
    return run(["withdraw", "--config", str(site.config), "--reason", reason, *arguments])


def file(site: Site) -> Path:
    return site.root / "policies.d" / "00-withdrawn.yaml"


def stopped(site: Site, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """Return the images that the policy denies as withdrawn, and check that it loads."""
    assert run(["check", "--config", str(site.config)]) == 0
    assert run(["simulate", "--config", str(site.config), "--withdraw", "sha256:" + "f" * 64]) == 0
    capsys.readouterr()
    empty = site.root / "before"
    empty.mkdir(exist_ok=True)
    (empty / "10.yaml").write_bytes((site.root / "policies.d" / "10.yaml").read_bytes())
    run(["simulate", "--config", str(site.config), "--json", str(empty)])
    changes = json.loads(capsys.readouterr().out)["changes"]
    return {os.path.basename(each["image"]) for each in changes if each["old"]["code"] == "withdrawn"}


@pytest.mark.parametrize(
    ("arguments", "images"),
    [
        (["--signer", "scanner"], {APPROVED}),
        (["--key", SCANNER.lower()], {APPROVED}),
        (["--key", BUILDER], {APPROVED, HALF}),
    ],
)
def test_what_was_withdrawn_is_denied_and_nothing_else(
    site: Site, capsys: pytest.CaptureFixture[str], arguments: list[str], images: set[str]
) -> None:
    assert withdraw(site, *arguments) == 0
    assert "next reload: eclctl reload\n" in capsys.readouterr().out
    assert stopped(site, capsys) == images


def test_an_image_is_withdrawn_by_its_primary_partition(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert withdraw(site, "--image", site.image(HALF)) == 0
    out = capsys.readouterr().out
    assert f"  object 3, its primary partition, of {site.image(HALF)}\n" in out
    assert re.search(r'objects:\n    # .* by \S+: stolen\n    - "sha256:[0-9a-f]{64}"\n', file(site).read_text())
    assert HALF in stopped(site, capsys)


def test_the_file_has_who_when_and_why_above_the_entry(site: Site) -> None:
    assert withdraw(site, "--object", DIGEST, reason="CVE-2026-1\n- evil") == 0
    text = file(site).read_text()
    assert re.search(r"    # \d{4}-\d\d-\d\d \d\d:\d\dZ by \S+: CVE-2026-1\\x0a- evil\n    - \"sha256:1+\"\n", text)


def test_mode_and_comments_of_the_file_stay_and_nothing_is_left_beside_it(site: Site) -> None:
    assert withdraw(site, "--object", DIGEST) == 0
    file(site).chmod(0o600)
    file(site).write_text(file(site).read_text() + "# kept\n")
    assert withdraw(site, "--signer", "scanner") == 0
    assert "# kept\n" in file(site).read_text()
    assert file(site).stat().st_mode & 0o7777 == 0o600
    assert sorted(os.listdir(site.root / "policies.d")) == ["00-withdrawn.yaml", "10.yaml"]


def test_a_new_file_can_be_read_by_all_whatever_the_umask(site: Site) -> None:
    before = os.umask(0o077)
    try:
        assert withdraw(site, "--object", DIGEST) == 0
    finally:
        os.umask(before)
    assert file(site).stat().st_mode & 0o7777 == 0o644


def test_what_is_withdrawn_already_is_said_and_not_written_again(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert withdraw(site, "--object", DIGEST) == 0
    before = file(site).read_bytes()
    assert withdraw(site, "--object", DIGEST) == 0
    assert f"withdrawn already in {file(site)}" in capsys.readouterr().out
    assert file(site).read_bytes() == before


def test_json_says_what_was_written_where(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert withdraw(site, "--json", "--manifest", DIGEST) == 0
    made = json.loads(capsys.readouterr().out)
    assert made == {
        "v": 1,
        "written": True,
        "file": str(file(site)),
        "list": "manifests",
        "entry": DIGEST,
        "what": "OCI-SIF images with this manifest",
    }


def test_another_file_of_the_policy_can_be_named(site: Site) -> None:
    assert withdraw(site, "--object", DIGEST, "-o", str(site.root / "policies.d" / "10.yaml")) == 0
    assert (site.root / "policies.d" / "10.yaml").read_text().endswith(f'    - "{DIGEST}"\n')


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--signer", "scaner"], "did you mean 'scanner'?"),
        (["--signer", SCANNER], "for a key, give --key"),
        (["--key", "scanner"], "is a signer, with every key of theirs: give --signer"),
        (["--key", "0" * 40], "is no signer and no key of today's policy"),
        (["--object", "sha256:1"], "is no digest"),
        (["--image", "/nonexistent.sif"], "/nonexistent.sif cannot be opened"),
        (["--object", DIGEST, "-o", "/tmp/elsewhere.yaml"], "the daemon does not read /tmp/elsewhere.yaml"),
        (["--object", DIGEST, "-o", "@/policies.d/.hidden.yaml"], "the daemon does not read"),
        (["--object", DIGEST, "-o", "@/policies.d/withdrawn.txt"], "the daemon does not read"),
    ],
)
def test_what_cannot_be_withdrawn_is_3_and_changes_nothing(
    site: Site, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert withdraw(site, *(each.replace("@", str(site.root)) for each in arguments)) == 3
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.endswith("nothing has changed\n")
    assert os.listdir(site.root / "policies.d") == ["10.yaml"]


def test_a_policy_that_does_not_load_is_not_added_to(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.policy("version: 1\nrules: []\n")
    assert withdraw(site, "--object", DIGEST) == 3
    assert "10.yaml:2" in capsys.readouterr().err
    assert not file(site).exists()


def test_a_file_that_is_not_as_this_command_writes_it_is_left_alone(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    file(site).write_text(f"version: 1\nwithdrawn: {{objects: [{DIGEST}]}}\n")
    assert withdraw(site, "--signer", "scanner") == 3
    assert "write it by hand under withdrawn, signers" in capsys.readouterr().err
    assert file(site).read_text() == f"version: 1\nwithdrawn: {{objects: [{DIGEST}]}}\n"


def test_a_link_is_not_followed_out_of_the_directory(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    outside = site.root / "outside.yaml"
    outside.write_text("version: 1\n")
    file(site).symlink_to(outside)
    assert withdraw(site, "--object", DIGEST) == 3
    assert "name the file itself" in capsys.readouterr().err
    assert outside.read_text() == "version: 1\n"
    assert sorted(os.listdir(site.root / "policies.d")) == ["00-withdrawn.yaml", "10.yaml"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--reason", "x"],
        ["--object", DIGEST],
        ["--object", DIGEST, "--reason", " "],
        ["--object", DIGEST, "--reason", "x" * 501],
        ["--object", DIGEST, "--signer", "x", "--reason", "x"],
    ],
)
def test_a_wrong_command_line_is_2(arguments: list[str]) -> None:
    try:
        status = run(["withdraw", *arguments])
    except SystemExit as error:
        status = int(str(error.code))
    assert status == 2
