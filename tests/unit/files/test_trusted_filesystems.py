"""Which file systems are trusted, by their mount points, their sources, and what the configuration says."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from eclctl.files.configured_mounts import UNIT_DIRECTORIES
from eclctl.files.mounts import Mounts, parse_mountinfo
from eclctl.files.trusted_filesystems import FilesystemJudge, Filesystems, device_groups
from tests.helpers.file_systems import ROOT, Host, mounts_of

DATA = "30 22 8:17 / /data rw,relatime - ext4 /dev/sdb1 rw"
UUID = "0f3c8a3e-2d0c-4a57-9d86-3a2f9b2c5d11"

# Lines as kernels write them, with the names changed.
RECORDED = {
    "/boot/efi": "31 22 8:2 / /boot/efi rw,relatime - vfat /dev/sda2 rw,fmask=0077,dmask=0077,codepage=437",
    "/win": "32 22 0:40 / /win rw,relatime - cifs //filer/share rw,vers=3.1.1,uid=1000,forceuid,gid=1000,noperm",
    "/home": "33 22 0:41 / /home rw,relatime - nfs4 filer:/export/home rw,vers=4.2,hard,proto=tcp,addr=10.0.0.2",
    "/lustre": "34 22 0:42 / /lustre rw,noatime - lustre 10.0.0.3@o2ib:/scratch rw,flock,lruresize,lazystatfs",
    "/gpfs": "35 22 0:43 / /gpfs rw,relatime - gpfs gpfs0 rw",
    "/beegfs": "36 22 0:44 / /beegfs rw,relatime - beegfs beegfs_nodev rw,cfgFile=/etc/beegfs/beegfs-client.conf",
    "/tank": "37 22 0:45 / /tank rw,noatime - zfs tank rw,xattr,posixacl",
    "/merged": "38 22 0:46 / /merged rw,relatime - overlay overlay rw,lowerdir=/l,upperdir=/home/joe/u,workdir=/w",
    "/ceph": "39 22 0:47 / /ceph rw,relatime - ceph 10.0.0.4:6789:/ rw,name=admin,secret=<hidden>,acl",
    "/media/joe/STICK": "40 22 8:33 / /media/joe/STICK rw,nosuid,nodev - exfat /dev/sdc1 rw,uid=1000,gid=1000",
    "/run/media/joe/x": "41 22 7:0 / /run/media/joe/x rw,nosuid,nodev,relatime - ext4 /dev/loop0 rw",
    "/iso": "42 22 7:1 / /iso ro,relatime - iso9660 /dev/loop1 ro,nojoliet,check=s,map=n,blocksize=2048",
    "/tmp": "43 22 0:48 / /tmp rw,nosuid,nodev - tmpfs tmpfs rw,size=4194304k",
}
FUSE = {
    "/home/joe/mnt": "50 22 0:50 / /home/joe/mnt rw,nosuid,nodev - fuse.sshfs host:/ rw,user_id=1000,group_id=1000",
    "/ntfs": "51 22 8:34 / /ntfs rw,relatime - fuseblk /dev/sdc2 rw,user_id=0,group_id=0,allow_other,blksize=4096",
}
CVMFS = (
    "60 22 0:60 / /cvmfs rw,relatime - autofs /etc/auto.cvmfs rw,fd=6,pgrp=910,timeout=300,minproto=5,indirect",
    "61 60 0:61 / /cvmfs/repo.example ro,nosuid,nodev,relatime - fuse cvmfs2 ro,user_id=0,group_id=0,allow_other",
)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture
def listed(host: Host) -> Host:
    """A host that has /data on a partition of its own, as /etc/fstab lists it."""
    host.disk("sdb", "8:16")
    host.disk("sdb1", "8:17", part_of="sdb")
    host.named("uuid", UUID, "sdb1")
    host.fstab.write_text(f"UUID={UUID} /data ext4 defaults,noatime 0 2\n")
    return host


# The root directory's file system.


@pytest.mark.parametrize("kind", ["ext4", "overlay", "nfs4", "tmpfs", "zfs"])
def test_the_file_system_of_the_root_directory_is_trusted(host: Host, kind: str) -> None:
    assert host.objection("/", root=f"22 1 0:20 / / rw - {kind} any rw") is None


def test_a_fuse_root_is_not_trusted_until_it_is_listed(host: Host) -> None:
    root = "22 1 0:20 / / rw - fuse.any any rw"
    assert "FUSE" in str(host.objection("/", root=root))
    assert host.objection("/", root=root, words=Filesystems(fuse=frozenset({"/"}))) is None


def test_in_a_chroot_the_file_system_that_the_root_directory_lies_on_is_trusted(host: Host) -> None:
    table = parse_mountinfo(f"{ROOT}\n{DATA}")
    unlisted = parse_mountinfo("99 0 8:33 / / rw - xfs x rw")[0]
    judged = FilesystemJudge(Filesystems(), frozenset({0}), frozenset({0}))
    assert judged(Mounts(table, unlisted, settled=True)).trusted == {unlisted.superblock}


def test_a_mount_of_the_roots_file_system_elsewhere_is_trusted(host: Host) -> None:
    assert host.objection("/bound", "31 22 8:1 /srv /bound rw,relatime - ext4 /dev/sda1 rw") is None


# What root has written down.


def test_what_fstab_lists_at_its_point_and_of_its_source_is_trusted(listed: Host) -> None:
    assert listed.objection("/data", DATA) is None


def test_a_bind_mount_of_what_is_trusted_is_trusted(listed: Host) -> None:
    bound = "31 22 8:17 /inner /elsewhere rw,relatime - ext4 /dev/sdb1 rw"
    assert listed.objection("/elsewhere", DATA, bound) is None


def test_a_sandbox_that_mounts_everything_again_changes_nothing(listed: Host) -> None:
    again = "230 22 8:17 / /data ro,relatime - ext4 /dev/sdb1 rw"
    mounts, trust = listed.trust(DATA, again, "231 22 8:17 /state /var/lib/state rw - ext4 /dev/sdb1 rw")
    assert {each.superblock for each in mounts.all if each.superblock not in trust.trusted} == set()


def fstab(text: str) -> Callable[[Host], object]:
    return lambda host: host.fstab.write_text(text)


def shown(path: str, **what: int) -> Callable[[Host], object]:
    return lambda host: host.show(path, **what)


def with_list(host: Host) -> None:
    host.lists.add(str(host.dev / "sdb1"))


def removed(path: str) -> Callable[[Host], object]:
    return lambda host: (host.folder / path).unlink()


def served(host: Host) -> None:
    host.disk("nbd0", "43:0")
    (host.sysfs / "devices/sdb/slaves/nbd0").symlink_to("../../nbd0")


def another(host: Host) -> None:
    host.disk("sdc", "8:32")
    host.fstab.write_text(f"{host.dev}/sdc /data ext4 defaults 0 2\n")


NODE = stat.S_IFBLK
CONDITIONS: dict[str, tuple[Callable[[Host], object], str]] = {
    "no entry": (fstab(""), "is mounted by neither /etc/fstab nor a unit of root's"),
    "another point": (fstab(f"UUID={UUID} /date ext4 defaults 0 2\n"), "is mounted by neither"),
    "another source": (another, "lists another source there"),
    "a source that is not there": (fstab("UUID=none /data ext4 defaults\n"), "by-uuid/none does not exist"),
    "a source that is a directory": (fstab("/ /data ext4 defaults\n"), "/ is neither a block device nor a file"),
    "a source of a server": (fstab("filer:/x /data ext4 defaults\n"), "filer:/x names no device and no file"),
    "another type": (fstab(f"UUID={UUID} /data vfat defaults\n"), "lists vfat there"),
    **{
        f"option {option}": (fstab(f"UUID={UUID} /data ext4 noauto,{option} 0 2\n"), "lets users mount it (option ")
        for option in ("user", "users", "owner", "group", "user=joe", "x-udisks-auth", "pamconsole", r"us\145r")
    },
    "another entry, for users": (
        fstab(f"UUID={UUID} /data ext4 defaults\n/dev/sdc /data ext4 noauto,user\n"),
        "lets users mount it (option user)",
    ),
    "an automounter of systemd's": (
        fstab(f"UUID={UUID} /data ext4 noauto,x-systemd.automount\n"),
        "has it mounted by an automounter",
    ),
    "the old word for that": (fstab(f"UUID={UUID} /data ext4 comment=systemd.automount\n"), "by an automounter"),
    "fstab of another user": (shown("etc/fstab", uid=1000), "fstab belongs to user 1000"),
    "fstab that others can write": (shown("etc/fstab", mode=stat.S_IFREG | 0o664), "fstab can be written by others"),
    "a directory above fstab of another user": (shown("etc", uid=1000), "etc belongs to user 1000"),
    "a node of another user": (shown("dev/sdb1", uid=1000), "sdb1 belongs to user 1000"),
    "a node that all can write": (shown("dev/sdb1", mode=NODE | 0o666), "sdb1 can be written by others"),
    "a node that a group can write": (shown("dev/sdb1", gid=1000), "sdb1 can be written by others"),
    "a node with an access list": (with_list, "sdb1 can be written by others"),
    "a node of another device": (shown("dev/sdb1", rdev=os.makedev(8, 99)), "lists another source there"),
    "a whole disk that all can write": (shown("dev/sdb", mode=NODE | 0o666), "sdb can be written by others"),
    "a whole disk without a node": (removed("dev/sdb"), "dev/sdb does not exist"),
    "a whole disk whose node is another's": (shown("dev/sdb", rdev=7), "sdb is not the device 8:16"),
    "a device that a process serves": (served, "nbd0 is served by a process"),
    "no sysfs": (removed("sys/dev/block/8:17"), "block/8:17 does not exist"),
    "no number in sysfs": (lambda host: host.write("sys/devices/sdb/dev", "x"), "is no device number"),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_without_any_one_condition_what_fstab_lists_is_not_trusted(listed: Host, name: str) -> None:
    spoil, reason = CONDITIONS[name]
    spoil(listed)
    objection = listed.objection("/data", DATA)
    assert objection is not None
    assert objection.startswith("its file system (ext4 at /data)")
    assert reason in objection


def test_devices_without_sysfs_directories_of_lower_ones_are_not_trusted(listed: Host) -> None:
    (listed.sysfs / "devices/sdb/slaves").rmdir()
    assert "slaves does not exist" in str(listed.objection("/data", DATA))


def test_another_mount_of_the_same_type_at_another_point_is_not_trusted(listed: Host) -> None:
    listed.disk("sdc", "8:32")
    assert listed.objection("/mnt", DATA, "31 22 8:32 / /mnt rw - ext4 /dev/sdc rw") is not None


def test_what_a_user_has_mounted_over_a_listed_point_is_not_trusted(listed: Host) -> None:
    over = "31 30 0:50 / /data rw,nosuid,nodev - fuse.sshfs host:/ rw,user_id=1000,group_id=1000"
    assert "FUSE" in str(listed.objection("/data", DATA, over))


@pytest.mark.parametrize(
    ("source", "by", "name"),
    [
        ("LABEL=data", "label", "data"),
        ('LABEL="data"', "label", "data"),
        (r"LABEL=our\040data", "label", r"our\x20data"),
        ("LABEL=a/b", "label", r"a\x2fb"),
        ("LABEL=größe", "label", "größe"),
        ("PARTUUID=0fc6-01", "partuuid", "0fc6-01"),
        ("PARTLABEL=p", "partlabel", "p"),
        ("ID=scsi-1", "id", "scsi-1"),
    ],
)
def test_a_source_is_compared_as_the_device_that_it_names(listed: Host, source: str, by: str, name: str) -> None:
    listed.named(by, name, "sdb1")
    listed.fstab.write_text(f"{source}\t/data  auto\n")
    assert listed.objection("/data", DATA) is None


def test_a_point_with_a_space_is_found(listed: Host) -> None:
    listed.fstab.write_text(rf"UUID={UUID} /our\040data ext4 defaults" + "\n")
    assert listed.objection("/our data", r"30 22 8:17 / /our\040data rw - ext4 /dev/sdb1 rw") is None


def test_a_root_device_without_a_node_of_its_name_is_known_by_its_number(listed: Host) -> None:
    assert listed.objection("/data", "30 22 8:17 / /data rw,relatime - ext4 /dev/root rw") is None


def test_a_file_system_with_a_second_device_is_not_trusted(listed: Host) -> None:
    listed.fstab.write_text(f"UUID={UUID} /data xfs defaults\n")
    assert listed.objection("/data", "30 22 8:17 / /data rw - xfs /dev/sdb1 rw,attr2") is None
    objection = listed.objection("/data", "30 22 8:17 / /data rw - xfs /dev/sdb1 rw,logdev=/dev/sdc1")
    assert "it has a second device (logdev=/dev/sdc1)" in str(objection)


# Units.


def unit_text(what: str, more: str = "") -> str:
    return f"[Unit]\nDescription=x\n\n[Mount]\nWhat={what}\nWhere=/data\nType=ext4\n{more}\n[Install]\nWantedBy=x\n"


@pytest.fixture
def unit(listed: Host) -> Host:
    """A host that has /data by a unit in the second of its directories."""
    listed.fstab.write_text("")
    listed.unit("data.mount", unit_text(f"{listed.dev}/disk/by-uuid/{UUID}"), 1)
    return listed


def test_what_a_mount_unit_lists_is_trusted(unit: Host) -> None:
    assert unit.objection("/data", DATA) is None


def other_unit(host: Host) -> None:
    host.disk("sdc", "8:32")
    host.unit("data.mount", unit_text(f"{host.dev}/sdc"), 0)


def linked(host: Host) -> None:
    target = host.write("opt/data.mount", unit_text(f"{host.dev}/disk/by-uuid/{UUID}"))
    host.show(target, uid=1000)
    (host.units[0] / "data.mount").symlink_to(target)


def unit_with(more: str) -> Callable[[Host], object]:
    return lambda host: host.unit("data.mount", unit_text(f"{host.dev}/disk/by-uuid/{UUID}", more), 1)


UNITS: dict[str, tuple[Callable[[Host], object], str]] = {
    "a unit of another source that counts more": (other_unit, "lists another source there"),
    "a masked unit": (lambda host: (host.units[0] / "data.mount").symlink_to("/dev/null"), "is masked"),
    "a link to a unit of another user": (linked, "opt/data.mount belongs to user 1000"),
    "a link in a directory of another user": (
        lambda host: (linked(host), host.show("opt/data.mount", uid=0), host.show("etc/units", uid=1000)),
        "units belongs to user 1000",
    ),
    "a unit of another user": (shown("run/units/data.mount", uid=1000), "data.mount belongs to user 1000"),
    "a unit that others can write": (
        shown("run/units/data.mount", mode=stat.S_IFREG | 0o646),
        "data.mount can be written by others",
    ),
    "a directory of another user": (shown("run/units", uid=1000), "units belongs to user 1000"),
    "drop-ins": (lambda host: host.write("usr/units/data.mount.d/x.conf"), "has drop-ins, which are not read"),
    "drop-ins for all": (lambda host: host.write("usr/units/mount.d/x.conf"), "has drop-ins"),
    "a specifier": (unit_with("Options=%i"), "has specifiers (%)"),
    "leave for users": (unit_with("Options=noauto,user"), "lets users mount it"),
    "another type": (unit_with("Type=vfat"), "lists vfat there"),
    "another point than its name": (unit_with("Where=/date"), "another mount point than its file name does"),
    "no source": (unit_with("What="), "names no source"),
    "an automount unit": (lambda host: host.unit("data.automount", "", 2), "comes from an automounter"),
}


@pytest.mark.parametrize("name", UNITS)
def test_without_any_one_condition_what_a_unit_lists_is_not_trusted(unit: Host, name: str) -> None:
    spoil, reason = UNITS[name]
    spoil(unit)
    objection = unit.objection("/data", DATA)
    assert objection is not None
    assert reason in objection


def test_a_unit_that_the_service_manager_made_up_is_not_read() -> None:
    assert not [each for each in UNIT_DIRECTORIES if "transient" in each]


def test_a_link_to_a_unit_of_roots_is_trusted(unit: Host) -> None:
    target = unit.write("opt/data.mount", unit_text(f"{unit.dev}/disk/by-uuid/{UUID}"))
    (unit.units[0] / "data.mount").symlink_to(target)
    assert unit.objection("/data", DATA) is None


# Automounters.


def test_what_is_mounted_on_an_automounters_mount_is_not_trusted(listed: Host) -> None:
    listed.fstab.write_text(f"UUID={UUID} /auto/data ext4 defaults\n")
    autofs = "29 22 0:70 / /auto rw - autofs /etc/auto.x rw,indirect"
    on_it = "30 29 8:17 / /auto/data rw - ext4 /dev/sdb1 rw"
    assert "comes from an automounter" in str(listed.objection("/auto/data", autofs, on_it))


def test_what_is_mounted_over_an_automounters_mount_is_not_trusted(listed: Host) -> None:
    autofs = "29 22 0:70 / /data rw - autofs systemd-1 rw,direct"
    on_it = "30 29 8:17 / /data rw - ext4 /dev/sdb1 rw"
    assert "comes from an automounter" in str(listed.objection("/data", autofs, on_it))
    again = "230 22 8:17 / /data rw - ext4 /dev/sdb1 rw"  # as a sandbox could show it
    assert "comes from an automounter" in str(listed.objection("/data", autofs, again))


def test_where_an_automounters_point_is_listed_what_it_mounts_is_trusted(host: Host) -> None:
    lines = (
        "29 22 0:70 / /home rw - autofs /etc/auto.home rw,indirect",
        "30 29 0:71 / /home/joe rw - nfs4 filer:/joe rw",
        "31 29 0:72 / /home/eve rw - fuse.sshfs host: rw,user_id=1000",
        "32 30 0:73 / /home/joe/inner rw - nfs4 filer:/joe/inner rw",
    )
    words = Filesystems(trusted=frozenset({"/home"}))
    assert host.objection("/home/joe", *lines, words=words) is None
    assert "FUSE" in str(host.objection("/home/eve", *lines, words=words))
    assert host.objection("/home/joe/inner", *lines, words=words) is not None


def test_a_direct_automount_that_is_listed_is_trusted(host: Host) -> None:
    lines = ("29 22 0:70 / /data rw - autofs systemd-1 rw,direct", "30 29 0:71 / /data rw - nfs4 filer:/d rw")
    assert host.objection("/data", *lines) is not None
    assert host.objection("/data", *lines, words=Filesystems(trusted=frozenset({"/data"}))) is None


# Loop devices, mapped devices, btrfs, tmpfs.

LOOP = "30 22 7:3 / /apps ro,relatime - squashfs /dev/loop3 ro"


@pytest.fixture
def looped(host: Host) -> Host:
    """A host that has /apps in a file of root's."""
    file = host.write("srv/apps.img")
    host.loop("loop3", "7:3", file)
    host.fstab.write_text(f"{file} /apps squashfs loop,ro 0 0\n")
    return host


