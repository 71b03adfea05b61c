"""Writes the policy made of an `ecl.toml`: YAML with comments that say what came from where, and what differs.

Texts of the file reach the policy as comments with everything escaped that could end a line, and as double-quoted
scalars.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence

from eclctl.ecl.differences import EXPLANATIONS, Difference, Relation
from eclctl.ecl.rules import Choices, EclRing, RuleDraft, described
from eclctl.ecl.toml import EclConfig
from eclctl.terms import Assurance
from eclctl.text import counted, printable_message, quoted

__all__ = ["differing", "names_of_signers", "write_policy"]

_WIDTH = 79
_PLAIN = re.compile(r"(?!0[xob])(?![\d_.+-]*(?:E[\d_+-]+)?$)\w[\w.@+-]*", re.ASCII | re.IGNORECASE)
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})
_KEY_ID = 16
_BYTE, _BASIC_PLANE = 0xFF, 0xFFFF
_ON_ONE_LINE = 3

_KEYRING = (
    "The daemon's `keyrings` must be ECL's global keyring (global-pgp-public) and nothing else: `anyone` means every"
    " key in them, and so does what is said of unknown signatures. Signers are named by the end of their fingerprint;"
    " give them the names of people."
)
_OTHER_KINDS = """\
  # ECL is never asked about what is no SIF image. To let it run here, too:
  # - name: not-seen-by-ecl
  #   match: {kinds: [oci-sif, sandbox, squashfs, ext3]}
  #   decision: allow
"""


def names_of_signers(fingerprints: Iterable[str]) -> dict[str, str]:
    """Return a name for each key: the end of its fingerprint, or all of it where two ends are the same."""
    found = tuple(dict.fromkeys(fingerprints))
    ends = [key[-_KEY_ID:] for key in found]
    return {key: f"ecl-{end if ends.count(end) == 1 else key}" for key, end in zip(found, ends, strict=True)}


def differing(differences: Sequence[Difference]) -> Iterator[str]:
    """Yield `stricter: a, b` and `laxer: c`, as far as there are any."""
    for relation in Relation:
        named = ", ".join(each for each in differences if each.relation is relation)
        if named:
            yield f"{relation}: {named}"


def write_policy(
    config: EclConfig, file: str, drafts: Sequence[RuleDraft], ring: EclRing | None, choices: Choices
) -> str:
    """Return the policy as YAML. `ring` is only asked for the names of its certificates."""
    kept = [draft.instead or draft for draft in drafts]
    names = names_of_signers(key for draft in kept for key in draft.named)
    used = {key for draft in drafts for key in draft.named}
    lines = [*_head(config, printable_message(file), drafts), "", "version: 1", "", *_signers(names, used, ring)]
    lines.append("rules:" if drafts else "# rules:")
    for draft in drafts:
        lines += [*_comments(draft, printable_message(file)), *_rule(draft, names, choices), ""]
    return "\n".join(lines) + "\n" + _OTHER_KINDS + "\ndefault: deny\n"


def _head(config: EclConfig, file: str, drafts: Sequence[RuleDraft]) -> Iterator[str]:
    groups = counted(len(config.groups), "execgroup")
    state = "activated" if config.activated else "not activated"
    legacy = ", legacyinsecure" if config.legacy else ""
    yield from _comment(f"Made by `eclctl policy import-ecl` from {file}: {state}{legacy}, {groups}.")
    yield "#"
    yield from _comment(_KEYRING)
    yield "#"
    yield from _comment("Where eclctl answers otherwise than ECL, by the names that the comments below use:")
    found = {Difference.OTHER_KINDS, *(each for draft in drafts for each in draft.differences)}
    for each in sorted(found, key=list(Difference).index):
        yield "#"
        yield from _comment(f"{each} ({each.relation}): {EXPLANATIONS[each]}")


def _signers(names: Mapping[str, str], used: set[str], ring: EclRing | None) -> Iterator[str]:
    if not names:
        return
    yield "signers:" if used else "# signers:"
    for key, name in names.items():
        certificate = ring.get(key) if ring is not None else None
        if certificate is not None and certificate.name:
            yield f"  # {quoted(certificate.name)}"
        yield f"  {'' if key in used else '# '}{name}: {{pgp: [{_scalar(key)}]}}"
    yield ""


def _comments(draft: RuleDraft, file: str) -> Iterator[str]:
    where = f"{described(draft.group, file)}: " if draft.group is not None else ""
    yield from _comment(f"{where}{draft.says}.", "  ")
    for line in (*draft.remarks, *differing(draft.differences)):
        yield from _comment(line, "  ")


def _rule(draft: RuleDraft, names: Mapping[str, str], choices: Choices) -> Iterator[str]:
    paths = f"paths: [{_scalar(draft.path)}], " if draft.path is not None else ""
    yield f"  - name: {_scalar(draft.name)}"
    yield f"    match: {{{paths}kinds: [sif]}}"
    if draft.decision is not None:
        yield f"    decision: {draft.decision}"
    else:
        yield from _asks(draft, names, choices)
    if choices.assurance is not Assurance.TRUSTED_PATH:
        yield f"    assurance: {choices.assurance}"
    if draft.instead is not None:
        yield "    # once the images are signed anew, instead of the decision:"
        yield from (f"    # {line[4:]}" for line in _asks(draft.instead, names, choices))


def _asks(draft: RuleDraft, names: Mapping[str, str], choices: Choices) -> Iterator[str]:
    yield "    require:"
    if draft.ask == "anyone":
        yield "      - approvals: {count: 1, of: anyone}"
    else:
        yield from _listed(f"      - {draft.ask}:", [names[key] for key in draft.keys], "          ")
    if draft.forbidden:
        yield "    forbid:"
        yield from _listed("      signed_by:", [names[key] for key in draft.forbidden], "        ")
    yield "    unknown_signatures: deny"
    yield "    discounted_signatures: deny"
    if choices.permissive:
        yield "    mode: permissive"


def _listed(key: str, names: Sequence[str], indent: str) -> Iterator[str]:
    if len(names) <= _ON_ONE_LINE:
        yield f"{key} [{', '.join(names)}]"
    else:
        yield key
        yield from (f"{indent}- {name}" for name in names)


def _comment(text: str, indent: str = "") -> Iterator[str]:
    """Yield a text as lines of comment. It must hold no line breaks of its own: they would end the comment."""
    width = _WIDTH - len(indent)
    for line in textwrap.wrap(printable_message(text), width - 2, break_long_words=False, break_on_hyphens=False):
        yield f"{indent}# {line}"


def _scalar(text: str) -> str:
    """Return a text as a YAML scalar: plain when every reader takes it for text, else double-quoted and escaped."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isascii() and character.isprintable():
        return character
    point = ord(character)
    if point <= _BYTE:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point <= _BASIC_PLANE else f"\\U{point:08x}"
