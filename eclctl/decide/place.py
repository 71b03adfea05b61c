"""Where an image lies, as far as a decision depends on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from eclctl.dataclass import dataclass
from eclctl.files.canonical_name import NoName
from eclctl.files.trusted_path import Weakness
from eclctl.model import Alias
from eclctl.terms import Assurance

if TYPE_CHECKING:
    from eclctl.files.locating import Located


@dataclass(frozen=True, slots=True)
class TrustedPlace:
    """A place on a trusted path, where an image lies or will lie.

    path: the file's one name, None where no name reaches it.
    aliases: its other names.
    assurance: its assurance level; `weak` says why it is not `trusted-path`.
    unnamed: why no name reaches it.
    size: bytes of the file.
    """

    path: str | None
    aliases: tuple[Alias, ...] = ()
    assurance: Assurance = Assurance.TRUSTED_PATH
    weak: Weakness | None = None
    unnamed: NoName | None = None
    size: int = 0


Place: TypeAlias = "Located | TrustedPlace"
"""Where an image lies: a file that was located, or a place where it will lie. They share the fields above."""
