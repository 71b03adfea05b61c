"""What `policy check` and `status` say of mounts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from eclctl.config.document import Mark
from eclctl.config.settings import Filesystems, Settings, Watch
from eclctl.decide.host_mounts import HostMounts, exists_here, why_rule_cannot
from eclctl.files.mounts import Mounts, parse_mountinfo
from eclctl.files.trusted_filesystems import FilesystemJudge
from eclctl.policy.globs import compile_glob
from eclctl.policy.language import Match, Rule
from eclctl.policy.lint import LintRemark
from eclctl.terms import Assurance, Verdict

TABLE = """\
22 1 8:1 / / rw - ext4 /dev/sda1 rw
30 22 0:41 / /home rw - nfs4 filer:/home rw
31 22 8:17 / /data rw - ext4 /dev/sdb1 rw
32 22 0:42 / /auto rw - autofs /etc/auto.x rw
33 32 0:43 / /auto/a rw - lustre l:/a rw
34 22 0:44 / /cvmfs/x ro - fuse cvmfs2 ro
35 22 0:45 / /mnt/u\x1b rw - fuse.sshfs h: rw
40 22 8:1 /srv/real /srv/alias rw - ext4 /dev/sda1 rw
41 22 8:1 /srv/real /alias rw - ext4 /dev/sda1 rw
43 41 8:1 /srv/deep /alias/deep rw - ext4 /dev/sda1 rw
42 22 8:1 /srv/one.sif /srv/two.sif rw - ext4 /dev/sda1 rw
"""


def table() -> Mounts:
    mounts = parse_mountinfo(TABLE)
    return Mounts(mounts, mounts[0], settled=True)


def host(words: Filesystems | None = None, *, configured: bool = True, there: bool = True) -> HostMounts:
    mounts = table()
    trust = FilesystemJudge(words or Filesystems(), frozenset({0}), frozenset({0}))(mounts)
    return HostMounts(mounts, trust if configured else None, lambda _: there)


def rule(*paths: str, assurance: Assurance = Assurance.TRUSTED_PATH, decision: Verdict | None = None) -> Rule:
    return Rule("it", "a.yaml:4", 0, Match(tuple(map(compile_glob, paths))), decision=decision, assurance=assurance)


def remarks(host: HostMounts, path: str, **of_rule: object) -> list[LintRemark]:
    each = rule(path, **of_rule)  # type: ignore[arg-type]
    return list(host.remarks(each, each.match.paths[0]))  # type: ignore[index]


def trusted(*points: str) -> Filesystems:
    return Filesystems(trusted=frozenset(points))


class Left(NamedTuple):
    path: str
    place: str
    why: str
    write: str


LEFT = [
    Left("/home/*/x.sif", "/home", "(nfs4 at /home) is not listed under", "list /home under filesystems.trusted"),
    Left(
        "/data/x.sif", "/data", "neither /etc/fstab", "list it in /etc/fstab, or list /data under filesystems.trusted"
    ),
    Left("/auto/a/**", "/auto/a", "(lustre at /auto/a) is not", "list /auto under filesystems.trusted"),
    Left("/auto/**", "/auto", "(autofs at /auto) is not", "list /auto under filesystems.trusted"),
    Left("/cvmfs/x/*", "/cvmfs/x", "is FUSE", "list /cvmfs/x under filesystems.read_only, if you vouch for"),
    Left(
        "/mnt/u\x1b/*", r"/mnt/u\x1b", r"(fuse.sshfs at /mnt/u\x1b) is FUSE", r"list /mnt/u\x1b under filesystems.fuse"
    ),
]


@pytest.mark.parametrize("left", LEFT, ids=lambda left: left.place)
def test_a_rule_that_finds_no_trusted_path_is_named_with_why_and_what_to_write(left: Left) -> None:
    (found,) = remarks(host(), left.path)
    assert found.warns
    begin = f"on this host, rule 'it' asks for trusted-path below '{left.place}', where images have none: its file "
    assert found.message.startswith(begin)
    assert left.why in found.message
    assert found.hint.startswith(left.write)
    assert found.hint.endswith("in the configuration (docs/filesystems.md); or write assurance: none")


@pytest.mark.parametrize("path", ["/srv/x/**", "/**", "/opt/*"])
def test_of_a_trusted_file_system_nothing_is_said(path: str) -> None:
    assert remarks(host(), path) == []


def test_once_the_file_system_is_listed_nothing_is_said() -> None:
    assert remarks(host(trusted("/home")), "/home/*/x.sif") == []
    assert remarks(host(Filesystems(read_only=frozenset({"/cvmfs/x"}))), "/cvmfs/x/*") == []


@pytest.mark.parametrize("change", [{"assurance": Assurance.NONE}, {"decision": Verdict.DENY}])
def test_of_rules_that_ask_for_no_trusted_path_nothing_is_said(change: dict[str, object]) -> None:
    assert remarks(host(), "/home/*/x.sif", **change) == []


def test_of_places_that_are_not_there_nothing_is_said() -> None:
    assert remarks(host(there=False), "/home/*/x.sif") == []
    assert remarks(host(there=False), "/alias/x.sif") == []
    assert list(host(there=False).of_watched(watching("/home"))) == []


def test_without_a_configuration_nothing_is_said_of_what_it_believes() -> None:
    assert remarks(host(configured=False), "/home/*/x.sif") == []
    assert list(host(configured=False).of_watched(watching("/home"))) == []
    assert len(remarks(host(configured=False), "/alias/x.sif")) == 1


def test_a_place_on_another_machine_is_not_asked_whether_it_is_there(tmp_path: object) -> None:
    assert exists_here(table(), "/home/nobody-is-called-so")
    assert not exists_here(table(), f"{tmp_path}/none")


def watching(*paths: str) -> Settings:
    marks = (Watch(path, mark=Mark("config.yaml", 7, 12)) for path in paths)
    return Settings("", "", "", (), (), watch=tuple(marks))


def test_a_watched_tree_without_trusted_path_is_named() -> None:
    (found,) = host().of_watched(watching("/srv", "/home"))
    assert (found.file, found.line, found.column) == ("config.yaml", 7, 12)
    assert found.message.startswith("on this host, images in the watched '/home' have no trusted-path")
    assert "(nfs4 at /home) is not listed" in found.message
    assert found.hint == (
        "list /home under filesystems.trusted in the configuration (docs/filesystems.md); or do not watch it"
    )
    assert list(host(trusted("/home")).of_watched(watching("/srv", "/home"))) == []


# Bind mounts.


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/alias/**", "/srv/real/**"),
        ("/alias/deep/*", "/srv/deep/*"),
        ("/alias/x.sif", "/srv/real/x.sif"),
        ("/srv/alias/a/*/b", "/srv/real/a/*/b"),
    ],
)
def test_of_a_path_on_a_bind_mount_the_name_that_is_meant_is_said(path: str, meant: str) -> None:
    (found,) = remarks(host(), path)
    assert not found.warns
    assert found.message.endswith(f"'{path}' means '{meant}', the name that files there have")
    assert found.hint == f"write {meant}"


@pytest.mark.parametrize(
    ("path", "points"),
    [
        ("/alia*/**", ["/alias", "/alias/deep"]),
        ("/*/x.sif", ["/alias"]),
        ("/srv/a*/x/**", ["/srv/alias"]),
        ("/srv/two.sif", ["/srv/two.sif"]),
        ("/srv/*/alias/x", []),
        ("/srv/**/alias/x", ["/srv/alias"]),
        ("/srv/**", []),
        ("/**", []),
        ("/srv/*/x.sif", []),
        ("/srv/*.sif", []),
        ("/srv/re*/**", []),
    ],
)
def test_of_a_pattern_that_takes_in_a_bind_mount_and_not_what_lies_behind_it_that_is_said(
    path: str, points: list[str]
) -> None:
    found = remarks(host(), path)
    assert [each.warns for each in found] == [True] * len(points)
    for each, point in zip(found, points, strict=True):
        assert f"takes in '{point}', a bind mount of '/srv/" in each.message
        assert each.hint.startswith("add a path for /srv/")


# Status.


def test_why_a_rule_cannot_is_said_once_for_each_reason() -> None:
    def why(path: str) -> str | None:
        return None if path == "/srv" else f"not {path[:5]}"

    each = rule("/srv/*", "/home/a/*", "/home/b/*", "/data/*")
    assert why_rule_cannot(each, why) == ["not /home", "not /data"]
    assert why_rule_cannot(rule("/home/*", assurance=Assurance.NONE), why) == []
    assert why_rule_cannot(rule("/home/*", decision=Verdict.DENY), why) == []


def test_of_very_many_paths_the_first_are_looked_at() -> None:
    asked: list[str] = []

    def paths() -> Iterator[str]:
        return (f"/{number}/*" for number in range(500))

    why_rule_cannot(rule(*paths()), asked.append)  # type: ignore[func-returns-value]
    assert len(asked) == 20
