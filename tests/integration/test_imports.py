"""Which modules a command imports: those that it uses. `test_daemon_commands` has the same for `eclctl check`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.support import CORPUS, ROOT

IMAGE = str(CORPUS / "images" / "one-builder.sif")
RING = str(CORPUS / "keys" / "pgp" / "approval-ring.asc")
POLICY = """\
version: 1
signers:
  builder: {pgp: [81F111F6190C46143937EF7C22BC3A3BC942487F]}
rules:
  - name: production
    match: {paths: [/srv/**]}
    require: [{any_of: [builder]}]
"""
NEVER = {
    "aiohttp",
    "asyncio",
    "concurrent.futures",
    "cryptography.x509",
    "eclctl.daemon",
    "eclctl.local",
    "eclctl.remote",
    "email",
    "logging",
    "pathlib",
    "prometheus_client",
    "rich",
    "shutil",
    "socket",
    "ssl",
    "structlog",
    "subprocess",
    "tomllib",
    "watchdog",
}
"""What none of these commands needs: network, event loop, logging, X.509, and the standard library's heavy modules."""

_RUN = """\
import sys
_, names, *arguments = sys.argv
sys.argv = ["eclctl", *arguments]
from eclctl.cli.entry import main
status = main()
with open(names, "w") as file:
    print(*sys.modules, file=file)
sys.exit(status)
"""


@pytest.fixture
def imported(tmp_path: Path) -> Callable[..., set[str]]:
    """A function that runs a command, which must succeed, and returns the names of all modules that it imported."""
    # -S: the environment of the tests may have hooks that import more as the interpreter starts.
    paths = os.pathsep.join((str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))))
    listing = tmp_path / "modules.txt"

    def run(*arguments: str) -> set[str]:
        command = [sys.executable, "-S", "-c", _RUN, str(listing), *arguments]
        subprocess.run(command, check=True, capture_output=True, env=os.environ | {"PYTHONPATH": paths}, timeout=60)
        return set(listing.read_text().split())

    return run


def test_verify_imports_neither_x509_nor_yaml(imported: Callable[..., set[str]]) -> None:
    names = imported("verify", "--local", "--keyring", RING, IMAGE)
    assert names & (NEVER | {"yaml", "eclctl.config.settings", "eclctl.model", "eclctl.policy"}) == set()
    assert {"cryptography", "eclctl.verify.reference"} <= names


def test_policy_check_imports_neither_x509_nor_the_daemon(imported: Callable[..., set[str]], tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    names = imported("policy", "check", "--keyring", RING, str(tmp_path / "policy.yaml"))
    assert names & (NEVER | {"difflib", "platform", "zoneinfo", "eclctl.model", "eclctl.verify"}) == set()
    assert {"yaml", "eclctl.policy.lint"} <= names


def test_keys_list_imports_neither_x509_nor_yaml(imported: Callable[..., set[str]], tmp_path: Path) -> None:
    imported("keys", "import", "--keyring-dir", str(tmp_path / "ring"), RING)
    names = imported("keys", "list", "--keyring-dir", str(tmp_path / "ring"))
    assert names & (NEVER | {"yaml", "eclctl.config", "eclctl.model", "eclctl.policy", "eclctl.verify"}) == set()
    assert {"cryptography", "eclctl.sign.keyrings.rings"} <= names


def test_sif_list_imports_no_cryptography_at_all(imported: Callable[..., set[str]]) -> None:
    names = imported("sif", "list", IMAGE)
    light = {"cryptography", "dataclasses", "hashlib", "json", "yaml", "eclctl.model", "eclctl.signature"}
    assert names & (NEVER | light) == set()
    assert "eclctl.sif.inspect" in names


@pytest.mark.parametrize("group", ["keys", "policy", "sif"])
def test_a_group_imports_only_the_command_that_is_given(imported: Callable[..., set[str]], group: str) -> None:
    parts = ROOT / "eclctl" / "cli" / group
    arguments = {"keys": ["search"], "policy": ["schema"], "sif": ["list"]}[group]
    own = {f"eclctl.cli.{group}.{path.stem}" for path in parts.glob("*.py")}
    commands = own & imported(group, *arguments, "--help")
    assert f"eclctl.cli.{group}.{arguments[0]}" in commands
    assert len(commands) < len(own) / 2 + 1
    assert len(own & imported(group, "--help")) > len(own) / 2 + 1