def test_what_fstab_lists_in_a_file_of_roots_is_trusted(looped: Host) -> None:
    assert looped.objection("/apps", LOOP) is None


def backed_by(text: str) -> Callable[[Host], object]:
    return lambda host: host.write("sys/devices/loop3/loop/backing_file", text.format(host.folder))


def through_a_link(host: Host) -> None:
    (host.folder / "srv/apps.img").rename(host.folder / "srv/real.img")
    (host.folder / "srv/apps.img").symlink_to("real.img")


LOOPS: dict[str, tuple[Callable[[Host], object], str]] = {
    "a file of a user": (shown("srv/apps.img", uid=1000), "apps.img belongs to user 1000"),
    "a file that a group can write": (
        shown("srv/apps.img", mode=stat.S_IFREG | 0o664),
        "apps.img can be written by others (mode 0664)",
    ),
    "a directory of a user": (shown("srv", uid=1000), "srv belongs to user 1000"),
    "a directory that others can write": (shown("srv", mode=stat.S_IFDIR | 0o777), "srv can be written by others"),
    "a file without a name": (backed_by("{}/srv/apps.img (deleted)\n"), "does not exist"),
    "no file": (removed("sys/devices/loop3/loop/backing_file"), "the loop device has no file behind it"),
    "another file": (
        lambda host: (host.write("srv/b.img"), backed_by("{}/srv/b.img\n")(host)),
        "lists another source there",
    ),
    "a symbolic link": (through_a_link, "is a symbolic link"),
}


