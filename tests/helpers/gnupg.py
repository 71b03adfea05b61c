"""Real GnuPG for tests: homes of their own, with agents that are ended afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

GPG = shutil.which("gpg")
needs_gpg = pytest.mark.skipif(GPG is None or shutil.which("gpg-agent") is None, reason="needs gpg and gpg-agent")
PATIENCE = 120.0

_PINENTRY = """#!/bin/sh
echo "OK ready"
while read -r command rest; do
  case "$command" in
    GETPIN) echo asked >> "{log}"; echo "D {passphrase}"; echo OK ;;
    BYE) echo OK; exit 0 ;;
    *) echo OK ;;
  esac
done
"""


class Home:
    """A GnuPG home. Keys made in it have `passphrase`, or none."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, *arguments: str | Path, stdin: bytes | None = None, passphrase: str = "") -> bytes:
        command = [GPG, "--homedir", self.path, "--batch", "--no-tty", "--trust-model", "always"]
        command += ["--pinentry-mode", "loopback", "--passphrase", passphrase]
        found = subprocess.run(
            [*command, *arguments],
            input=stdin,
            capture_output=True,
            check=False,
            timeout=PATIENCE,
            env=self.environment,
        )
        assert found.returncode == 0, found.stderr.decode("utf-8", "replace")
        return found.stdout

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(self.path)}

    def make(self, user_id: str, kind: str = "ed25519", usage: str = "sign", passphrase: str = "") -> str:
        """Make a key; return its fingerprint."""
        before = set(self.fingerprints())
        self.run("--quick-generate-key", user_id, kind, usage, "0", passphrase=passphrase)
        (made,) = set(self.fingerprints()) - before
        return made

    def fingerprints(self) -> list[str]:
        """The primary fingerprints of all certificates, in their order."""
        lines = [line.split(":") for line in self.run("--with-colons", "--list-keys").decode().splitlines()]
        return [after[9] for line, after in pairwise(lines) if line[0] == "pub"]

    def answer_with(self, passphrase: str) -> Path:
        """Let a pinentry give this passphrase; return the file in which it writes a line each time it is asked."""
        log, program = self.path / "asked", self.path / "pinentry"
        program.write_text(_PINENTRY.format(log=log, passphrase=passphrase))
        program.chmod(0o700)
        (self.path / "gpg-agent.conf").write_text(f"pinentry-program {program}\nno-allow-loopback-pinentry\n")
        self.kill()
        return log

    def kill(self) -> None:
        """End the agent."""
        command = ["gpgconf", "--homedir", self.path, "--kill", "all"]
        subprocess.run(command, check=False, capture_output=True, timeout=PATIENCE, env=self.environment)


@contextmanager
def gnupg_home() -> Iterator[Home]:
    """Yield a home on a path that is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="gpg") as folder:
        home = Home(Path(folder))
        try:
            yield home
        finally:
            home.kill()
