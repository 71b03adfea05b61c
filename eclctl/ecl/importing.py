"""Makes an eclctl policy of an `ecl.toml`, and says for each execution group where the two answer differently.

The policy is YAML with comments that say what came from where, and what differs. Texts of the file reach it as comments
with everything escaped that could end a line, and as double-quoted scalars.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence

from eclctl.dataclass import dataclass
from eclctl.ecl.differences import EXPLANATIONS, Difference, Relation
from eclctl.ecl.rules import Choices, RuleDraft, described, draft_rules
from eclctl.ecl.toml import EclConfig
from eclctl.signature.openpgp import Keyring
from eclctl.terms import Assurance
from eclctl.text import counted, printable_ascii, printable_message, quoted

_WIDTH = 79
_PLAIN = re.compile(r"(?!0[xob])(?![\d_.+-]*(?:E[\d_+-]+)?$)\w[\w.@+-]*", re.ASCII | re.IGNORECASE)
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})
_KEY_ID = 16
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


@dataclass(frozen=True, slots=True)
class Imported:
    """A policy, as YAML with comments, and the report on it.

    `rules` are its rules, in their order, with the execution group of each and where it differs. `differences` are all
    of these, and those of no group in particular.
    """

    policy: str
    rules: tuple[RuleDraft, ...]
    differences: tuple[Difference, ...]


def import_ecl(config: EclConfig, file: str, ring: Keyring | None, choices: Choices) -> Imported:
    """Return the policy for a configuration.

    Args:
        config: a valid ecl.toml.
        file: its name, for comments.
        ring: ECL's global keyring; None when it is not known, and every key is taken to be in it.
        choices: what the administrator chose.
    """
    drafts = draft_rules(config, ring, choices)
    found = {Difference.OTHER_KINDS, *(each for draft in drafts for each in draft.differences)}
    differences = tuple(each for each in Difference if each in found)
    names = names_of_signers(key for draft in drafts for key in (draft.instead or draft).named)
    used = {key for draft in drafts for key in draft.named}
    file = printable_message(file)
    lines = [*_head(config, file, differences), "", "version: 1", "", *_signers(names, used, ring)]
    lines.append("rules:" if drafts else "# rules:")
    for draft in drafts:
        where = f"{described(draft.group, file)}: " if draft.group is not None else ""
        remarks = (f"{where}{draft.says}.", *draft.remarks, *differing(draft.differences))
        lines += [line for remark in remarks for line in _comment(remark, "  ")]
        lines += [*_rule(draft, names, choices), ""]
    policy = "\n".join(lines) + "\n" + _OTHER_KINDS + "\ndefault: deny\n"
    return Imported(policy, drafts, differences)


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


def _head(config: EclConfig, file: str, differences: Sequence[Difference]) -> Iterator[str]:
    groups = counted(len(config.groups), "execgroup")
    state = "activated" if config.activated else "not activated"
    legacy = ", legacyinsecure" if config.legacy else ""
    yield from _comment(f"Made by `eclctl policy import-ecl` from {file}: {state}{legacy}, {groups}.")
    yield "#"
    yield from _comment(_KEYRING)
    yield "#"
    yield from _comment("Where eclctl answers otherwise than ECL, by the names that the comments below use:")
    for each in differences:
        yield "#"
        yield from _comment(f"{each} ({each.relation}): {EXPLANATIONS[each]}")


def _signers(names: Mapping[str, str], used: set[str], ring: Keyring | None) -> Iterator[str]:
    if not names:
        return
    yield "signers:" if used else "# signers:"
    for key, name in names.items():
        certificate = ring.get(key) if ring is not None else None
        if certificate is not None and certificate.name:
            yield f"  # {quoted(certificate.name)}"
        yield f"  {'' if key in used else '# '}{name}: {{pgp: [{_scalar(key)}]}}"
    yield ""


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
    return '"' + printable_ascii(text).replace('"', '\\"') + '"'
