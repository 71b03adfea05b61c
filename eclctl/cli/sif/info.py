"""`eclctl sif info`: one data object of an image."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from eclctl.cli.sif.inspection import EXIT_STATUS, InspectedImage, NotFoundError, number, print_inspection, utc
from eclctl.cli.sif.objects import NO_TIME, claimed_entity, group, link, object_shape
from eclctl.sif import labels
from eclctl.sif.inspect import Inspection, Slot
from eclctl.sif.media_types import media_types
from eclctl.sif.oci_sif import stated_digest
from eclctl.sif.reader import DataType, pread
from eclctl.signature.formats import recognize
from eclctl.terms import SignatureFormat
from eclctl.text import printable
from eclctl.verify.opening import MAX_SIGNATURE_SIZE

if TYPE_CHECKING:
    from eclctl.cli.terminal.parser import Parser

__all__ = ["add", "chosen_slots", "run"]

_EXAMPLES = f"""The fingerprint of a signature (Entity) is what the file claims. Who signed is
for `eclctl verify` to say. The media type of an OCI blob is what an index or
manifest in the image says of it.

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
_OCI = frozenset({DataType.OCI_ROOT_INDEX, DataType.OCI_BLOB})


def add(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command's parser to those of `eclctl sif`."""
    parser = commands.add_parser(
        "info",
        help="one data object of an image",
        description="Shows what the descriptor of one data object says. Times are UTC.",
        examples=_EXAMPLES,
    )
    parser.add_argument("id", type=number, metavar="ID", help="the object's ID, as `eclctl sif list` shows it")
    parser.add_argument("image", metavar="IMAGE", help="a SIF image")
    parser.add_argument(
        "-d", "--descriptor", action="store_true", help="ID is the number of the descriptor, from 1, instead"
    )
    parser.add_argument("-j", "--json", action="store_true", help="print one JSON object")
    parser.set_defaults(prog=parser.prog)


def run(options: argparse.Namespace) -> int:
    """Run `eclctl sif info`; return its exit status."""
    return print_inspection(
        options, lambda found: _show(found, options), lambda found: {"objects": _shapes(found.inspection, options)}
    )


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
    yield "Group ID", group(descriptor)
    yield "Linked ID", link(descriptor)
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
    if descriptor.type in _OCI:
        yield "Digest", stated_digest(descriptor) or "none that is one"


def _own_lines(inspection: Inspection, slot: Slot) -> Iterator[tuple[str, str]]:
    """Yield what the reference does not say."""
    if slot.descriptor.is_signature:
        yield "Format", _FORMATS[_format(inspection, slot)]
    for media_type in _media_types(inspection, slot):
        yield "Media Type", printable(media_type)
    if not slot.whole:
        yield "Damaged", "its data is not, or not wholly, in the file"


def _shapes(inspection: Inspection, options: argparse.Namespace) -> list[dict[str, Any]]:
    return [_shape(inspection, slot) for slot in chosen_slots(inspection, options)]


def _shape(inspection: Inspection, slot: Slot) -> dict[str, Any]:
    shape = object_shape(slot)
    if slot.descriptor.is_signature:
        shape["signature_format"] = _format(inspection, slot).value
    if slot.descriptor.type in _OCI:
        shape["media_types"] = [printable(media_type) for media_type in _media_types(inspection, slot)]
    return shape


def _format(inspection: Inspection, slot: Slot) -> SignatureFormat:
    if not slot.whole or slot.descriptor.size > MAX_SIGNATURE_SIZE:
        return SignatureFormat.UNKNOWN
    return recognize(pread(inspection.fd, slot.descriptor.size, slot.descriptor.offset))


def _media_types(inspection: Inspection, slot: Slot) -> tuple[str, ...]:
    digest = stated_digest(slot.descriptor) if slot.descriptor.type == DataType.OCI_BLOB else None
    return () if digest is None else media_types(inspection).get(digest, ())
