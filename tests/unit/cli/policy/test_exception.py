"""`eclctl policy exception`: a file that is right at 3 a.m., and what is missing until it stands."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from eclctl.cli.policy.command import run
from tests.helpers import pgp
from tests.helpers.sifbuilder import corpus_pgp_key
from tests.helpers.support import CORPUS, own_copy

POLICY = """\
version: 1
signers:
  scanner:  {pgp: [F69053E5830DBDBA72B3D8F61BDDA97D14902F26]}
  approver: {pgp: [25B8EEE0382B85FDCBDD9B4F7A750C002A7A02D4]}
roles:
  security: [scanner, approver]
exceptions: {directory: ../exceptions.d, approvals: {count: 2, of: security}, longest: 72h}
rules:
  - {name: production, require: [{approvals: {count: 2, of: security}}]}
"""


class Admin:
    """A configuration with exceptions, and a user at a terminal."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self._capsys = root, capsys
        for name in ("policies.d", "keys.d", "exceptions.d"):
            (root / name).mkdir(mode=0o755)
        own_copy(CORPUS / "keys" / "pgp" / "site-ring.asc", root / "keys.d")
        (root / "policies.d" / "10.yaml").write_text(POLICY)
        (root / "config.yaml").write_text(
            "version: 1\nsockets: {check: c, admin: a}\nstate_dir: s\npolicies: [policies.d]\nkeyrings: [keys.d]\n"
        )
        self.image = own_copy(CORPUS / "images" / "one-builder.sif", root)
        self.file = root / "exceptions.d" / "drain.yaml"

    def type(self, order: str, *words: str) -> tuple[int, str, str]:
        try:
            status = run(["exception", order, "--config", str(self.root / "config.yaml"), *words])
        except SystemExit as error:
            status = int(str(error.code))
        found = self._capsys.readouterr()
        return status, found.out, found.err

    def new(
        self, *words: str, name: str = "drain", span: str = "12h", reason: str = "ticket 4711"
    ) -> tuple[int, str, str]:
        return self.type("new", name, "--for", span, "--reason", reason, "--user", str(os.getuid()), *words)

    def sign(self, who: str) -> None:
        made = corpus_pgp_key(who).sign(0x00, self.file.read_bytes(), created=int(datetime.now(UTC).timestamp()))
        path = self.file.with_name(f"drain.yaml.{who}.asc")
        path.write_bytes(pgp.armor("SIGNATURE", pgp.packet(2, made)))


@pytest.fixture
def admin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Admin:
    return Admin(tmp_path, capsys)


def test_new_writes_an_exception_that_names_all_bytes_of_the_image(admin: Admin) -> None:
    status, out, err = admin.new("--image", str(admin.image))
    assert (status, err) == (0, "")
    content = admin.image.read_bytes()
    text = admin.file.read_text()
    assert f"sha256: sha256:{hashlib.sha256(content).hexdigest()}, size: {len(content)}" in text
    assert 'reason: "ticket 4711"' in text
    assert admin.file.stat().st_mode & 0o777 == 0o644 & ~umask()
    assert list(admin.file.parent.iterdir()) == [admin.file]
    assert "2 of security (scanner, approver)" in " ".join(out.split())
    assert f"-o {admin.file}.$USER.asc" in out


def umask() -> int:
    old = os.umask(0)
    os.umask(old)
    return old


def test_one_approval_is_one(admin: Admin) -> None:
    (admin.root / "policies.d" / "10.yaml").write_text(POLICY.replace("count: 2", "count: 1", 1))
    admin.new("--image", str(admin.image))
    assert "it needs 1 approval from security and has none\n" in admin.type("check", "drain")[1]


def test_it_stands_once_enough_have_signed(admin: Admin) -> None:
    admin.new("--image", str(admin.image))
    seen = [admin.type("check", "drain")]
    for who in ("scanner", "approver"):
        admin.sign(who)
        seen.append(admin.type("check", "drain"))
    assert [status for status, _, _ in seen] == [1, 1, 0]
    assert "drain: unapproved\n  it needs 2 approvals from security and has none\n" in seen[0][1]
    assert "it needs 2 approvals from security and has 1 (scanner)" in seen[1][1]
    assert seen[2][1].startswith("drain: active\n  until ")
    assert "approved by scanner, approver" in seen[2][1]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, whose files are guarded")
def test_what_the_daemon_refuses_because_others_could_have_written_it_is_not_called_active(admin: Admin) -> None:
    admin.new("--image", str(admin.image))
    admin.sign("scanner")
    admin.sign("approver")
    assert admin.type("check", "drain")[0] == 0
    admin.file.chmod(0o664)
    status, out, _ = admin.type("check", "drain")
    assert (status, out.splitlines()[0]) == (1, "drain: refused")
    assert "is writable by others than root" in out


def test_new_never_writes_over_one_that_is_there(admin: Admin) -> None:
    admin.new("--image", str(admin.image))
    before = admin.file.read_bytes()
    status, _, err = admin.new("--path", "/srv/**", reason="another")
    assert status == 1
    assert "exists; choose another name, or remove it and its signatures" in err
    assert admin.file.read_bytes() == before


