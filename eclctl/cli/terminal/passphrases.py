"""Where passphrases come from: a descriptor, a variable, or the terminal. Never from the command line."""

from __future__ import annotations

import argparse
import getpass
import os
import resource
import sys
from collections.abc import MutableMapping

from eclctl.errors import KeyMaterialError
from eclctl.text import bounded_integer, printable

__all__ = ["VARIABLE", "Passphrases", "at_terminal", "descriptor"]

VARIABLE = "ECLCTL_KEY_PASSPHRASE"
"""The variable that a passphrase may be in. It is taken out of the environment, so that no program started has it."""

_LONGEST = 4096
_MOST_DESCRIPTORS = 1 << 20  # what the kernel lets a process have (fs.nr_open) unless an administrator raised it


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


def descriptor(text: str) -> int:
    """Parse the number of a descriptor for a parser."""
    number = bounded_integer(text, 0, _MOST_DESCRIPTORS)
    if number is None:
        raise argparse.ArgumentTypeError(f"{printable(text[:32])} is no file descriptor")
    return number


def at_terminal() -> bool:
    """Whether there is a terminal to ask at."""
    return sys.stdin is not None and sys.stdin.isatty()
