"""What `eclctl verify` asks keyservers: for the keys that signatures claim and no local keyring has.

A signature's descriptor names the signer's primary fingerprint; where the key is another one, the signature is
invalid. So asking for that whole fingerprint finds the key that counts, or none. What else a server sends is dropped.
`results` shows the signers with keys that came from here as [REMOTE].
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from eclctl.cli.inputs import keyservers
from eclctl.cli.terminal.output import print_note
from eclctl.cli.terminal.parser import add_repeatable
from eclctl.dataclass import dataclass, field
from eclctl.sif.reader import DataType, read
from eclctl.signature import openpgp
from eclctl.text import printable
from eclctl.trust.keyring import KeyStore

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from eclctl.config.keyservers import Keyservers
    from eclctl.verify.reference import GivenKeys

_MAX_KEYS: Final = 16
"""Keys that are asked for because of one image, whose author can claim any number of them."""

_DIGITS: Final = 40


def add_remote_options(group: argparse._ArgumentGroup) -> None:
    """Add the options about keyservers."""
    group.add_argument("-l", "--local", action="store_true", help="use no network, even if keyservers are configured")
    add_repeatable(group, "-u", "--url", metavar="URL", text="ask this keyserver for keys that are not here")


def remote_options_error(options: argparse.Namespace) -> str | None:
    """Return what is wrong when keyservers are named and must not be asked."""
    if not options.url:
        return None
    if options.local:
        return "--local asks no keyserver: leave out --url"
    given = options.key or options.keyring or options.certificate or options.cosign
    return "--url goes with no other key or keyring: these are used alone" if given else None


def remote(options: argparse.Namespace) -> Remote | None:
    """Return the keyservers to ask for keys that are not here; None for none.

    Raises:
        ConfigError: What names the keyservers is wrong.
    """
    if options.local or options.key or options.keyring or options.certificate is not None:
        return None
    named = keyservers.chosen_keyservers(options) if options.url else keyservers.configured(os.environ)
    return Remote(named) if named is not None and named.servers else None


@dataclass(slots=True)
class Remote:
    """Keyservers, and what they have said in this run. `keys` are the fingerprints of the certificates they gave."""

    keyservers: Keyservers
    keys: set[str] = field(default_factory=set)
    _asked: set[str] = field(default_factory=set)

    def extended(self, fd: int, material: GivenKeys) -> GivenKeys:
        """Return the keys with those that an image's signatures claim besides, as far as a server has them.

        Args:
            fd: The image, open for reading.
            material: The keys that are at hand, and what earlier images brought.

        Raises:
            MalformedImageError, BusyImageError, UnreadableImageError, UnsupportedFileError: As `sif.reader.read`.
        """
        new = [packets for name in self._unknown(fd, material) if (packets := self._fetch(name, material.store.pgp))]
        if not new:
            return material
        from eclctl.signature.openpgp.proven import serialize  # noqa: PLC0415 - only when keyservers are asked

        own = (serialize(certificate.material) for certificate in material.store.pgp.certificates)
        store = KeyStore(openpgp.Keyring.parse(*own, *new), material.store.listed)
        return material._replace(store=store)

    def _unknown(self, fd: int, material: GivenKeys) -> list[str]:
        claimed = dict.fromkeys(_claimed(fd))
        missing = [name for name in claimed if name not in self._asked and material.store.pgp.get(name) is None]
        if len(missing) > _MAX_KEYS:
            print_note(f"WARNING: the image claims {len(missing)} unknown keys, of which {_MAX_KEYS} are asked for")
        return missing[:_MAX_KEYS]

    def _fetch(self, fingerprint: str, own: openpgp.Keyring) -> bytes | None:
        """Return a certificate, if a server has it; its designated revokers may be among those that are here."""
        import asyncio  # noqa: PLC0415 - only when keyservers are asked

        from eclctl.remote.keyservers import hkp  # noqa: PLC0415 - only when keyservers are asked

        self._asked.add(fingerprint)
        tried = asyncio.run(hkp.fetch(self.keyservers, fingerprint, own))
        why = keyservers.why_not_received(tried, fingerprint)
        if tried.found is None:
            print_note(f"WARNING: {printable(why)}")
            return None
        self.keys.add(fingerprint)
        return tried.found.packets


def _claimed(fd: int) -> Iterator[str]:
    """Yield the fingerprints that signatures' descriptors claim; all zero stands for none."""
    for descriptor in read(fd).descriptors:
        if descriptor.type == DataType.SIGNATURE:
            claimed = descriptor.entity[: _DIGITS // 2]
            if any(claimed):
                yield claimed.hex().upper()