def test_new_says_everything_that_is_wrong_and_writes_nothing(admin: Admin) -> None:
    status, out, err = admin.type(
        "new", "drain", "--for", "4d", "--user", "no-such-user", "--reason", "a\nb", "--path", "srv/[x"
    )
    assert (status, out) == (1, "")
    assert "the path 'srv/[x' is not absolute (begin it with /)" in err
    assert "there is no user 'no-such-user' on this host" in err
    assert "the exception lasts 96h, and 72h is the longest that there is" in err
    assert "reason is blank, or has control characters or several lines (write one line)" in err
    assert list(admin.file.parent.iterdir()) == []


USER = ["--reason", "x", "--user", "0"]
PATH = ["--path", "/x"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["drain", "--for", "1h", *USER], "say what may run, with --image or --path"),
        (["../x", "--for", "1h", *USER, *PATH], "is no name for an exception"),
        (["x", "--for", "1", *USER, *PATH], "a number and s, m, h, d or w is needed"),
        (["x", "--for", "1h", "--reason", "x", *PATH], "one of the arguments --user --group is required"),
        (["x", "--for", "1h", *USER, *PATH, "--group", "0"], "not allowed with argument --user"),
        (["x", "--for", "1h", *USER, *PATH, "--starts", "2026-11-22T03:00"], "a time with its zone is needed"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_2(admin: Admin, words: list[str], message: str) -> None:
    status, _, err = admin.type("new", *words)
    assert status == 2
    assert message in err


def test_an_image_that_cannot_be_read_is_said(admin: Admin) -> None:
    status, _, err = admin.new("--image", str(admin.root / "missing.sif"))
    assert status == 1
    assert err.endswith("missing.sif: cannot be read: No such file or directory\n")


def test_what_starts_later_waits_and_says_from_when_signatures_count(admin: Admin) -> None:
    later = (datetime.now(UTC) + timedelta(days=9)).replace(microsecond=0)
    status, out, _ = admin.new("--path", "/srv/*", "--starts", later.isoformat(), span="72h")
    assert status == 0
    assert f"not before {later:%Y-%m-%d %H:%M:%S}Z: a signature counts for 72h" in out


def test_output_to_a_dash_is_the_file_alone(admin: Admin) -> None:
    status, out, err = admin.new("--path", "/srv/*", "-o", "-")
    assert status == 0
    assert out.startswith("version: 1\n")
    assert out.endswith('images:\n  - {path: "/srv/*"}\n')
    assert "-o drain.yaml.$USER.asc" in err
    assert list(admin.file.parent.iterdir()) == []


def test_list_shows_all_and_is_0_whatever_they_are_worth(admin: Admin) -> None:
    assert admin.type("list")[:2] == (0, f"there are no exceptions in {admin.file.parent}\n")
    admin.new("--image", str(admin.image))
    (admin.file.parent / "bad.yaml").write_text("version: 1\n")
    status, out, _ = admin.type("list")
    assert status == 0
    assert "bad: refused\n" in out
    assert "the exception needs 'images'" in " ".join(out.split())
    assert "drain: unapproved\n" in out
    assert all(len(line) < 80 or "/" in line for line in out.splitlines())


def test_a_signature_that_does_not_count_says_why(admin: Admin) -> None:
    admin.new("--image", str(admin.image))
    admin.sign("scanner")
    admin.file.write_text(admin.file.read_text().replace("4711", "4712"))
    out = " ".join(admin.type("check")[1].split())
    assert "drain.yaml.scanner.asc: openpgp: invalid signature" in out


def test_json_has_everything(admin: Admin) -> None:
    admin.new("--image", str(admin.image))
    admin.sign("scanner")
    shape = json.loads(admin.type("list", "--json")[1])
    assert shape["v"] == 1
    assert shape["terms"] | {"where": "", "directory": ""} == {
        "directory": "",
        "role": "security",
        "people": ["scanner", "approver"],
        "count": 2,
        "longest": 259200.0,
        "where": "",
    }
    (found,) = shape["exceptions"]
    assert (found["name"], found["state"], found["approvers"]) == ("drain", "unapproved", ["scanner"])
    assert (found["users"], found["groups"], found["paths"]) == ([os.getuid()], None, [])
    assert found["files"][0]["size"] == admin.image.stat().st_size


def test_a_name_that_is_not_there_is_said(admin: Admin) -> None:
    status, _, err = admin.type("check", "nonesuch")
    assert (status, err) == (1, f"eclctl policy exception: there is no exception nonesuch in {admin.file.parent}\n")


def test_a_policy_without_exceptions_says_what_it_needs(admin: Admin) -> None:
    path = admin.root / "policies.d" / "10.yaml"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith("exceptions")))
    status, _, err = admin.type("list")
    assert status == 1
    assert "exceptions: {directory: exceptions.d, approvals: {count: 2, of: ROLE}, longest: 72h}" in err


def test_a_configuration_that_does_not_load_is_said(admin: Admin) -> None:
    (admin.root / "policies.d" / "10.yaml").write_text("version: 1\nrulez: []\n")
    status, _, err = admin.type("list")
    assert status == 1
    assert "unknown key 'rulez'" in err


@pytest.mark.parametrize("order", [[], ["new"], ["list"], ["check"]])
def test_help_ends_in_examples_and_fits_eighty_columns(capsys: pytest.CaptureFixture[str], order: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(["exception", *order, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "examples:\n  eclctl policy exception " in text
    assert [line for line in text.splitlines() if len(line) > 80] == []