@pytest.mark.parametrize("name", LOOPS)
def test_without_any_one_condition_what_lies_in_a_file_is_not_trusted(looped: Host, name: str) -> None:
    spoil, reason = LOOPS[name]
    spoil(looped)
    objection = looped.objection("/apps", LOOP)
    assert objection is not None
    assert reason in objection


def test_a_sticky_directory_above_a_file_is_as_good_as_another(looped: Host) -> None:
    looped.show("srv", mode=stat.S_IFDIR | 0o1777)
    assert looped.objection("/apps", LOOP) is None


@pytest.mark.parametrize("source", ["LABEL=apps", "{}/loop3"])
def test_a_loop_device_counts_by_its_file_alone(looped: Host, source: str) -> None:
    looped.named("label", "apps", "loop3")
    looped.fstab.write_text(f"{source.format(looped.dev)} /apps squashfs ro\n")
    assert "is not listed by the file behind that" in str(looped.objection("/apps", LOOP))


def test_a_deleted_loop_file_is_not_trusted_by_its_device_either(looped: Host) -> None:
    looped.fstab.write_text(f"{looped.dev}/loop3 /apps squashfs ro\n")
    deleted = looped.write("srv/apps.img (deleted)")
    backed_by(f"{deleted}\n")(looped)
    assert "has no name any more" in str(looped.objection("/apps", LOOP))


