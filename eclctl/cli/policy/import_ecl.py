"""`eclctl policy import-ecl`: a policy made of an ecl.toml, and a report on where the two answer differently."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial

from eclctl.cli.policy.check import problem_fields
from eclctl.cli.terminal.exit_codes import FAILED, OK
from eclctl.cli.terminal.output import print_json, wrapped
from eclctl.cli.terminal.parser import add_repeatable
from eclctl.cli.terminal.subcommands import Commands, add_command
from eclctl.config.document import Problem
from eclctl.ecl.differences import EXPLANATIONS, Difference, Relation
from eclctl.ecl.importing import Imported, differing, import_ecl
from eclctl.ecl.rules import Choices, RuleDraft
from eclctl.ecl.toml import MAX_ECL_FILE, EclConfig, Parsed, read_ecl
from eclctl.errors import KeyMaterialError
from eclctl.files.atomic import Existing, write_file
from eclctl.signature.openpgp import Keyring
from eclctl.terms import Assurance
from eclctl.text import counted, json_text, printable
from eclctl.trust.keyring import load_keyring

_EXAMPLES = """An ecl.toml is the Execution Control List of SingularityCE and Apptainer. The
policy goes to standard output, a report to standard error: what became of each
execgroup, and where eclctl would answer otherwise than ECL.

Give the keyring that ECL uses, global-pgp-public. A key that is not in it
verifies no signature, so it is left out. Without a keyring the policy keeps
such keys, and `eclctl policy check` reports them as errors.

exit status:
  0  a policy was made, with or without differences in the report
  1  ECL itself would not load the ecl.toml, or a file cannot be read
  2  the command line is wrong
  3  the output cannot be written

examples:
  eclctl policy import-ecl --keyring global-pgp-public ecl.toml
  eclctl policy import-ecl --keyring global-pgp-public --permissive \\
      -o /etc/eclctl/policies.d/10-ecl.yaml /etc/singularity/ecl.toml
  eclctl policy import-ecl --json ecl.toml | jq '.groups[] | [.rule, .laxer]'
"""


def add(commands: Commands) -> None:
    """Add the subcommand's parser."""
    parser = add_command(commands, "import-ecl", "Makes a policy of an ecl.toml.", _EXAMPLES)
    parser.add_argument("file", metavar="FILE", help="the ecl.toml; - for the standard input")
    add_repeatable(parser, "--keyring", metavar="FILE_OR_DIR", text="ECL's global keyring")
    parser.add_argument("-o", "--output", metavar="FILE", help="write the policy to this file, whole or not at all")
    text = "rules that allow, and record what they would deny; implies --modern"
    parser.add_argument("--permissive", action="store_true", help=text)
    text = "for legacyinsecure: require modern signatures by the same keys, instead of a deny"
    parser.add_argument("--modern", action="store_true", help=text)
    text, levels = "the assurance level that rules ask for (trusted-path)", tuple(Assurance)
    parser.add_argument("--assurance", choices=levels, default=Assurance.TRUSTED_PATH, help=text)


def run(options: argparse.Namespace) -> int:
    """Run the subcommand; return its exit status. An output that cannot be written raises OSError."""
    name = "standard input" if options.file == "-" else options.file
    ring: Keyring | None = None
    try:
        with nullcontext(sys.stdin.buffer) if options.file == "-" else open(options.file, "rb") as file:
            content = file.read(MAX_ECL_FILE + 1)
        ring = load_keyring(options.keyring) if options.keyring else None
    except OSError as error:
        parsed = Parsed(None, (Problem(name, 0, 0, f"cannot be read: {error.strerror}"),), ())
    except KeyMaterialError as error:
        parsed = Parsed(None, (Problem("the keyring", 0, 0, str(error), "give ECL's global-pgp-public"),), ())
    else:
        parsed = read_ecl(name, content, partial(os.path.realpath, strict=True))
    made = None
    if parsed.config is not None:
        choices = Choices(Assurance(options.assurance), permissive=options.permissive, modern=options.modern)
        made = import_ecl(parsed.config, os.path.basename(name), ring, choices)
        if options.output is not None:
            # Every user may read a policy.
            write_file(options.output, made.policy.encode(), existing=Existing.REGULAR, mode=0o644, exact_mode=True)
    if options.json:
        print_json(_shape(name, parsed, made, ring))
    else:
        _print(options, parsed, made, ring)
    return FAILED if made is None else OK


