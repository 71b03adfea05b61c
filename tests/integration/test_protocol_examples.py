"""The programs in docs/protocol.md run as they stand there, as a user, and are right about every answer.

Only the paths of the daemon's socket and of `eclctl` are put in. Where the tests run as root, the programs run as
another user in a mount namespace of their own, since the tests' interpreter may lie where only root can read it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.site import APPROVED, HALF, PATIENCE, Site
from tests.helpers.support import ROOT

NOBODY = 65534
PAGE = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
SUFFIXES = {"python": "py", "perl": "pl", "sh": "sh", "lua": "lua"}
PROGRAMS = {"python": "python", "perl": "perl", "sh": "sh", "lua5.1": "lua", "lua5.4": "lua"}
BIND = 'mount --bind "$1" "$2" && mount --bind "$3" "$4" && shift 4 && exec "$@"'
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]

NAMES = [b"a 'b' \"c\" $(false) ;\n\\n %s.sif", "\u00e9\u2028.sif".encode(), b"\xff\xed\xb2\x80.sif", b"-q"]


class User:
    """Runs the page's programs as a user of a site."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.folder = site.root / "user"
        self.folder.mkdir()
        self.root = os.geteuid() == 0
        self._prefix: list[str] = []
        self._python, code = sys.executable, ROOT
        environment = {"PATH": os.environ["PATH"]}
        if self.root:
            for program in ("unshare", "setpriv", "mount"):
                if shutil.which(program) is None:
                    pytest.skip(f"needs {program}")
            prefix, code = self.folder / "python", self.folder / "code"
            for point in (prefix, code / "eclctl"):
                point.mkdir(parents=True)
            binds = [sys.base_prefix, str(prefix), str(ROOT / "eclctl"), str(code / "eclctl")]
            self._prefix = ["unshare", "-m", "--propagation", "private", "sh", "-c", BIND, "sh", *binds, *AS_NOBODY]
            interpreter = os.path.realpath(sys.executable)
            self._python = str(prefix / os.path.relpath(interpreter, os.path.realpath(sys.base_prefix)))
            if sysconfig.get_config_var("Py_ENABLE_SHARED"):
                environment["LD_LIBRARY_PATH"] = str(prefix / "lib")
        self._environment = environment
        self._eclctl(code)

    def _eclctl(self, code: Path) -> None:
        """Put an `eclctl` into place that asks this site's daemon, and is found where the page says it is."""
        main = "import sys; from eclctl.cli.entry import main; sys.exit(main())"
        words = shlex.join([self._python, "-c", main, "check", "--socket", self.site.check_socket])
        path = self.folder / "eclctl"
        path.write_text(f'#!/bin/sh\nshift\nexport PYTHONPATH={shlex.quote(str(code))}\nexec {words} "$@"\n')
        path.chmod(0o755)

    def run(self, program: str, *arguments: str | bytes, cwd: Path | None = None) -> int:
        """Run the page's program for this interpreter; return its exit status."""
        language = PROGRAMS[program]
        if language != "python" and shutil.which(program) is None:
            pytest.skip(f"needs {program}")
        path = self.folder / f"example.{SUFFIXES[language]}"
        path.write_text(self._filled(language), encoding="utf-8")
        path.chmod(0o644)
        done = subprocess.run(
            [*self._prefix, self._python if language == "python" else program, path, *arguments],
            env=self._environment,
            cwd=cwd or self.site.root,
            capture_output=True,
            check=False,
            timeout=PATIENCE,
        )
        print(done.stdout, done.stderr)  # which pytest shows for a test that failed
        return done.returncode

    def _filled(self, language: str) -> str:
        (text,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
        assert ("/run/eclctl/eclctl.sock" in text) != ("/usr/bin/eclctl " in text)
        text = text.replace("/run/eclctl/eclctl.sock", self.site.check_socket)
        return str(text.replace("/usr/bin/eclctl ", f"{self.folder / 'eclctl'} "))

    def last_uid(self) -> int:
        return int(self.site.audit()[-1]["uid"])


@pytest.fixture(scope="module")
def user() -> Iterator[User]:
    made = Site()
    try:
        yield User(made.start())
    finally:
        made.close()


every_program = pytest.mark.parametrize("program", PROGRAMS)


@every_program
def test_an_approved_image_may_run_and_the_kernel_says_who_asked(user: User, program: str) -> None:
    assert user.run(program, user.site.image(APPROVED)) == 0
    assert user.last_uid() == (NOBODY if user.root else os.getuid())


@every_program
def test_what_is_denied_may_not_run(user: User, program: str) -> None:
    assert user.run(program, user.site.image(HALF)) != 0
    assert user.site.audit()[-1]["code"] == "requirements-not-met"


@every_program
@pytest.mark.parametrize(
    "name", [b"a 'b' \"c\" $(false) ;\n\\n %s.sif", "\u00e9\u2028.sif".encode(), b"\xff\xed\xb2\x80.sif", b"-q"]
)
def test_any_name_is_asked_for_as_it_is(user: User, program: str, name: bytes) -> None:
    images = user.site.root / "images"
    for source, allowed in ((APPROVED, True), (HALF, False)):
        path = images / os.fsdecode(name)
        shutil.copyfile(images / source, path)
        try:
            assert (user.run(program, os.fsencode(path)) == 0) is allowed
            assert user.site.audit()[-1]["image"] == str(path)
            assert user.site.audit()[-1]["decision"] == ("allow" if allowed else "deny")
            assert (user.run(program, b"./" + name, cwd=images) == 0) is allowed
        finally:
            path.unlink()


@every_program
def test_a_relative_name_is_taken_from_the_current_directory(user: User, program: str) -> None:
    assert user.run(program, APPROVED, cwd=user.site.root / "images") == 0
    assert user.site.audit()[-1]["image"] == user.site.image(APPROVED)
    assert user.run(program, APPROVED, cwd=user.site.root) != 0


@every_program
def test_what_cannot_be_opened_may_not_run(user: User, program: str) -> None:
    decided = len(user.site.audit())
    assert user.run(program, user.site.image("missing.sif")) != 0
    assert user.run(program) != 0
    secret = user.site.add("secret.sif", user.site.root / "images" / APPROVED)
    secret.chmod(0o600 if user.root else 0)
    if user.root or os.geteuid() != 0:
        assert user.run(program, str(secret)) != 0
    assert len(user.site.audit()) == decided


@every_program
def test_a_fifo_does_not_hang_and_may_not_run(user: User, program: str) -> None:
    fifo = user.site.image(f"fifo-{program}")
    os.mkfifo(fifo)
    os.chmod(fifo, 0o644)
    assert user.run(program, fifo) != 0


@every_program
def test_without_a_daemon_nothing_may_run(program: str) -> None:
    site = Site()
    try:
        user = User(site.start())
        assert user.run(program, site.image(APPROVED)) == 0
        site.stop()
        assert user.run(program, site.image(APPROVED)) != 0
    finally:
        site.close()


@pytest.mark.parametrize("program", [name for name, language in PROGRAMS.items() if language in {"sh", "lua"}])
@pytest.mark.parametrize("body", ["exit 1", "exit 2", "exit 3", "exit 255", "kill -9 $$", None])
def test_every_end_of_eclctl_but_exit_status_0_is_deny(program: str, body: str | None) -> None:
    site = Site()
    try:
        user = User(site)
        eclctl = user.folder / "eclctl"
        if body is None:
            eclctl.unlink()
        else:
            eclctl.write_text(f"#!/bin/sh\n{body}\n")
        assert user.run(program, site.image(APPROVED)) != 0
        eclctl.write_text("#!/bin/sh\nexit 0\n")
        eclctl.chmod(0o755)
        assert user.run(program, site.image(APPROVED)) == 0
    finally:
        site.close()


ANSWERS = [
    b"",
    b"\n",
    b"nonsense\n",
    b"[]\n",
    b'"allow"\n',
    b'{"v":1,"id":"1","error":{"code":"not-permitted","message":"allow"}}\n',
    b'{"v":1,"id":"1","result":"allow"}\n',
    b'{"v":1,"id":"1","result":{"decision":"deny","reason":"allow"}}\n',
    b'{"v":1,"id":"1","result":{"decision":["allow"]}}\n',
    b'{"v":1,"id":"1","result":{}}\n',
    b'{"v":1,"id":"1","result":null}\n',
    b'{"v":1,"id":"1","result":{"decision":"allow"',
]
ALLOW = b'{"v":1,"id":"1","result":{"decision":"allow"}}\n'


@contextlib.contextmanager
def daemon_that_says(path: str, answer: bytes) -> Iterator[list[tuple[dict, tuple[int, int]]]]:
    """Answer each connection the same; tell what was asked, and which file came with it."""
    asked: list[tuple[dict, tuple[int, int]]] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = listener.accept()
                with peer:
                    line, descriptors, _, _ = socket.recv_fds(peer, 65536, 4)
                    (status,) = [os.fstat(descriptor) for descriptor in descriptors]
                    os.close(descriptors[0])
                    asked.append((json.loads(line), (status.st_dev, status.st_ino)))
                    peer.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        os.chmod(path, 0o666)
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield asked
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)


@pytest.mark.parametrize("program", ["python", "perl"])
def test_every_answer_but_allow_is_deny(program: str) -> None:
    site = Site()
    try:
        user = User(site)
        os.mkdir(site.root / "run")
        image = os.stat(site.image(APPROVED))
        for answer in (*ANSWERS, ALLOW):
            with daemon_that_says(site.check_socket, answer) as asked:
                assert (user.run(program, site.image(APPROVED)) == 0) is (answer == ALLOW), answer
            ((request, file),) = asked
            assert request["parameters"] == {"image": site.image(APPROVED), "fd": True}
            assert file == (image.st_dev, image.st_ino)
            os.unlink(site.check_socket)
    finally:
        site.close()
