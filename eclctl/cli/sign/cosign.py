"""`eclctl sign --cosign`: signs the OCI image in OCI-SIF files, as `singularity sign --cosign` does."""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial

from eclctl import __version__
from eclctl.cli.sign.policy import Outlook, Policies, policies_from_options
from eclctl.cli.sign.report import CosignSigningReport, refuse, show_cosign_coverage, show_outlook, show_warnings
from eclctl.cli.terminal.exit_codes import FAILED, OK
from eclctl.cli.terminal.output import print_note
from eclctl.cli.terminal.passphrases import Passwords, at_terminal
from eclctl.cli.terminal.progress import progress_bar
from eclctl.cli.terminal.prompts import confirmed
from eclctl.dataclass import dataclass, replace
from eclctl.errors import ConfigError, EclctlError, KeyMaterialError, SigningError
from eclctl.sif.reader import Sif
from eclctl.sign import cosign_sign
from eclctl.sign.cosign_keys import read_cosign_key
from eclctl.sign.cosign_sign import CosignSigned, Subject
from eclctl.sign.edit.editing import Editing, editing
from eclctl.sign.pem import PrivateKey
from eclctl.signature.cosign import PURPOSE
from eclctl.signature.keys import MAX_KEY_FILE
from eclctl.terms import Finding, is_purpose
from eclctl.text import printable
from eclctl.verify.hashing import DigestCache

_CREATOR, _TIMESTAMP = "creator", "timestamp"
_OTHERS_READ = stat.S_IRGRP | stat.S_IROTH
_BREAKS = "breaks-native"


def cosign_signing_options_error(options: argparse.Namespace) -> str | None:
    """Return what is wrong with the other options beside `--cosign`."""
    if not options.key:
        return "--cosign signatures require a private --key to be specified"
    if options.group_id or options.sif_id:
        return "--cosign signatures sign an OCI image, specifying SIF descriptors / groups is not supported"
    if options.purpose is not None and not is_purpose(options.purpose):
        return f"--purpose {options.purpose!r}: 1 to 32 of a-z 0-9 . _ -, the first and the last a letter or digit"
    return _misannotated(options.annotation)


def run(options: argparse.Namespace) -> int:
    """Sign images as the options say, show how each came out, and return the exit status."""
    ask = at_terminal() and not options.non_interactive
    try:
        policies = policies_from_options(options, _now())
        keys = _keys(options, Passwords(options.passphrase_fd, os.environ, ask=ask))
    except (ConfigError, KeyMaterialError) as error:
        return refuse(options, error, CosignSigningReport)
    command = _Command(options, keys, policies, ask=ask and not options.yes)
    reports = [command.sign(image) for image in options.images]
    return OK if all(report.error is None for report in reports) else FAILED


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


def _keys(options: argparse.Namespace, passwords: Passwords) -> tuple[PrivateKey, ...]:
    """Read and unlock the keys, before any image is opened."""
    keys = []
    for path in options.key:
        print_note(f"INFO:    Sigstore/cosign compatible signature, using key material from '{printable(path)}'")
        keys.append(read_cosign_key(_read(path), partial(passwords.of, path), source=path))
    if len({key.public.id for key in keys}) < len(keys):
        raise KeyMaterialError("the same key is given twice with --key; one key signs once")
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
        print_note(f"WARNING: others can read {printable(path)}, and only its password is in their way: chmod 600")
    return text


@dataclass(frozen=True, slots=True)
class _Command:
    """Signs images with keys that are unlocked, one image after the other."""

    options: argparse.Namespace
    keys: tuple[PrivateKey, ...]
    policies: Policies | None
    ask: bool

    def sign(self, image: str) -> CosignSigningReport:
        """Sign an image, and show what became of it."""
        try:
            report = self._signed(image)
        except EclctlError as error:
            report = CosignSigningReport(image, error=Finding(error.code, str(error)))
        except OSError as error:
            finding = Finding("unreadable", f"the image cannot be signed: {error.strerror}")
            report = CosignSigningReport(image, error=finding)
        report.show_json() if self.options.json else report.show_text()
        return report

    def _signed(self, image: str) -> CosignSigningReport:
        with editing(image) as edited:
            what = cosign_sign.signing_subject(edited.image)
            warnings = self._warnings(edited, what)
            if not self.options.json:
                show_cosign_coverage(image, edited.image, what, self._report(image))
            if not self.options.json or self.ask:
                show_warnings(warnings)
            self._require_consent(image, what, warnings)
            made, seen = self._make(image, edited)
            notes = tuple(Finding("note", note) for note in edited.notes)
        return replace(self._report(image), made=made, subject=what, warnings=(*warnings, *notes), outlook=seen)

    def _report(self, image: str) -> CosignSigningReport:
        keys = tuple(key.public for key in self.keys)
        return CosignSigningReport(image, keys, self.options.purpose, self._annotations)

    @property
    def _annotations(self) -> Mapping[str, str]:
        return dict(text.split("=", 1) for text in self.options.annotation)

    def _warnings(self, edited: Editing, what: Subject) -> tuple[Finding, ...]:
        """Return what the user should know before signing."""
        found = []
        if what.breaks:
            message = (
                f"the image has native signatures (data objects {_listed(what.breaks)}), and this one breaks them: it"
                " changes the object group that they cover. Cosign first, native last: who made them has to sign again"
            )
            found.append(Finding(_BREAKS, message))
        for key in cosign_sign.repeated(edited.image, self.keys, self.options.purpose):
            message = f"the key {key.public.source} has signed this image before; one key counts once"
            found.append(Finding("signed-before", message))
        if self.policies is not None:
            found += self.policies.unknown_for_cosign(self.keys)
        return tuple(found)

    def _require_consent(self, image: str, what: Subject, warnings: Sequence[Finding]) -> None:
        """Break no native signature without --yes or a yes; ask about the other warnings where there is a terminal."""
        if self.options.yes or not warnings:
            return
        if self.ask:
            if not confirmed(f"Sign {printable(image)} all the same?"):
                raise SigningError("not signed, as you said")
        elif what.breaks:
            numbers = _listed(what.breaks)
            raise SigningError(
                f"it would break native signatures (data objects {numbers}); to do so all the same, add --yes"
            )

    def _make(self, image: str, edited: Editing) -> tuple[CosignSigned, Outlook | None]:
        """Sign; show what policies will say of the signed file before it is written."""
        now, bars = _now(), ExitStack()
        seen: list[Outlook] = []
        written: dict[str, str | int] = {_CREATOR: f"eclctl/{__version__}", _TIMESTAMP: int(now.timestamp())}
        purpose = {} if self.options.purpose is None else {PURPOSE: self.options.purpose}

        def witness(before: DigestCache, signed: Sif, after: DigestCache) -> None:
            bars.close()
            if self.policies is not None:
                place = os.path.realpath(self.options.place or image)
                seen.append(self.policies.cosign_outlook(place, (edited.image, before), (signed, after), now))
                show_outlook(None if self.options.json else seen[0])

        with bars:
            progress = bars.enter_context(progress_bar("signing", edited.size_of(cosign_sign.blob_ids(edited.image))))
            said = {**written, **self._annotations, **purpose}
            made = cosign_sign.sign_cosign(edited, self.keys, said, now, progress=progress, witness=witness)
        return made, next(iter(seen), None)


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def _now() -> datetime:
    return datetime.now(UTC)
