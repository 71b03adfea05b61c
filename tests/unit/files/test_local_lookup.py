"""Looking at files of this host alone."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from eclctl.files.local_lookup import LocalFiles, LocalLookupError
from tests.helpers.file_systems import ROOT, mounts_of


def local_files(*lines: str) -> LocalFiles:
    return LocalFiles(mounts_of(ROOT, *lines))


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").write_text("x")
    (tmp_path / "link").symlink_to("a/b")
    (tmp_path / "a/b/up").symlink_to("../../link/file")
    assert local_files().resolve(f"{tmp_path}/link/up") == f"{tmp_path}/a/b/file"
    assert local_files().resolve("/") == "/"


def test_links_that_lead_to_one_another_come_to_an_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(LocalLookupError, match="too many symbolic links"):
        local_files().resolve(f"{tmp_path}/a")


def test_a_link_to_another_machine_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to("far/file")
    here = local_files(f"30 22 0:40 / {tmp_path}/far rw - nfs filer:/x rw")
    with pytest.raises(LocalLookupError, match=f"lies on nfs at {tmp_path}/far"):
        here.resolve(f"{tmp_path}/link")
    with pytest.raises(LocalLookupError, match="where a look could take for ever"):
        here.names(f"{tmp_path}/far")


def test_a_file_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12\xff")
    assert local_files().text(f"{tmp_path}/file", 3) == "12\udcff"
    with pytest.raises(LocalLookupError, match="too long"):
        local_files().text(f"{tmp_path}/file", 2)
    with pytest.raises(LocalLookupError, match="not a regular file"):
        local_files().text(str(tmp_path), 2)
    with pytest.raises(LocalLookupError, match="does not exist"):
        local_files().text(f"{tmp_path}/none", 2)


def test_a_file_that_is_replaced_before_it_is_opened_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")

    def before(path: str) -> SimpleNamespace:
        real = os.lstat(path)
        return SimpleNamespace(st_mode=real.st_mode, st_dev=real.st_dev, st_ino=real.st_ino + 1)

    with pytest.raises(LocalLookupError, match="was replaced"):
        LocalFiles(mounts_of(ROOT), before).text(f"{tmp_path}/file", 10)


def test_what_cannot_be_named_cannot_be_looked_at() -> None:
    with pytest.raises(LocalLookupError):
        local_files().status("/with\0nul")
    with pytest.raises(LocalLookupError):
        local_files().status("/" + "x" * 5000)
