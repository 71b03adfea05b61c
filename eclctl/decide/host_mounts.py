"""What this host's mounts mean for watched trees and for the paths of rules.

1. Images on a file system that is not trusted have no `trusted-path`. A rule that asks for it never allows them, and
   watching them keeps nothing.
2. A file has one name, which does not go over bind mounts (`files.mounts`, rule 4).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

from eclctl.config.document import Problem
from eclctl.config.settings import Settings
from eclctl.dataclass import dataclass
from eclctl.files.mounts import FilesystemTrust, Mount, Mounts, MountTable
from eclctl.files.trusted_filesystems import OWN_OWNERS, FilesystemJudge, device_groups
from eclctl.policy.globs import Glob, compile_glob
from eclctl.policy.language import Rule
from eclctl.policy.lint import LintRemark
from eclctl.terms import Assurance, Verdict
from eclctl.text import printable_message, quoted

_DEEP = "**"
_MOST_PATHS = 20
_PAGE = "docs/filesystems.md"


def trusted_file_systems(settings: Settings) -> FilesystemJudge:
    """Return what says which file systems a configuration trusts; each table of mounts needs one of its own."""
    return FilesystemJudge(settings.filesystems, settings.trusted_owners, device_groups())


def why_no_trusted_path(table: MountTable, path: str) -> str | None:
    """Return why images at or below a path can have no `trusted-path`, or None: for a terminal, in one line.

    The path is absolute, normalised and without symbolic links. Mounts below it are not looked at.
    """
    mounts, trust = table.current()
    mount = _untrusted_mount(mounts, trust, path)
    return None if mount is None else printable_message(trust.why_not(mount))


def why_rule_cannot(rule: Rule, why_not: Callable[[str], str | None]) -> list[str]:
    """Return why images that a rule is for can have no `trusted-path`, where it asks for that: each reason once.

    `why_not` says it of one place. Of very many paths the first are looked at.
    """
    if not _wants_trusted_path(rule):
        return []
    found = (why_not(path.prefix or "/") for path in (rule.match.paths or ())[:_MOST_PATHS])
    return list(dict.fromkeys(why for why in found if why is not None))


def exists_here(mounts: Mounts, path: str) -> bool:
    """Whether a path is there; what lies on another machine is not asked, and taken to be there."""
    return not mounts.local(path) or os.path.lexists(path)


@dataclass(frozen=True)
class HostMounts:
    """Says what the mounts of this host mean.

    `trust` is None where no configuration says what is trusted. `exists` says whether a path is there: of others
    nothing is said, since policies are checked on other machines, too.
    """

    mounts: Mounts
    trust: FilesystemTrust | None
    exists: Callable[[str], bool]

    @cached_property
    def _binds(self) -> tuple[tuple[str, str], ...]:
        return tuple(self.mounts.binds())

    def remarks(self, rule: Rule, path: Glob) -> Iterator[LintRemark]:
        """Yield what there is to say of one path of a rule."""
        place = path.prefix or "/"
        if not self.exists(place):
            return
        if self.trust is not None and _wants_trusted_path(rule):
            mount = _untrusted_mount(self.mounts, self.trust, place)
            if mount is not None:
                message = f"on this host, rule {quoted(rule.name)} asks for trusted-path below {quoted(place)}, where "
                message += f"images have none: {printable_message(self.trust.why_not(mount))}"
                yield LintRemark(message, f"{self._what_to_write(mount)}; or write assurance: none", warns=True)
        yield from self._on_bind_mounts(path, place)

    def of_watched(self, settings: Settings) -> Iterator[Problem]:
        """Yield a warning for each watched tree whose images can have no `trusted-path`."""
        for watch in settings.watch:
            path = os.path.realpath(watch.path)
            mount = None if self.trust is None else _untrusted_mount(self.mounts, self.trust, path)
            if mount is None or self.trust is None or not self.exists(path):
                continue
            message = f"on this host, images in the watched {quoted(watch.path)} have no trusted-path, so that nothing "
            message += f"is verified ahead of time: {printable_message(self.trust.why_not(mount))}"
            hint = f"{self._what_to_write(mount)}; or do not watch it"
            yield Problem(watch.mark.file, watch.mark.line, watch.mark.column, message, hint)

    def _on_bind_mounts(self, path: Glob, place: str) -> Iterator[LintRemark]:
        below = [(point, real) for point, real in self._binds if place == point or place.startswith(f"{point}/")]
        if below:
            point, real = max(below, key=lambda each: len(each[0]))
            meant = real.rstrip("/") + path.pattern[len(point) :]
            message = f"on this host, {quoted(point)} is a bind mount of {quoted(real)}: {quoted(path.pattern)} means "
            message += f"{quoted(meant)}, the name that files there have"
            yield LintRemark(message, f"write {meant}", warns=False)
            return
        for point, real in self._binds:
            if point.startswith(place.rstrip("/") + "/") and not _rests(path, point) <= _rests(path, real):
                message = f"on this host, {quoted(path.pattern)} takes in {quoted(point)}, a bind mount of "
                message += f"{quoted(real)}: files there go by their names below that, which it does not match"
                yield LintRemark(message, f"add a path for {real}, where the rule is meant for those", warns=True)

    def _what_to_write(self, mount: Mount) -> str:
        """Return what makes the images on a mount have a trusted path."""
        parent = self.mounts.of(mount.parent)
        point = parent.point if parent is not None and parent.type == "autofs" else mount.point
        word = f"list {printable_message(point)} under filesystems.{'fuse' if mount.fuse else 'trusted'}"
        if mount.fuse and mount.read_only:
            word = f"list {printable_message(point)} under filesystems.read_only, if you vouch for what is there"
        in_fstab = "list it in /etc/fstab, or " if mount.type in OWN_OWNERS else ""
        return f"{in_fstab}{word} in the configuration ({_PAGE})"


def _untrusted_mount(mounts: Mounts, trust: FilesystemTrust, path: str) -> Mount | None:
    """Return the mount that a path lies on when it is not trusted."""
    top = mounts.above(path)[-1]
    return None if trust.trusts(top) or trust.vouches_for(top) else top


def _wants_trusted_path(rule: Rule) -> bool:
    return rule.assurance is Assurance.TRUSTED_PATH and rule.decision is not Verdict.DENY


def _rests(path: Glob, directory: str) -> set[tuple[str, ...]]:
    """Return what a pattern may go on with after a directory: sequences of components, () for no more of them."""
    states: set[int] = {0}
    components = path.components
    for name in directory.strip("/").split("/"):
        states = set(_after(components, _closed(components, states), name))
    return {components[at:] for at in _closed(components, states)}


def _closed(components: Sequence[str], states: set[int]) -> set[int]:
    """Return where a pattern may be when `**` may also stand for nothing; at the end it stands for something."""
    found = set(states)
    for at in range(len(components) - 1):
        if at in found and components[at] == _DEEP:
            found.add(at + 1)
    return found


def _after(components: Sequence[str], states: set[int], name: str) -> Iterator[int]:
    for at in states:
        if at == len(components):
            continue
        if components[at] == _DEEP:
            yield at
        elif compile_glob(f"/{components[at]}").matches(f"/{name}"):
            yield at + 1
