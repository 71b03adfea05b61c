"""The format of a signature object is recognized where the reference recognizes it."""

from __future__ import annotations

import pytest

from eclctl.signature import formats
from eclctl.terms import SignatureFormat
from tests.helpers import pgp
from tests.helpers.sifbuilder import envelope, pem_key, same_in_every_process

KEY = pgp.Key()
LEGACY_TEXT = b"SIFHASH:\n" + b"ab" * 32
MODERN = pgp.clearsign(KEY, text=b'{"version":1}')
LEGACY = pgp.clearsign(KEY, text=LEGACY_TEXT)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (MODERN, SignatureFormat.PGP),
        (LEGACY, SignatureFormat.LEGACY),
        (LEGACY.replace(b"\n", b"\r\n"), SignatureFormat.LEGACY),
        (LEGACY.replace(b"SIFHASH:\n", b"- SIFHASH: \t\n"), SignatureFormat.LEGACY),
        (b"junk\n" + LEGACY, SignatureFormat.LEGACY),
        (MODERN.replace(b"Hash: SHA256\n", b""), SignatureFormat.PGP),
        (envelope(b"x", pem_key("p256")), SignatureFormat.DSSE),
        (b"junk" + MODERN, SignatureFormat.UNKNOWN),
        (MODERN.replace(b"Hash:", b"Comment:"), SignatureFormat.UNKNOWN),
        (MODERN[:60], SignatureFormat.UNKNOWN),
        (envelope(b"x", pem_key("p256"), payload_type="text/plain"), SignatureFormat.UNKNOWN),
        (LEGACY.replace(b"Hash: ", b"Hash:MD5, "), SignatureFormat.LEGACY),
        (LEGACY.replace(LEGACY_TEXT, b"SIFHASH:"), SignatureFormat.PGP),
        (LEGACY.replace(LEGACY_TEXT + b"\n", b""), SignatureFormat.UNKNOWN),
        (LEGACY.replace(b"END PGP", b"END"), SignatureFormat.UNKNOWN),
        (
            LEGACY.replace(b"-----BEGIN PGP SIGNATURE-----\n\n", b"-----BEGIN PGP SIGNATURE-----\n"),
            SignatureFormat.UNKNOWN,
        ),
        (LEGACY.replace(b"-----BEGIN PGP SIGNATURE-----", b"-----BEGIN PGP SIGNATURE----- "), SignatureFormat.UNKNOWN),
        (LEGACY.replace(b"SHA256", b"SHA257"), SignatureFormat.UNKNOWN),
        (envelope(b"x", pem_key("p256")) + b"\n" + LEGACY, SignatureFormat.LEGACY),
        (envelope(b"x", pem_key("p256"))[:-1] + b',"more":[' + b"1," * 5000 + b"1]}", SignatureFormat.UNKNOWN),
        (b"", SignatureFormat.UNKNOWN),
        (bytes(1000), SignatureFormat.UNKNOWN),
    ],
    ids=same_in_every_process,
)
def test_recognizes(data, kind):
    assert formats.recognize(data) is kind
