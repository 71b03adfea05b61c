"""`eclctl sif`: what it shows, what it says is wrong, and what it answers with."""

from __future__ import annotations

import io
import json
import os
import pty
import struct
import subprocess
import sys
import threading
import tracemalloc

import pytest

from eclctl.cli.entry import usage
from eclctl.cli.sif.command import run
from eclctl.cli.sif.header import readable_size
from eclctl.cli.sif.inspection import utc
from tests.helpers.sifbuilder import DEFFILE, GENERIC, GROUP_BITS, OCI_BLOB, SifBuilder, sample
from tests.helpers.support import CORPUS

ESCAPE = b"\x1b]0;owned\x07\xe2\x80\xae"


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "app.sif"
    path.write_bytes(sample().build())
    return path


def made(tmp_path, builder, *patches, name="made.sif"):
    data = bytearray(builder.build())
    for at, patch in patches:
        data[at : at + len(patch)] = patch
    path = tmp_path / name
    path.write_bytes(data)
    return str(path)


def asked(capsys, *argv):
    status = run([str(argument) for argument in argv])
    out, err = capsys.readouterr()
    return status, out, err


def as_json(capsys, *argv):
    status, out, err = asked(capsys, *argv, "--json")
    assert err == ""
    shape = json.loads(out)
    assert shape["v"] == 1
    return status, shape


def slot(index, field):
    return 4096 + index * 585 + field


ID, OFFSET, SIZE, CREATED = 5, 17, 25, 41


class TestList:
    def test_links_groups_and_details_are_in_their_columns(self, tmp_path, capsys):
        builder = SifBuilder()
        builder.add(b"x", DEFFILE, group=12345)
        builder.add(b"x", 0x4008, link=1, extra=struct.pack("<ii", 2, 0x200))
        builder.partition(b"x", 4, 5)
        builder.attach(b"x", link=12345 | GROUP_BITS, hash_type=77)
        status, out, _ = asked(capsys, "list", made(tmp_path, builder))
        assert status == 0
        assert out.splitlines()[3:] == [
            "1    |12345   |NONE    |32176-32177               |Def.FILE",
            "2    |1       |1       |32177-32178               |Cryptographic Message (PEM/RSA-OAEP)",
            "3    |1       |NONE    |32768-32769               |FS (Encrypted squashfs/Overlay/amd64)",
            "4    |NONE    |12345 (G) |32769-32770               |Signature (Unknown)",
        ]

    def test_an_object_of_a_group_as_a_bare_number_is_shown_as_one(self, tmp_path, capsys):
        builder = SifBuilder()
        builder.add(b"x", group=0)
        path = made(tmp_path, builder, (slot(0, 9), bytes(4)))
        assert "1    |NONE    |NONE " in asked(capsys, "list", path)[1]

    def test_all_objects_of_a_damaged_image_are_listed_and_the_damage_is_said(self, tmp_path, capsys):
        path = made(
            tmp_path, sample(), (slot(2, SIZE), struct.pack("<q", 1 << 62)), (slot(1, ID), struct.pack("<I", 1))
        )
        status, out, err = asked(capsys, "list", path)
        assert status == 1
        assert [line.split()[0] for line in out.splitlines()[3:]] == ["1", "1", "3"]
        assert "is damaged, 2 findings:\n" in err
        assert "  descriptor 3 (object 3), size at byte 5291: 4611686018427387904; right: from 0" in err
        assert "  descriptor 2 (object 1), ID at byte 4686: 1, which descriptor 1 has, too;\n" in err

    def test_many_faults_are_cut_in_text_and_whole_in_json(self, tmp_path, capsys):
        builder = SifBuilder(slots=100)
        for _ in range(60):
            builder.add(b"x", id=7)
        path = made(tmp_path, builder)
        assert "  and 19 more: --json has them all\n" in asked(capsys, "list", path)[2]
        assert len(as_json(capsys, "list", path)[1]["findings"]) == 59

    def test_what_is_odd_is_said_and_costs_nothing(self, tmp_path, capsys):
        path = made(tmp_path, sample(), (80, struct.pack("<q", 3)))
        status, _, err = asked(capsys, "list", path)
        assert (status, "descriptors free at byte 80: 3; right: 45: 3 are used" in err) == (0, True)

    def test_json_has_every_object(self, tmp_path, capsys):
        builder = sample()
        builder.attach(b"x", fingerprint=bytes(range(20)))
        status, shape = as_json(capsys, "list", made(tmp_path, builder))
        assert status == 0
        assert {key: shape[key] for key in ("error", "sif", "look", "damaged", "findings", "notes")} == {
            "error": None,
            "sif": True,
            "look": None,
            "damaged": False,
            "findings": [],
            "notes": [],
        }
        partition, signature = shape["objects"][2:]
        assert partition == {
            "id": 3,
            "descriptor": 3,
            "type": "FS",
            "type_number": 0x4004,
            "group": 1,
            "link": None,
            "offset": 32768,
            "size": 4096,
            "end": 36864,
            "whole": True,
            "created": {"seconds": 1_700_000_000, "utc": "2023-11-14 22:13:20 +0000 UTC"},
            "modified": {"seconds": 1_700_000_000, "utc": "2023-11-14 22:13:20 +0000 UTC"},
            "uid": 0,
            "gid": 0,
            "name": "squash",
            "filesystem_type": "Squashfs",
            "partition_type": "*System",
            "architecture": "amd64",
        }
        assert signature["link"] == {"kind": "group", "id": 1}
        assert (signature["group"], signature["hash_type"]) == (None, "SHA-256")
        assert signature["claimed_entity"] == bytes(range(20)).hex().upper()


