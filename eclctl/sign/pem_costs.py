"""Bounds what trying a passphrase of an encrypted PEM key costs, before one is asked for.

The parameters of the key derivation stand in the file (RFC 5958 section 3, RFC 8018 appendix A, RFC 7914 section 7),
and OpenSSL does what they say: two hundred bytes can ask for gigabytes of memory, or for minutes that nothing
interrupts.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Final

from eclctl.errors import KeyMaterialError

__all__ = ["encrypted_der"]

_BLOCK: Final = re.compile(
    rb"^-----BEGIN ENCRYPTED PRIVATE KEY-----\s*$([A-Za-z0-9+/=\s]*)^-----END ENCRYPTED PRIVATE KEY-----\s*$",
    re.MULTILINE,
)
_SCRYPT: Final = bytes.fromhex("2b06010401da47040b")
_MOST_ROUNDS: Final = 10_000_000  # OpenSSL writes 2,048, and guides ask for up to a million
_MOST_BLOCKS: Final = 1 << 20  # N times r, each of 128 bytes: what cosign's costliest keys ask for
_MOST_PARALLEL: Final = 16
_SEQUENCE, _INTEGER, _OBJECT = 0x30, 0x02, 0x06
_DEEPEST: Final = 8
_LONG: Final = 0x80


def encrypted_der(text: bytes, source: str) -> bytes:
    """Return what is in the PEM block ENCRYPTED PRIVATE KEY of a file, once its costs are known to be bearable.

    Raises:
        KeyMaterialError: They are not, or the block is damaged.
    """
    found = _BLOCK.search(text)
    try:
        data = base64.b64decode(b"".join(found[1].split()), validate=True) if found is not None else b""
        (_, body), *_ = _elements(data)
        (_, algorithm), *_ = _elements(body)
        numbers = tuple(_leaves(algorithm, _DEEPEST))
    except (binascii.Error, ValueError):
        raise KeyMaterialError(f"{source}: the encrypted key is damaged") from None
    if not _is_affordable(numbers):
        raise KeyMaterialError(
            f"{source}: opening it would take more time or memory than any key should; encrypt a copy again:"
            " openssl pkcs8 -topk8"
        )
    return data


def _is_affordable(leaves: tuple[tuple[int, bytes], ...]) -> bool:
    numbers = [int.from_bytes(content, signed=True) for tag, content in leaves if tag == _INTEGER]
    if (_OBJECT, _SCRYPT) not in leaves:
        return all(0 <= number <= _MOST_ROUNDS for number in numbers)
    if len(numbers) < 3 or min(numbers) <= 0:  # noqa: PLR2004 - N, r and p; perhaps a length
        return False
    n, r, p = numbers[:3]
    return n * r <= _MOST_BLOCKS and p <= _MOST_PARALLEL


def _leaves(data: bytes, depth: int) -> Iterator[tuple[int, bytes]]:
    """Yield what is in the sequences of a sequence."""
    if not depth:
        raise ValueError("nested too deeply")
    for tag, content in _elements(data):
        if tag == _SEQUENCE:
            yield from _leaves(content, depth - 1)
        else:
            yield tag, content


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the elements of DER (X.690), by tag; raise ValueError where it is none."""
    at = 0
    while at < len(data):
        tag, size = data[at], data[at + 1] if at + 1 < len(data) else _LONG
        at += 2
        if size & _LONG:
            count = size & ~_LONG
            size, at = int.from_bytes(data[at : at + count]), at + count
            if not count:
                raise ValueError("no definite length")
        if at + size > len(data):
            raise ValueError("cut short")
        yield tag, data[at : at + size]
        at += size
