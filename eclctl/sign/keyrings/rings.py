"""The user's own key ring: certificates and secret keys, in files for the user alone.

The two files are named and laid out as SingularityCE's are, binary keys one after the other, so that either program
reads the other's. Public certificates are judged by `signature.openpgp.Keyring` and by nothing else.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NamedTuple

from eclctl.dataclass import dataclass, field
from eclctl.errors import KeyMaterialError
from eclctl.sign.keyrings.guarded import GuardedDirectory
from eclctl.sign.keyrings.transferable import KeyFile, TransferableKey, parse_keys
from eclctl.signature import openpgp

MAX_RING: Final = 64 * 1024 * 1024
"""The longest file of keys that is read, in bytes; as for the keyrings of the daemon."""

_PUBLIC, _SECRET = _MARKS = ("pgp-public", "pgp-secret")  # the files of a ring
_REVOCATION: Final = ".rev"
_HEX: Final = re.compile(r"[0-9A-F]{8}|[0-9A-F]{16}|[0-9A-F]{40}|[0-9A-F]{64}")
_KEY_ID_DIGITS: Final = 16
_ADDRESS: Final = re.compile(r"<([^<>]*)>\s*\Z")


class RingChange(NamedTuple):
    """What became of a key that was added: `new`, `updated` or `unchanged`; `secret` is None when none was given."""

    fingerprint: str
    public: str
    secret: str | None = None


class Added(NamedTuple):
    """What adding a file of keys did.

    `unreadable` keys were passed over, and so were `strangers`: revocations of keys that are not in the ring, or that
    the key did not make.
    """

    changes: tuple[RingChange, ...]
    unreadable: int = 0
    strangers: int = 0


class Removed(NamedTuple):
    """Whether a certificate was removed, and a secret key."""

    public: bool
    secret: bool


Keys = dict[str, TransferableKey]


@dataclass(slots=True)
class UserRing:
    """A directory of two files. `warnings` say which modes were wrong and have been corrected."""

    directory: str
    warnings: list[str] = field(default_factory=list)

    @property
    def public_path(self) -> str:
        """Where the certificates are."""
        return os.path.join(self.directory, _PUBLIC)

    @property
    def secret_path(self) -> str:
        """Where the secret keys are."""
        return os.path.join(self.directory, _SECRET)

    def keys(self) -> Keys:
        """Return the certificates, by primary fingerprint, in the order in which they came.

        Raises:
            KeyMaterialError: The ring is damaged, or not the user's own.
        """
        return self._read()[0].keys

    def secret_keys(self) -> Keys:
        """Return the secret keys, with all that their certificates say, such as revocations.

        Their secret parts are as they are kept; `ring_signer` takes such a key whole.

        Raises:
            KeyMaterialError: As for `keys`.
        """
        public, secret = self._read()
        return _with_public(secret.keys, public.keys)

    def certificates(self) -> openpgp.Keyring:
        """Return the certificates, for judging.

        Raises:
            KeyMaterialError: As for `keys`.
        """
        return openpgp.Keyring.parse(*(key.public() for key in self.keys().values()))

    def add(self, blob: bytes, *, self_only: bool = False, public_only: bool = False) -> Added:
        """Add a file of keys, merging what is there already. Nothing that is there is lost, a revocation least of all.

        Args:
            blob: Armored or binary, public or secret.
            self_only: Leave out what strangers certified.
            public_only: Leave out secret parts.

        Raises:
            KeyMaterialError: The file or the ring is damaged, or the ring cannot be written. Nothing has changed then.
        """
        return self._add(parse_keys(blob), {}, self_only=self_only, public_only=public_only)

    def add_pair(self, fingerprint: str, secret: bytes, revocation: bytes) -> str:
        """Add a new secret key, and keep beside the ring what revokes it on the day on which it must; return where.

        Raises:
            KeyMaterialError: As for `add`. Nothing has changed then.
        """
        name = fingerprint + _REVOCATION
        self._add(parse_keys(secret), {name: revocation})
        return os.path.join(self.directory, name)

    def _add(
        self, found: KeyFile, beside: Mapping[str, bytes], *, self_only: bool = False, public_only: bool = False
    ) -> Added:
        with self._writing() as directory:
            public, secret = self._files(directory)
            changes, strangers = merge(public.keys, found, self_only=self_only)
            if not public_only:
                changes = [_add_secret(change, found, secret.keys) for change in changes]
            self._write(directory, public, secret, beside)
        return Added(tuple(changes), len(found.unreadable), strangers)

    def remove(self, fingerprint: str, *, public: bool = True, secret: bool = False) -> Removed:
        """Remove a certificate, a secret key or both.

        Raises:
            KeyMaterialError: The ring is damaged or cannot be written.
        """
        with self._writing() as directory:
            certificates, secrets = self._files(directory)
            secrets.keys.update(_with_public(secrets.keys, certificates.keys))
            removed = Removed(
                public and certificates.keys.pop(fingerprint, None) is not None,
                secret and secrets.keys.pop(fingerprint, None) is not None,
            )
            self._write(directory, certificates, secrets, {})
        return removed

    def _read(self) -> tuple[KeyFile, KeyFile]:
        with GuardedDirectory.open(self.directory, private=True, marks=_MARKS) as directory:
            if directory is None:
                return KeyFile({}), KeyFile({})
            return self._files(directory)

    def _files(self, directory: GuardedDirectory) -> tuple[KeyFile, KeyFile]:
        files = load_keys(directory, _PUBLIC), load_keys(directory, _SECRET)
        self._note(directory)
        return files

    @contextmanager
    def _writing(self) -> Iterator[GuardedDirectory]:
        with GuardedDirectory.open(self.directory, private=True, create=True, marks=_MARKS) as directory:
            if directory is None:  # removed at this very moment
                raise KeyMaterialError(f"{self.directory}: it is gone")
            with directory.lock():
                yield directory
            self._note(directory)

    def _note(self, directory: GuardedDirectory) -> None:
        self.warnings += [warning for warning in directory.warnings if warning not in self.warnings]

    @staticmethod
    def _write(directory: GuardedDirectory, public: KeyFile, secret: KeyFile, beside: Mapping[str, bytes]) -> None:
        """Write what changed, secret keys first: there is never a certificate to trust whose key was lost."""
        merged = _with_public(secret.keys, public.keys)
        # What is not known here stays in a file: another program may know it.
        files = {
            _SECRET: b"".join([*(key.whole() for key in merged.values()), *secret.unreadable]),
            _PUBLIC: b"".join([*(key.public() for key in public.keys.values()), *public.unreadable]),
        }
        changed = {}
        for name, data in files.items():
            if len(data) > MAX_RING:
                raise KeyMaterialError(f"{directory.file(name)} would become larger than {MAX_RING} bytes")
            if data != (directory.read(name, MAX_RING) or b""):
                changed[name] = data
        directory.replace_all({**beside, **changed})


def load_keys(directory: GuardedDirectory, name: str) -> KeyFile:
    """Return the keys in a file of a directory; none where there is no file, or an empty one in a user's ring.

    Raises:
        KeyMaterialError: It cannot be read or is damaged; the message names it.
    """
    data = directory.read(name, MAX_RING)
    if data is None or (directory.private and not data):
        return KeyFile({})
    try:
        return parse_keys(data)
    except KeyMaterialError as error:
        raise KeyMaterialError(f"{directory.file(name)}: {error}") from error


def _with_public(secret: Keys, public: Keys) -> Keys:
    return {name: key.merge(public[name]) if name in public else key for name, key in secret.items()}


def merge(keys: Keys, found: KeyFile, *, self_only: bool = False) -> tuple[list[RingChange], int]:
    """Merge what a file holds into certificates; return what changed, and how many revocations fit none of them."""
    changes = []
    for name, new in found.keys.items():
        old = keys.get(name)
        added = new.without_foreign_signatures() if self_only else new
        merged = added if old is None else old.merge(added)
        changes.append(RingChange(name, _word(old, merged)))
        keys[name] = merged
    strangers = 0
    for revocation in found.revocations:
        revoked = _revoke(keys, revocation)
        if revoked is None:
            strangers += 1
        else:
            changes.append(RingChange(revoked, "updated"))
    return changes, strangers


def _word(old: TransferableKey | None, new: TransferableKey) -> str:
    if old is None:
        return "new"
    return "unchanged" if old.public() == new.public() else "updated"


def _revoke(keys: Keys, revocation: bytes) -> str | None:
    for name, key in keys.items():
        revoked = key.revoked_by(revocation)
        if revoked is not None:
            keys[name] = revoked
            return name
    return None


def _add_secret(change: RingChange, found: KeyFile, secret: Keys) -> RingChange:
    new = found.keys.get(change.fingerprint)
    if new is None or not new.has_secret:
        return change
    old = secret.get(change.fingerprint)
    secret[change.fingerprint] = merged = new if old is None else old.merge(new)
    word = "new" if old is None else ("unchanged" if old.protections == merged.protections else "updated")
    return RingChange(change.fingerprint, change.public, word)


def matching(keys: Iterable[TransferableKey], text: str) -> list[TransferableKey]:
    """Return the keys that go by `text`: a fingerprint or key ID with or without 0x, an email address, a user ID.

    An address or user ID must be the whole one. It is compared with every user ID, bound or not: a key
    with another user's name makes that name ambiguous, and does not take it away.
    """
    digits = re.sub(r"\s", "", text).upper().removeprefix("0X")
    if _HEX.fullmatch(digits):
        whole = len(digits) > _KEY_ID_DIGITS
        return [key for key in keys if (key.fingerprint == digits if whole else key.key_id.endswith(digits))]
    wanted = text.strip().casefold()
    return [key for key in keys if any(wanted in _names(user_id) for user_id in key.user_ids)]


def _names(user_id: str) -> set[str]:
    address = _ADDRESS.search(user_id)
    return {user_id.casefold(), address[1].casefold() if address else user_id.casefold()}


def only_match(keys: Iterable[TransferableKey], text: str, where: str) -> TransferableKey:
    """Return the one key that goes by `text`.

    Raises:
        KeyMaterialError: None does, or several do; the message names their fingerprints.
    """
    found = matching(keys, text)
    if not found:
        raise KeyMaterialError(f"{where} has no key {text!r}: give a fingerprint, a key ID or an email address")
    if len(found) > 1:
        listed = ", ".join(key.fingerprint for key in found)
        raise KeyMaterialError(f"{text!r} may be any of several keys; give one's fingerprint: {listed}")
    return found[0]


def user_ring_directory(environ: Mapping[str, str]) -> str:
    """Return where a user's ring is: $ECLCTL_KEYS, or eclctl/keys in $XDG_DATA_HOME, by default ~/.local/share."""
    if named := environ.get("ECLCTL_KEYS"):
        return os.path.abspath(named)
    data = environ.get("XDG_DATA_HOME", "")
    if not os.path.isabs(data):  # the XDG base directory specification: a relative path is ignored
        home = environ.get("HOME") or os.path.expanduser("~")
        data = os.path.join(home, ".local", "share")
    return os.path.join(data, "eclctl", "keys")


def user_ring_file(environ: Mapping[str, str]) -> str | None:
    """Return the file with the certificates of the user's ring, or None when there is none.

    Raises:
        KeyMaterialError: The ring is not the user's own.
    """
    path = user_ring_directory(environ)
    with GuardedDirectory.open(path, private=True, marks=_MARKS) as directory:
        return None if directory is None or not directory.read(_PUBLIC, MAX_RING) else os.path.join(path, _PUBLIC)
