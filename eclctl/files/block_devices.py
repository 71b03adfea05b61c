"""Finds the block devices below file systems, and whether users other than the trusted owners can write them.

A device is judged with everything that reaches its content: its node, the whole disk of a partition, the devices below
a mapped one, and the file behind a loop device. What sysfs or /dev do not show is not trusted.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator

from eclctl.dataclass import dataclass
from eclctl.files.acls import has_acl
from eclctl.files.local_lookup import LocalFiles, LocalLookupError
from eclctl.files.mounts import Mount

_TAGS = {"UUID": "uuid", "LABEL": "label", "PARTUUID": "partuuid", "PARTLABEL": "partlabel", "ID": "id"}
_NODE_PLAIN = frozenset(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ#+-.:=@_")
_ASCII = 0x80
_DELETED = " (deleted)"
_SERVED = ("nbd", "ublk")
_MOST_DEVICES = 256
_MAX_DEPTH = 16
_MAX_ATTRIBUTE = 4096
_FURTHER = ("logdev", "rtdev", "device", "journal_path", "journal_dev")  # options that name a second device


@dataclass(frozen=True, slots=True)
class Devices:
    """Looks at devices by sysfs and /dev.

    `owners` may own nodes and loop files; `groups` may write nodes. `untrusted` says why the file system that a path
    lies on is not trusted, or None. `attributes` is `os.listxattr`, without following links.
    """

    local_files: LocalFiles
    sysfs: str
    dev: str
    owners: frozenset[int]
    groups: frozenset[int]
    untrusted: Callable[[str], str | None]
    attributes: Callable[[str], list[str]] = lambda path: os.listxattr(path, follow_symlinks=False)

    def below(self, mount: Mount) -> tuple[int, ...]:
        """Return the numbers of the devices that a mounted file system lies on. Raises LocalLookupError."""
        for option in mount.super_options:
            if option.partition("=")[0] in _FURTHER and "=" in option:
                raise LocalLookupError(f"it has a second device ({option})")
        if os.major(mount.device):
            return (mount.device,)
        number = self._number(mount.source)
        if number is None:
            raise LocalLookupError(f"its source ({mount.source}) is no block device")
        return self._of_btrfs(number) if mount.type == "btrfs" else (number,)

    def meant(self, source: str) -> int | tuple[int, int]:
        """Return what a source in /etc/fstab or a unit means: a block device's number, or a file's device and inode.

        Raises LocalLookupError.
        """
        tag, equals, value = source.partition("=")
        if equals and tag in _TAGS:
            value = value.strip("\"'")
            source = f"{self.dev}/disk/by-{_TAGS[tag]}/{node_name(value)}"
        if not source.startswith("/"):
            raise LocalLookupError(f"{source} names no device and no file")
        status = self.local_files.status(self.local_files.resolve(source))
        if stat.S_ISBLK(status.st_mode):
            return status.st_rdev
        if stat.S_ISREG(status.st_mode):
            return status.st_dev, status.st_ino
        raise LocalLookupError(f"{source} is neither a block device nor a file")

    def loop_file(self, device: int) -> tuple[int, int] | None:
        """Return device and inode of the file behind a loop device; None for other devices. Raises LocalLookupError."""
        path = self._backing(self._directory(device))
        if path is None:
            return None
        status = self.local_files.status(self.local_files.resolve(path))
        return status.st_dev, status.st_ino

    def exposure(self, devices: tuple[int, ...], meant: int | tuple[int, int]) -> str | None:
        """Return why others can write what is on any of these devices, or None.

        `meant` is what their source means. Of loop devices, only one over the file that this names counts: sysfs tells
        the file's name as its opener saw it, and a desktop service attaches files that a user opened in a mount
        namespace of their own. mount(8) compares the file itself.
        """
        waiting = [(device, 0) for device in devices]
        seen: set[int] = set()
        try:
            while waiting:
                device, depth = waiting.pop()
                if device in seen:
                    continue
                seen.add(device)
                if depth > _MAX_DEPTH or len(seen) > _MOST_DEVICES:
                    return "it lies on too many devices"
                directory = self._directory(device)
                if (found := self._exposed_node(device, directory) or self._exposed_loop(directory, meant)) is not None:
                    return found
                waiting += [(each, depth + 1) for each in self._further(directory)]
        except LocalLookupError as error:
            return str(error)
        return None

    def _exposed_node(self, device: int, directory: str) -> str | None:
        name = os.path.basename(directory)
        if name.startswith(_SERVED):
            return f"its device {name} is served by a process"
        lines = self.local_files.text(f"{directory}/uevent", _MAX_ATTRIBUTE).split("\n")
        given = next((line.partition("=")[2] for line in lines if line.startswith("DEVNAME=")), name)
        path = f"{self.dev}/{given}"
        status = self.local_files.status(path)
        if not stat.S_ISBLK(status.st_mode) or status.st_rdev != device:
            return f"{path} is not the device {os.major(device)}:{os.minor(device)}"
        if status.st_uid not in self.owners:
            return f"the device {path} belongs to user {status.st_uid}"
        group = status.st_mode & stat.S_IWGRP and status.st_gid not in self.groups
        # With an ACL, the group bits show the most that it can grant to any user.
        if group or status.st_mode & stat.S_IWOTH or has_acl(path, self.attributes):
            return f"the device {path} can be written by others"
        return None

    def _exposed_loop(self, directory: str, meant: int | tuple[int, int]) -> str | None:
        path = self._backing(directory)
        if path is None:
            return None
        if not path.startswith("/") or path.endswith(_DELETED):
            return f"the loop file behind it ({path}) has no name any more"
        if (found := self.local_files.exposure(path, self.owners)) is not None:
            return f"the loop file behind it is not safe: {found}"
        status = self.local_files.status(path)
        if not stat.S_ISREG(status.st_mode):
            return f"the loop file behind it ({path}) is not a regular file"
        if (status.st_dev, status.st_ino) != meant:
            return f"it lies on a loop device, and is not listed by the file behind that ({path})"
        if (found := self.untrusted(path)) is not None:
            return f"the loop file behind it ({path}) lies on a file system that is not trusted: {found}"
        return None

    def _backing(self, directory: str) -> str | None:
        """Return what sysfs says that the file behind a loop device is; None when it is no loop device."""
        if not os.path.basename(directory).startswith("loop"):
            return None
        try:
            text = self.local_files.text(f"{directory}/loop/backing_file", _MAX_ATTRIBUTE)
        except LocalLookupError as error:
            if self._is_partition(directory):
                return None  # the whole device is looked at, too
            raise LocalLookupError("the loop device has no file behind it") from error
        return text.removesuffix("\n")

    def _further(self, directory: str) -> Iterator[int]:
        """Yield the devices that a device's content lies on."""
        if self._is_partition(directory):
            yield self._read_number(os.path.dirname(directory))
            return
        for name in self.local_files.names(f"{directory}/slaves"):  # every whole device has this directory
            yield self._read_number(self.local_files.resolve(f"{directory}/slaves/{name}"))

    def _is_partition(self, directory: str) -> bool:
        try:
            self.local_files.status(f"{directory}/partition")
        except LocalLookupError:
            return False
        return True

    def _directory(self, device: int) -> str:
        return self.local_files.resolve(f"{self.sysfs}/dev/block/{os.major(device)}:{os.minor(device)}")

    def _read_number(self, directory: str) -> int:
        text = self.local_files.text(f"{directory}/dev", _MAX_ATTRIBUTE)
        major, _, minor = text.strip().partition(":")
        if not (major.isdecimal() and minor.isdecimal()):
            raise LocalLookupError(f"{directory}/dev is no device number")
        return os.makedev(int(major), int(minor))

    def _number(self, path: str) -> int | None:
        if not path.startswith("/"):
            return None
        status = self.local_files.status(self.local_files.resolve(path))
        return status.st_rdev if stat.S_ISBLK(status.st_mode) else None

    def _of_btrfs(self, device: int) -> tuple[int, ...]:
        """Return the numbers of all devices of the btrfs that one device belongs to."""
        name, top = os.path.basename(self._directory(device)), f"{self.sysfs}/fs/btrfs"
        for each in self.local_files.names(top):
            devices = f"{top}/{each}/devices"
            try:
                names = self.local_files.names(devices)
            except LocalLookupError:
                continue  # `features` is no file system
            if name in names:
                return tuple(self._read_number(self.local_files.resolve(f"{devices}/{inner}")) for inner in names)
        raise LocalLookupError(f"sysfs does not show the devices of the btrfs on {name}")


def node_name(value: str) -> str:
    """Return a label or number as udev writes it into the name of a link below /dev/disk (`systemd-escape` is another).

    Source: `encode_devnode_name` of systemd. Characters beyond ASCII stay when the value is UTF-8.
    """
    valid = value.isascii() or not any("\udc80" <= character <= "\udcff" for character in value)
    raw = value.encode("utf-8", "surrogateescape")
    kept = bytearray()
    for byte in raw:
        plain = byte in _NODE_PLAIN or (byte >= _ASCII and valid)
        kept += bytes((byte,)) if plain else b"\\x%02x" % byte
    return kept.decode("utf-8", "surrogateescape")