class TestHeader:
    def test_a_hostile_launch_script_is_escaped(self, tmp_path, capsys):
        path = made(tmp_path, sample(launch=b"#!/bin/sh\n" + ESCAPE.ljust(22, b"\0")))
        _, out, _ = asked(capsys, "header", path)
        assert out.splitlines()[0] == r"Launch Script:        #!/bin/sh\x0a\x1b]0;owned\x07\u202e"

    def test_what_is_read_of_a_damaged_header_is_shown(self, tmp_path, capsys):
        path = made(tmp_path, sample(), (42, b"99\0"), (72, struct.pack("<q", -(1 << 63))))
        status, out, err = asked(capsys, "header", path)
        assert status == 1
        assert "Version:              99\n" in out
        assert "Modified At:          -292277022657-01-27 08:29:52 +0000 UTC\n" in out
        assert r"  version at byte 42: b'99\x00'; right: b'01\x00'" in err

    def test_a_header_that_is_not_there_is_none(self, tmp_path, capsys):
        path = tmp_path / "cut.sif"
        path.write_bytes(sample().build()[:60])
        status, out, err = asked(capsys, "header", path)
        assert (status, out) == (1, "")
        assert "file at byte 60: ends after 60 bytes; right: a header of 128 bytes" in err
        assert as_json(capsys, "header", path)[1]["header"] is None

    def test_json_has_every_field(self, image, capsys):
        status, shape = as_json(capsys, "header", image)
        assert status == 0
        assert shape["header"] == {
            "launch_script": r"#!/usr/bin/env run-singularity\x0a",
            "version": "01",
            "architecture": "amd64",
            "uuid": "00010203-0405-0607-0809-0a0b0c0d0e0f",
            "created": {"seconds": 1_700_000_000, "utc": "2023-11-14 22:13:20 +0000 UTC"},
            "modified": {"seconds": 1_700_000_000, "utc": "2023-11-14 22:13:20 +0000 UTC"},
            "descriptors_free": 45,
            "descriptors_total": 48,
            "descriptors_offset": 4096,
            "descriptors_size": 28_080,
            "data_offset": 32_176,
            "data_size": 4688,
        }

    @pytest.mark.parametrize(
        ("size", "text"),
        [
            (0, "0 B"),
            (1023, "1023 B"),
            (-1023, "-1023 B"),
            (1024, "1 KiB"),
            (1535, "1 KiB"),
            (1536, "2 KiB"),
            (-1536, "-2 KiB"),
            (28_080, "27 KiB"),
            ((1 << 20) - 1, "1024 KiB"),
            (1 << 20, "1 MiB"),
            (100 << 30, "100 GiB"),
            ((1 << 63) - 1, "8 EiB"),
            (-(1 << 63), "-8 EiB"),
        ],
    )
    def test_sizes_are_the_reference_s(self, size, text):
        assert readable_size(size) == text

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0, "1970-01-01 00:00:00 +0000 UTC"),
            (-1, "1969-12-31 23:59:59 +0000 UTC"),
            (951_782_400, "2000-02-29 00:00:00 +0000 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 +0000 UTC"),
            (253_402_300_799, "9999-12-31 23:59:59 +0000 UTC"),
            (253_402_300_800, "10000-01-01 00:00:00 +0000 UTC"),
            (-62_135_596_800, "0001-01-01 00:00:00 +0000 UTC"),
            ((1 << 63) - 1, "292277026596-12-04 15:30:07 +0000 UTC"),
        ],
    )
    def test_times_are_utc_for_every_number(self, seconds, text):
        assert utc(seconds) == text


