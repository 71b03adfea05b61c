"""A file appears under its name when it is whole, and takes the place of nothing that was not given up."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import eclctl
from eclctl.files.atomic import Existing, atomic_writer, is_temporary, prepared_file, temporary_name, write_file
from tests.helpers.support import ROOT

REFUSED, REGULAR, FILE_OR_LINK = Existing.REFUSED, Existing.REGULAR, Existing.FILE_OR_LINK
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files to others")


def write(path, data=b"new", *, existing=REFUSED, **options):
    write_file(str(path), data, existing=existing, **options)


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_has_its_name_only_at_the_end(tmp_path):
    target = tmp_path / "out"
    with atomic_writer(str(target), existing=REFUSED) as fd:
        os.write(fd, b"half")
        assert not target.exists()
    assert target.read_bytes() == b"half"
    assert names(tmp_path) == ["out"]


def test_the_umask_is_obeyed_unless_the_mode_is_exact(tmp_path):
    write(tmp_path / "out")
    write(tmp_path / "secret", mode=0o600)
    before = os.umask(0o777)
    try:
        write(tmp_path / "exact", mode=0o640, exact_mode=True)
    finally:
        os.umask(before)
    assert [mode(tmp_path / name) for name in ("out", "secret", "exact")] == [0o644, 0o600, 0o640]


@pytest.mark.parametrize("wanted", [0o600, 0o640])
def test_the_mode_of_the_old_file_does_not_count(tmp_path, wanted):
    write(tmp_path / "out", mode=0o666, exact_mode=True)
    before = os.umask(0)
    try:
        write(tmp_path / "out", existing=REGULAR, mode=wanted, exact_mode=True)
    finally:
        os.umask(before)
    assert mode(tmp_path / "out") == wanted


@needs_root
def test_owner_and_mode_of_the_old_file_are_kept_when_asked(tmp_path):
    target = tmp_path / "out"
    write(target, keep_attributes=True, mode=0o644, exact_mode=True)
    assert mode(target) == 0o644
    os.chown(target, 12345, 54321)
    target.chmod(0o2640)
    write(target, b"newer", existing=REGULAR, keep_attributes=True, mode=0o644, exact_mode=True)
    found = target.stat()
    assert (found.st_uid, found.st_gid, mode(target)) == (12345, 54321, 0o2640)
    assert target.read_bytes() == b"newer"


def test_a_name_without_a_directory_is_of_the_current_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("out")
    assert names(tmp_path) == ["out"]


def test_a_file_is_written_in_the_directory_of_a_descriptor(tmp_path):
    (tmp_path / "here").mkdir()
    folder = os.open(tmp_path / "here", os.O_RDONLY | os.O_DIRECTORY)
    try:
        (tmp_path / "here").rename(tmp_path / "there")
        write("out", folder=folder)
        os.fstat(folder)
    finally:
        os.close(folder)
    assert names(tmp_path / "there") == ["out"]


def test_a_file_that_is_there_stays(tmp_path):
    target = tmp_path / "out"
    target.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        write(target)
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("kind", ["link", "dangling", "fifo", "directory"])
@pytest.mark.parametrize("existing", [REFUSED, REGULAR])
def test_what_is_no_regular_file_is_not_replaced_even_when_asked(tmp_path, kind, existing):
    target = tmp_path / "out"
    other = tmp_path / "other"
    if kind == "fifo":
        os.mkfifo(target)
    elif kind == "directory":
        target.mkdir()
    else:
        target.symlink_to(other)
        if kind == "link":
            other.write_bytes(b"old")
    before = names(tmp_path)
    with pytest.raises(OSError, match="File exists" if existing is REFUSED else "not a regular file"):
        write(target, existing=existing)
    assert names(tmp_path) == before
    assert kind != "link" or other.read_bytes() == b"old"


def test_a_link_is_replaced_itself_when_that_is_asked_and_nothing_else_is(tmp_path):
    (tmp_path / "other").write_bytes(b"old")
    (tmp_path / "out").symlink_to("other")
    write(tmp_path / "out", existing=FILE_OR_LINK)
    assert not (tmp_path / "out").is_symlink()
    assert ((tmp_path / "out").read_bytes(), (tmp_path / "other").read_bytes()) == (b"new", b"old")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        write(tmp_path / "pipe", existing=FILE_OR_LINK)


def test_the_old_file_is_never_written_to(tmp_path):
    (tmp_path / "out").write_bytes(b"old")
    os.link(tmp_path / "out", tmp_path / "copy")
    write(tmp_path / "out", existing=REGULAR)
    assert (tmp_path / "copy").read_bytes() == b"old"


def test_what_would_be_refused_at_the_end_is_refused_before_anything_is_written(tmp_path):
    target = tmp_path / "out"
    target.write_bytes(b"old")
    begun = []
    with pytest.raises(FileExistsError), atomic_writer(str(target), existing=REFUSED):
        begun.append(names(tmp_path))
    assert begun == []


def test_a_file_that_appears_meanwhile_stays(tmp_path):
    target = tmp_path / "out"
    with pytest.raises(FileExistsError), atomic_writer(str(target), existing=REFUSED):
        target.write_bytes(b"theirs")
    assert target.read_bytes() == b"theirs"
    assert names(tmp_path) == ["out"]


def refuse(*_: object, **__: object) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.parametrize("appears", [False, True])
def test_without_hard_links_the_name_is_taken_all_the_same(tmp_path, monkeypatch, appears):
    """Such file systems (exFAT, some over FUSE) answer EPERM; the kernel's answer is put in its place here."""
    monkeypatch.setattr(os, "link", refuse)
    target = tmp_path / "out"
    if not appears:
        write(target)
        assert target.read_bytes() == b"new"
    else:
        with pytest.raises(FileExistsError), atomic_writer(str(target), existing=REFUSED):
            target.write_bytes(b"theirs")
        assert target.read_bytes() == b"theirs"
    assert names(tmp_path) == ["out"]


