"""Where passphrases and cosign's passwords come from: a descriptor, a variable, or the terminal.

Never from the command line, which other users of the host can see.
"""

from __future__ import annotations

import getpass
import os
import resource
import sys
from collections.abc import MutableMapping

from eclctl.cli.terminal.parser import whole_number
from eclctl.errors import KeyMaterialError
from eclctl.text import printable

VARIABLE = "ECLCTL_KEY_PASSPHRASE"
"""The variable that a passphrase may be in. It is taken out of the environment, so that no program started has it."""

COSIGN_VARIABLE = "COSIGN_PASSWORD"
"""The variable that cosign takes the password from; set and empty it is the empty password."""

_LONGEST = 4096


class Passphrases:
    """Gives passphrases for keys, as they are needed.

    Args:
        descriptor: Read from here, one line for each key that needs one; the last line serves the keys that are left.
        environ: Holds `VARIABLE`, perhaps, which is removed.
        ask: Whether the user at the terminal may be asked, for this or for anything else; kept as `asks`.
    """

    def __init__(self, descriptor: int | None, environ: MutableMapping[str, str], *, ask: bool) -> None:
        # A process that crashes, or is sent SIGQUIT at the prompt, would leave a file with the passphrase in it.
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        self._descriptor = descriptor
        self._variable = environ.pop(VARIABLE, None)
        self.asks = ask
        self._last: str | None = None

    def get(self, what: str, prompt: str = "Enter key passphrase : ") -> str:
        """Return the passphrase for a key.

        Args:
            what: The key, for messages.
            prompt: What is shown at the terminal.

        Raises:
            KeyMaterialError: There is none, and there is no terminal to ask at.
        """
        if self._descriptor is not None:
            return self._line(self._descriptor, what)
        if self._variable is not None:
            return self._variable
        if not self.asks:
            raise KeyMaterialError(
                f"{printable(what)} has a passphrase; give it with --passphrase-fd N or in ${VARIABLE}"
            )
        try:
            return getpass.getpass(prompt)
        except EOFError:
            raise KeyMaterialError(f"no passphrase was entered for {printable(what)}") from None
        except UnicodeDecodeError:  # it would show part of the passphrase; `from None` leaves it out of any report
            raise KeyMaterialError(
                f"what was typed for {printable(what)} is no text in this terminal's encoding; give such a passphrase"
                " with --passphrase-fd N"
            ) from None

    def _line(self, descriptor: int, what: str) -> str:
        """Return the next line, read byte by byte: what comes after it is not ours."""
        line = bytearray()
        try:
            while (byte := os.read(descriptor, 1)) not in {b"", b"\n"} and len(line) <= _LONGEST:
                line += byte
        except OSError as error:
            raise KeyMaterialError(
                f"no passphrase can be read from descriptor {descriptor}: {error.strerror}"
            ) from error
        if len(line) > _LONGEST:
            raise KeyMaterialError(f"the passphrase on descriptor {descriptor} is longer than {_LONGEST} bytes")
        if line or byte:
            self._last = line.decode("utf-8", "surrogateescape")
        if self._last is None:
            raise KeyMaterialError(f"descriptor {descriptor} ended before a passphrase for {printable(what)} came")
        return self._last


class Passwords:
    """The passwords of the cosign keys of one command.

    Args:
        descriptor: Read from here, one line for each key; the last line serves the keys that are left.
        environ: Holds `COSIGN_VARIABLE`, perhaps, which is taken out of it.
        ask: Whether the user at the terminal may be asked; by default when there is a terminal.
    """

    def __init__(self, descriptor: int | None, environ: MutableMapping[str, str], *, ask: bool | None = None) -> None:
        self._variable = environ.pop(COSIGN_VARIABLE, None)
        self._typed = descriptor is None and self._variable is None and VARIABLE not in environ
        self._passphrases = Passphrases(descriptor, environ, ask=at_terminal() if ask is None else ask)
        self._descriptor = descriptor

    def of(self, path: str) -> bytes:
        """Return the password of the key in a file.

        Raises:
            KeyMaterialError: There is none to be had.
        """
        return self._get(path, f"Enter password for private key {printable(path)}: ")

    def new(self, path: str) -> bytes:
        """Return the password of a key that is being made for a file; one that is typed is typed twice.

        Raises:
            KeyMaterialError: There is none to be had, or two different ones were typed.
        """
        first = self._get(path, "Enter password for private key: ")
        if self._typed and self._get(path, "Enter password for private key again: ") != first:
            raise KeyMaterialError("two different passwords were typed; nothing was written")
        return first

    def _get(self, path: str, prompt: str) -> bytes:
        if self._descriptor is None and self._variable is not None:
            text = self._variable
        elif self._typed and not self._passphrases.asks:
            raise KeyMaterialError(
                f"{path}: a password is needed, and there is no terminal to ask at: give it with --passphrase-fd"
                f" or in {COSIGN_VARIABLE}"
            )
        else:
            text = self._passphrases.get(path, prompt)
        return text.encode("utf-8", "surrogateescape")


descriptor = whole_number(0, 1 << 20)
"""Parses the number of a descriptor for a parser, as high as the kernel lets a process have it (fs.nr_open)."""


def at_terminal() -> bool:
    """Whether there is a terminal to ask at."""
    return sys.stdin is not None and sys.stdin.isatty()