def test_a_loop_device_over_another_device_is_not_trusted(looped: Host) -> None:
    looped.fstab.write_text(f"{looped.dev}/loop3 /apps squashfs ro\n")
    looped.show("srv/apps.img", mode=NODE | 0o600)
    assert "is not a regular file" in str(looped.objection("/apps", LOOP))


def test_a_file_on_a_file_system_that_is_not_trusted_is_not_trusted(looped: Host) -> None:
    under = f"29 22 8:33 / {looped.folder}/srv rw - ext4 /dev/sdc1 rw"
    assert f"that is not trusted: ext4 at {looped.folder}/srv" in str(looped.objection("/apps", under, LOOP))
    words = Filesystems(trusted=frozenset({f"{looped.folder}/srv"}))
    assert looped.objection("/apps", under, LOOP, words=words) is None


def test_a_file_on_a_network_file_system_is_not_even_looked_at(looped: Host) -> None:
    under = f"29 22 0:41 / {looped.folder}/srv rw - nfs4 filer:/srv rw"
    words = Filesystems(trusted=frozenset({f"{looped.folder}/srv"}))
    objection = looped.objection("/apps", under, LOOP, words=words)
    assert f"lies on nfs4 at {looped.folder}/srv, where a look could take for ever" in str(objection)
    assert not [path for path in looped.looked_at if path.startswith(f"{looped.folder}/srv")]


