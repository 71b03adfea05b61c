"""The facts of an OpenPGP key: its user IDs, size, expiry, and what is wrong with it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final, NamedTuple

from eclctl.sign.keyrings.transferable import Protection, TransferableKey
from eclctl.signature import openpgp
from eclctl.signature.openpgp.algorithms import KEY_ALGORITHMS
from eclctl.signature.openpgp.errors import FindingCode, PacketError
from eclctl.signature.openpgp.keys import OpenPgpKey
from eclctl.signature.openpgp.packets import read_mpis
from eclctl.terms import Finding

_LATEST: Final = 253402300799
"""The last second of the year 9999, seconds since 1970: Python's own end of time."""

_WORDS: Final = {
    FindingCode.KEY_EXPIRED: "it has expired",
    FindingCode.KEY_NOT_YET_VALID: "it is not valid yet",
    FindingCode.KEY_REVOKED: "it is revoked",
    FindingCode.NOT_A_SIGNING_KEY: "none of its keys is made for signing",
    FindingCode.SIGNATURE_EXPIRED: "what vouches for it has expired",
    FindingCode.SIGNATURE_FROM_FUTURE: "what vouches for it is dated in the future",
}
"""By the code of a finding, whose own words are the reference's and about signatures."""

_PREFIX: Final = re.compile(r"openpgp: (?:unsupported feature: |signature made by unknown entity: )?")
_NUMBERS: Final = frozenset({1, 2, 3, 16, 17})
_CURVED: Final = frozenset({18, 19, 22})
_FIXED: Final = {25: 256, 26: 448, 27: 256, 28: 456}
_CURVES: Final = {
    "2A8648CE3D030107": 256,  # NIST P-256
    "2B81040022": 384,
    "2B81040023": 521,
    "2B8104000A": 256,  # secp256k1
    "2B2403030208010107": 256,  # brainpool
    "2B240303020801010B": 384,
    "2B240303020801010D": 512,
    "2B06010401DA470F01": 256,  # Ed25519
    "2B060104019755010501": 256,  # Curve25519
}


class KeyFacts(NamedTuple):
    """A key as it is listed. Names are unescaped; times aware, UTC.

    `expires` is when the last of its keys that may sign stops to count, None for never. `problem` is why nothing that
    it signs at the time asked about would count. `protection` is that of the secret part that signs; None without one.
    """

    fingerprint: str
    user_id: str
    user_ids: tuple[str, ...]
    created: datetime
    expires: datetime | None
    algorithm: str
    bits: int
    signs_with: tuple[str, ...]
    problem: Finding | None
    protection: Protection | None


def facts(key: TransferableKey, keyring: openpgp.Keyring, now: datetime) -> KeyFacts:
    """Return what there is to say of a key at a time.

    Args:
        key: The key.
        keyring: Has its certificate, and those of who may revoke it.
        now: Aware.
    """
    certificate = keyring.get(key.fingerprint)
    if certificate is None:
        raise KeyError(key.fingerprint)
    able = signing_keys(certificate, keyring, now)
    names = tuple(each.fingerprint for each in able)
    return KeyFacts(
        key.fingerprint,
        certificate.name,
        key.user_ids,
        _time(key.primary.created),
        _expires(certificate, able),
        algorithm(key.primary),
        bits(key.primary),
        names,
        None if able else unusable(certificate, keyring, now),
        _protection(key, names),
    )


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(min(seconds, _LATEST), UTC)


def _expires(certificate: openpgp.Certificate, able: list[OpenPgpKey]) -> datetime | None:
    """Return the latest end of the keys that may sign, else of those that may or might have."""
    statuses = [status for key in certificate.keys if (status := certificate.status(key.fingerprint)) is not None]
    able_now = {key.fingerprint for key in able}
    asked = [status for status in statuses if status.key.fingerprint in able_now]
    asked = asked or [status for status in statuses if status.attributable] or statuses[:1]
    ends = [
        min((end for end in (status.valid_until, status.vouched_until) if end is not None), default=None)
        for status in asked
    ]
    known = [end for end in ends if end is not None]
    return _time(max(known)) if known and len(known) == len(ends) else None


def _protection(key: TransferableKey, names: tuple[str, ...]) -> Protection | None:
    """Return how the secret part is protected that would sign: the first that is here."""
    here = key.protections
    if not here:
        return None
    wanted = [here[name] for name in names if name in here] or list(here.values())
    usable = [each for each in wanted if each in {Protection.NONE, Protection.PASSPHRASE}]
    return (usable or wanted)[0]


def signing_keys(certificate: openpgp.Certificate, keyring: openpgp.Keyring, now: datetime) -> list[OpenPgpKey]:
    """Return the keys of a certificate whose signatures count at `now`: subkeys first, the newest of them first.

    It is the order in which GnuPG and SingularityCE choose.
    """
    able = [key for key in certificate.keys if _judge(certificate, key, keyring, now) is None]
    primary = certificate.primary.fingerprint
    return sorted(able, key=lambda key: (key.fingerprint == primary, -key.created))


def unusable(certificate: openpgp.Certificate, keyring: openpgp.Keyring, now: datetime) -> Finding:
    """Return why no signature by a certificate without `signing_keys` counts: the fault of a key made for signing."""
    faults = [fault for key in certificate.keys if (fault := _judge(certificate, key, keyring, now)) is not None]
    found = next((fault for fault in faults if fault.code != FindingCode.NOT_A_SIGNING_KEY), faults[0])
    return Finding(found.code, _WORDS.get(found.code, _PREFIX.sub("", found.message)))


def _judge(
    certificate: openpgp.Certificate, key: OpenPgpKey, keyring: openpgp.Keyring, now: datetime
) -> Finding | None:
    return openpgp.judge_signature(certificate.fingerprint, key.fingerprint, now, None, keyring, now)


def algorithm(key: OpenPgpKey) -> str:
    """Return the name of a key's algorithm; one that is not known shows its number (RFC 9580 section 9.1)."""
    if key.algorithm == 22 and _curve(key) == 256:  # noqa: PLR2004 - the only such curve that is in use
        return "Ed25519"
    return KEY_ALGORITHMS.get(key.algorithm, f"algorithm {key.algorithm}")


def bits(key: OpenPgpKey) -> int:
    """Return how long a key is, in bits; 0 when that cannot be told."""
    if key.algorithm in _FIXED:
        return _FIXED[key.algorithm]
    if key.algorithm in _CURVED:
        return _curve(key)
    if key.algorithm not in _NUMBERS:
        return 0
    try:
        (number,), _ = read_mpis(key.material, 1)
    except PacketError:
        return 0
    return int.from_bytes(number).bit_length()


def _curve(key: OpenPgpKey) -> int:
    end = 1 + int.from_bytes(key.material[:1])
    return _CURVES.get(key.material[1:end].hex().upper(), 0)