def test_without_hard_links_a_name_that_cannot_be_given_stays_free(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(PermissionError):
        write(tmp_path / "out")
    assert names(tmp_path) == []


def test_a_file_is_replaced_when_asked(tmp_path):
    target = tmp_path / "out"
    target.write_bytes(b"old")
    write(target, existing=REGULAR)
    assert target.read_bytes() == b"new"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("existing", Existing)
def test_a_failure_leaves_everything_as_it_was(tmp_path, existing):
    target = tmp_path / "out"
    if existing is not REFUSED:
        target.write_bytes(b"old")
    before = names(tmp_path)
    interrupted = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt), atomic_writer(str(target), existing=existing):
        raise interrupted
    with pytest.raises(TypeError):
        write(target, "no bytes", existing=existing)
    assert names(tmp_path) == before
    assert existing is REFUSED or target.read_bytes() == b"old"


def test_a_full_disk_is_said(tmp_path):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left on device"), atomic_writer(str(tmp_path / "o"), existing=REFUSED):
        raise full
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [("no/such/out", "No such file"), ("out/", "names no file"), ("", "names no file"), ("a\0b", "names no file")],
)
def test_a_name_that_cannot_be_is_said(tmp_path, name, words):
    with pytest.raises(OSError, match=words):
        write(f"{tmp_path}/{name}" if name else "")
    assert names(tmp_path) == []


