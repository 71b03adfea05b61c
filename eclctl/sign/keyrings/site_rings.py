"""The site's key ring: the keyrings that the daemon's configuration names, with certificates and nothing else.

Each certificate that is added has a file of its own, named by its fingerprint, so that configuration management and
people see what changed. Copies in several files count together, as they do for the daemon: a revocation in any of them
revokes. Removing takes a certificate out of every file that has it, and leaves the rest of these files as it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from eclctl.dataclass import dataclass, field
from eclctl.errors import KeyMaterialError
from eclctl.sign.keyrings.guarded import GuardedDirectory
from eclctl.sign.keyrings.rings import MAX_RING, Added, Keys, Removed, load_keys, merge
from eclctl.sign.keyrings.transferable import KeyFile, armored, holds_armor, parse_keys
from eclctl.signature import openpgp

_SUFFIX: Final = ".asc"
_BLOCK: Final = re.compile(
    rb"^-----BEGIN PGP (PUBLIC|PRIVATE) KEY BLOCK-----[ \t]*\r?$.*?^-----END PGP \1 KEY BLOCK-----[ \t]*\r?$\n?",
    re.MULTILINE | re.DOTALL,
)


@dataclass(slots=True)
class SiteRing:
    """Files and directories of keyrings. New certificates go into the first directory of `paths`."""

    paths: Sequence[str]
    warnings: list[str] = field(default_factory=list)

    @property
    def directory(self) -> str:
        """Where new certificates go.

        Raises:
            KeyMaterialError: There is no directory among the paths.
        """
        found = next((path for path in self.paths if os.path.isdir(path) or not os.path.lexists(path)), None)
        if found is None:
            raise KeyMaterialError(f"{', '.join(self.paths)}: files alone; name a directory with --keyring-dir")
        return found

    def keys(self) -> Keys:
        """Return the certificates, by primary fingerprint.

        Raises:
            KeyMaterialError: A file cannot be read or is damaged; the message names it.
        """
        keys: Keys = {}
        for folder, names in self._folders():
            with GuardedDirectory.open(folder, private=False) as directory:
                if directory is None:
                    raise KeyMaterialError(f"{folder}: it is gone")
                for name in directory.names() if names is None else names:
                    merge(keys, load_keys(directory, name))
        return keys

    def certificates(self) -> openpgp.Keyring:
        """Return the certificates, for judging.

        Raises:
            KeyMaterialError: As for `keys`.
        """
        return openpgp.Keyring.parse(*(key.public() for key in self.keys().values()))

    def add(self, blob: bytes, *, self_only: bool = False) -> Added:
        """Add certificates; of secret keys the public part alone. Nothing that is there is lost.

        Args:
            blob: Armored or binary.
            self_only: Leave out what strangers certified.

        Raises:
            KeyMaterialError: The file or the ring is damaged, or the ring cannot be written.
        """
        found = parse_keys(blob)
        with self._writing(self.directory) as directory:
            keys = self.keys()
            changes, strangers = merge(keys, found, self_only=self_only)
            for name in {change.fingerprint: None for change in changes if change.public != "unchanged"}:
                directory.replace_all({name + _SUFFIX: armored([keys[name].public()], secret=False)})
        return Added(tuple(changes), len(found.unreadable), strangers)

    def remove(self, fingerprint: str) -> Removed:
        """Remove a certificate from every file.

        Raises:
            KeyMaterialError: A file is damaged or cannot be written.
        """
        removed = False
        for folder, names in self._folders():
            with self._writing(folder) as directory:
                for name in directory.names() if names is None else names:
                    if fingerprint not in load_keys(directory, name).keys:
                        continue
                    removed = True
                    rest = without_key(directory.read(name, MAX_RING) or b"", fingerprint)
                    if rest is None:
                        directory.remove(name)
                    else:
                        directory.replace_all({name: rest})
        return Removed(removed, secret=False)

    def _folders(self) -> Iterator[tuple[str, Sequence[str] | None]]:
        """Yield each directory, and which of its files are meant: None is all that the daemon would read."""
        for path in self.paths:
            if os.path.isdir(path):
                yield path, None
            elif os.path.lexists(path):
                folder, name = os.path.split(os.path.abspath(path))
                yield folder, [name]

    @contextmanager
    def _writing(self, folder: str) -> Iterator[GuardedDirectory]:
        with GuardedDirectory.open(folder, private=False, create=True) as directory:
            if directory is None:  # removed at this very moment
                raise KeyMaterialError(f"{folder}: it is gone")
            with directory.lock():
                yield directory
            self.warnings += directory.warnings


def without_key(blob: bytes, fingerprint: str) -> bytes | None:
    """Return a file of keys without one of them, or None when it then has none.

    Args:
        blob: Armored, where blocks without the key and the text around all blocks stay as they are; or binary.
        fingerprint: The primary fingerprint.
    """

    def rest_of(file: KeyFile) -> list[bytes]:
        return [*(key.public() for name, key in file.keys.items() if name != fingerprint), *file.unreadable]

    if not holds_armor(blob):
        return b"".join(rest_of(parse_keys(blob))) or None
    left = 0

    def shortened(block: re.Match[bytes]) -> bytes:
        nonlocal left
        file = parse_keys(block[0])
        rest = rest_of(file)
        left += bool(rest)
        if fingerprint not in file.keys:
            return block[0]
        return armored(rest, secret=False) if rest else b""

    text = _BLOCK.sub(shortened, blob)
    return text if left else None
