"""The documents say what is so: their policies load, their lists are whole, their links lead somewhere."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path

import pytest

from eclctl.cli.policy.command import run
from eclctl.model import Code
from eclctl.policy.language import HOLDS
from tests.helpers.support import CORPUS, ROOT, own_copy

RING = CORPUS / "keys" / "pgp" / "site-ring.asc"
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
POLICY = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_to_files(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text(encoding="utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


def headings(document: Path) -> set[str]:
    """The anchors that a document's headings have on GitHub."""
    prose = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_to_headings(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", document.read_text(encoding="utf-8"))
    pages = [(document.parent / link if link else document, heading) for link, heading in links]
    assert [(page.name, heading) for page, heading in pages if heading not in headings(page)] == []


FILES = {"yaml", "yml", "json", "toml", "md", "py", "sh", "conf"}


def is_code(name: str) -> bool:
    """Whether a dotted name is a module of eclctl, or a function, method, class or constant of one."""
    place, rest = ROOT / "eclctl", name.split(".")
    while rest and (place / rest[0]).is_dir():
        place = place / rest.pop(0)
    if rest and (place / f"{rest[0]}.py").is_file():
        place = place / f"{rest.pop(0)}.py"
    if not rest:
        return True
    source = (place / "__init__.py" if place.is_dir() else place).read_text(encoding="utf-8")
    return (
        re.search(rf"^(?: {{4}})?(?:async )?(?:def|class) {rest[0]}\b|^{rest[0]} ?[:=]", source, re.MULTILINE)
        is not None
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_code_that_documents_name_exists(document: Path) -> None:
    packages = {path.stem for path in (ROOT / "eclctl").iterdir()}
    text = document.read_text(encoding="utf-8")
    files = re.findall(r"`([a-z_]+/[a-z_/]+\.py)", text)
    assert [file for file in files if not any((ROOT / top / file).is_file() for top in ("", "eclctl", "tests"))] == []
    names = re.findall(r"`([a-z_]+(?:\.[A-Za-z_]+)+)`", text)
    code = [name for name in names if name.split(".")[0] in packages and name.rpartition(".")[2] not in FILES]
    assert [name for name in code if not is_code(name)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_policies_in_documents_load_without_a_warning(
    document: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in re.findall(r"```yaml\n(version: 1\n.*?)```", document.read_text(encoding="utf-8"), re.DOTALL):
        if "rules:" in text:
            path = tmp_path / "policy.yaml"
            path.write_text(text, encoding="utf-8")
            path.chmod(0o644)
            assert run(["check", "--keyring", str(own_copy(RING, tmp_path)), str(path)]) == 0
            assert ", 0 warnings (" in capsys.readouterr().out


def test_the_policy_language_lists_every_word_of_holds() -> None:
    listed = re.search(r"use and file system:\n(.*?)\.\n", POLICY, re.DOTALL)
    assert listed is not None
    assert tuple(re.findall(r"`([^`]+)`", listed[1])) == HOLDS


def test_every_code_of_a_decision_is_in_the_protocol_document() -> None:
    text = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    assert [code for code in Code if f"`{code}`" not in text] == []


def attack_rows() -> dict[str, list[str]]:
    """The tests that docs/attacks.md names for each attack, `file::pattern`."""
    text = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8").split("Not yet")[0]
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")][1:]
    return {row[0].strip(): re.findall(r"`([^`]+\.py::[^`]+)`", row[2]) for row in rows}


def functions(file: str) -> list[str]:
    return re.findall(r"^(?:async )?def (test_\w+)", (ROOT / "tests" / file).read_text(encoding="utf-8"), re.MULTILINE)


ATTACKS = attack_rows()


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_has_the_tests_that_the_list_names(attack: str) -> None:
    assert ATTACKS[attack]
    for test in ATTACKS[attack]:
        file, pattern = test.split("::")
        assert fnmatch.filter(functions(file), pattern), test


def test_every_test_of_an_attack_is_in_the_list() -> None:
    listed = [test.split("::") for tests in ATTACKS.values() for test in tests]
    for path in (ROOT / "tests" / "attacks").glob("test_*.py"):
        patterns = [pattern for file, pattern in listed if file == f"attacks/{path.name}"]
        found = {name for pattern in patterns for name in fnmatch.filter(functions(f"attacks/{path.name}"), pattern)}
        assert found == set(functions(f"attacks/{path.name}"))
