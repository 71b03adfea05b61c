"""What the commands of `eclctl sif` share: opening and reading an image, and saying what is wrong with it."""

from __future__ import annotations

import argparse
import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from eclctl.cli.inputs.images import open_regular_file
from eclctl.cli.terminal.exit_codes import FAILED, OK
from eclctl.cli.terminal.output import print_json, wrapped
from eclctl.errors import EclctlError
from eclctl.sif import labels
from eclctl.sif.file_type import RecognisedFile, recognise_directory
from eclctl.sif.inspect import Inspection, Remark, Slot, inspect
from eclctl.sif.reader import DataType, Descriptor
from eclctl.sif.warnings import unusual_values
from eclctl.text import counted, printable

EXIT_STATUS = """exit status:
  0  the image is sound, and this is what is in it
  1  it is damaged, and each fault is listed; or it cannot be read at all
  2  the command line is wrong
  3  the output cannot be written
"""

NO_TIME = -62_135_596_800
"""The first second of the year 1, which images that are made the same each time have for a time."""

OCI_TYPES = frozenset({DataType.OCI_ROOT_INDEX, DataType.OCI_BLOB})

_FINGERPRINT = 20
_LONG_FINGERPRINT = 32
_MOST_SHOWN = 40


class NotFoundError(EclctlError):
    """What was asked for is not in the image."""

    code = "not-found"


class InspectedImage(NamedTuple):
    """An image that was read, and what is odd about it."""

    inspection: Inspection
    notes: tuple[Remark, ...]


@contextmanager
def _opened(image: str) -> Iterator[InspectedImage]:
    """Open an image and read what can be read of it; it is closed at the end.

    Raises:
        EclctlError: The file cannot be opened or read.
    """
    fd = open_regular_file(image)
    try:
        inspection = inspect(fd)
        yield InspectedImage(inspection, unusual_values(inspection))
    finally:
        os.close(fd)


def print_inspection(
    options: argparse.Namespace,
    text: Callable[[InspectedImage], None],
    shape: Callable[[InspectedImage], Mapping[str, Any]],
) -> int:
    """Run a command that shows something: as text, with what is wrong beside it, or as one JSON object."""

    def answer(found: InspectedImage) -> None:
        if options.json:
            print_json({**report_as_json(options.image, found), **shape(found)})
        elif found.inspection.look is None:
            text(found)

    return run_on_image(options, answer)


def run_on_image(options: argparse.Namespace, answer: Callable[[InspectedImage], None]) -> int:
    """Open the image that the command line names and have it answered about; return the exit status.

    What is wrong with it is said beside the answer, and also when there is no answer.
    """
    try:
        with _opened(options.image) as found:
            try:
                answer(found)
                status = FAILED if found.inspection.damaged else OK
            except EclctlError as error:
                status = _refuse(options, error, found)
            if not options.json:
                sys.stdout.flush()
                _complain(options, found)
            return status
    except EclctlError as error:
        return _refuse(options, error, None)


def _refuse(options: argparse.Namespace, error: EclctlError, found: InspectedImage | None) -> int:
    """Say why there is no answer."""
    look = _directory(options.image) if found is None else None
    if options.json:
        shape = report_as_json(options.image, found)
        shape["error"] = {"code": error.code, "message": str(error)}
        shape["look"] = shape["look"] or (look and _look(look, options.image))
        print_json(shape)
    elif look is not None:
        _say_look(options.prog, options.image, look)
    else:
        print(f"{options.prog}: {printable(options.image)}: {printable(str(error))}", file=sys.stderr)
    return FAILED


def report_as_json(image: str, found: InspectedImage | None) -> dict[str, Any]:
    """Return what every command's JSON begins with; `found` is None for an image that could not be read."""
    inspection = None if found is None else found.inspection
    look = None if inspection is None else inspection.look
    return {
        "image": printable(image),
        "error": None,
        "sif": None if inspection is None else look is None,
        "look": look and _look(look, image),
        "size": None if inspection is None else inspection.size,
        "damaged": None if inspection is None else inspection.damaged,
        "findings": [] if inspection is None else [_remark(remark) for remark in inspection.faults],
        "notes": [] if found is None else [_remark(remark) for remark in found.notes],
    }


def _complain(options: argparse.Namespace, found: InspectedImage) -> None:
    """Say on standard error what is wrong with an image, and what is odd."""
    prog, image, inspection = options.prog, printable(options.image), found.inspection
    if inspection.look is not None:
        _say_look(prog, options.image, inspection.look)
        return
    if inspection.damaged:
        print(f"{prog}: {image} is damaged, {counted(len(inspection.faults), 'finding')}:", file=sys.stderr)
        _say_remarks(inspection.faults)
    if found.notes:
        print(f"{prog}: {image}: what writers of SIF images do not write:", file=sys.stderr)
        _say_remarks(found.notes)


