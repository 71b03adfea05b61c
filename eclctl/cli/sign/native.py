"""`eclctl sign` with PGP and PEM keys: signatures into SIF images, as `singularity sign` makes them."""

from __future__ import annotations

import argparse
import os
from datetime import UTC, datetime

from eclctl.cli.inputs.images import open_regular_file
from eclctl.cli.sign.keys import key_description, open_signing
from eclctl.cli.sign.policy import Outlook, Policies, policies_from_options
from eclctl.cli.sign.report import SigningReport, refuse, show_coverage, show_outlook, show_warnings
from eclctl.cli.terminal.exit_codes import FAILED, OK
from eclctl.cli.terminal.output import print_note
from eclctl.cli.terminal.passphrases import Passphrases, at_terminal
from eclctl.cli.terminal.progress import progress_bar
from eclctl.cli.terminal.prompts import confirmed
from eclctl.dataclass import dataclass
from eclctl.errors import ConfigError, EclctlError, KeyMaterialError, SigningError
from eclctl.sif.reader import Sif, read
from eclctl.sign import native
from eclctl.sign.coverage import Part, already_signed, plan_coverage, signing_warnings
from eclctl.sign.edit.editing import editing, prepare
from eclctl.sign.native import Signing
from eclctl.terms import Finding
from eclctl.text import printable

_ASKED = frozenset({"signed-before", "not-tied", "ungrouped-object", "unknown-to-policy"})
"""The warnings that the user at the terminal is asked about."""


def run(options: argparse.Namespace) -> int:
    """Sign images as the options say, show how each came out, and return the exit status."""
    passphrases = Passphrases(options.passphrase_fd, os.environ, ask=at_terminal() and not options.non_interactive)
    try:
        policies = policies_from_options(options, _now())
        print_note(f"INFO:    Signing image with {key_description(options)}")
        with open_signing(options, passphrases) as signing:
            return _Command(options, signing, policies, ask=passphrases.asks and not options.yes).run()
    except (ConfigError, KeyMaterialError) as error:
        return refuse(options, error, SigningReport)


@dataclass(frozen=True, slots=True)
class _Look:
    """An image that was looked at, and can be signed. `state` is which file it was, and which content of that."""

    image: str
    state: tuple[int, ...]
    sif: Sif
    parts: tuple[Part, ...]
    warnings: tuple[Finding, ...]
    outlook: Outlook | None


class _Command:
    """Signs images with keys that are unlocked, one after the other; each is looked at and shown before."""

    def __init__(self, options: argparse.Namespace, signing: Signing, policies: Policies | None, *, ask: bool) -> None:
        self._options = options
        self._signing = signing
        self._policies = policies
        self._ask = ask

    def run(self) -> int:
        """Return the exit status."""
        reports = [self._image(image) for image in self._options.images]
        return OK if all(report.error is None for report in reports) else FAILED

    def _image(self, image: str) -> SigningReport:
        try:
            look = self._looked_at(image)
        except EclctlError as error:
            report = SigningReport(image, error=Finding(error.code, str(error)))
        else:
            self._show(look)
            report = self._signed(look)
        report.show_json() if self._options.json else report.show_text()
        return report

    def _looked_at(self, image: str) -> _Look:
        notes = tuple(Finding("note", note) for note in prepare(image))
        fd = open_regular_file(image)
        try:
            state, sif = _state(fd), read(fd)
            parts = plan_coverage(sif, self._options.group_id, self._options.sif_id)
            warnings = (
                *signing_warnings(sif, parts),
                *already_signed(sif, parts, self._signing.store, self._signing.purposes),
            )
            place = os.path.realpath(self._options.place or image)
            policies = self._policies
            found = None if policies is None else policies.outlook(fd, place, parts, self._signing, _now())
        finally:
            os.close(fd)
        unknown = found.unknown if found is not None else ()
        return _Look(image, state, sif, parts, (*notes, *warnings, *unknown), found)

    def _signed(self, look: _Look) -> SigningReport:
        try:
            ids = self._sign(look)
        except EclctlError as error:
            return SigningReport(look.image, error=Finding(error.code, str(error)))
        except OSError as error:
            return SigningReport(look.image, error=Finding("signing", f"the image cannot be signed: {error.strerror}"))
        made = tuple(zip(ids, look.parts, strict=True))
        return SigningReport(look.image, self._signing, self._options.hash, made, look.warnings, look.outlook)

    def _sign(self, look: _Look) -> tuple[int, ...]:
        """Sign what was shown, once the user agrees; return the new signatures."""
        doubtful = any(warning.code in _ASKED for warning in look.warnings)
        if doubtful and self._ask and not confirmed(f"Sign {printable(look.image)} all the same?"):
            raise SigningError("not signed, as you said; the image is as it was")
        algorithm = self._options.hash
        with editing(look.image) as opened:
            # The file's state counts, too: data that was rewritten in place has the same descriptors, and the
            # user was not asked about it.
            same = (opened.image.header, opened.image.descriptors) == (look.sif.header, look.sif.descriptors)
            if not same or _state(opened.fd) != look.state:
                raise SigningError("the image is another than what was shown: it has changed meanwhile; sign it again")
            size = opened.size_of({each.id for part in look.parts for each in part.objects})
            with progress_bar("signing", size) as progress:
                return native.sign(opened, look.parts, self._signing, algorithm, clock=_now, progress=progress)

    def _show(self, look: _Look) -> None:
        """Say what will be signed; with `--json` only what the user is asked about."""
        if not self._options.json:
            show_coverage(look.image, look.parts, self._signing, self._options.hash)
            show_outlook(look.outlook)
        if not self._options.json or self._ask:
            show_warnings(look.warnings)


def _state(fd: int) -> tuple[int, ...]:
    """Return what no change of the file's content leaves as it is; the time of change cannot be set."""
    found = os.fstat(fd)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _now() -> datetime:
    return datetime.now(UTC)