class TestInfo:
    def test_a_hostile_name_is_escaped(self, tmp_path, capsys):
        builder = SifBuilder()
        builder.add(b"x", name=ESCAPE + b"\xff\n")
        path = made(tmp_path, builder)
        _, out, _ = asked(capsys, "info", 1, path)
        assert r"  Name:         \x1b]0;owned\x07\u202e\xff\x0a" in out.splitlines()
        assert as_json(capsys, "info", 1, path)[1]["objects"][0]["name"] == r"\x1b]0;owned\x07\u202e\xff\x0a"

    def test_a_long_fingerprint_is_shown_whole_and_none_is_left_out(self, tmp_path, capsys):
        builder = sample()
        builder.attach(b"x", fingerprint=bytes(range(32)))
        builder.attach(b"x")
        builder.attach(b"x", fingerprint=bytes(40) + b"junk")
        path = made(tmp_path, builder)
        assert (
            f"  Entity:       {bytes(range(32)).hex().upper()} (a claim, no proof)" in asked(capsys, "info", 4, path)[1]
        )
        assert "Entity" not in asked(capsys, "info", 5, path)[1]
        assert "Entity" not in asked(capsys, "info", 6, path)[1]

    def test_a_signature_that_is_none_is_said_to_be_none(self, tmp_path, capsys):
        builder = sample()
        builder.attach(b"hello")
        assert "  Format:       not recognized\n" in asked(capsys, "info", 4, made(tmp_path, builder))[1]

    def test_a_digest_that_is_none_is_said_to_be_none(self, tmp_path, capsys):
        builder = sample()
        builder.add(b"x", OCI_BLOB, extra=b"sha256:\x1b")
        assert "  Digest:       none that is one\n" in asked(capsys, "info", 4, made(tmp_path, builder))[1]

    def test_an_object_outside_the_file_is_said_to_be(self, tmp_path, capsys):
        path = made(tmp_path, sample(), (slot(2, SIZE), struct.pack("<q", 1 << 40)))
        status, out, _ = asked(capsys, "info", 3, path)
        assert status == 1
        assert "its data is not, or not wholly, in the file\n" in out

    def test_objects_with_one_id_are_all_shown_and_one_can_be_chosen(self, tmp_path, capsys):
        path = made(tmp_path, sample(), (slot(1, ID), struct.pack("<I", 3)))
        assert asked(capsys, "info", 3, path)[1].count("Data Type:") == 2
        assert "Data Type:    Def.FILE" not in asked(capsys, "info", 3, path)[1]
        _, shape = as_json(capsys, "info", "--descriptor", 2, path)
        assert [found["descriptor"] for found in shape["objects"]] == [2]

    @pytest.mark.parametrize("command", ["info", "dump"])
    def test_an_object_that_is_not_there_is_an_error(self, command, image, capsys):
        status, out, err = asked(capsys, command, 99, image)
        assert (status, out) == (1, "")
        assert "object not found: there is no object 99; `eclctl sif list` shows what there is" in err

    def test_an_object_that_is_not_there_is_an_error_in_json_and_damage_is_said_beside_it(self, tmp_path, capsys):
        path = made(tmp_path, sample(), (slot(2, ID), bytes(4)))
        status, shape = as_json(capsys, "info", 3, path)
        assert (status, shape["error"]["code"], len(shape["findings"])) == (1, "not-found", 1)
        assert "is damaged, 1 finding:" in asked(capsys, "info", 3, path)[2]


