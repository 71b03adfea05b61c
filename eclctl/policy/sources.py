"""The files of a policy, in the order of their rules: those that are given, and after each the ones that it includes.

`include: [site.d, projects/alpha.yaml]` names files and directories, relative to the file that names them. Of a
directory, its policy files are taken in name order. Each file is read once: one that is named again is an error, so
that no circle can be made, and what a policy says does not depend on which way a file was found.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from eclctl.config import document
from eclctl.config.document import MapNode, Node, Report, Scalar, read_document
from eclctl.errors import EclctlError
from eclctl.policy.declare import LoadEnvironment, PolicyFile
from eclctl.text import quoted

INCLUDE = "include"
MAX_DEPTH = 8
"""How deep files may include others."""
MAX_FILES = 10_000


class Document(NamedTuple):
    """A policy file, and its root; None when it is no YAML that can be taken, which has been reported."""

    source: PolicyFile
    root: Node | None


@dataclass(slots=True)
class Gatherer:
    """Reads the files of one policy into `found`."""

    environment: LoadEnvironment
    report: Report
    found: list[Document] = field(default_factory=list)
    _known: dict[str, str] = field(default_factory=dict)

    def gather(self, sources: Sequence[PolicyFile]) -> list[Document]:
        """Read the files that are given, and those that they include."""
        for source in sources:
            self._known[os.path.normpath(source.path)] = (
                "it is one of the policies that are named or lie in a directory"
            )
        for source in sources:
            self._take(source, 0)
        return self.found

    def _take(self, source: PolicyFile, depth: int) -> None:
        root = read_document(source.path, source.text, self.report)
        self.found.append(Document(source, root))
        node = _include(root)
        for entry in document.texts(node, self.report, INCLUDE) or () if node is not None else ():
            if depth >= MAX_DEPTH:
                self.report.error(entry, f"files include files more than {MAX_DEPTH} deep", "include them further up")
                return
            for included in self._read(entry):
                self._once(included, entry, depth)

    def _once(self, source: PolicyFile, entry: Scalar, depth: int) -> None:
        name = os.path.normpath(source.path)
        if name in self._known:
            self.report.error(entry, f"the file {quoted(source.path)} is included twice", self._known[name])
        elif len(self.found) >= MAX_FILES:
            self.report.error(entry, f"a policy has at most {MAX_FILES} files")
        else:
            self._known[name] = f"it is included at {entry.mark.file}:{entry.mark.line} already"
            self._take(source, depth + 1)

    def _read(self, entry: Scalar) -> Sequence[PolicyFile]:
        path = os.path.normpath(os.path.join(os.path.dirname(entry.mark.file), entry.text))
        try:
            sources = self.environment.read_sources(path)
        except (OSError, EclctlError) as error:
            reason = (error.strerror or "") if isinstance(error, OSError) else str(error)
            self.report.error(entry, f"the include {quoted(entry.text)} cannot be used: {reason}")
            return ()
        if not sources:
            self.report.warning(entry, f"the include {quoted(entry.text)} is a directory without policies")
        return sources


def _include(root: Node | None) -> Node | None:
    """Return what a file includes; reading all of it reports what else is wrong."""
    pairs = root.pairs if isinstance(root, MapNode) else ()
    return next((value for key, value in pairs if isinstance(key, Scalar) and key.text == INCLUDE), None)
