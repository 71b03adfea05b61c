"""`eclctl policy simulate`: what an admin sees, what a script reads, and exit statuses that a gate can use."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from eclctl.cli.policy.command import run
from eclctl.config.accounts import NAMES
from eclctl.config.settings import Settings
from eclctl.decide.snapshot import build
from tests.helpers.previews import record
from tests.helpers.site import APPROVED, BUILDER, HALF, LENIENT, SCANNER, UNSIGNED, Site
from tests.helpers.support import CORPUS


@pytest.fixture
def site() -> Iterator[Site]:
    """A site without a daemon, whose images are watched."""
    made = Site()
    made.configure(more="watch: [{path: images}]\n")
    try:
        yield made
    finally:
        made.close()


def candidate(site: Site, template: str = LENIENT) -> str:
    folder = site.root / "new"
    folder.mkdir()
    (folder / "10.yaml").write_text(template.format(root=site.root, builder=BUILDER, scanner=SCANNER))
    return str(folder)


def simulate(site: Site, *arguments: str) -> int:
    return run(["simulate", "--config", str(site.config), *arguments])


def found(site: Site, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    simulate(site, "--json", *arguments)
    return json.loads(capsys.readouterr().out)


def log(site: Site, *lines: bytes, name: str = "audit.jsonl") -> str:
    (site.root / name).write_bytes(b"".join(lines))
    return str(site.root / name)


def test_todays_policy_as_candidate_flips_nothing_and_is_0(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate(site, str(site.root / "policies.d")) == 0
    out = capsys.readouterr().out
    assert "unchanged                                      3           0       0\n" in out
    assert out.endswith("\nNo answer changes.\n")


def test_a_flip_is_1_and_shown_with_both_answers_the_requirement_and_who_is_concerned(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    log(site, record(site.image(HALF), uid=4242, decision="deny"), record(site.image(HALF), uid=4243, decision="deny"))
    assert simulate(site, candidate(site)) == 1
    root = site.root
    assert capsys.readouterr().out == (
        f"today      {root}/config.yaml ({digest(site, 'policies.d')})\n"
        f"candidate  {root}/new ({digest(site, 'new')})\n"
        "\n"
        "                                          images   decisions   users\n"
        "unchanged                                      2           0       0\n"
        "allow -> deny                                  0           0       0\n"
        "deny -> allow                                  1           2       2\n"
        "allowed; what would be denied changes          0           0       0\n"
        "another code, same decision                    0           0       0\n"
        "\n"
        "2 decisions recorded from 2026-11-20 12:00Z to 2026-11-20 12:00Z. Images, keys,\n"
        "  users' groups and the time are taken as they are now.\n"
        "2 users unknown to this host: in no group but the recorded one.\n"
        "\n"
        "deny -> allow:\n"
        f"  {root}/images/one-builder.sif\n"
        "    today      deny requirements-not-met, rule production\n"
        f"               ({root}/policies.d/10.yaml:6)\n"
        "    candidate  allow requirements-met, rule lenient\n"
        f"               ({root}/new/10.yaml:5)\n"
        f"    lacked     1 approval from scanner ({root}/policies.d/10.yaml:10)\n"
        "    for        everybody; 2 users (4242, 4243) of 2 decisions, last 2026-11-20\n"
        "               12:00Z\n"
    )


def digest(site: Site, folder: str) -> str:
    named = Settings("", "", "", (str(site.root / folder),), (str(site.root / "keys.d"),))
    built = build(named, NAMES, generation=1, now=datetime.now(UTC))
    assert built.snapshot is not None
    assert built.snapshot.digest is not None
    return built.snapshot.digest[:23]


def test_json_has_counts_and_every_change(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    log(site, record(site.image(HALF), uid=4242, decision="deny"), b"torn{")
    made = found(site, capsys, candidate(site))
    assert (made["v"], made["flips"], made["incomplete"], made["broken_lines"]) == (1, True, False, 1)
    assert made["images"] == {
        "allow_to_deny": 0,
        "deny_to_allow": 1,
        "would_deny": 0,
        "other_code": 0,
        "unchanged": 2,
        "unjudged": 0,
        "files": 0,
    }
    assert made["decisions"]["deny_to_allow"] == 1
    (change,) = made["changes"]
    assert (change["image"], change["change"], change["users"]) == (site.image(HALF), "deny-to-allow", [4242])
    assert change["callers"] == [{"user": None, "groups": []}]
    assert [need["text"] for need in change["old"]["unmet"]] == ["1 approval from scanner"]
    assert (change["new"]["code"], change["new"]["rule"]) == ("requirements-met", "lenient")


@pytest.mark.parametrize("name", ["scanner", SCANNER, SCANNER.lower(), str(CORPUS / "keys" / "pgp" / "scanner.asc")])
def test_revoke_takes_a_signer_a_fingerprint_or_a_file_and_shows_what_stops(
    site: Site, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    made = found(site, capsys, "--revoke", name)
    assert [(change["image"], change["new"]["code"]) for change in made["changes"]] == [
        (site.image(APPROVED), "withdrawn")
    ]
    assert made["changes"][0]["new"]["reason"] == "everything signed by scanner is withdrawn"


def test_withdraw_shows_the_images_that_hold_a_digest(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate(site, "--withdraw", "sha256:" + "0" * 64) == 0
    assert "No answer changes.\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--revoke", "scaner"], "'scaner' is no signer and no key of today's policy; did you mean 'scanner'?"),
        (["--revoke", "0" * 40], "name a signer, a fingerprint, sha256:… or a key file"),
        (["--audit", "/nonexistent/audit.jsonl", "--revoke", "builder"], "/nonexistent/audit.jsonl"),
        (["--new-config", "/nonexistent.yaml"], "/nonexistent.yaml"),
    ],
)
def test_what_cannot_be_done_is_3_and_says_why(
    site: Site, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert simulate(site, *arguments) == 3
    captured = capsys.readouterr()
    assert (captured.out, message in captured.err) == ("", True)


@pytest.mark.parametrize("text", ["sha256:12", "approved.sif"])
def test_to_withdraw_what_is_no_digest_is_a_wrong_command_line(
    site: Site, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    assert simulate(site, "--withdraw", text) == 2
    captured = capsys.readouterr()
    message = f"{text!r} is no digest: write sha256: and 64 hex digits"
    assert (captured.out, message in captured.err) == ("", True)


def test_a_candidate_that_does_not_load_is_3_with_all_its_errors(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = candidate(site, LENIENT.replace("any_of: [builder]", "any_of: [bilder]").replace("deny\n", "allow\n"))
    assert simulate(site, broken) == 3
    errors = capsys.readouterr().err
    assert "10.yaml:8:" in errors
    assert "did you mean 'builder'?" in errors
    assert "10.yaml:9:" in errors
    assert errors.endswith("the candidate policy does not load\n")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["new", "--revoke", "x"],
        ["new", "--new-config", "x"],
        ["--revoke", "x", "--keyring", "x"],
        ["new", "--since", "yesterday"],
        ["new", "--limit", "-1"],
        ["new", "--images", "/nonexistent"],
    ],
)
def test_a_wrong_command_line_is_2(arguments: list[str]) -> None:
    try:
        status = run(["simulate", *arguments])
    except SystemExit as error:
        status = int(str(error.code))
    assert status == 2


def test_nothing_to_compare_is_3(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.configure()
    assert simulate(site, str(site.root / "policies.d")) == 3
    assert "there is nothing to compare" in capsys.readouterr().err


def test_logs_that_are_named_count_instead_of_todays_also_compressed_ones(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    log(site, record(site.image(HALF)))
    old = log(site, gzip.compress(record(site.image(HALF), uid=5) * 2), name="audit.jsonl.1.gz")
    new = log(site, record(site.image(APPROVED), uid=6), name="audit.jsonl.0")
    made = found(site, capsys, "--audit", old, "--audit", new, candidate(site))
    assert (made["decisions"]["deny_to_allow"], made["decisions"]["unchanged"]) == (2, 1)


def test_since_leaves_older_decisions_out(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    log(site, *(record(site.image(HALF), number=number) for number in range(5)))
    made = found(site, capsys, "--since", "2026-11-22", str(site.root / "policies.d"))
    assert made["decisions"]["unchanged"] == 3
    log(site, *(record(site.image(HALF), time=f"{year}-01-01T00:00:00.000000Z") for year in (2001, 2999)))
    made = found(site, capsys, "--since", "30d", str(site.root / "policies.d"))
    assert made["decisions"]["unchanged"] == 1


def test_a_log_that_ends_amid_compressed_data_is_no_whole_answer(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    torn = log(site, gzip.compress(record(site.image(HALF)) * 50)[:-9], name="audit.jsonl.1.gz")
    assert simulate(site, "--audit", torn, str(site.root / "policies.d")) == 3
    assert f"the audit log {torn} could not be read" in capsys.readouterr().err


def test_an_image_that_could_not_be_read_is_3_when_nothing_else_flips(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(site.root / "images" / "pipe.sif")
    log(site, record(site.image("pipe.sif")))
    assert simulate(site, str(site.root / "policies.d")) == 3
    out = capsys.readouterr().out
    assert "INCOMPLETE: 1 image with 1 decision could not be read now:\n" in out
    assert simulate(site, candidate(site)) == 1


def test_a_name_that_could_confuse_a_terminal_is_escaped(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.add("a\x1b[31m\u202eb.sif", CORPUS / "images" / HALF)
    simulate(site, candidate(site))
    out = capsys.readouterr().out
    assert "a\\x1b[31m\\u202eb.sif" in out
    assert "\x1b" not in out


def test_a_name_of_any_bytes_is_text_in_json(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"a\xff.sif")
    site.add(name, CORPUS / "images" / HALF)
    made = found(site, capsys, candidate(site))
    assert f"{site.root}/images/a\\xff.sif" in [change["image"] for change in made["changes"]]


def test_more_directories_can_be_named(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.configure()
    made = found(site, capsys, "--images", str(site.root / "images"), candidate(site))
    assert made["images"]["deny_to_allow"] == 1


def test_another_configuration_can_be_the_candidate(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    candidate(site)
    other = site.root / "other.yaml"
    other.write_text(site.config.read_text().replace("policies.d", "new"))
    made = found(site, capsys, "--new-config", str(other))
    assert [change["image"] for change in made["changes"]] == [site.image(HALF)]


def test_limit_lists_the_first_and_says_how_many_more_there_are(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.add("two.sif", Path(site.image(HALF)))
    assert simulate(site, "--limit", "1", candidate(site)) == 1
    assert capsys.readouterr().out.endswith("\n1 more; --limit 0 lists all\n")
    assert len(found(site, capsys, "--limit", "0", str(site.root / "new"))["changes"]) == 2


def test_lines_are_80_columns_wide_but_for_paths(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [record(site.image(HALF), uid=uid) for uid in range(100_000, 100_050)]
    log(site, *lines)
    simulate(site, candidate(site))
    simulate(site, "--revoke", "builder")
    out = capsys.readouterr().out.replace(str(site.root), "/r")
    assert [line for line in out.splitlines() if len(line) > 80] == []
    assert UNSIGNED not in out
