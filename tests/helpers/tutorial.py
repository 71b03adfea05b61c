"""Runs the sessions of docs/tutorial.md at a terminal: `python -m tests.helpers.tutorial` writes them anew.

A session is a fenced block of `console`: lines after `$ ` are commands, those after `> ` continue one, and what stands
below is what the terminal showed. Prompts are answered as `ANSWERS` says. What differs from run to run (keys, times,
ports) is compared by its shape, and by being the same wherever it stands for the same thing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import secrets
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.keyservers import Onak
from tests.helpers.openssl import responder
from tests.helpers.pki import INTERMEDIATE, Authority
from tests.helpers.registries import RealRegistry
from tests.helpers.servers import free_port
from tests.helpers.support import CORPUS, ROOT

PAGE = ROOT / "docs" / "tutorial.md"
PATIENCE = 120.0
_BLOCK = re.compile(r"(?<=^```console\n)(.*?)(?=^```$)", re.DOTALL | re.MULTILINE)

ANSWERS = (
    (re.compile(r"[Nn]ame[^\n]*: $"), "Joe User"),
    (re.compile(r"[Ee]mail[^\n]*: $"), "joe@site.example"),
    (re.compile(r"[Cc]omment[^\n]*: $"), "demo"),
    (re.compile(r"(?i)(passphrase|password)[^\n]*: ?$"), "correct horse battery staple"),
    (re.compile(r"\[[yY]/[nN]\][^\n]*$"), "y"),
)

_HOME = "/home/joe"
_KEYSERVER, _REGISTRY = "localhost:11371", "localhost:5000"

_VARYING: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("digest", re.compile(r"\b[0-9a-f]{64}\b")),
    ("short digest", re.compile(r"(?<=sha256:)[0-9a-f]{16}\b")),
    ("fingerprint", re.compile(r"\b[0-9A-F]{40}\b")),
    ("key ID", re.compile(r"\b[0-9A-F]{16}\b")),
    ("key ID", re.compile(r"\b[0-9A-F]{8}\b")),
    ("time", re.compile(r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z| \+0000 UTC)?)?")),
    ("timestamp", re.compile(r'(?<="timestamp":)\d+')),
    ("position", re.compile(r"\b\d{4,}-\d{4,} *")),
    ("seconds", re.compile(r"\b\d+(?:\.\d+)? m?s\b")),
    ("size", re.compile(r"\b\d+(?:\.\d+)? (?:B|[KMG]iB)\b")),
)


@dataclass(frozen=True)
class Command:
    """What is typed, without prompts, and what the page says that it shows."""

    text: str
    shown: str


def commands(block: str) -> list[Command]:
    """Take a session apart."""
    found: list[Command] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append(Command(line[2:], ""))
        elif line.startswith("> ") and not found[-1].shown:
            found[-1] = Command(f"{found[-1].text}\n{line[2:]}", "")
        else:
            found[-1] = Command(found[-1].text, f"{found[-1].shown}{line}\n")
    return found


def written(command: Command) -> str:
    """The inverse of `commands`, for one."""
    return "$ " + command.text.replace("\n", "\n> ") + "\n" + command.shown


def sessions(page: str) -> list[list[Command]]:
    """Every command of a page, by session."""
    return [commands(block) for block in _BLOCK.findall(page)]


def shape(text: str) -> str:
    """Replace what varies by what it is, numbered in the order in which it first occurs; where lines break is left out.

    Lines break where paths end, and paths are longer here and there.
    """
    for name, pattern in _VARYING:
        known: dict[str, int] = {}
        numbered = name in {"digest", "fingerprint", "key ID"}

        def named(match: re.Match[str], name: str = name, known: dict[str, int] = known, *, by: bool = numbered) -> str:
            return f"<{name} {known.setdefault(match[0], len(known))}>" if by else f"<{name}>"

        text = pattern.sub(named, text)
    return " ".join(text.replace("│", " ").split())


class Place:
    """A home directory with what a reader is told to have, and the servers that the page names."""

    def __init__(self, home: Path, names: dict[str, str]) -> None:
        self.home = home
        self._names = names

    def run(self, command: str) -> str:
        """Type a command; return what the terminal showed until it ended, with the page's names."""
        for page, real in self._names.items():
            command = command.replace(page, real)
        shown = _typed(["bash", "-c", command], self.home, self._environment())
        for page, real in self._names.items():
            shown = shown.replace(real, page)
        return shown

    def _environment(self) -> dict[str, str]:
        programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {"HOME": str(self.home), "PATH": programs, "LC_ALL": "C.UTF-8", "TERM": "dumb", "TZ": "UTC"}


