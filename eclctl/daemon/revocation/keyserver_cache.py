"""The answers of keyservers about the keys in use, in a file of the state directory, so that they survive a restart.

The file is the daemon's own cache, not a keyring: what is in it counts only for certificates that the keyrings have,
and only as far as their own keys vouch for it, which is verified again with each load (`openpgp.proven`). It keeps
what it has been told: a server that leaves a revocation out takes nothing away.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
import threading
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, Final

from eclctl.dataclass import dataclass
from eclctl.errors import ConfigError, KeyMaterialError
from eclctl.files.atomic import Existing, write_file
from eclctl.signature.openpgp import Keyring
from eclctl.signature.openpgp.proven import additions, proven, serialize
from eclctl.signature.openpgp.signature import SignatureType

MAX_FILE: Final = 256 << 20
_VERSION: Final = 1
_FINGERPRINT_DIGITS: Final = frozenset({40, 64})

_log = logging.getLogger(__name__)


class KeyChange(Enum):
    """What an answer changes of a key in the keyrings: nothing, its revocation, or for instance its expiry."""

    NONE = 0
    CHANGED = 1
    REVOKED = 2


@dataclass(frozen=True, slots=True)
class CachedKey:
    """The answer about one key: when a keyserver last gave one, and the certificate (binary), empty when none has it.

    `asked` is aware, UTC.
    """

    asked: datetime
    certificate: bytes = b""


class KeyserverCache:
    """Answers about keys, by primary fingerprint. Safe for use from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.keys: dict[str, CachedKey] = {}
        self._lock = threading.Lock()
        self._ring: Keyring | None = None
        self._stale = False

    @classmethod
    def load(cls, path: Path) -> KeyserverCache:
        """Read the file. A damaged one is logged and replaced by an empty cache: keyservers are asked again."""
        cache = cls(path)
        try:
            cache.keys, cache._stale = _read(path), True
            cache.ring()
        except FileNotFoundError:
            pass
        except (OSError, ValueError, RecursionError, KeyMaterialError) as error:
            cache.keys, cache._stale = {}, False
            what = error.strerror if isinstance(error, OSError) else error
            _log.error("the keyserver cache is lost, keyservers are asked again: %s: %s", path, what)
        return cache

    def ring(self) -> Keyring | None:
        """Return the certificates that are known, None when there are none."""
        with self._lock:
            if self._stale:
                blobs = [known.certificate for _, known in sorted(self.keys.items()) if known.certificate]
                self._ring, self._stale = Keyring.parse(*blobs) if blobs else None, False
            return self._ring

    def take(self, fingerprint: str, certificate: bytes, now: datetime, own: Keyring) -> KeyChange:
        """Add what a keyserver said of a key to what is known, and return what the site's keyrings did not know.

        Args:
            fingerprint: The key's.
            certificate: Binary, as far as its own key vouches for it; empty where the server has none.
            now: Aware, UTC.
            own: The site's keys, among them those that may revoke others.
        """
        with self._lock:
            before = self.keys.get(fingerprint)
            known = b"" if before is None else before.certificate
            merged = known
            if certificate:
                both = Keyring.parse(*filter(None, (known, certificate)))
                found = proven(both, fingerprint, own)
                merged = known if found is None else serialize(found.material)
                self._stale |= merged != known
            self.keys[fingerprint] = CachedKey(now, merged)
        new = additions(own, Keyring.parse(merged), fingerprint) if merged else None
        if new is None:
            return KeyChange.NONE
        revoked = any(body[1] == SignatureType.KEY_REVOCATION for body in new.direct)
        return KeyChange.REVOKED if revoked else KeyChange.CHANGED

    def save(self) -> None:
        """Write the file, in one step.

        Raises:
            ConfigError: It cannot be written.
        """
        keys = {
            name: {
                "asked": known.asked.astimezone(UTC).isoformat(timespec="seconds"),
                "certificate": base64.b64encode(known.certificate).decode("ascii"),
            }
            for name, known in sorted(self.keys.copy().items())
        }
        data = json.dumps({"v": _VERSION, "keys": keys}, indent=1).encode("ascii") + b"\n"
        try:
            write_file(str(self.path), data, existing=Existing.FILE_OR_LINK, mode=0o600, sole_writer=True)
        except OSError as error:
            raise ConfigError(f"cannot write {self.path}: {error.strerror}") from error


def _read(path: Path) -> dict[str, CachedKey]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise ValueError(f"larger than {MAX_FILE} bytes")
    document = json.loads(data)
    if not isinstance(document, dict) or document.get("v") != _VERSION or not isinstance(document.get("keys"), dict):
        raise ValueError("not a file of this version")
    return {name: _entry(name, entry) for name, entry in document["keys"].items()}


def _entry(name: str, entry: Any) -> CachedKey:
    if ":" in name or len(name) not in _FINGERPRINT_DIGITS or not isinstance(entry, dict):
        raise ValueError("not a file of this version")
    try:
        certificate = base64.b64decode(str(entry["certificate"]), validate=True)
        asked = datetime.fromisoformat(str(entry["asked"]))
    except (KeyError, binascii.Error) as error:
        raise ValueError("not a file of this version") from error
    return CachedKey(asked if asked.tzinfo is not None else asked.replace(tzinfo=UTC), certificate)
