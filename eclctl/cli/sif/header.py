"""`eclctl sif header`: the global header of an image."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from eclctl.cli.sif.inspection import EXIT_STATUS, NO_TIME, InspectedImage, print_inspection, time_shape, utc
from eclctl.cli.terminal.subcommands import Commands, add_command
from eclctl.sif import labels
from eclctl.sif.reader import Header
from eclctl.text import printable

_EXAMPLES = f"""Times are UTC.

{EXIT_STATUS}
examples:
  eclctl sif header app.sif
  eclctl sif header --json app.sif
"""

_KIBI = 1024
_UNITS = "KMGTPE"


def add(commands: Commands) -> None:
    """Add the command's parser to those of `eclctl sif`."""
    parser = add_command(commands, "header", "Shows the global header of a SIF image.", _EXAMPLES)
    parser.add_argument("image", metavar="IMAGE", help="a SIF image")


def run(options: argparse.Namespace) -> int:
    """Run `eclctl sif header`; return its exit status."""
    return print_inspection(options, _show, _shape)


def readable_size(size: int) -> str:
    """Return a size as the reference writes it: whole units of 1024, a half rounded away from zero."""
    if abs(size) < _KIBI:
        return f"{size} B"
    power = min((abs(size).bit_length() - 1) // 10, len(_UNITS))
    unit = _KIBI**power
    whole = (abs(size) + unit // 2) // unit
    return f"{'-' if size < 0 else ''}{whole} {_UNITS[power - 1]}iB"


def _show(found: InspectedImage) -> None:
    header = found.inspection.header
    if header is None:
        return
    lines = [(f"{label}:", text) for label, text in _lines(header)]
    width = max(len(label) for label, _ in lines) + 1
    for label, text in lines:
        print(f"{label:<{width}}{text}")


def _lines(header: Header) -> Iterator[tuple[str, str]]:
    """Yield label and text of each line; what says nothing is left out, as in the reference."""
    script = _text(header.launch_script)
    if script:
        yield "Launch Script", printable(script.removesuffix("\n"))
    yield "Version", printable(_text(header.version))
    architecture = labels.architecture(header.architecture)
    if architecture != "unknown":
        yield "Primary Architecture", architecture
    if header.tied:
        yield "ID", str(UUID(bytes=header.uuid))
    for label, seconds in (("Created At", header.created), ("Modified At", header.modified)):
        if seconds != NO_TIME:
            yield label, utc(seconds)
    yield "Descriptors Free", str(header.free)
    yield "Descriptors Total", str(header.total)
    yield "Descriptors Offset", str(header.table_offset)
    yield "Descriptors Size", readable_size(header.table_size)
    yield "Data Offset", str(header.data_offset)
    yield "Data Size", readable_size(header.data_size)


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode("utf-8", "surrogateescape")


def _shape(found: InspectedImage) -> dict[str, Any]:
    header = found.inspection.header
    if header is None:
        return {"header": None}
    shape = {
        "launch_script": printable(_text(header.launch_script)),
        "version": printable(_text(header.version)),
        "architecture": labels.architecture(header.architecture),
        "uuid": str(UUID(bytes=header.uuid)) if header.tied else None,
        "created": time_shape(header.created),
        "modified": time_shape(header.modified),
        "descriptors_free": header.free,
        "descriptors_total": header.total,
        "descriptors_offset": header.table_offset,
        "descriptors_size": header.table_size,
        "data_offset": header.data_offset,
        "data_size": header.data_size,
    }
    return {"header": shape}
