"""`eclctl sif info`: one data object of an image."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

from eclctl.cli.sif.inspection import (
    EXIT_STATUS,
    NO_TIME,
    OCI_TYPES,
    InspectedImage,
    NotFoundError,
    claimed_entity,
    object_shape,
    print_inspection,
    utc,
)
from eclctl.cli.terminal.parser import Parser, whole_number
from eclctl.cli.terminal.subcommands import Commands, add_command
from eclctl.sif import labels
from eclctl.sif.inspect import Inspection, Slot
from eclctl.sif.media_types import media_types
from eclctl.sif.oci_sif import stated_digest
from eclctl.sif.reader import DataType, pread
from eclctl.signature.formats import recognize
from eclctl.terms import SignatureFormat
from eclctl.text import printable
from eclctl.verify.opening import MAX_SIGNATURE_SIZE

_EXAMPLES = f"""Times are UTC. The fingerprint of a signature (Entity) is a claim of the file:
`eclctl verify` shows who signed. The media type of an OCI blob is what an index
or manifest in the image says of it.

{EXIT_STATUS}
examples:
  eclctl sif info 4 app.sif
  eclctl sif info --json 4 app.sif
  eclctl sif info --descriptor 3 damaged.sif   # two objects with one ID
"""

_FORMATS = {
    SignatureFormat.PGP: "PGP clear-sign",
    SignatureFormat.DSSE: "DSSE envelope",
    SignatureFormat.LEGACY: "legacy (clear-signed SIFHASH, covers data only)",
    SignatureFormat.UNKNOWN: "not recognized",
}


def add(commands: Commands) -> None:
    """Add the command's parser to those of `eclctl sif`."""
    parser = add_command(commands, "info", "Shows what the descriptor of one data object says.", _EXAMPLES)
    add_object_options(parser)


def add_object_options(parser: Parser) -> None:
    """Add what names an object of an image."""
    text = "the object's ID, as `eclctl sif list` shows it"
    parser.add_argument("id", type=whole_number(0, (1 << 32) - 1), metavar="ID", help=text)
    parser.add_argument("image", metavar="IMAGE", help="a SIF image")
    text = "ID is the number of a descriptor, counted from 1"
    parser.add_argument("-d", "--descriptor", action="store_true", help=text)


def run(options: argparse.Namespace) -> int:
    """Run `eclctl sif info`; return its exit status."""

    def shapes(found: InspectedImage) -> dict[str, Any]:
        inspection = found.inspection
        return {"objects": [_shape(inspection, slot) for slot in chosen_slots(inspection, options)]}

    return print_inspection(options, lambda found: _show(found, options), shapes)


def chosen_slots(inspection: Inspection, options: argparse.Namespace) -> Sequence[Slot]:
    """Return the objects that the command line names: one, or in a damaged image perhaps several.

    Raises:
        NotFoundError: There is none.
    """
    if options.descriptor:
        found: Sequence[Slot] = [slot for slot in inspection.slots if slot.number == options.id]
    else:
        found = inspection.with_id(options.id)
    if not found and inspection.look is None:
        what = "descriptor" if options.descriptor else "object"
        raise NotFoundError(f"object not found: there is no {what} {options.id}; `eclctl sif list` shows what there is")
    return found


def _show(found: InspectedImage, options: argparse.Namespace) -> None:
    for index, slot in enumerate(chosen_slots(found.inspection, options)):
        if index:
            print()
        lines = [(f"{label}:", text) for label, text in _reference_lines(slot)]
        width = max(len(label) for label, _ in lines) + 2
        lines += [(f"{label}:", text) for label, text in _own_lines(found.inspection, slot)]
        for label, text in lines:
            print(f"  {label:<{width}}{text}" if len(label) < width else f"  {label} {text}")


def _reference_lines(slot: Slot) -> Iterator[tuple[str, str]]:
    """Yield label and text of the lines that the reference has, too."""
    descriptor = slot.descriptor
    yield "Data Type", labels.data_type(descriptor)
    yield "ID", str(descriptor.id)
    yield "Group ID", labels.group(descriptor)
    yield "Linked ID", labels.link(descriptor)
    yield "Offset", str(descriptor.offset)
    yield "Size", str(descriptor.size)
    for label, seconds in (("Created At", descriptor.created), ("Modified At", descriptor.modified)):
        if seconds != NO_TIME:
            yield label, utc(seconds)
    if descriptor.name:
        yield "Name", printable(descriptor.name)
    for meaning in labels.meanings(descriptor):
        yield meaning.name, meaning.text
    if descriptor.is_signature and (entity := claimed_entity(descriptor)):
        yield "Entity", f"{entity} (a claim, no proof)"
    if descriptor.type in OCI_TYPES:
        yield "Digest", stated_digest(descriptor) or "none that is one"


def _own_lines(inspection: Inspection, slot: Slot) -> Iterator[tuple[str, str]]:
    """Yield what the reference does not say."""
    if slot.descriptor.is_signature:
        yield "Format", _FORMATS[_format(inspection, slot)]
    for media_type in _media_types(inspection, slot):
        yield "Media Type", printable(media_type)
    if not slot.whole:
        yield "Damaged", "its data is not, or not wholly, in the file"


def _shape(inspection: Inspection, slot: Slot) -> dict[str, Any]:
    shape = object_shape(slot)
    if slot.descriptor.is_signature:
        shape["signature_format"] = _format(inspection, slot).value
    if slot.descriptor.type in OCI_TYPES:
        shape["media_types"] = [printable(media_type) for media_type in _media_types(inspection, slot)]
    return shape


def _format(inspection: Inspection, slot: Slot) -> SignatureFormat:
    if not slot.whole or slot.descriptor.size > MAX_SIGNATURE_SIZE:
        return SignatureFormat.UNKNOWN
    return recognize(pread(inspection.fd, slot.descriptor.size, slot.descriptor.offset))


def _media_types(inspection: Inspection, slot: Slot) -> tuple[str, ...]:
    digest = stated_digest(slot.descriptor) if slot.descriptor.type == DataType.OCI_BLOB else None
    return () if digest is None else media_types(inspection).get(digest, ())
