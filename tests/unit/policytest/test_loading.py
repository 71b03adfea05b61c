"""Where tests lie, and that the daemon never takes them for policies."""

from __future__ import annotations

import shutil
from pathlib import Path

from eclctl.config.settings import Settings
from eclctl.decide.snapshot import build
from eclctl.files.guarded import expand, read_guarded
from eclctl.policytest.loading import beside_policies, load_tests
from tests.helpers.policy_tests import HEAD, HOST, loaded, one, write
from tests.helpers.support import CORPUS, NOW


def test_tests_lie_in_a_directory_beside_policy_files_and_in_policy_directories(tmp_path: Path) -> None:
    folder = write(tmp_path, one(""))
    assert beside_policies((folder, f"{folder}/a.yaml", str(tmp_path))) == (f"{folder}/tests",)


def test_the_daemon_does_not_see_beside_policies_policies(tmp_path: Path) -> None:
    folder = write(tmp_path, one(""))
    assert expand((folder,), (".yaml", ".yml")) == [f"{folder}/a.yaml"]


def test_a_file_of_tests_that_is_named_as_a_policy_does_not_load(tmp_path: Path) -> None:
    folder = write(tmp_path, one(""))
    (tmp_path / "p" / "tests" / "t.yaml").chmod(0o644)
    built = build(Settings("", "", "", (f"{folder}/tests",), ()), HOST, generation=1, now=NOW)
    assert built.snapshot is None
    assert any("'tests'" in problem.message for problem in built.errors)


def test_errors_of_the_policy_and_of_the_tests_are_said_together(tmp_path: Path) -> None:
    made = loaded(tmp_path, "  - {nam: x}\n", "rulez: []\n", HEAD.replace("version: 1", "version: 2"))
    assert [Path(problem.file).name for problem in made.errors] == ["a.yaml", "t.yaml"]
    assert made.snapshot is None
    assert made.cases == ()


def test_errors_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    made = loaded(tmp_path, one("signatures: [{by: bilder, with: pgq}]\nrole: X") + one("ocsp: x", name="second"))
    places = [(problem.line, problem.column) for problem in made.errors]
    assert len(places) == 4
    assert places == sorted(places)


def test_keyrings_of_the_settings_replace_those_of_the_tests(tmp_path: Path) -> None:
    folder = write(tmp_path, one(""))
    settings = Settings("", "", "", (folder,), (str(CORPUS / "keys" / "pgp" / "builder.asc"),))
    made = load_tests(settings, beside_policies((folder,)), HOST, now=NOW, read=read_guarded)
    assert made.errors


def test_keyrings_of_several_files_add_up_and_are_relative_to_the_file(tmp_path: Path) -> None:
    folder = Path(
        write(tmp_path, one(""), head=HEAD.replace(str(CORPUS / "keys" / "pgp" / "site-ring.asc"), "../a.asc"))
    )
    (folder / "tests" / "u.yaml").write_text("version: 1\nkeyrings: [../b]\ntests:\n" + one("path: /a"))
    (folder / "b").mkdir()
    shutil.copyfile(CORPUS / "keys" / "pgp" / "builder.asc", folder / "a.asc")
    shutil.copyfile(CORPUS / "keys" / "pgp" / "site-ring.asc", folder / "b" / "ring.asc")
    settings = Settings("", "", "", (str(folder),), ())
    made = load_tests(
        settings, beside_policies((str(folder),)), HOST, now=NOW, read=lambda path, limit=0: Path(path).read_bytes()
    )
    assert made.errors == ()
    assert [case.mark.file.rpartition("/")[2] for case in made.cases] == ["t.yaml", "u.yaml"]


def test_a_file_of_tests_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    folder = write(tmp_path, one(""))
    made = load_tests(Settings("", "", "", (folder,), ()), (f"{folder}/none.yaml",), HOST, now=NOW, read=read_guarded)
    assert f"{folder}/none.yaml: the file of tests cannot be opened: No such file or directory" in map(str, made.errors)