def _print(options: argparse.Namespace, parsed: Parsed, made: Imported | None, ring: Keyring | None) -> None:
    for problem in parsed.errors:
        print(f"error: {problem}", file=sys.stderr)
    for problem in parsed.remarks:
        print(f"note: {problem}", file=sys.stderr)
    if made is None or parsed.config is None:
        print("no policy was made", file=sys.stderr)
        return
    if options.output is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(made.policy.encode())  # YAML is UTF-8, also on a terminal that is not
        sys.stdout.flush()
    for line in _report(parsed.config, made, ring):
        print(line, file=sys.stderr)
    if options.output is not None:
        print(f"\nthe policy is in {printable(options.output)}", file=sys.stderr)


def _report(config: EclConfig, made: Imported, ring: Keyring | None) -> Iterator[str]:
    """Yield the lines of the report."""
    state = "activated" if config.activated else "not activated: every SIF image may run"
    legacy = ", legacyinsecure" if config.legacy else ""
    yield f"ECL is {state}{legacy}; {counted(len(config.groups), 'execgroup')}, {counted(len(made.rules), 'rule')}"
    for draft in made.rules:
        yield ""
        yield from _report_rule(draft)
    yield from ("", "images that are no SIF", *_listed(*differing((Difference.OTHER_KINDS,))))
    yield from ("", "what these names mean")
    for each in made.differences:
        yield from ("", f"  {each} ({each.relation})", *wrapped(EXPLANATIONS[each], "    ", "    "))
    if ring is None:
        yield ""
        yield "No keyring was given, so the keys were not looked up."


def _report_rule(draft: RuleDraft) -> Iterator[str]:
    group = draft.group
    if group is not None:
        line = f" (line {group.line})" if group.line else ""
        tag = f" '{printable(group.tag)}'" if group.tag else ""
        where = f"in {printable(group.directory)}" if group.directory else "for what is in no other"
        yield f"execgroup {group.number}{tag}{line}, {group.mode} {where}"
    yield f"  rule '{draft.name}'"
    yield from _listed(draft.says, *map(printable, draft.remarks), *differing(draft.differences))
    if not draft.differences:
        yield "  answers as ECL does"


def _listed(*texts: str) -> Iterator[str]:
    """Yield texts as lines; what does not fit on the first of one is indented further."""
    for text in texts:
        yield from wrapped(text, "  ", "    ")


def _shape(name: str, parsed: Parsed, made: Imported | None, ring: Keyring | None) -> dict[str, object]:
    config, all_of_them = parsed.config, made.differences if made is not None else ()
    return {
        "file": json_text(name),
        "imported": made is not None,
        "errors": [problem_fields(problem) for problem in parsed.errors],
        "remarks": [problem_fields(problem) for problem in parsed.remarks],
        "activated": config.activated if config is not None else None,
        "legacyinsecure": config.legacy if config is not None else None,
        "keyring": len(ring.certificates) if ring is not None else None,
        "groups": [_group(draft) for draft in made.rules if draft.group is not None] if made is not None else [],
        "general": _relations((Difference.OTHER_KINDS,)) if made is not None else _relations(()),
        "explanations": {each: EXPLANATIONS[each] for each in all_of_them},
        "policy": made.policy if made is not None else None,
    }


def _group(draft: RuleDraft) -> dict[str, object]:
    group = draft.group
    assert group is not None
    return {
        "execgroup": group.number,
        "line": group.line or None,
        "tagname": group.tag,
        "mode": group.mode,
        "dirpath": group.directory,
        "keyfp": group.keys,
        "rule": draft.name,
        "decision": draft.decision,
        "says": draft.says,
        "remarks": draft.remarks,
        **_relations(draft.differences),
    }


def _relations(differences: tuple[Difference, ...]) -> dict[str, object]:
    return {each.value: [found for found in differences if found.relation is each] for each in Relation}