def test_files_that_lie_in_one_another_are_not_trusted(host: Host) -> None:
    one, two = host.write("a/image"), host.write("b/image")
    host.loop("loop1", "7:1", one)
    host.loop("loop2", "7:2", two)
    host.fstab.write_text(f"{two} {host.folder}/a ext4 loop\n{one} {host.folder}/b ext4 loop\n")
    lines = (
        f"30 22 7:2 / {host.folder}/a rw - ext4 /dev/loop2 rw",
        f"31 22 7:1 / {host.folder}/b rw - ext4 /dev/loop1 rw",
    )
    assert host.objection(f"{host.folder}/a", *lines) is not None
    assert host.objection(f"{host.folder}/b", *lines) is not None


def test_what_a_mapped_device_lies_on_counts_too(host: Host) -> None:
    host.disk("sdc", "8:32")
    host.disk("md0", "9:0", below=("sdc",))
    host.disk("dm-0", "253:0", below=("md0",))
    host.fstab.write_text(f"{host.dev}/dm-0 /data xfs\n")
    mapped = "30 22 253:0 / /data rw - xfs /dev/mapper/vg-lv rw"
    assert host.objection("/data", mapped) is None
    host.show("dev/sdc", mode=NODE | 0o666)
    assert host.objection("/data", mapped) is not None


