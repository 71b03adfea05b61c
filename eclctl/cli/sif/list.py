"""`eclctl sif list`: the data objects of an image."""

from __future__ import annotations

import argparse

from eclctl.cli.sif.inspection import EXIT_STATUS, InspectedImage, object_shape, print_inspection
from eclctl.cli.terminal.subcommands import Commands, add_command
from eclctl.sif import labels
from eclctl.sif.inspect import Slot

_RULE = "-" * 78

_EXAMPLES = f"""{EXIT_STATUS}
examples:
  eclctl sif list app.sif
  eclctl sif list --json app.sif
"""


def add(commands: Commands) -> None:
    """Add the command's parser to those of `eclctl sif`."""
    parser = add_command(commands, "list", "Lists the data objects of a SIF image, also of a damaged one.", _EXAMPLES)
    parser.add_argument("image", metavar="IMAGE", help="a SIF image")


def run(options: argparse.Namespace) -> int:
    """Run `eclctl sif list`; return its exit status."""
    return print_inspection(
        options, _show, lambda found: {"objects": [object_shape(slot) for slot in found.inspection.slots]}
    )


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
    group, link = labels.group(descriptor), labels.link(descriptor, wide=True)
    return f"{descriptor.id:<4} |{group:<7} |{link:<7} {position:<26} |{kind}"
