"""Messages of rules with placeholders: `{image} needs {missing}; write to the owners of stage {stage}`.

A message is read when the policy loads and filled last of all, for one image and one caller: what is kept of a decision
holds the words of the policy alone. What is filled in was chosen by users: it is escaped, and cut when it is long.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from eclctl.config.document import WrongTextError, suggestion
from eclctl.dataclass import dataclass
from eclctl.text import printable_message

if TYPE_CHECKING:
    from eclctl.model import Caller, Outcome

_LONGEST = 400  # characters of one value, as it is shown
_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


@dataclass(frozen=True, slots=True)
class Said:
    """What a message can tell: the outcome, the image's name as the caller wrote it, who asked, and this host's name.

    Users and groups are numbers: names are not looked up while deciding.
    """

    outcome: Outcome
    image: str
    caller: Caller
    host: str


@dataclass(frozen=True, slots=True)
class Message:
    """A message: texts, and between them placeholders. There is always one text more than there are placeholders."""

    texts: tuple[str, ...]
    names: tuple[str, ...]

    def fill(self, said: Said) -> str:
        """Return the message for one decision."""
        parts = [self.texts[0]]
        for name, text in zip(self.names, self.texts[1:], strict=True):
            shown = printable_message(_VALUES[name](said))
            parts += [shown if len(shown) <= _LONGEST else shown[: _LONGEST - 3] + "...", text]
        return "".join(parts)


def parse_message(text: str) -> Message:
    """Read a message; `{{` and `}}` stand for braces.

    Raises:
        WrongTextError: A placeholder that there is not, or a brace that stands alone.
    """
    texts, names, end = [""], list[str](), 0
    for token in _TOKEN.finditer(text):
        texts[-1] += text[end : token.start()]
        end = token.end()
        name = token[1]
        if name is not None:
            if name not in PLACEHOLDERS:
                raise WrongTextError(f"has the unknown placeholder {{{name[:40]}}}", suggestion(name, PLACEHOLDERS))
            names.append(name)
            texts.append("")
        elif token[0] in {"{{", "}}"}:
            texts[-1] += token[0][0]
        else:
            raise WrongTextError(f"has a single {token[0]}", f"write {token[0] * 2} for a brace")
    texts[-1] += text[end:]
    return Message(tuple(texts), tuple(names))


def _listed(words: Sequence[str], between: str = ", ", none: str = "nothing") -> str:
    return between.join(dict.fromkeys(words)) or none


_VALUES: Mapping[str, Callable[[Said], str]] = {
    "image": lambda said: said.image,
    "rule": lambda said: said.outcome.rule or "",
    "code": lambda said: (said.outcome.would or said.outcome.code).value,
    "missing": lambda said: _listed([each.requirement for each in said.outcome.missing], "; "),
    "stage": lambda said: _listed([each.stage for each in said.outcome.missing if each.stage is not None]),
    "could_sign": lambda said: _listed(
        [name for each in said.outcome.missing for name in each.could_sign], none="no signer"
    ),
    "user": lambda said: str(said.caller.uid),
    "group": lambda said: str(said.caller.gid),
    "host": lambda said: said.host,
}
PLACEHOLDERS = tuple(_VALUES)
"""All words that may stand in braces."""