@contextmanager
def place() -> Iterator[Place]:
    """Make the place of the page: images, certificates of a site's authority, a keyserver, a registry, a responder."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tutorial")))
        home = stack.enter_context(_short_home())
        for name, source in (("app.sif", "images/one-unsigned.sif"), ("app.oci.sif", "oci/app-unsigned.oci.sif")):
            shutil.copyfile(CORPUS / source, home / name)
        keyserver = stack.enter_context(Onak(folder))
        (folder / "registry").mkdir()
        registry = stack.enter_context(RealRegistry(folder / "registry"))
        stack.enter_context(_authority(folder, home))
        yield Place(home, {_HOME: str(home), _KEYSERVER: f"127.0.0.1:{keyserver.port}", _REGISTRY: registry.host})


@contextmanager
def _short_home() -> Iterator[Path]:
    """Make a directory whose path is as long as the page's, where there is room: so lines break where they do there."""
    while True:
        path = Path(tempfile.gettempdir(), secrets.token_hex(2))
        with contextlib.suppress(FileExistsError):
            path.mkdir(0o700)
            break
    try:
        yield path
    finally:
        shutil.rmtree(path)


@contextmanager
def _authority(folder: Path, home: Path) -> Iterator[None]:
    """Write a certificate for code signing with what is above it, and serve the status of each."""
    ports = [free_port(), free_port()]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    authority = Authority([urls[0]])
    leaf = authority.leaf("ci", urls=[urls[1]])
    leaf.write(home, "ci")
    for name, issued in (("intermediate", authority.intermediate), ("root", authority.root)):
        (home / f"{name}.pem").write_bytes(issued.pem)
    with (
        responder(folder, "root", authority.root, {INTERMEDIATE: False}, port=ports[0]),
        responder(
            folder, "intermediate", authority.intermediate, {leaf.certificate.serial_number: False}, port=ports[1]
        ),
    ):
        yield


def _typed(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    """Run a command at a terminal of 80 columns, and answer what it asks."""
    ours, theirs = pty.openpty()
    with ExitStack() as stack:
        stack.callback(os.close, ours)
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
        process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *command],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=folder,
            env=environment,
        )
        stack.callback(process.wait, PATIENCE)
        stack.callback(process.kill)
        os.close(theirs)
        shown, asked = "", 0
        while part := _read(ours):
            shown += part
            answer = next((text for prompt, text in ANSWERS if prompt.search(shown, asked)), None)
            if answer is not None:
                asked = len(shown)
                os.write(ours, answer.encode() + b"\n")
        process.wait(PATIENCE)
    return _settled(shown)


def _read(terminal: int) -> str:
    """What the terminal shows next; nothing once everybody has closed it."""
    ready, _, _ = select.select([terminal], [], [], PATIENCE)
    assert ready, "the command neither shows anything nor ends"
    with contextlib.suppress(OSError):
        return os.read(terminal, 1 << 16).decode("utf-8", "replace")
    return ""


def _settled(shown: str) -> str:
    """What stays on the terminal: a line that was written over is what was written last."""
    lines = shown.replace("\r\n", "\n").split("\n")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2].rstrip() for line in lines)


def renewed(page: str, run: Callable[[str], str]) -> str:
    """Return the page with what its commands show now."""

    def session(match: re.Match[str]) -> str:
        return "".join(written(Command(one.text, run(one.text))) for one in commands(match[0]))

    return _BLOCK.sub(session, page)


if __name__ == "__main__":
    with place() as here:
        PAGE.write_text(renewed(PAGE.read_text(), here.run))
