"""Makes an eclctl policy of an `ecl.toml`, and says for each execution group where the two answer differently."""

from __future__ import annotations

from dataclasses import dataclass

from eclctl.ecl.differences import Difference
from eclctl.ecl.rules import Choices, EclRing, RuleDraft, draft_rules
from eclctl.ecl.toml import EclConfig
from eclctl.ecl.write import write_policy

__all__ = ["Choices", "Imported", "import_ecl"]


@dataclass(frozen=True, slots=True)
class Imported:
    """A policy, as YAML with comments, and the report on it.

    `rules` are its rules, in their order, with the execution group of each and where it differs. `differences` are all
    of these, and those of no group in particular.
    """

    policy: str
    rules: tuple[RuleDraft, ...]
    differences: tuple[Difference, ...]


def import_ecl(config: EclConfig, file: str, ring: EclRing | None, choices: Choices) -> Imported:
    """Return the policy for a configuration.

    Args:
        config: a valid ecl.toml.
        file: its name, for comments.
        ring: ECL's global keyring; None when it is not known, and every key is taken to be in it.
        choices: what the administrator chose.
    """
    drafts = draft_rules(config, ring, choices)
    found = {Difference.OTHER_KINDS, *(each for draft in drafts for each in draft.differences)}
    policy = write_policy(config, file, drafts, ring, choices)
    return Imported(policy, drafts, tuple(each for each in Difference if each in found))
