"""`eclctl sign --cosign`: signs the OCI image in OCI-SIF files, as `singularity sign --cosign` does."""

from __future__ import annotations

import argparse
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from eclctl import __version__
from eclctl.cli.asking import confirmed
from eclctl.cli.cosign_passwords import Passwords
from eclctl.cli.progress import progress_bar
from eclctl.cli.text import printable
from eclctl.cli.verification import FAILED, OK, say
from eclctl.errors import EclctlError, KeyMaterialError, SigningError
from eclctl.model import Finding, is_purpose
from eclctl.sign import cosign_sign
from eclctl.sign.cosign_keys import read_cosign_key
from eclctl.sign.cosign_sign import Subject
from eclctl.sign.editing import editing
from eclctl.sign.pem import PrivateKey
from eclctl.signature.cosign import PURPOSE
from eclctl.signature.keys import MAX_KEY_FILE

__all__ = ["misused", "run"]

_CREATOR, _TIMESTAMP = "creator", "timestamp"
_OTHERS_READ = stat.S_IRGRP | stat.S_IROTH


@dataclass(frozen=True, slots=True)
class _Result:
    """How one image came out: what was signed, or why nothing was."""

    image: str
    subject: Subject | None = None
    error: Finding | None = None


def misused(options: argparse.Namespace) -> str | None:
    """Return what is wrong with the other options beside `--cosign`."""
    if not options.key:
        return "--cosign signatures require a private --key to be specified"
    whole = ("group_id", "sif_id")
    if any(getattr(options, name, None) for name in whole):
        return "--cosign signatures sign an OCI image, specifying SIF descriptors / groups is not supported"
    pgp = {"gnupg": "--gnupg", "keyidx": "--keyidx", "fingerprint": "--fingerprint", "local_user": "--local-user"}
    other = next((flag for name, flag in pgp.items() if getattr(options, name, None) not in {None, False}), None)
    if other is not None:
        return f"{other} not supported: --cosign signatures use a private --key, not the PGP keyring"
    if options.purpose is not None and not is_purpose(options.purpose):
        return f"--purpose {options.purpose!r}: 1 to 32 of a-z 0-9 . _ -, the first and the last a letter or digit"
    return _misannotated(options.annotation)


def run(options: argparse.Namespace) -> int:
    """Sign images as the options say, show how each came out, and return the exit status."""
    try:
        keys = _keys(options)
    except KeyMaterialError as error:
        results = [_Result(image, error=Finding(error.code, str(error))) for image in options.images]
        _show_failure(results[:1] if not options.json else results, options)
        return FAILED
    status = OK
    for image in options.images:
        result = _sign(image, keys, options)
        if result.error is not None:
            _show_failure([result], options)
            status = FAILED
        else:
            _show(result, keys, options)
    return status


def _misannotated(annotations: Sequence[str]) -> str | None:
    seen = set()
    for text in annotations:
        name, separator, _ = text.partition("=")
        if not separator or not name:
            return f"--annotation {text!r}: NAME=VALUE is needed"
        if name == PURPOSE:
            return "--annotation purpose=…: say it with --purpose"
        if name in {_CREATOR, _TIMESTAMP}:
            return f"--annotation {name}=…: eclctl writes that one"
        if name in seen:
            return f"--annotation {name!r} is given twice"
        if not _is_text(text):
            return f"--annotation {text!r}: not UTF-8"
        seen.add(name)
    return None


