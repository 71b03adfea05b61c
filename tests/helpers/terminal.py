"""A terminal for tests: a command that takes it for a user at a terminal, what it asks, and what it is told."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys

from tests.helpers.site import ECLCTL

PATIENCE = 120.0

_AT_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """A command at a terminal of its own, which it is asked at, and what it has printed."""

    def __init__(self, *arguments: object) -> None:
        self._terminal, end = pty.openpty()
        command = [sys.executable, "-c", _AT_TERMINAL, *ECLCTL, *map(str, arguments)]
        self._process = subprocess.Popen(command, stdin=end, stdout=end, stderr=end)
        os.close(end)
        self.text = ""

    def expect(self, pattern: str) -> None:
        """Wait until it has printed something."""
        while not re.search(pattern, self.text):
            assert self._read(), self.text

    def answer(self, text: str) -> None:
        """Type a line."""
        self.type(text.encode() + b"\n")

    def type(self, data: bytes) -> None:
        """Type what need not be text."""
        self.text = ""
        os.write(self._terminal, data)

    def end(self) -> int:
        """Wait for the end; return the exit status."""
        while self._read():
            pass
        os.close(self._terminal)
        return self._process.wait(PATIENCE)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._terminal], [], [], PATIENCE)
        if not ready:
            self._process.kill()
        try:
            found = os.read(self._terminal, 4096)
        except OSError:  # the other end is closed
            return False
        self.text += found.decode("utf-8", "replace")
        return bool(found)
