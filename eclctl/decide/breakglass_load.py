"""Reads the directory of exceptions.

A break-glass procedure must not be able to break the site. An error in one exception refuses that exception alone: the
policy loads, the other exceptions stay in force, and a warning names the error. Without a directory there are none.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable

from eclctl.config.document import Mark, Problem, Report
from eclctl.dataclass import dataclass
from eclctl.decide.breakglass import NO_EXCEPTIONS, Approval, Candidate, Exceptions
from eclctl.errors import ConfigError
from eclctl.files.guarded import Reader, expand
from eclctl.policy.breakglass import FILE_NAME, read_exception
from eclctl.policy.language import ExceptionTerms
from eclctl.signature import openpgp
from eclctl.signature.openpgp.detached import MAX_DETACHED
from eclctl.terms import Finding, KeyRef, SignerKind

MAX_EXCEPTIONS = 256
"""The most exceptions that are read; more are refused."""

MAX_SIGNATURE_FILES = 32
"""The most files of signatures that are read for one exception."""

MAX_FILE = 64 * 1024
"""The longest exception, in bytes."""

_YAML = ".yaml"
_ASC = ".asc"


@dataclass(slots=True)
class _Loader:
    terms: ExceptionTerms
    ring: openpgp.Keyring
    read: Reader
    resolve_user: Callable[[str], int | None]
    resolve_group: Callable[[str], int | None]

    def candidate(self, file: str, signatures: list[str]) -> tuple[Candidate, list[bytes]]:
        """Load one exception; return it, and everything that was read for it."""
        name = os.path.basename(file).removesuffix(_YAML)
        if not FILE_NAME.fullmatch(name):
            message = "a file of this name is no exception"
            return _refused(name, file, message, "name it with 1 to 64 of a-z, 0-9, dot, dash and underscore"), []
        try:
            text = self.read(file, limit=MAX_FILE)
        except ConfigError as error:
            return _refused(name, file, f"the exception {error}"), []
        report = Report()
        found = read_exception(
            file, text, self.terms, report, resolve_user=self.resolve_user, resolve_group=self.resolve_group
        )
        approvals, unusable, blobs = self._approvals(text, signatures)
        digest = "sha256:" + hashlib.sha256(text).hexdigest()
        problems = (*report.errors, *report.warnings)
        return Candidate(name, file, digest, found, approvals, problems, unusable), [text, *blobs]

    def _approvals(
        self, text: bytes, files: list[str]
    ) -> tuple[tuple[Approval, ...], tuple[Problem, ...], list[bytes]]:
        approvals: list[Approval] = []
        unusable: list[Problem] = []
        blobs: list[bytes] = []
        for file in files[:MAX_SIGNATURE_FILES]:
            try:
                armored = self.read(file, limit=MAX_DETACHED)
                blobs.append(armored)
                found = openpgp.check_detached(armored, text, self.ring)
            except ConfigError as error:
                unusable.append(Problem(file, 0, 0, f"the signature {error}"))
            except openpgp.VerificationError as error:
                unusable.append(Problem(file, 0, 0, error.finding.message))
            else:
                good = [each for each in found if isinstance(each, openpgp.GoodSignature)]
                bad = [each for each in found if isinstance(each, Finding)]
                approvals += [_approval(each, file) for each in good]
                unusable += [Problem(file, 0, 0, each.message) for each in bad]
        if len(files) > MAX_SIGNATURE_FILES:
            message = f"not looked at: more than {MAX_SIGNATURE_FILES} files of signatures"
            unusable.append(Problem(files[MAX_SIGNATURE_FILES], 0, 0, message))
        return tuple(approvals), tuple(unusable), blobs


def load_exceptions(
    terms: ExceptionTerms | None,
    ring: openpgp.Keyring,
    *,
    read: Reader,
    resolve_user: Callable[[str], int | None],
    resolve_group: Callable[[str], int | None],
) -> tuple[Exceptions, tuple[Problem, ...]]:
    """Load every exception in the policy's directory of them.

    Never raises. What is wrong with the directory as a whole is returned beside; what is wrong with one exception is
    its own.

    Args:
        terms: what the policy says about exceptions.
        ring: every OpenPGP certificate of the site.
        read: reads one file and guards it.
        resolve_user: the number of a user's name on this host, or None.
        resolve_group: likewise of a group's.
    """
    if terms is None:
        return NO_EXCEPTIONS, ()
    try:
        files = expand((terms.directory,)) if os.path.isdir(terms.directory) else None
    except ConfigError as error:
        return NO_EXCEPTIONS, (_of_directory(terms, str(error)),)
    if files is None:
        return NO_EXCEPTIONS, (_of_directory(terms, f"the directory {terms.directory} of exceptions is not there"),)
    named = [file for file in files if file.endswith(_YAML)]
    loader = _Loader(terms, ring, read, resolve_user, resolve_group)
    signatures = [file for file in files if file.endswith(_ASC)]
    loaded = [loader.candidate(file, _beside(file, signatures)) for file in named[:MAX_EXCEPTIONS]]
    candidates = [candidate for candidate, _ in loaded]
    candidates += [
        _refused(os.path.basename(file).removesuffix(_YAML), file, f"there are more than {MAX_EXCEPTIONS} exceptions")
        for file in named[MAX_EXCEPTIONS:]
    ]
    problems = [_lost(file) for file in files if not _belongs(file, set(named))]
    return Exceptions(tuple(candidates), _digest(blob for _, blobs in loaded for blob in blobs)), tuple(problems)


def _approval(found: openpgp.GoodSignature, file: str) -> Approval:
    signer = KeyRef(SignerKind.PGP, found.certificate)
    return Approval(signer, found.key, found.created, found.expires, file, found.purposes)


def _beside(file: str, signatures: list[str]) -> list[str]:
    """Return the files of signatures over `file`: its name with `.asc`, or with `.` a word and `.asc`."""
    return [each for each in signatures if each == file + _ASC or each.startswith(file + ".")]


def _belongs(file: str, named: set[str]) -> bool:
    if not file.endswith(_ASC):
        return file in named
    return f"{file.rpartition(_YAML + '.')[0]}{_YAML}" in named


def _lost(file: str) -> Problem:
    hint = "an exception is NAME.yaml, with its signatures in NAME.yaml.WHO.asc (gpg --armor --detach-sign)"
    return Problem(file, 0, 0, "this file in the directory of exceptions means nothing", hint)


def _refused(name: str, file: str, message: str, hint: str | None = None) -> Candidate:
    return Candidate(name, file, "", None, problems=(Problem(file, 0, 0, message, hint),))


def _of_directory(terms: ExceptionTerms, message: str) -> Problem:
    file, _, line = terms.where.rpartition(":")
    report = Report()
    report.warning(Mark(file, int(line), 1), f"{message}, so there are none", "make it, or remove exceptions")
    return report.warnings[0]


def _digest(blobs: Iterable[bytes]) -> str:
    return "sha256:" + hashlib.sha256(b"".join(hashlib.sha256(blob).digest() for blob in blobs)).hexdigest()
