"""Where the passwords of cosign's keys come from: a descriptor, the variable that cosign reads, or the terminal."""

from __future__ import annotations

from collections.abc import MutableMapping

from eclctl.cli.terminal.passphrases import VARIABLE, Passphrases, at_terminal
from eclctl.errors import KeyMaterialError
from eclctl.text import printable

__all__ = ["COSIGN_VARIABLE", "Passwords"]

COSIGN_VARIABLE = "COSIGN_PASSWORD"
"""The variable that cosign takes the password from; set and empty it is the empty password."""


class Passwords:
    """The passwords of the keys of one command.

    Args:
        descriptor: Read from here, one line for each key; the last line serves the keys that are left.
        environ: Holds `COSIGN_VARIABLE`, perhaps, which is taken out of it.
        ask: Whether the user at the terminal may be asked; by default when there is a terminal.
    """

    def __init__(self, descriptor: int | None, environ: MutableMapping[str, str], *, ask: bool | None = None) -> None:
        self._variable = environ.pop(COSIGN_VARIABLE, None)
        self._typed = descriptor is None and self._variable is None and VARIABLE not in environ
        self._asks = at_terminal() if ask is None else ask
        self._passphrases = Passphrases(descriptor, environ, ask=self._asks)
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
        elif self._typed and not self._asks:
            raise KeyMaterialError(
                f"{path}: a password is needed, and there is no terminal to ask at: give it with --passphrase-fd"
                f" or in {COSIGN_VARIABLE}"
            )
        else:
            text = self._passphrases.get(path, prompt)
        return text.encode("utf-8", "surrogateescape")
