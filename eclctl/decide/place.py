"""Where an image lies, as far as a decision depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from eclctl.files.canonical_name import NoName
from eclctl.files.trusted_path import Weakness
from eclctl.model import Alias
from eclctl.terms import Assurance

__all__ = ["Place", "TrustedPlace"]


class Place(Protocol):
    """Where an image lies, as far as a decision depends on it. `files.trusted_path.Located` is one.

    path: the file's one name, None where no name reaches it.
    aliases: its other names.
    assurance: its assurance level; `weak` says why it is not `trusted-path`.
    unnamed: why no name reaches it.
    size: bytes of the file.
    """

    @property
    def path(self) -> str | None: ...  # noqa: D102 - see the class

    @property
    def aliases(self) -> tuple[Alias, ...]: ...  # noqa: D102 - see the class

    @property
    def assurance(self) -> Assurance: ...  # noqa: D102 - see the class

    @property
    def weak(self) -> Weakness | None: ...  # noqa: D102 - see the class

    @property
    def unnamed(self) -> NoName | None: ...  # noqa: D102 - see the class

    @property
    def size(self) -> int: ...  # noqa: D102 - see the class


@dataclass(frozen=True, slots=True)
class TrustedPlace:
    """A place on a trusted path, where an image lies or will lie."""

    path: str | None
    aliases: tuple[Alias, ...] = ()
    assurance: Assurance = Assurance.TRUSTED_PATH
    weak: Weakness | None = None
    unnamed: NoName | None = None
    size: int = 0
