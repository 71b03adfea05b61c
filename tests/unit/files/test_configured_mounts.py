"""What /etc/fstab and mount units say."""

from __future__ import annotations

import pytest

from eclctl.files.block_devices import node_name
from eclctl.files.configured_mounts import Entry, drop_ins, parse_fstab, parse_mount_unit, unescaped_path


def entry(point: str, source: str, kind: str, *options: str) -> Entry:
    return Entry(point, source, kind, frozenset(options), "f")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/dev/sda1 / ext4 errors=remount-ro 0 1", entry("/", "/dev/sda1", "ext4", "errors=remount-ro")),
        ("\t /dev/sda1\t\t/data/  xfs", entry("/data", "/dev/sda1", "xfs", "")),
        ("//filer/x /mnt//x cifs a,b=c", entry("/mnt/x", "//filer/x", "cifs", "a", "b=c")),
        (r"/dev/sdb /with\040a\011b\134c ext4 rw", entry("/with a\tb\\c", "/dev/sdb", "ext4", "rw")),
        (r"/dev/sdb /gr\303\266\303\237e ext4 rw", entry("/größe", "/dev/sdb", "ext4", "rw")),
        (r"/dev/sdb /raw\377 ext4 rw", entry("/raw\udcff", "/dev/sdb", "ext4", "rw")),
        ("/dev/sdb /no\u2028break\x85here ext4 rw", entry("/no\u2028break\x85here", "/dev/sdb", "ext4", "rw")),
    ],
)
def test_a_line_of_fstab_is_an_entry(line: str, expected: Entry) -> None:
    assert list(parse_fstab(f"# comment\n\n{line}\n", "f")) == [expected]


@pytest.mark.parametrize("line", ["#/dev/sda1 / ext4", "/dev/sda2 none swap sw 0 0", "/dev/sda1 /data", "", "  "])
def test_other_lines_are_none(line: str) -> None:
    assert list(parse_fstab(line, "f")) == []


def parsed(text: str) -> Entry:
    return parse_mount_unit(text, "/data", "f")


def test_a_unit_is_an_entry() -> None:
    mount = "# What=no\nWhat = /dev/sdb\nWhere=/data\nType=ext4\nOptions=a,\\\nuser"
    text = f"[Unit]\nWhat=no\n[Mount]\n{mount}\n[Install]\nType=x"
    assert parsed(text) == entry("/data", "/dev/sdb", "ext4", "a", "user")


def test_in_a_unit_the_last_word_counts_and_an_empty_one_takes_back() -> None:
    assert parsed("[Mount]\nWhat=/dev/sdb\nWhat=/dev/sdc\nOptions=user\nOptions=") == entry("/data", "/dev/sdc", "", "")


def test_two_percent_signs_are_one() -> None:
    text = "[Mount]\nWhat=tmpfs\nType=tmpfs\nOptions=size=50%%,nosuid"
    assert parsed(text) == entry("/data", "tmpfs", "tmpfs", "size=50%", "nosuid")


def test_a_unit_without_a_point_has_that_of_its_name() -> None:
    assert parsed("[Mount]\nWhat=/dev/sdb").point == "/data"


@pytest.mark.parametrize("text", ["", "What=/dev/sdb", "[Mount]\nWhere=/data", "[Mount]\nWhat=x\nWhere=/y"])
def test_a_unit_that_says_too_little_or_another_point_has_a_flaw(text: str) -> None:
    assert parsed(text).flaw is not None


@pytest.mark.parametrize("line", ["What=/dev/%i", "Where=/data%", "Type=%b", "Options=x=%m", "Options=%%%n"])
def test_a_unit_with_specifiers_has_a_flaw(line: str) -> None:
    assert "specifiers" in str(parsed(f"[Mount]\nWhat=/dev/sdb\n{line}").flaw)


def test_drop_ins_of_a_unit_are_in_directories_of_several_names() -> None:
    assert list(drop_ins("srv-big-data.mount")) == [
        "srv-big-data.mount.d",
        "mount.d",
        "srv-big-.mount.d",
        "srv-.mount.d",
    ]


@pytest.mark.parametrize(
    ("stem", "path"),
    [("-", "/"), ("data", "/data"), ("srv-big\\x2ddata", "/srv/big-data"), ("gr\\xc3\\xb6\\xc3\\x9fe", "/größe")],
)
def test_the_name_of_a_unit_is_a_path(stem: str, path: str) -> None:
    assert unescaped_path(stem) == path


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("data", "data"),
        ("our data", r"our\x20data"),
        ("a/b\\c", r"a\x2fb\x5cc"),
        ("größe", "größe"),
        ("\udcff", r"\xff"),
    ],
)
def test_labels_are_written_as_udev_writes_them(value: str, name: str) -> None:
    assert node_name(value) == name
