"""`eclctl sif dump`: the bytes of one data object."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Iterator

from eclctl.cli.sif.info import add_object_options, chosen_slots
from eclctl.cli.sif.inspection import InspectedImage, NotFoundError, report_as_json, run_on_image
from eclctl.cli.terminal.output import print_json
from eclctl.cli.terminal.parser import UsageError
from eclctl.cli.terminal.subcommands import Commands, add_command
from eclctl.errors import EclctlError
from eclctl.files.atomic import Existing, NewFileError, atomic_writer, write_at
from eclctl.sif.inspect import Slot
from eclctl.sif.reader import pread
from eclctl.text import printable

_CHUNK = 1 << 20
_MOST_SHOWN = 1 << 20
_STDOUT = "-"

_EXAMPLES = """A terminal shows only plain text; `-o -` writes any bytes. A file that -o names
appears when it is whole, and replaces another only with --force. Holes in the
image are holes in the file. --json and --force go with -o FILE.

exit status:
  0  the object is written, and the image is sound
  1  it is not written; or it is, and the image is damaged
  2  the command line is wrong
  3  standard output cannot be written

examples:
  eclctl sif dump 1 app.sif
  eclctl sif dump 3 app.sif -o root.squashfs
  eclctl sif dump 4 app.sif -o - | gpg --verify
  eclctl sif dump --partial 3 cut.sif -o what-is-left.squashfs
"""


class _DumpError(EclctlError):
    """The object is not written."""

    code = "not-dumped"


def add(commands: Commands) -> None:
    """Add the command's parser to those of `eclctl sif`."""
    text = "Writes the data of one object to standard output or a file."
    parser = add_command(commands, "dump", text, _EXAMPLES)
    add_object_options(parser)
    parser.add_argument("-o", "--output", metavar="FILE", help="write a file; - is standard output")
    parser.add_argument("-F", "--force", action="store_true", help="replace the file if there is one")
    parser.add_argument("--partial", action="store_true", help="write what is there of an object that is cut off")


def run(options: argparse.Namespace) -> int:
    """Run `eclctl sif dump`; return its exit status."""
    to_file = options.output not in {None, _STDOUT}
    if not to_file and (options.json or options.force):
        raise UsageError(f"{'--json' if options.json else '--force'} goes with -o FILE")
    return run_on_image(options, lambda found: _dump(found, options, to_file=to_file))


def _dump(found: InspectedImage, options: argparse.Namespace, *, to_file: bool) -> None:
    slot, written = None, None
    if found.inspection.look is None:
        slot = _one(found, options)
        size = _to_file(found, slot, options) if to_file else _to_stdout(found, slot, options)
        written = {"file": printable(options.output or _STDOUT), "bytes": size, "whole": size == slot.descriptor.size}
    if options.json:
        identity = None if slot is None else slot.descriptor.id
        print_json({**report_as_json(options.image, found), "object": identity, "written": written})


def _one(found: InspectedImage, options: argparse.Namespace) -> Slot:
    """Return the one object that is asked for, whose data can be written."""
    slots = chosen_slots(found.inspection, options)
    if len(slots) > 1:
        numbers = " and ".join(str(slot.number) for slot in slots)
        raise NotFoundError(
            f"descriptors {numbers} have the ID {options.id}: say which, `--descriptor {slots[0].number}` for instance"
        )
    slot = slots[0]
    if slot.whole:
        return slot
    there = _size(slot, found.inspection.size)
    if not there:
        raise _DumpError(f"nothing of object {slot.descriptor.id} is in the file")
    if not options.partial:
        raise _DumpError(
            f"only {there} of {slot.descriptor.size} bytes of object {slot.descriptor.id} are in the file;"
            " --partial writes them"
        )
    return slot


def _size(slot: Slot, file_size: int) -> int:
    """Return how many bytes of an object there are."""
    start, length = slot.descriptor.offset, slot.descriptor.size
    return max(0, min(length, file_size - start)) if start >= 0 else 0


def _to_stdout(found: InspectedImage, slot: Slot, options: argparse.Namespace) -> int:
    if sys.stdout is None:
        raise _DumpError("standard output is closed")
    inspection = found.inspection
    size, start = _size(slot, inspection.size), slot.descriptor.offset
    if sys.stdout.isatty() and options.output is None:
        _require_text(inspection.fd, start, size, slot)
    sys.stdout.flush()
    for at in range(start, start + size, _CHUNK):
        sys.stdout.buffer.write(pread(inspection.fd, min(_CHUNK, start + size - at), at))
    sys.stdout.buffer.flush()
    return size


def _require_text(fd: int, start: int, size: int, slot: Slot) -> None:
    """Refuse what would do something to a terminal: it may have been written for that."""
    if size <= _MOST_SHOWN:
        try:
            text = pread(fd, size, start).decode()
        except UnicodeDecodeError:
            text = "\0"
        plain = text.replace("\n", "").replace("\t", "").replace("\\", "")
        if printable(plain) == plain:
            return
    raise _DumpError(
        f"object {slot.descriptor.id} is no plain text: write it to a file with -o FILE, or here with -o -"
    )


def _to_file(found: InspectedImage, slot: Slot, options: argparse.Namespace) -> int:
    inspection = found.inspection
    _refuse_itself(options.output, inspection.fd)
    size = _size(slot, inspection.size)
    existing = Existing.REGULAR if options.force else Existing.REFUSED
    try:
        with atomic_writer(options.output, existing=existing) as target:
            for at, length in _pieces(inspection.fd, slot.descriptor.offset, size):
                write_at(target, pread(inspection.fd, length, at), at - slot.descriptor.offset)
            os.ftruncate(target, size)
    except FileExistsError as error:
        raise NewFileError(f"{options.output!r} is there already; --force replaces it") from error
    except OSError as error:
        raise NewFileError(f"cannot write {options.output!r}: {error.strerror}") from error
    return size


def _refuse_itself(output: str, fd: int) -> None:
    try:
        same = os.path.samestat(os.stat(output), os.fstat(fd))
    except (OSError, ValueError):  # it is not there, or the writer says what is wrong with it
        return
    if same:
        raise NewFileError("the output is the image itself: choose another name")


def _pieces(fd: int, start: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield where there is data, in pieces of at most a chunk: position and length, holes left out."""
    at, end = start, start + size
    while (data := _next_data(fd, at)) is not None and data < end:
        hole = _next_hole(fd, data, end)
        at = min(end, hole) if hole > data else end  # else a hole was made just here: its zeros are read
        yield from ((piece, min(_CHUNK, at - piece)) for piece in range(data, at, _CHUNK))


def _next_data(fd: int, at: int) -> int | None:
    """Return where the next data begins; None when there is none. A file system without holes has data everywhere."""
    try:
        return os.lseek(fd, at, os.SEEK_DATA)
    except OSError as error:
        return None if error.errno == errno.ENXIO else at


def _next_hole(fd: int, at: int, end: int) -> int:
    try:
        return os.lseek(fd, at, os.SEEK_HOLE)
    except OSError:
        return end