def test_a_mapped_device_on_a_loop_device_is_not_trusted(host: Host) -> None:
    host.loop("loop3", "7:3", host.write("srv/apps.img"))
    host.disk("dm-0", "253:0", below=("loop3",))
    host.fstab.write_text(f"{host.dev}/dm-0 /data xfs\n")
    reason = host.objection("/data", "30 22 253:0 / /data rw - xfs /dev/mapper/vg-lv rw")
    assert "is not listed by the file behind that" in str(reason)


def test_devices_that_lie_on_one_another_come_to_an_end(host: Host) -> None:
    names = [f"dm-{number}" for number in range(20)]
    for number, name in enumerate(names):
        host.disk(name, f"253:{number}", below=tuple(names[number + 1 : number + 2]))
    host.fstab.write_text(f"{host.dev}/dm-0 /data xfs\n")
    assert "too many devices" in str(host.objection("/data", "30 22 253:0 / /data rw - xfs /dev/dm-0 rw"))


def test_all_devices_of_a_btrfs_count_and_any_subvolume_is_trusted(host: Host) -> None:
    for name, device in (("sdb", "8:16"), ("sdc", "8:32")):
        host.disk(name, device)
        link = host.sysfs / "fs/btrfs/6f1c/devices" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"../../../../devices/{name}")
    host.write(host.sysfs / "fs/btrfs/features/raid56")
    host.named("uuid", "6f1c", "sdc")
    host.fstab.write_text("UUID=6f1c /data btrfs subvol=/@data,compress=zstd 0 0\n")
    lines = (
        f"30 22 0:35 /@data /data rw,relatime - btrfs {host.dev}/sdb rw,space_cache=v2,subvolid=257,subvol=/@data",
        f"31 22 0:35 /@home /srv rw,relatime - btrfs {host.dev}/sdb rw,space_cache=v2,subvolid=258,subvol=/@home",
    )
    assert host.objection("/data", *lines) is None
    assert host.objection("/srv", *lines) is None
    host.show("dev/sdc", mode=NODE | 0o666)
    assert "sdc can be written by others" in str(host.objection("/data", *lines))


def test_a_btrfs_whose_devices_sysfs_does_not_show_is_not_trusted(host: Host) -> None:
    host.disk("sdb", "8:16")
    host.fstab.write_text(f"{host.dev}/sdb /data btrfs\n")
    line = f"30 22 0:35 / /data rw - btrfs {host.dev}/sdb rw"
    assert "sysfs does not show the devices" in str(host.objection("/data", line))


@pytest.mark.parametrize("source", ["tmpfs", "none"])
def test_a_tmpfs_that_is_listed_and_on_top_is_trusted(host: Host, source: str) -> None:
    host.fstab.write_text(f"{source} /tmp tmpfs size=4G 0 0\n")
    assert host.objection("/tmp", RECORDED["/tmp"]) is None


def test_another_tmpfs_or_another_type_at_the_point_of_one_is_not_trusted(host: Host) -> None:
    host.fstab.write_text("tmpfs /tmp tmpfs size=4G 0 0\n")
    over = "44 43 0:49 / /tmp rw - ramfs x rw"
    mounts, trust = host.trust(RECORDED["/tmp"], over)
    assert [each.superblock in trust.trusted for each in mounts.all] == [True, False, False]
    host.fstab.write_text("/dev/sdc /tmp ext4 size=4G 0 0\n")
    assert "lists something else there" in str(host.objection("/tmp", RECORDED["/tmp"]))


# Every kind of file system, by default and listed.


@pytest.mark.parametrize("point", [*RECORDED, *FUSE])
def test_no_other_file_system_is_trusted_unless_its_point_is_listed(host: Host, point: str) -> None:
    lines = RECORDED | FUSE
    objection = host.objection(point, *lines.values())
    kind = mounts_of(ROOT, lines[point]).all[1].type
    assert objection is not None
    assert f"({kind} at {point})" in objection


