"""Looking at files of this host alone."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from eclctl.files.local_lookup import Nearby, NotSeenError
from tests.helpers.file_systems import ROOT, mounts_of


def nearby(*lines: str) -> Nearby:
    return Nearby(mounts_of(ROOT, *lines))


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").write_text("x")
    (tmp_path / "link").symlink_to("a/b")
    (tmp_path / "a/b/up").symlink_to("../../link/file")
    assert nearby().resolve(f"{tmp_path}/link/up") == f"{tmp_path}/a/b/file"
    assert nearby().resolve("/") == "/"


def test_links_that_lead_to_one_another_come_to_an_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(NotSeenError, match="too many symbolic links"):
        nearby().resolve(f"{tmp_path}/a")


def test_a_link_to_another_machine_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to("far/file")
    here = nearby(f"30 22 0:40 / {tmp_path}/far rw - nfs filer:/x rw")
    with pytest.raises(NotSeenError, match=f"lies on nfs at {tmp_path}/far"):
        here.resolve(f"{tmp_path}/link")
    with pytest.raises(NotSeenError, match="where a look could take for ever"):
        here.names(f"{tmp_path}/far")


def test_a_file_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12\xff")
    assert nearby().text(f"{tmp_path}/file", 3) == "12\udcff"
    with pytest.raises(NotSeenError, match="too long"):
        nearby().text(f"{tmp_path}/file", 2)
    with pytest.raises(NotSeenError, match="not a regular file"):
        nearby().text(str(tmp_path), 2)
    with pytest.raises(NotSeenError, match="does not exist"):
        nearby().text(f"{tmp_path}/none", 2)


def test_a_file_that_is_replaced_before_it_is_opened_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")

    def before(path: str) -> SimpleNamespace:
        real = os.lstat(path)
        return SimpleNamespace(st_mode=real.st_mode, st_dev=real.st_dev, st_ino=real.st_ino + 1)

    with pytest.raises(NotSeenError, match="was replaced"):
        Nearby(mounts_of(ROOT), before).text(f"{tmp_path}/file", 10)


def test_what_cannot_be_named_cannot_be_looked_at() -> None:
    with pytest.raises(NotSeenError):
        nearby().status("/with\0nul")
    with pytest.raises(NotSeenError):
        nearby().status("/" + "x" * 5000)