class TestDump:
    def dumped(self, capsysbinary, *argv):
        status = run(["dump", *map(str, argv)])
        return (status, *capsysbinary.readouterr())

    def test_the_bytes_go_to_standard_output(self, image, capsysbinary):
        assert self.dumped(capsysbinary, 3, image) == (0, b"hsqs" + bytes(4092), b"")

    def test_a_file_is_written_and_json_says_so(self, image, tmp_path, capsys):
        output = tmp_path / "root.squashfs"
        status, shape = as_json(capsys, "dump", 3, image, "-o", output)
        assert (status, shape["object"]) == (0, 3)
        assert shape["written"] == {"file": str(output), "bytes": 4096, "whole": True}
        assert output.read_bytes() == b"hsqs" + bytes(4092)

    def test_a_file_that_is_there_needs_force(self, image, tmp_path, capsys):
        output = tmp_path / "out"
        output.write_bytes(b"old")
        status, out, err = asked(capsys, "dump", 1, image, "-o", output)
        assert (status, out, output.read_bytes()) == (1, "", b"old")
        assert "is there already; --force replaces it" in err
        assert asked(capsys, "dump", 1, image, "-o", output, "--force")[0] == 0
        assert output.read_bytes() == b"bootstrap: docker\n"

    @pytest.mark.parametrize("name", ["app.sif", "hard.sif"])
    def test_the_image_is_never_written_over(self, image, tmp_path, capsys, name):
        os.link(image, tmp_path / "hard.sif")
        before = image.read_bytes()
        status, _, err = asked(capsys, "dump", 1, image, "-o", tmp_path / name, "--force")
        assert (status, "the output is the image itself" in err) == (1, True)
        assert image.read_bytes() == before

    def test_an_object_of_a_damaged_image_is_written_and_the_damage_said(self, tmp_path, capsysbinary):
        path = made(tmp_path, sample(), (slot(2, SIZE), struct.pack("<q", 1 << 40)))
        status, out, err = self.dumped(capsysbinary, 1, path)
        assert (status, out) == (1, b"bootstrap: docker\n")
        assert b"is damaged, 1 finding:" in err

    def test_of_a_cut_object_what_is_left_is_written_only_when_asked(self, tmp_path, capsysbinary):
        path = tmp_path / "cut.sif"
        path.write_bytes(sample().build()[:-4000])
        status, out, err = self.dumped(capsysbinary, 3, path)
        assert (status, out) == (1, b"")
        assert b"only 96 of 4096 bytes of object 3 are in the file; --partial writes them" in err
        status, out, _ = self.dumped(capsysbinary, "--partial", 3, path)
        assert (status, out) == (1, b"hsqs" + bytes(92))

    @pytest.mark.parametrize(("start", "size"), [(-1, 10), (1 << 50, 10), (33_000, -1)])
    def test_an_object_that_is_nowhere_is_not_written(self, tmp_path, capsys, start, size):
        path = made(tmp_path, sample(), (slot(2, OFFSET), struct.pack("<qq", start, size)))
        status, out, err = asked(capsys, "dump", "--partial", 3, path)
        assert (status, out) == (1, "")
        assert "nothing of object 3 is in the file" in err

    def test_two_objects_with_one_id_are_told_apart_by_descriptor(self, tmp_path, capsysbinary):
        path = made(tmp_path, sample(), (slot(1, ID), struct.pack("<I", 1)))
        status, out, err = self.dumped(capsysbinary, 1, path)
        assert (status, out) == (1, b"")
        assert b"descriptors 1 and 2 have the ID 1: say which, `--descriptor 1` for instance" in err
        assert self.dumped(capsysbinary, "--descriptor", 2, path)[1] == b'{"labels":{}}'

    @pytest.mark.parametrize("option", ["--json", "--force"])
    def test_options_for_files_need_one(self, image, capsys, option):
        assert asked(capsys, "dump", 1, image, option)[0] == 2
        assert asked(capsys, "dump", 1, image, option, "-o", "-")[0] == 2

    def test_an_empty_object_makes_an_empty_file(self, tmp_path, capsys):
        builder = sample()
        builder.add(b"", GENERIC)
        assert asked(capsys, "dump", 4, made(tmp_path, builder), "-o", tmp_path / "out")[0] == 0
        assert (tmp_path / "out").read_bytes() == b""

    def test_holes_stay_holes_and_memory_stays_small(self, tmp_path, capsys):
        """100 GiB that are mostly not there: the image is refused for that, and read all the same."""
        size = 100 << 30
        path = made(tmp_path, sample(), (slot(2, SIZE), struct.pack("<qq", size, size)))
        with open(path, "r+b") as file:
            file.truncate(32_768 + size)
            file.seek(32_768 + (50 << 30))
            file.write(b"x" * (3 << 20))
        output = tmp_path / "out"
        tracemalloc.start()
        status = run(["dump", "3", path, "-o", str(output)])
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert status == 1
        assert "is damaged, 1 finding:\n  file: " in capsys.readouterr().err
        assert (output.stat().st_size, output.stat().st_blocks * 512 < 16 << 20) == (size, True)
        assert peak < 16 << 20
        with open(output, "rb") as file:
            assert file.read(8) == b"hsqs\0\0\0\0"
            file.seek(50 << 30)
            assert file.read((3 << 20) + 1) == b"x" * (3 << 20) + b"\0"