@pytest.mark.parametrize("point", RECORDED)
def test_what_is_listed_as_trusted_is_trusted(host: Host, point: str) -> None:
    words = Filesystems(trusted=frozenset({point}))
    mounts, trust = host.trust(*RECORDED.values(), *FUSE.values(), words=words)
    mount = mounts.at(point)
    assert mount is not None
    assert trust.trusted == {mounts.root.superblock, mount.superblock}
    assert trust.vouched == frozenset()


@pytest.mark.parametrize("point", FUSE)
def test_fuse_is_trusted_under_its_own_word_alone(host: Host, point: str) -> None:
    point_alone = frozenset({point})
    assert "FUSE" in str(host.objection(point, *FUSE.values(), words=Filesystems(trusted=point_alone)))
    assert "not read-only" in str(host.objection(point, *FUSE.values(), words=Filesystems(read_only=point_alone)))
    assert host.objection(point, *FUSE.values(), words=Filesystems(fuse=point_alone)) is None
    others = [each for each in FUSE if each != point]
    assert all(host.objection(each, *FUSE.values()) for each in others)


@pytest.mark.parametrize("above", ["/home/joe", "/home", "/"])
def test_a_point_that_is_listed_says_nothing_of_mounts_below_it(host: Host, above: str) -> None:
    everywhere = frozenset({above})
    words = Filesystems(trusted=everywhere, fuse=everywhere, read_only=everywhere)
    assert host.objection("/home/joe/mnt", FUSE["/home/joe/mnt"], words=words) is not None


def test_what_is_not_fuse_is_not_trusted_under_the_word_for_fuse(host: Host) -> None:
    assert host.objection("/home", RECORDED["/home"], words=Filesystems(fuse=frozenset({"/home"}))) is not None


def test_a_listed_kind_of_file_system_in_fstab_is_not_trusted_for_that(host: Host) -> None:
    host.disk("sda", "8:0")
    host.disk("sda2", "8:2", part_of="sda")
    host.fstab.write_text(f"{host.dev}/sda2 /boot/efi vfat defaults\nfiler:/export/home /home nfs4 defaults\n")
    for point in ("/boot/efi", "/home"):
        assert "is not listed under filesystems" in str(host.objection(point, RECORDED[point]))


# Read-only file systems.

READ_ONLY = Filesystems(read_only=frozenset({"/cvmfs", "/sw", "/data"}))


def test_cvmfs_below_its_automounter_is_vouched_for_and_not_trusted(host: Host) -> None:
    mounts, trust = host.trust(*CVMFS, words=READ_ONLY)
    repository = mounts.at("/cvmfs/repo.example")
    assert repository is not None
    assert trust.vouched == {repository.superblock}
    assert trust.trusted == {mounts.root.superblock}


def test_a_read_only_file_system_at_the_listed_point_is_vouched_for(host: Host) -> None:
    assert host.objection("/sw", "30 22 0:80 / /sw ro - nfs4 filer:/sw ro,vers=4.2", words=READ_ONLY) is None


def test_read_only_is_never_judged_by_the_mounts_own_options(host: Host) -> None:
    objection = host.objection("/sw", "30 22 0:80 / /sw ro,relatime - nfs4 filer:/sw rw,vers=4.2", words=READ_ONLY)
    assert "is listed under filesystems.read_only, and is not read-only" in str(objection)


@pytest.mark.parametrize("options", ["ro,user_id=1000", "ro,user_id=0"])
def test_what_a_user_mounts_read_only_below_a_listed_point_is_not_vouched_for(host: Host, options: str) -> None:
    on_disk = "30 22 8:17 / /data rw,relatime - ext4 /dev/sdb1 rw"
    user = f"31 30 0:81 / /data/home/u/mnt ro,nosuid,nodev - fuse.evil evil {options}"
    objection = host.objection("/data/home/u/mnt", on_disk, user, words=READ_ONLY)
    assert "on ext4 at /data, which can be written" in str(objection)


def test_nor_what_a_user_mounted_before_it_became_read_only(host: Host) -> None:
    lines = (
        "30 22 0:80 / /sw ro - nfs4 filer:/sw ro",
        "31 30 0:81 / /sw/u/mnt ro,nosuid,nodev - fuse.evil evil ro,user_id=1000",
        "32 31 0:82 / /sw/u/mnt/inner ro - squashfs /dev/loop1 ro",
        "33 30 0:83 / /sw/repo ro,nosuid,nodev - fuse cvmfs2 ro,user_id=0,group_id=0",
    )
    for point in ("/sw/u/mnt", "/sw/u/mnt/inner"):
        assert "fuse.evil at /sw/u/mnt is a user's" in str(host.objection(point, *lines, words=READ_ONLY))
    assert host.objection("/sw/repo", *lines, words=READ_ONLY) is None


