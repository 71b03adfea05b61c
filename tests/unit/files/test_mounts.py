"""What is mounted where, and which names files have there."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from eclctl.files.mounts import Mount, Mounts, MountTable, Spelling, parse_lines, parse_mountinfo

LINES = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:25 / /home rw,relatime - nfs4 server:/home rw,vers=4.2
31 22 0:26 / /cvmfs/repo.example ro,nosuid - fuse cvmfs2 ro,user_id=990,group_id=990
32 30 0:27 / /home/joe/mnt rw - fuse.sshfs host: rw,user_id=1000,group_id=1000
35 22 8:1 /srv /bound ro - ext4 /dev/sda1 rw
33 22 0:28 / /with\\040space rw - tmpfs tmpfs rw
34 22 0:29 / /odd
36 x 8:1 / /odder rw - ext4 /dev/sda1 rw
"""
# Every character that str.splitlines takes for the end of a line, and the kernel does not escape.
SEPARATORS = ["\u2028", "\u2029", "\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85"]


@pytest.fixture
def table() -> Iterator[MountTable]:
    table = MountTable()
    yield table
    table.close()


def by_point(text: str = LINES) -> dict[str, Mount]:
    return {mount.point: mount for mount in parse_mountinfo(text)}


def mounts(text: str) -> Mounts:
    every = parse_mountinfo(text)
    return Mounts(every, every[0], settled=True)


def names(text: str, point: str, path: str) -> list[str] | None:
    found = mounts(text)
    mount = found.at(point)
    assert mount is not None
    spelled = found.names(mount, path)
    return None if spelled is None else [each.path for each in spelled]


def test_reads_all_that_a_line_says() -> None:
    found = by_point()["/"]
    assert (found.id, found.parent, found.device, found.root) == (22, 1, os.makedev(8, 1), "/")
    assert (found.type, found.source, found.options) == ("ext4", "/dev/sda1", frozenset({"rw", "relatime"}))
    assert by_point()["/cvmfs/repo.example"].read_only


def test_unescapes_mount_points() -> None:
    assert "/with space" in by_point()


def test_leaves_out_lines_of_another_shape() -> None:
    assert not {"/odd", "/odder"} & by_point().keys()


@pytest.mark.parametrize("separator", SEPARATORS)
def test_only_a_newline_ends_a_line(separator: str) -> None:
    point = f"/home/joe/a{separator}b"
    found = by_point(f"40 22 0:40 / {point} rw - fuse.evil evil rw,user_id=1000\n{LINES}")
    assert found[point].fuse
    assert len(found) == len(by_point()) + 1


def test_only_file_systems_of_this_host_are_local() -> None:
    found = by_point()
    assert found["/"].local
    assert not found["/home"].local
    assert not found["/cvmfs/repo.example"].local


def test_a_read_only_mount_of_a_file_system_that_can_be_written_elsewhere_is_not_read_only() -> None:
    assert not by_point()["/bound"].read_only


def test_a_path_crosses_the_mounts_above_it(table: MountTable) -> None:
    found = table.current()[0]
    assert [mount.point for mount in found.above("/proc/self/status")] == ["/", "/proc"]
    assert not found.local("/proc/self/status")


def test_a_component_is_not_a_prefix() -> None:
    assert [mount.point for mount in mounts(LINES).above("/homes/x")] == ["/"]


def test_a_file_is_named_under_the_mount_nearest_to_the_root_of_its_file_system() -> None:
    assert names(LINES, "/bound", "/bound/prod/x.sif") == ["/srv/prod/x.sif", "/bound/prod/x.sif"]
    assert names(LINES, "/", "/srv/prod/x.sif") == ["/srv/prod/x.sif", "/bound/prod/x.sif"]


def test_a_bind_of_the_whole_file_system_names_files_by_the_first_mount() -> None:
    whole = LINES + "50 22 8:1 / /mnt/all rw - ext4 /dev/sda1 rw\n"
    assert names(whole, "/mnt/all", "/mnt/all/srv/x") == ["/srv/x", "/mnt/all/srv/x", "/bound/x"]


def test_a_bind_of_one_file_has_the_name_of_that_file() -> None:
    one = LINES + "50 22 8:1 /srv/x.sif /opt/one.sif rw - ext4 /dev/sda1 rw\n"
    assert names(one, "/opt/one.sif", "/opt/one.sif") == ["/srv/x.sif", "/bound/x.sif", "/opt/one.sif"]