def _is_text(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # the command line had bytes that are none
        return False
    return True


def _annotations(options: argparse.Namespace) -> dict[str, str]:
    """Return what the signer says of the image."""
    said = dict(text.split("=", 1) for text in options.annotation)
    return said if options.purpose is None else {**said, PURPOSE: options.purpose}


def _keys(options: argparse.Namespace) -> tuple[PrivateKey, ...]:
    """Read and unlock the keys, before any image is opened."""
    passwords = Passwords(options.passphrase_fd, os.environ)
    keys = []
    for path in options.key:
        say(f"INFO:    Sigstore/cosign compatible signature, using key material from '{printable(path)}'")
        text = _read(path)
        keys.append(read_cosign_key(text, partial(passwords.of, path), source=path))
    if len({key.public.id for key in keys}) < len(keys):
        raise KeyMaterialError("the same key is given twice; one key counts once")
    return tuple(keys)


def _read(path: str) -> bytes:
    """Return a key file; a pipe is as good, so that a key need not lie in a file."""
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(MAX_KEY_FILE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise KeyMaterialError(f"{path}: {reason}") from error
    if stat.S_ISREG(mode) and mode & _OTHERS_READ:
        say(f"WARNING: others can read {printable(path)}, and only its password is in their way: chmod 600")
    return text


def _sign(image: str, keys: Sequence[PrivateKey], options: argparse.Namespace) -> _Result:
    now = datetime.now(UTC)
    written: dict[str, str | int] = {_CREATOR: f"eclctl/{__version__}", _TIMESTAMP: int(now.timestamp())}
    said = {**written, **_annotations(options)}
    try:
        with editing(image) as edited:
            what = cosign_sign.subject(edited.image)
            for key in cosign_sign.repeated(edited.image, keys, options.purpose):
                say(f"WARNING: {printable(key.public.source)} has signed this image before; one key counts once")
            _require_consent(image, what, options)
            with progress_bar(printable(os.path.basename(image)), edited.image.size) as progress:
                signed = cosign_sign.sign(edited, keys, said, now, progress)
            for note in edited.notes:
                say(f"WARNING: {printable(note)}")
    except EclctlError as error:
        return _Result(image, error=Finding(error.code, str(error)))
    except OSError as error:
        return _Result(image, error=Finding("signing", error.strerror or str(error)))
    return _Result(image, signed)


def _require_consent(image: str, what: Subject, options: argparse.Namespace) -> None:
    """Let nobody break a native signature without knowing it."""
    if not what.breaks:
        return
    numbers = ", ".join(map(str, what.breaks))
    say(
        f"WARNING: '{printable(image)}' has native signatures (data objects {numbers}), which this one will break: it"
        " changes the object group that they cover. Cosign first, native last; then only the cosign signature counts,"
        " and who made the native ones has to sign again"
    )
    if options.yes:
        return
    answer = confirmed("Sign, and break them?")
    if answer is None:
        raise SigningError("a native signature would be broken; to do it all the same, add --yes. Nothing was signed")
    if not answer:
        raise SigningError("not signed, as you say: the native signatures are as they were")


def _show(result: _Result, keys: Sequence[PrivateKey], options: argparse.Namespace) -> None:
    what = result.subject
    if what is None:
        return
    if options.json:
        print(json.dumps(_shape(result, what, keys, _annotations(options))), flush=True)
        return
    count = what.signatures + len(keys)
    say(f"INFO:    Image digest: {what.digest}")
    say(f"INFO:    Signature created and applied to image '{printable(result.image)}', which has {count} now")


def _shape(
    result: _Result, what: Subject, keys: Sequence[PrivateKey], annotations: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "v": 1,
        "image": result.image,
        "signed": True,
        "error": None,
        "digest": what.digest,
        "keys": [key.public.id for key in keys],
        "annotations": dict(annotations),
        "signatures": what.signatures + len(keys),
        "broken": list(what.breaks),
    }


def _show_failure(results: Sequence[_Result], options: argparse.Namespace) -> None:
    for result in results:
        error = result.error
        if error is None:
            continue
        if options.json:
            shape = {"code": error.code, "message": error.message}
            print(json.dumps({"v": 1, "image": result.image, "signed": False, "error": shape}), flush=True)
        else:
            say(f"FATAL:   failed to sign '{printable(result.image)}': {printable(error.message)}")