def claimed_entity(descriptor: Descriptor) -> str:
    """Return the fingerprint that a signature's descriptor claims, in upper-case hex; "" when it claims none.

    That is 20 bytes, or 32 where there is more: they are not checked, and the author of the file chose them.
    """
    entity = descriptor.entity
    length = _LONG_FINGERPRINT if any(entity[_FINGERPRINT:_LONG_FINGERPRINT]) else _FINGERPRINT
    return entity[:length].hex().upper() if any(entity[:length]) else ""


def object_shape(slot: Slot) -> dict[str, Any]:
    """Return a data object as JSON has it. Times are seconds since 1970 and, within reason, text."""
    descriptor = slot.descriptor
    link = {"kind": "group" if descriptor.links_group else "object", "id": descriptor.link}
    shape: dict[str, Any] = {
        "id": descriptor.id,
        "descriptor": slot.number,
        "type": labels.data_type(descriptor),
        "type_number": descriptor.type,
        "group": descriptor.group or None,
        "link": link if descriptor.link else None,
        "offset": descriptor.offset,
        "size": descriptor.size,
        "end": descriptor.offset + descriptor.size,
        "whole": slot.whole,
        "created": time_shape(descriptor.created),
        "modified": time_shape(descriptor.modified),
        "uid": descriptor.uid,
        "gid": descriptor.gid,
        "name": printable(descriptor.name),
    }
    for meaning in labels.meanings(descriptor):
        shape[meaning.name.lower().replace(" ", "_")] = meaning.text
    if descriptor.is_signature:
        shape["claimed_entity"] = claimed_entity(descriptor) or None
    if descriptor.type in OCI_TYPES:
        from eclctl.sif.oci_sif import stated_digest  # noqa: PLC0415 - only an OCI-SIF states digests

        shape["digest"] = stated_digest(descriptor)
    return shape


def time_shape(seconds: int) -> Mapping[str, Any] | None:
    """Return a time as JSON has it; None where there is none."""
    return None if seconds == NO_TIME else {"seconds": seconds, "utc": utc(seconds)}


def utc(seconds: int) -> str:
    """Return a time in seconds since 1970 as the reference writes it, for every number that 64 bits hold."""
    days, rest = divmod(seconds, 86400)
    year, month, day = _civil(days)
    return f"{year:04}-{month:02}-{day:02} {rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02} +0000 UTC"


def _civil(days: int) -> tuple[int, int, int]:
    """Return year, month and day of the proleptic Gregorian calendar, of which `datetime` has but 9999 years.

    Years begin in March here, and go in eras of 400, so that the leap day comes last in both.
    """
    era, day_of_era = divmod(days + 719_468, 146_097)  # from 0000-03-01; days in 400 years
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    march_month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * march_month + 2) // 5 + 1
    month = march_month + 3 if march_month < 10 else march_month - 9  # noqa: PLR2004 - January is the tenth after March
    return year_of_era + era * 400 + (month <= 2), month, day  # noqa: PLR2004 - to the end of February


def _directory(image: str) -> RecognisedFile | None:
    """Return what a directory looks like; None when it is none, or cannot be looked into."""
    try:
        if not stat.S_ISDIR(os.stat(image).st_mode):
            return None
    except (OSError, ValueError):
        return None
    return recognise_directory(lambda name: os.path.lexists(os.path.join(image, name)))


def _say_look(prog: str, image: str, look: RecognisedFile) -> None:
    print(f"{prog}: {printable(image)} is no SIF image: it is {look.what}", file=sys.stderr)
    print(f"  {_advice(look, image)}", file=sys.stderr)


def _look(look: RecognisedFile, image: str) -> dict[str, str]:
    return {"kind": look.kind, "what": look.what, "advice": _advice(look, image)}


def _advice(look: RecognisedFile, image: str) -> str:
    import shlex  # noqa: PLC0415 - only for what is no SIF image

    return look.advice.format(image=shlex.quote(printable(image)))


def _say_remarks(remarks: Sequence[Remark]) -> None:
    for remark in remarks[:_MOST_SHOWN]:
        print("\n".join(_lines(remark)), file=sys.stderr)
    if len(remarks) > _MOST_SHOWN:
        print(f"  and {len(remarks) - _MOST_SHOWN} more: --json has them all", file=sys.stderr)


def _lines(remark: Remark) -> list[str]:
    where = "" if remark.descriptor is None else f"descriptor {remark.descriptor} (object {remark.object}), "
    at = "" if remark.at is None else f" at byte {remark.at}"
    return wrapped(f"{where}{remark.field}{at}: {remark.wrong}; right: {remark.right}", "  ", "    ")


def _remark(remark: Remark) -> dict[str, Any]:
    return {
        "descriptor": remark.descriptor,
        "object": remark.object,
        "field": remark.field,
        "byte": remark.at,
        "wrong": remark.wrong,
        "right": remark.right,
    }