def test_a_file_of_a_file_system_that_is_mounted_once_has_one_name() -> None:
    assert names(LINES, "/with space", "/with space/x") == ["/with space/x"]


def test_the_sandbox_of_a_unit_that_mounts_a_tree_over_itself_adds_no_names() -> None:
    again = LINES + "50 22 8:1 /srv /srv ro - ext4 /dev/sda1 rw\n"
    assert names(again, "/srv", "/srv/x") == ["/srv/x", "/bound/x"]


def test_a_mount_that_another_hides_gives_no_name() -> None:
    hidden = LINES + "50 35 0:50 / /bound rw - tmpfs tmpfs rw\n"
    assert names(hidden, "/", "/srv/x") == ["/srv/x"]


def test_a_bind_of_a_removed_directory_gives_no_name() -> None:
    gone = LINES + "50 22 8:1 /srv/old//deleted /gone rw - ext4 /dev/sda1 rw\n"
    assert names(gone, "/gone", "/gone/x") is None


def test_subvolumes_are_named_by_their_own_mounts_where_nothing_is_above_them() -> None:
    text = "22 1 0:30 /@ / rw - btrfs /dev/sda2 rw\n23 22 0:30 /@home /home rw - btrfs /dev/sda2 rw\n"
    assert names(text, "/home", "/home/x") == ["/home/x"]
    top = text + "24 22 0:30 / /mnt/top rw - btrfs /dev/sda2 rw\n"
    assert names(top, "/home", "/home/x") == ["/mnt/top/@home/x", "/home/x"]


def test_in_a_bare_chroot_only_the_root_itself_gives_names() -> None:
    every = parse_mountinfo("35 22 8:1 /jail/srv /bound rw - ext4 /dev/sda1 rw\n")
    root = Mount(22, 0, os.makedev(8, 1), "/", "/", frozenset(), "ext4", "", frozenset())
    found = Mounts(every, root, settled=True)
    assert found.names(root, "/srv/x") == (Spelling("/srv/x", "/"),)
    assert found.names(every[0], "/bound/x") is None


def test_bind_mounts_are_listed_with_what_lies_behind() -> None:
    assert list(mounts(LINES).binds()) == [("/bound", "/srv")]


def test_only_the_root_file_system_is_trusted_by_default(table: MountTable) -> None:
    found, trust = table.current()
    assert trust.trusted == {found.root.superblock}
    assert trust.vouched == frozenset()


def test_the_table_is_read_again_only_when_something_was_mounted(table: MountTable) -> None:
    assert table.current()[0] is table.current()[0]


def test_many_threads_read_the_table_at_once(table: MountTable) -> None:
    """A poll object serves one thread at a time: it raises when a second one asks."""
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            for _ in range(5000):
                table.current()
        except BaseException as error:  # noqa: BLE001 - what is looked for
            failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


class Restless:
    """Says that mounts changed, so many times."""

    def __init__(self, times: int) -> None:
        self.times = times

    def poll(self, _: int) -> list[tuple[int, int]]:
        self.times -= 1
        return [(0, 0)] if self.times >= 0 else []


def test_a_table_that_was_never_read_in_peace_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last reading takes the news: the kernel has none any more, and the table is of several moments."""
    table = MountTable()
    monkeypatch.setattr(table._own, "_poll", Restless(11))
    assert not table.current()[0].settled
    assert table.current()[0].settled
    table.close()


def test_a_mount_that_was_moved_over_another_is_on_top() -> None:
    """Its line comes first: the table is in the order in which mounts were made."""
    text = "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 40 0:30 / /a rw - tmpfs a rw\n40 20 0:40 / /a rw - nfs b:/ rw\n"
    assert [mount.id for mount in mounts(text).above("/a/x")] == [20, 40, 30]
    assert mounts(text).at("/a").id == 30


def test_a_line_that_was_there_before_is_not_parsed_again() -> None:
    before = parse_lines(LINES, {})
    after = parse_lines(LINES.replace("/dev/sda1 rw\n30", "/dev/sda2 rw\n30"), before)
    kept = [line for line, mount in after.items() if mount is not None and before.get(line) is mount]
    assert len(kept) == sum(mount is not None for mount in before.values()) - 1
    assert next(mount for mount in after.values() if mount is not None).source == "/dev/sda2"