def test_nor_where_the_listed_point_is_a_plain_directory(host: Host) -> None:
    user = "31 22 0:81 / /data/home/u/mnt ro,nosuid,nodev - fuse.evil evil ro,user_id=1000"
    objection = host.objection("/data/home/u/mnt", user, words=READ_ONLY)
    assert "on ext4 at /, which can be written: list /data/home/u/mnt itself" in str(objection)


def test_nor_over_a_listed_file_system_that_can_be_written(host: Host) -> None:
    under = "30 22 8:17 / /data rw,relatime - ext4 /dev/sdb1 rw"
    user = "31 30 0:81 / /data ro,nosuid,nodev - fuse.evil evil ro,user_id=1000"
    assert host.objection("/data", under, user, words=READ_ONLY) is not None


def test_nor_deeper_than_a_file_system_that_can_be_written(host: Host) -> None:
    lines = (
        "30 22 0:80 / /sw ro - squashfs /dev/loop0 ro",
        "31 30 0:81 / /sw/work rw - nfs4 filer:/work rw",
        "32 31 0:82 / /sw/work/u/mnt ro - fuse.evil evil ro,user_id=1000",
    )
    assert "on nfs4 at /sw/work" in str(host.objection("/sw/work/u/mnt", *lines, words=READ_ONLY))


def test_a_read_only_file_system_on_a_read_only_one_is_vouched_for(host: Host) -> None:
    lines = ("30 22 0:80 / /sw ro - squashfs /dev/loop0 ro", "31 30 0:81 / /sw/extra ro - squashfs /dev/loop1 ro")
    assert host.objection("/sw/extra", *lines, words=READ_ONLY) is None
    inside = Filesystems(read_only=frozenset({"/sw/extra/directory"}))
    deeper = "32 31 0:82 / /sw/extra/directory/x ro - squashfs /dev/loop2 ro"
    assert host.objection("/sw/extra/directory/x", *lines, deeper, words=inside) is None


def test_a_name_that_only_begins_like_a_listed_point_is_not_below_it(host: Host) -> None:
    root = "22 1 8:1 / / ro - ext4 /dev/sda1 ro"
    line = "30 22 0:80 / /swap ro - nfs4 f:/s ro"
    assert host.objection("/swap", line, root=root, words=READ_ONLY) is not None


def test_mounts_that_are_their_own_parents_come_to_an_end(host: Host) -> None:
    lines = ("30 31 0:80 / /sw/a ro - squashfs a ro", "31 30 0:81 / /sw/a/b ro - squashfs b ro")
    assert host.objection("/sw/a/b", *lines, words=READ_ONLY) is not None


# Files that change, and what is said.


def test_files_that_change_are_read_again(listed: Host) -> None:
    listed.unit("x.mount", unit_text("/dev/none"))
    assert listed.objection("/data", DATA) is None
    listed.fstab.write_text("")
    assert listed.objection("/data", DATA) is not None
    listed.unit("data.mount", unit_text(f"{listed.dev}/sdb1"))
    assert listed.objection("/data", DATA) is None
    listed.unit("data.mount", unit_text(f"{listed.dev}/sdb"))
    assert listed.objection("/data", DATA) is not None


def test_a_file_that_has_just_changed_is_read_again_even_if_it_looks_the_same(listed: Host) -> None:
    listed.clock = lambda: os.stat(listed.fstab).st_ctime_ns
    assert listed.objection("/data", DATA) is None
    state = {name: getattr(os.stat(listed.fstab), f"st_{name}") for name in ("size", "mtime_ns", "ctime_ns")}
    listed.fstab.write_text(f"UUID={UUID} /date ext4 defaults,noatime 0 2\n")
    listed.show("etc/fstab", **state)
    assert listed.objection("/data", DATA) is not None


def test_what_is_not_mounted_here_is_named_as_that(host: Host) -> None:
    _, trust = host.trust()
    other = parse_mountinfo("99 0 8:99 / /x rw - ext4 x rw")[0]
    assert trust.why_not(other) == "its file system (ext4 at /x) is not one that is mounted here"


def test_the_group_of_disks_is_trusted_as_root_is() -> None:
    assert 0 in device_groups()


def test_nothing_on_another_machine_is_looked_at(listed: Host) -> None:
    folder = listed.folder
    far = [f"{number} 22 0:{number} / {folder}/{name} rw - nfs4 f:/x rw" for number, name in ((90, "etc"), (91, "usr"))]
    assert "is not read" in str(listed.objection("/data", *far, DATA))
    assert not [path for path in listed.looked_at if path.startswith((f"{folder}/etc", f"{folder}/usr"))]
