"""`eclctl sif list`: the data objects of an image."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from eclctl.cli.sif.inspection import EXIT_STATUS, InspectedImage, print_inspection
from eclctl.cli.sif.objects import group, link, object_shape
from eclctl.sif import labels
from eclctl.sif.inspect import Slot

if TYPE_CHECKING:
    from eclctl.cli.terminal.parser import Parser

__all__ = ["add", "run"]

_RULE = "-" * 78

_EXAMPLES = f"""{EXIT_STATUS}
examples:
  eclctl sif list app.sif
  eclctl sif list --json app.sif
"""


def add(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command's parser to those of `eclctl sif`."""
    parser = commands.add_parser(
        "list",
        help="the data objects of an image",
        description="Lists the data objects of a SIF image, also of a damaged one.",
        examples=_EXAMPLES,
    )
    parser.add_argument("image", metavar="IMAGE", help="a SIF image")
    parser.add_argument("-j", "--json", action="store_true", help="print one JSON object")
    parser.set_defaults(prog=parser.prog)


def run(options: argparse.Namespace) -> int:
    """Run `eclctl sif list`; return its exit status."""
    return print_inspection(options, _show, _shape)


def _show(found: InspectedImage) -> None:
    print(_RULE)
    print(f"{'ID':<4} {'|GROUP':<8} {'|LINK':<8} {'|SIF POSITION (start-end)':<26} |TYPE")
    print(_RULE)
    for slot in found.inspection.slots:
        print(_line(slot))


def _line(slot: Slot) -> str:
    descriptor = slot.descriptor
    # With a space of its own, as in the reference: one that is too long for the column has two behind it.
    position = f"|{descriptor.offset}-{descriptor.offset + descriptor.size} "
    details = "/".join(meaning.text for meaning in labels.meanings(descriptor))
    kind = f"{labels.data_type(descriptor)} ({details})" if details else labels.data_type(descriptor)
    return f"{descriptor.id:<4} |{group(descriptor):<7} |{link(descriptor, wide=True):<7} {position:<26} |{kind}"


def _shape(found: InspectedImage) -> dict[str, Any]:
    return {"objects": [object_shape(slot) for slot in found.inspection.slots]}