class TestOnATerminal:
    """With a real one: what comes out at the other end of it."""

    def shown(self, *argv):
        master, slave = pty.openpty()
        out = io.BytesIO()

        def drain():
            while True:
                try:
                    data = os.read(master, 65536)
                except OSError:  # how a terminal ends
                    return
                if not data:
                    return
                out.write(data)

        reader = threading.Thread(target=drain)
        reader.start()
        try:
            code = "import sys; from eclctl.cli.sif.command import run; sys.exit(run(sys.argv[1:]))"
            command = [sys.executable, "-c", code, *map(str, argv)]
            done = subprocess.run(command, stdout=slave, stderr=subprocess.PIPE, check=False)
        finally:
            os.close(slave)
            reader.join()
            os.close(master)
        return done.returncode, out.getvalue(), done.stderr.decode()

    def test_plain_text_is_shown(self, image):
        assert self.shown("dump", 1, image) == (0, b"bootstrap: docker\r\n", "")

    @pytest.mark.parametrize("data", [b"hsqs\0", b"\xff", ESCAPE, b"a\rb", b"x" * ((1 << 20) + 1)])
    def test_anything_else_is_not_unless_asked_for(self, tmp_path, data):
        builder = SifBuilder()
        builder.add(data)
        path = made(tmp_path, builder)
        status, out, err = self.shown("dump", 1, path)
        assert (status, out) == (1, b"")
        assert "object 1 is no plain text: write it to a file with -o FILE, or here with -o -" in err

    def test_it_is_shown_when_asked_for(self, tmp_path):
        builder = SifBuilder()
        builder.add(ESCAPE)
        assert self.shown("dump", 1, made(tmp_path, builder), "-o", "-") == (0, ESCAPE, "")

    def test_a_backslash_is_plain_text(self, tmp_path):
        builder = SifBuilder()
        builder.add(b"a\\b\tc")
        assert self.shown("dump", 1, made(tmp_path, builder)) == (0, b"a\\b\tc", "")