@pytest.mark.parametrize("letter", ["x", "é", "語"])
def test_the_longest_name_can_be_written(tmp_path, letter):
    longest = letter * (255 // len(letter.encode()))
    write(tmp_path / longest)
    assert names(tmp_path) == [longest]


def test_temporary_names_are_known_and_no_others(tmp_path):
    assert is_temporary(temporary_name("out"))
    assert temporary_name("out") != temporary_name("out")
    assert temporary_name("out", fixed=True) == temporary_name("out", fixed=True)
    assert not any(map(is_temporary, ["out", ".out.partial", "out.0123456789abcdef.partial", ".eclctl-pull-1.part"]))


def test_a_sole_writer_removes_what_a_killed_process_left(tmp_path):
    (tmp_path / temporary_name("out", fixed=True)).write_bytes(b"half")
    write(tmp_path / "out", existing=FILE_OR_LINK, sole_writer=True)
    assert names(tmp_path) == ["out"]


def test_a_prepared_file_is_on_disk_before_the_body_and_named_after_it(tmp_path):
    target = tmp_path / "out"
    target.write_bytes(b"old")
    with prepared_file(str(target), b"new", existing=REGULAR):
        (temporary,) = (name for name in names(tmp_path) if is_temporary(name))
        assert (tmp_path / temporary).read_bytes() == b"new"
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert names(tmp_path) == ["out"]


# -- crashes -----------------------------------------------------------------------------------------------------------

# Runs in a process of its own, without threads, so that it can fork one child for each point. A child counts the lines
# of the module that it runs, and kills itself at one of them.
CHILD = """
import json, os, signal, sys
import eclctl.files.atomic as code
target, existing, old, extra = json.loads(sys.argv[1])

def write(stop):
    left = stop
    def each(frame, event, argument):
        nonlocal left
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return each
    sys.settrace(lambda frame, event, argument: each if frame.f_code.co_filename == code.__file__ else None)
    code.write_file(target, b"new" * 1000, existing=code.Existing[existing], **extra)
    sys.settrace(None)

report, stop = [], 0
while not report or report[-1][0] == signal.SIGKILL:
    stop += 1
    if os.path.lexists(target):
        os.unlink(target)
    if old:
        with open(target, "wb") as file:
            file.write(b"old")
    pid = os.fork()
    if pid == 0:
        write(stop)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    content = None
    if os.path.lexists(target):
        with open(target, "rb") as file:
            content = {b"old": "old", b"new" * 1000: "new"}.get(file.read(), "other")
    report.append([status, content, sorted(os.listdir(os.path.dirname(target)))])
print(json.dumps(report))
"""


@pytest.mark.parametrize(
    ("existing", "old", "extra"),
    [
        (REFUSED, False, {}),
        (REGULAR, False, {"mode": 0o600, "exact_mode": True}),
        (REGULAR, True, {}),
        (REGULAR, True, {"keep_attributes": True}),
        (FILE_OR_LINK, True, {"sole_writer": True}),
    ],
)
def test_killed_at_any_line_the_name_has_the_old_content_or_the_whole_new_one(tmp_path, existing, old, extra):
    arguments = json.dumps([str(tmp_path / "out"), existing.name, old, extra])
    done = subprocess.run([sys.executable, "-c", CHILD, arguments], check=True, capture_output=True, cwd=ROOT)
    report = json.loads(done.stdout)
    assert len(report) > 30
    assert report[-1][:2] == [0, "new"]
    contents = [content for _, content, _ in report]
    before = "old" if old else None
    assert contents == sorted(contents, key=lambda content: content == "new"), "once it is new, it stays new"
    assert set(contents) == {before, "new"}
    left = {name for _, _, found in report for name in found} - {"out"}
    assert left, "some kills left a temporary file"
    assert all(map(is_temporary, left))
    assert len(left) == 1 or "sole_writer" not in extra


@pytest.mark.parametrize("existing", Existing)
def test_the_file_is_flushed_before_it_gets_its_name_and_the_directory_after(tmp_path, monkeypatch, existing):
    done = []

    def flush(fd: int, real=os.fsync) -> None:
        done.append("directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else os.pread(fd, 9, 0))
        real(fd)

    for call in ("rename", "link"):
        real = getattr(os, call)
        monkeypatch.setattr(os, call, lambda *a, real=real, **k: (done.append("name"), real(*a, **k)))
    monkeypatch.setattr(os, "fsync", flush)
    write(tmp_path / "out", existing=existing)
    assert done == [b"new", "name", "directory"]


def test_a_file_system_that_cannot_flush_directories_is_no_obstacle(tmp_path, monkeypatch):
    def flush(fd: int, real=os.fsync) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(fd)

    monkeypatch.setattr(os, "fsync", flush)
    write(tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"new"


def test_no_other_module_gives_files_their_names():
    """So that all that is said above holds for every file that eclctl writes."""
    calls = ("os.replace(", "os.rename(", "os.link(", "mkstemp(", "NamedTemporaryFile(", "O_TMPFILE")
    package = Path(eclctl.__file__).parent
    found = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if any(call in path.read_text(encoding="utf-8") for call in calls)
    }
    assert found == {"files/atomic.py"}
