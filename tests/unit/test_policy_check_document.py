"""The transcript in docs/policy-check.md is what the command prints of the policies beside it.

`python -m tests.unit.test_policy_check_document` writes it anew.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from eclctl.cli.policy.command import run
from tests.helpers.support import CORPUS, ROOT, own_copy

DOCUMENT = ROOT / "docs" / "policy-check.md"
_STEP = re.compile(
    r"```yaml\n# (?P<file>\S+)\n(?P<text>.*?)```|```console\n\$ eclctl (?P<command>[^\n]*)\n.*?```", re.DOTALL
)


def play(document: str) -> Iterator[str]:
    """Put each policy in place and run each command, in the current directory; yield what is printed."""
    for step in _STEP.finditer(document):
        if step["file"]:
            path = Path(step["file"])
            path.write_text(f"# {path}\n{step['text']}", encoding="utf-8")
            path.chmod(0o644)
            continue
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            run(step["command"].split()[1:])
        yield f"```console\n$ eclctl {step['command']}\n{output.getvalue()}```"


def transcript(document: str, folder: Path) -> list[str]:
    for name in ("policies.d", "keys.d"):
        (folder / name).mkdir(mode=0o755)
    own_copy(CORPUS / "keys" / "pgp" / "site-ring.asc", folder / "keys.d").chmod(0o644)
    with contextlib.chdir(folder):
        return list(play(document))


def test_the_transcript_is_what_the_command_prints(tmp_path: Path) -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    shown = [step[0] for step in _STEP.finditer(document) if step["command"]]
    assert transcript(document, tmp_path) == shown
    assert len(shown) == 3


def test_the_policy_is_mended_in_the_end() -> None:
    *_, last = re.findall(r"```console\n.*?```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert ", 0 warnings (" in last


if __name__ == "__main__":
    text = DOCUMENT.read_text(encoding="utf-8")
    os.umask(0o022)
    with tempfile.TemporaryDirectory() as made:
        outputs = iter(transcript(text, Path(made)))
    DOCUMENT.write_text(_STEP.sub(lambda step: next(outputs) if step["command"] else step[0], text), encoding="utf-8")