COMMANDS = [["list"], ["header"], ["info", "1"], ["dump", "1"]]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
class TestWhatIsNoImage:
    def test_a_file_of_another_kind_is_named(self, command, tmp_path, capsys):
        path = tmp_path / "a b.sqsh"
        path.write_bytes(b"hsqs" + bytes(5000))
        status, out, err = asked(capsys, *command, path)
        assert (status, out) == (1, "")
        assert err == (
            f"eclctl sif {command[0]}: {path} is no SIF image: it is a bare squashfs file system\n"
            f"  make a SIF image of it: singularity build new.sif '{path}'\n"
        )

    def test_a_directory_is_named(self, command, tmp_path, capsys):
        (tmp_path / ".singularity.d").mkdir()
        status, out, err = asked(capsys, *command, tmp_path)
        assert (status, out) == (1, "")
        assert "is no SIF image: it is a sandbox, a container in a directory\n" in err

    @pytest.mark.parametrize("kind", ["missing", "fifo", "nul"])
    def test_what_cannot_be_read_is_said(self, command, tmp_path, capsys, kind):
        path = tmp_path / ("x\0y" if kind == "nul" else "x\x1b")
        if kind == "fifo":
            os.mkfifo(path)
        status, out, err = asked(capsys, *command, path)
        assert (status, out) == (1, "")
        assert err.startswith(f"eclctl sif {command[0]}: {tmp_path}/x\\x")
        assert "\x1b" not in err

    @pytest.mark.parametrize("kind", ["missing", "directory", "text"])
    def test_json_says_it_too(self, command, tmp_path, capsys, kind):
        path = tmp_path if kind == "directory" else tmp_path / "file"
        if kind == "text":
            path.write_bytes(b"hello")
        output = ["-o", tmp_path / "out"] if command[0] == "dump" else []
        status, shape = as_json(capsys, *command, path, *output)
        assert status == 1
        if kind == "text":
            assert (shape["error"], shape["sif"], shape["damaged"], shape["look"]["kind"]) == (
                None,
                False,
                True,
                "text",
            )
        else:
            assert (shape["sif"], shape["damaged"], shape["findings"]) == (None, None, [])
            assert shape["error"]["code"] == ("unreadable" if kind == "missing" else "unsupported-file")
            assert (shape["look"] or {}).get("kind") == (None if kind == "missing" else "directory")
        assert not (tmp_path / "out").exists()

    def test_the_help_is_narrow_and_ends_in_examples(self, command, capsys):
        with pytest.raises(SystemExit) as end:
            run([command[0], "--help"])
        out = capsys.readouterr().out
        assert end.value.code == 0
        assert "examples:\n  eclctl sif" in out
        assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("command", ["info", "dump"])
@pytest.mark.parametrize("argument", ["x", "4294967296", "1" * 5000, "\u0661", "1.0", ""])
def test_what_is_no_number_is_a_usage_error(command, argument, capsys):
    with pytest.raises(SystemExit) as end:
        run([command, argument, "app.sif"])
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith(f"eclctl sif {command}: argument ID: ")


@pytest.mark.parametrize("name", ["two-builder.sif", "one-dsse-p256.sif", "struct-truncated-half.sif"])
def test_the_output_is_at_most_80_columns_wide(name, capsys):
    path = CORPUS / "images" / name
    for command in (["list", path], ["header", path], *(["info", number, path] for number in range(1, 6))):
        _, out, err = asked(capsys, *command)
        lines = [line for line in (out + err).splitlines() if str(path) not in line]
        assert max(map(len, lines), default=0) <= 80


def test_the_command_is_listed():
    assert "  sif       what is in a SIF image" in usage()
