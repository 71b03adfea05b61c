"""Which keys `eclctl sign` signs with: PEM files, the user's own ring, a file of secret keys, or GnuPG."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from eclctl.cli.terminal.output import print_note
from eclctl.cli.terminal.passphrases import Passphrases
from eclctl.cli.terminal.prompts import ask_line
from eclctl.errors import KeyMaterialError
from eclctl.sign.keyrings.rings import UserRing, only_match, user_ring_directory
from eclctl.sign.keyrings.transferable import TransferableKey, parse_keys
from eclctl.sign.native import Signing, signing_with_pem, signing_with_pgp
from eclctl.sign.pem import COSIGN_KINDS, PrivateKey, pem_kind, read_private_key
from eclctl.signature import openpgp
from eclctl.signature.keys import MAX_KEY_FILE
from eclctl.text import printable
from eclctl.trust.keyring import MAX_KEYRING_FILE, read_file

if TYPE_CHECKING:
    from eclctl.sign.gnupg import PgpSigner

_MOST_LISTED = 8


@contextmanager
def open_signing(options: argparse.Namespace, passphrases: Passphrases) -> Iterator[Signing]:
    """Choose a key as the options say, unlock it, and give it for as long as it is needed.

    Raises:
        KeyMaterialError: There is no such key, it cannot be unlocked, or its signatures would count for nothing.
    """
    if options.key:
        keys = tuple(_pem_key(path, passphrases) for path in options.key)
        if len({key.public.id for key in keys}) != len(keys):
            raise KeyMaterialError("the same key is given twice with --key; one key signs once")
        yield signing_with_pem(keys)
    elif options.gnupg:
        yield from _gnupg(options)
    else:
        yield from _own(options, passphrases)


def key_description(options: argparse.Namespace) -> str:
    """Return what the image is signed with, in the reference's words."""
    if not options.key:
        return "PGP key material"
    return " and ".join(f"key material from '{printable(path)}'" for path in options.key)


def _pem_key(path: str, passphrases: Passphrases) -> PrivateKey:
    text, source = read_file(Path(path), MAX_KEY_FILE), printable(path)

    def ask() -> bytes:
        prompt = f"Enter passphrase for {source} : "
        return passphrases.get(path, prompt).encode("utf-8", "surrogateescape")

    if pem_kind(text, source) in COSIGN_KINDS:
        from eclctl.sign.cosign_keys import read_cosign_key  # noqa: PLC0415 - NaCl is loaded for such keys alone

        return read_cosign_key(text, ask, source=source)
    return read_private_key(text, ask, source=source)


def _gnupg(options: argparse.Namespace) -> Iterator[Signing]:
    from eclctl.sign.gnupg import gnupg_signer  # noqa: PLC0415 - only --gnupg needs it

    with gnupg_signer(options.local_user or options.fingerprint) as signer:
        yield _signing(signer, options)


def _own(options: argparse.Namespace, passphrases: Passphrases) -> Iterator[Signing]:
    from eclctl.sign.gnupg import ring_signer  # noqa: PLC0415 - as above

    where, keys = _secret_keys(options)
    key = _chosen(options, where, keys, ask=passphrases.asks)

    def ask() -> str:
        return passphrases.get(f"the key {key.fingerprint}")

    with ring_signer(key.whole(), key.fingerprint, ask) as signer:
        yield _signing(signer, options)


def _secret_keys(options: argparse.Namespace) -> tuple[str, list[TransferableKey]]:
    """Return the secret keys to choose from, and where they are."""
    if options.secret_keyring is not None:
        found = parse_keys(read_file(Path(options.secret_keyring), MAX_KEYRING_FILE)).keys.values()
        keys, where = [key for key in found if key.has_secret], options.secret_keyring
        if not keys and found:
            raise KeyMaterialError(f"{where}: only public keys, which cannot sign; give the secret key")
        return where, keys
    ring = UserRing(user_ring_directory(os.environ))
    keys = list(ring.secret_keys().values())
    for warning in ring.warnings:
        print_note(f"WARNING: {printable(warning)}")
    return ring.secret_path, keys


def _signing(signer: PgpSigner, options: argparse.Namespace) -> Signing:
    return signing_with_pgp(signer, options.hash, options.purpose, allow_v6=options.allow_v6)


def _chosen(options: argparse.Namespace, where: str, keys: Sequence[TransferableKey], *, ask: bool) -> TransferableKey:
    if not keys:
        raise KeyMaterialError(
            f"{printable(where)}: no private key to sign with; make one: eclctl keys newpair, or take one in:"
            " eclctl keys import FILE"
        )
    if options.fingerprint is not None:
        return only_match(keys, options.fingerprint, printable(where))
    if options.keyidx is not None:
        if not 0 <= options.keyidx < len(keys):
            raise KeyMaterialError(f"{printable(where)}: no key has the index {options.keyidx}; {_listed(keys)}")
        chosen: TransferableKey = keys[options.keyidx]
        return chosen
    if len(keys) == 1:
        return keys[0]
    if not ask:
        raise KeyMaterialError(
            f"{printable(where)}: several private keys; choose one with --fingerprint or --keyidx: {_listed(keys)}"
        )
    return _asked(keys)


def _asked(keys: Sequence[TransferableKey]) -> TransferableKey:
    """Let the user at the terminal choose, as the reference does."""
    for number, key in enumerate(keys):
        print_note(f"{number})  User:              {printable(_name(key))}\n    Fingerprint:       {key.fingerprint}\n")
    answer = ask_line("Enter # of private key to use : ")
    if answer not in (numbers := list(map(str, range(len(keys))))):
        raise KeyMaterialError(f"{printable(answer[:32])!r} is not the number of a key; nothing was signed")
    return keys[numbers.index(answer)]


def _listed(keys: Sequence[TransferableKey]) -> str:
    shown = "; ".join(f"{number}) {key.fingerprint} {_name(key)}" for number, key in enumerate(keys[:_MOST_LISTED]))
    more = f"; and {len(keys) - _MOST_LISTED} more" if len(keys) > _MOST_LISTED else ""
    return f"{printable(shown)}{more}"


def _name(key: TransferableKey) -> str:
    certificate = openpgp.Keyring.parse(key.public()).get(key.fingerprint)
    return certificate.name if certificate is not None else ""
