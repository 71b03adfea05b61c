"""attacks.md: the spelling of a name, mounts, names of others, and places where root may not look.

Every question is an unprivileged user's, put to a daemon that runs as root in the test's own mount namespace.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest

from eclctl.files.canonical_name import NoName
from tests.helpers.site import APPROVED, HALF, UNSIGNED
from tests.helpers.support import CORPUS, ROOT
from tests.places import linux
from tests.places.arena import ALICE, BOB, Arena, User, filesystems, needs_arena, needs_ext4
from tests.places.chroot import ask_in_bare_chroot
from tests.places.fuse_server import Entry
from tests.places.policies import HOMES, PRODUCTION, SPELLINGS, agrees
from tests.places.spellings import LINE_ENDS
from tests.places.users import (
    copy_deep,
    file_system_in,
    hold_and_ask_later,
    hold_deep_and_ask,
    hold_for_writing,
    wait_in,
)

pytestmark = needs_arena

IMAGES = CORPUS / "images"
OWN = [APPROVED, HALF, "secret/a.sif"]


@pytest.fixture
def spelt(arena: Arena) -> Arena:
    """A site with an approved image, one that is half approved, and an approved one in a denied directory."""
    return spell_out(arena)


def spell_out(arena: Arena) -> Arena:
    arena.folder("images/secret")
    arena.folder("elsewhere")
    arena.site.add("secret/a.sif", IMAGES / APPROVED)
    arena.start_daemon(SPELLINGS)
    for name, wanted in zip(OWN, [("allow", "production"), ("deny", "production"), ("deny", "secret")], strict=True):
        answer = arena.ask_as(ALICE, arena.site.image(name))
        assert (answer["decision"], answer["rule"]) == wanted
    return arena


def asked(arena: Arena, image: object, name: object) -> tuple[dict, str]:
    answer = arena.ask_as(ALICE, str(image), name=str(name), method="explain")
    return answer, answer.get("path")


TEXTS = {
    "two slashes": lambda path: f"/{path}",
    "three slashes": lambda path: f"//{path}",
    "slashes within": lambda path: path.replace("/images/", "//images///"),
    "a dot": lambda path: path.replace("/images/", "/./images/"),
    "a leading dot": lambda path: f"/.{path}",
    "two slashes and a dot": lambda path: f"//.{path}",
    "a way back": lambda path: path.replace("/images/", "/keys.d/../images/"),
    "above the root": lambda path: f"/../..{path}",
    "the root of the process": lambda path: f"/proc/self/root{path}",
    "the root of a thread": lambda path: f"/proc/thread-self/root{path}",
    "the root of another process": lambda path: f"/proc/1/root{path}",
    "its descriptor": lambda _: "/proc/self/fd/@FD@",
    "its descriptor by number": lambda _: "/proc/@PID@/fd/@FD@",
    "its descriptor in dev": lambda _: "/dev/fd/@FD@",
}


def test_spelling_of_a_name_makes_no_difference(spelt: Arena) -> None:
    assert differences(spelt) == {}


OLD_KERNEL = """import errno, os, sys
from eclctl.files import syscalls
def openat2(*_):
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
syscalls.openat2 = openat2
real = syscalls._statx
def statx(fd, name, flags, wanted, buffer):
    result = real(fd, name, flags, wanted, buffer)
    mask = int.from_bytes(buffer[:4], sys.byteorder) & ~syscalls.STATX_MNT_ID
    buffer[:4], buffer[144:152] = mask.to_bytes(4, sys.byteorder), bytes(8)
    return result
syscalls._statx = statx
from eclctl.cli.entry import main
sys.exit(main())
"""


def test_spelling_makes_no_difference_on_a_kernel_without_openat2_and_mounts_by_statx(
    arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RHEL 8 has Linux 4.18."""
    monkeypatch.setattr("tests.helpers.site.ECLCTL", [sys.executable, "-c", OLD_KERNEL])
    assert differences(spell_out(arena)) == {}
    bound = bound_tree(arena, APPROVED)
    answer, found = asked(arena, bound, bound)
    assert (answer["rule"], answer["assurance"], found) == ("production", "trusted-path", arena.site.image(APPROVED))
    desk = arena.folder("alice", owner=ALICE)
    (desk / "link").symlink_to(arena.site.image(APPROVED))
    answer = arena.ask_as(None, desk / "link", method="explain", fd=False)  # by name, which root may
    assert (answer["rule"], answer["path"]) == ("production", arena.site.image(APPROVED))


def differences(spelt: Arena) -> dict[tuple[str, str], tuple]:
    """Ask about each image by each spelling; return the answers that are neither the plain name's nor say why."""
    wrong = {}
    for name in OWN:
        path = spelt.site.image(name)
        plain = spelt.ask_as(ALICE, path)
        for spelling, spell in TEXTS.items():
            answer, found = asked(spelt, path, spell(path))
            if not agrees(answer, plain) or found not in {path, None}:
                wrong[name, spelling] = (answer["decision"], answer["rule"], found)
    return wrong


def test_spelling_that_the_wrapper_makes_of_a_relative_name_at_the_root_is_the_plain_name(spelt: Arena) -> None:
    """`$PWD/$1` has two leading slashes there."""
    said = spelt.root / "said"
    text = (ROOT / "examples" / "wrapper.sh").read_text().replace("/usr/bin/eclctl", str(spelt.root / "recorder"))
    (spelt.root / "wrapper.sh").write_text(text)
    (spelt.root / "recorder").write_text(f'#!/bin/sh\nprintf %s "$3" >"{said}"\nexit 1\n')
    (spelt.root / "recorder").chmod(0o755)
    for name in OWN:
        path = spelt.site.image(name)
        subprocess.run(["sh", spelt.root / "wrapper.sh", path[1:]], cwd="/", env={"PWD": "/"}, check=False)
        assert said.read_text() == f"/{path}"
        answer, found = asked(spelt, path, f"/{path}")
        assert agrees(answer, spelt.ask_as(ALICE, path)), answer
        assert found == path


def test_spelling_by_links_makes_no_difference(spelt: Arena) -> None:
    desk = spelt.folder("alice", owner=ALICE)
    (desk / "there").symlink_to(spelt.root / "images")
    (desk / "again").symlink_to("there/../images")
    for name in OWN:
        (desk / "one").unlink(missing_ok=True)
        (desk / "one").symlink_to(f"again/{name}")
        for link in (desk / "there" / name, desk / "again" / name, desk / "one"):
            answer, found = asked(spelt, link, link)
            assert agrees(answer, spelt.ask_as(ALICE, spelt.site.image(name))), answer
            assert found == spelt.site.image(name)


def bound_tree(arena: Arena, name: str) -> str:
    arena.bind(arena.root / "images", arena.root / "elsewhere" / "tree")
    return str(arena.root / "elsewhere" / "tree" / name)


def bound_file(arena: Arena, name: str) -> str:
    bound = arena.root / "elsewhere" / os.path.basename(name)
    arena.bind(arena.site.image(name), bound)
    return str(bound)


def bound_root(arena: Arena, name: str) -> str:
    arena.bind("/", arena.root / "elsewhere" / "root")
    return str(arena.root / "elsewhere" / "root") + arena.site.image(name)


def bound_below(arena: Arena, name: str) -> str:
    arena.bind(os.path.dirname(arena.site.image(name)), arena.root / "elsewhere" / "part")
    return str(arena.root / "elsewhere" / "part" / os.path.basename(name))


@pytest.mark.parametrize("bound", [bound_tree, bound_file, bound_root, bound_below], ids=lambda each: each.__name__)
def test_spelling_by_a_bind_mount_is_the_plain_name(spelt: Arena, bound: Callable[[Arena, str], str]) -> None:
    """The file is opened by way of the bind mount, and its name there is sent; both are the library's."""
    wrong = {}
    for name in OWN:
        plain = spelt.ask_as(ALICE, spelt.site.image(name))
        other = bound(spelt, name)
        wanted = (plain["decision"], plain["rule"], spelt.site.image(name))
        for sent in (other, f"/{other}", spelt.site.image(name), "/nowhere/at.all"):
            answer, found = asked(spelt, other, sent)
            if (answer["decision"], answer["rule"], found) != wanted:
                wrong[name, sent] = (answer["decision"], answer["rule"], found)
        answer = spelt.ask_as(None, other, method="explain", fd=False)  # by name, which root may
        if (answer["decision"], answer["rule"], answer["path"]) != wanted:
            wrong[name, "by name"] = (answer["decision"], answer["rule"], answer["path"])
    assert wrong == {}


def test_spelling_by_a_hard_link_does_not_hide_a_file_from_a_deny_rule(spelt: Arena) -> None:
    """Two names of one file are known: the one that was opened and the one that was sent. The denied one counts."""
    secret, public = spelt.site.image("secret/a.sif"), spelt.site.image("public.sif")
    os.link(secret, public)
    for opened, sent in ((secret, public), (public, secret)):
        answer = spelt.ask_as(ALICE, opened, name=sent)
        assert (answer["decision"], answer["rule"]) == ("deny", "secret")


def test_spelling_of_a_mount_over_the_library_names_what_lies_on_top(spelt: Arena) -> None:
    """A descriptor of the file below a mount is not of the file that the name reaches: no rule with paths allows it."""
    path = spelt.site.image(APPROVED)
    job = spelt.start(hold_and_ask_later, path, spelt.site.check_socket, who=ALICE, channel=True)
    assert job.receive() == "open"
    spelt.mount("tmpfs", spelt.root / "images", "tmpfs")
    job.send("go on")
    answer = job.result()
    assert answer["rule"] != "production"
    assert answer.get("assurance") != "trusted-path"


def test_spelling_of_another_file_s_name_brings_none_of_its_rules(spelt: Arena) -> None:
    """What is passed is decided on; the name that comes with it only says where to look for that file."""
    outside = spelt.root / "elsewhere" / "a.sif"
    shutil.copyfile(spelt.site.image(HALF), outside)
    plain = spelt.ask_as(ALICE, outside)
    assert (plain["decision"], plain["rule"]) == ("allow", "anything")
    for name in OWN:
        answer, found = asked(spelt, outside, spelt.site.image(name))
        assert (answer["decision"], answer["rule"], found) == ("allow", "anything", str(outside))
        answer, found = asked(spelt, spelt.site.image(name), outside)
        assert (answer["rule"], found) == ("secret" if "secret" in name else "production", spelt.site.image(name))


def test_spelling_by_a_bind_mount_of_what_is_mounted_over_is_no_name_of_what_lies_on_top(spelt: Arena) -> None:
    """The library is reached by its bind mount alone then; another file has its old name."""
    bound = bound_tree(spelt, APPROVED)
    spelt.mount("tmpfs", spelt.root / "images", "tmpfs", data="mode=755")
    spelt.call(shutil.copyfile, str(IMAGES / HALF), spelt.site.image(APPROVED))
    for name in (bound, spelt.site.image(APPROVED)):
        answer, found = asked(spelt, bound, name)
        assert (answer["rule"], found) == ("anything", bound)


def test_spelling_by_a_bind_mount_is_no_name_of_what_took_the_place_of_its_source(spelt: Arena) -> None:
    """A renamed directory changes the table of mounts without a word of the kernel's."""
    before = spelt.folder("images/before")
    spelt.site.add("before/a.sif", IMAGES / APPROVED)
    spelt.bind(before, spelt.root / "elsewhere" / "part")
    bound = spelt.root / "elsewhere" / "part" / "a.sif"
    assert asked(spelt, bound, bound)[1] == str(before / "a.sif")
    after = before.rename(spelt.root / "images" / "after")
    spelt.folder("images/before")
    spelt.site.add("before/a.sif", IMAGES / HALF)
    answer, found = asked(spelt, bound, bound)
    assert (answer["rule"], found) == ("production", str(after / "a.sif"))


@pytest.mark.parametrize("way", ["unmounted lazily", "longer than PATH_MAX"])
def test_spelling_of_a_file_without_a_name_is_matched_by_no_rule_with_paths(arena: Arena, way: str) -> None:
    arena.start_daemon(PRODUCTION)
    if way == "unmounted lazily":
        point = arena.folder("images/memory")
        arena.mount("tmpfs", point, "tmpfs", data="mode=755")
        arena.call(shutil.copyfile, arena.site.image(APPROVED), str(point / "a.sif"))
        top, depth = str(point), 0
    else:
        top, depth = str(arena.folder("images/deep")), 60
    job = arena.start(hold_deep_and_ask, top, depth, APPROVED, arena.site.check_socket, channel=True, who=ALICE)
    if depth:
        arena.call(copy_deep, top, depth, arena.site.image(APPROVED))
    job.send("open it")
    assert job.receive() == "open"
    if not depth:
        arena.umount(point, lazy=True)
    job.send("ask")
    answer = job.result()
    assert (answer["decision"], answer["code"], answer["rule"], answer["path"]) == ("deny", "no-rule", None, None)
    assert "no rule for paths applies" in answer["reason"]
    assert NoName.NO_NAME.value in answer["reason"] or way == "unmounted lazily"  # the kernel still has a name then


def test_mounts_whose_names_hold_what_looks_like_a_line_end_are_seen(arena: Arena) -> None:
    """A user's FUSE file systems say that all on them is root's; their content is what the user likes."""
    owners = {"uid": ALICE.uid, "gid": ALICE.gid}
    tree = {"a.sif": Entry((IMAGES / APPROVED).read_bytes())}
    points = {name: arena.folder(f"images/a{end}b") for name, end in LINE_ENDS.items()}
    served = {name: arena.fuse(point, tree, allow_other=True, **owners) for name, point in points.items()}
    arena.start_daemon(PRODUCTION)
    for content in (APPROVED, HALF):
        answers = {name: arena.ask_as(ALICE, point / "a.sif") for name, point in points.items()}
        given = {name: (answer["decision"], answer["assurance"]) for name, answer in answers.items()}
        assert given == dict.fromkeys(LINE_ENDS, ("deny", "none")), content
        for server in served.values():
            server.put("a.sif", Entry((IMAGES / HALF).read_bytes()))
    answer = arena.ask_as(ALICE, arena.site.image(APPROVED))
    assert (answer["decision"], answer["assurance"]) == ("allow", "trusted-path")


@needs_ext4
@pytest.mark.parametrize("flags", [linux.MS_NOSUID | linux.MS_NODEV, 0], ids=["as udisks mounts it", "without flags"])
def test_mounts_of_a_file_system_that_a_user_brought_are_not_trusted(arena: Arena, flags: int) -> None:
    """Root mounted it on a directory of root's, and every owner in it is root: its user wrote all of that."""
    point = arena.folder("images/media")
    disk = arena.folder("alice", owner=ALICE) / "disk"
    file_system_in(disk, ALICE)
    arena.loop(disk, point, flags=flags)
    arena.call(shutil.copyfile, arena.site.image(APPROVED), str(point / "a.sif"))
    arena.start_daemon(PRODUCTION)
    assert arena.run("stat", "-c", "%u:%a", point / "a.sif").output == "0:644\n"
    answer = arena.ask_as(ALICE, point / "a.sif")
    assert (answer["code"], answer["assurance"], answer["rule"]) == ("assurance-too-low", "none", "production")


@pytest.mark.parametrize("word", ["fuse", "trusted", "read_only"])
def test_mounts_of_fuse_are_trusted_under_that_word_alone(arena: Arena, word: str) -> None:
    """There, a lease that is refused says nothing: `explain` tells that writers are not known."""
    point = arena.folder("images/served")
    arena.fuse(point, {"a.sif": Entry((IMAGES / APPROVED).read_bytes())}, allow_other=True, kind="fuse.test")
    arena.start_daemon(PRODUCTION, filesystems(**{word: [point]}))
    answer = arena.ask_as(ALICE, point / "a.sif", method="explain")
    if word == "fuse":
        assert (answer["decision"], answer["assurance"]) == ("allow", "trusted-path")
        assert (answer["writers"], answer["assurance_lacks"]) == ("not known", None)
    else:
        assert (answer["code"], answer["assurance"]) == ("assurance-too-low", "none")


@needs_ext4
def test_mounts_are_trusted_that_the_administrator_lists(arena: Arena) -> None:
    point = arena.folder("images/media")
    file_system_in(arena.root / "disk")
    arena.loop(arena.root / "disk", point)
    arena.call(shutil.copyfile, arena.site.image(APPROVED), str(point / "a.sif"))
    arena.start_daemon(PRODUCTION, filesystems(trusted=[point]))
    answer = arena.ask_as(ALICE, point / "a.sif")
    assert (answer["decision"], answer["assurance"]) == ("allow", "trusted-path")


@pytest.mark.parametrize("kind", ["tmpfs", "ramfs"])
def test_mounts_of_memory_that_are_not_listed_are_not_trusted(arena: Arena, kind: str) -> None:
    point = arena.folder("images/memory")
    arena.mount(kind, point, kind, data="mode=755")
    arena.call(shutil.copyfile, arena.site.image(APPROVED), str(point / "a.sif"))
    arena.start_daemon(PRODUCTION)
    answer = arena.ask_as(ALICE, point / "a.sif")
    assert (answer["code"], answer["assurance"]) == ("assurance-too-low", "none")


def test_places_without_a_trusted_path_are_said_with_their_reason(arena: Arena) -> None:
    """The first directory with owner and mode, the file, the writer, the mount."""
    wanted = {}
    for name, mode, owner in (("open", 0o777, User(0, 0)), ("alice", 0o755, ALICE), ("group", 0o2775, User(0, 7))):
        folder = arena.folder(f"images/{name}", mode, owner)
        shutil.copyfile(arena.site.image(APPROVED), arena.folder(f"images/{name}/below") / "a.sif")
        said = "belongs to user 4242" if owner == ALICE else f"(mode {mode:04o})"
        wanted[folder / "below" / "a.sif"] = (f"the directory {folder}", said)
    memory = arena.folder("images/memory")
    arena.mount("tmpfs", memory, "tmpfs", data="mode=755")
    arena.call(shutil.copyfile, arena.site.image(APPROVED), str(memory / "a.sif"))
    wanted[memory / "a.sif"] = (f"tmpfs at {memory}", "mounted by neither /etc/fstab nor a unit")
    for name, uid, mode, said in (("own.sif", ALICE.uid, 0o644, "user 4242"), ("all.sif", 0, 0o666, "(mode 0666)")):
        path = arena.site.add(name, IMAGES / APPROVED)
        os.chown(path, uid, 0)
        path.chmod(mode)
        wanted[path] = ("it", said)
    held = arena.site.add("held.sif", IMAGES / APPROVED)
    wanted[held] = ("open for writing", "mapped")
    arena.start_daemon(PRODUCTION)
    writer = arena.start(hold_for_writing, str(held), False, channel=True)
    assert writer.receive() == "held"
    for path, texts in wanted.items():
        answer = arena.ask_as(BOB, path, method="explain")
        assert answer["code"] == "assurance-too-low", path
        for text in texts:
            assert text in answer["reason"]
            assert text in answer["assurance_lacks"]


def test_places_that_users_may_not_see_are_named_to_admins_alone(arena: Arena) -> None:
    """The library's real place is private; users reach the file by a bind mount of a directory in it."""
    arena.folder("private", 0o711)
    arena.folder("private/closed", 0o700)
    weak = arena.folder("private/closed/weak", 0o777)
    inner = arena.folder("private/closed/weak/inner")
    shutil.copyfile(arena.site.image(APPROVED), inner / "a.sif")
    arena.folder("images/shown")
    arena.bind(inner, arena.root / "images" / "shown")
    arena.start_daemon(PRODUCTION.replace("images/**", "private/**"))
    image = arena.root / "images" / "shown" / "a.sif"
    answer = arena.ask_as(ALICE, image, method="explain")
    assert (answer["code"], answer["assurance"]) == ("assurance-too-low", "none")
    assert str(weak) not in answer["reason"]
    assert "`eclctl explain` as root names it" in answer["reason"]
    assert answer["assurance_lacks"] is None
    answer = arena.site.order("explain", image=str(image))
    assert f"others can write the directory {weak} (mode 0777)" in answer["assurance_lacks"]


@pytest.mark.parametrize("fd", [True, False], ids=["with a descriptor", "by name"])
def test_names_of_others_tell_nothing_of_what_they_reach(arena: Arena, fd: bool) -> None:
    """The answer about one's own file is the same for every sent name, also for one that reaches nothing.

    Bob has other names for Alice's file in his private directory, and works there.
    """
    private = arena.folder("bob", 0o700, BOB)
    shutil.copyfile(arena.site.image(APPROVED), private / "there.sif")
    own = arena.folder("home", owner=ALICE) / "own.sif"
    shutil.copyfile(arena.site.image(APPROVED), own)
    inner = arena.folder("bob/inner", owner=BOB)
    for folder in (private, inner):
        os.link(own, folder / "link.sif")
    working = arena.start(wait_in, str(inner), who=BOB, channel=True)
    assert working.receive() == "there"
    arena.start_daemon(HOMES)
    names = [
        private / "missing.sif",
        private / "link.sif",
        inner / "link.sif",
        f"/proc/{working.pid}/cwd/link.sif",
        f"/proc/{working.pid}/cwd/missing.sif",
        private / "there.sif",
        f"/proc/{arena.pid}/exe",
        f"/proc/{arena.pid}/cwd/tests",
        f"/proc/{arena.pid}/cwd/missing",
        f"/proc/{arena.pid}/root{arena.site.image(APPROVED)}",
        f"/proc/{arena.site.pid}/fd/0",
        f"/proc/{arena.site.pid}/fd/9999",
    ]
    answers = []
    for name in names:
        answer = arena.ask_as(ALICE, own, name=name, method="explain", fd=fd)
        assert os.path.realpath(sys.executable) not in str(answer)
        assert answer.get("path") in {str(own), None}
        answer.pop("decision_id", None)
        answers.append(str(answer).replace(str(name), "NAME").replace(answer.get("image", "NAME"), "NAME"))
    assert set(answers) == {answers[0]}
    assert ("not-permitted" in answers[0]) is not fd


HOME = {
    "alice": Entry(mode=0o700, uid=ALICE.uid, gid=ALICE.gid),
    "alice/a.sif": Entry((IMAGES / UNSIGNED).read_bytes(), ALICE.uid, ALICE.gid, 0o600),
    "alice/approved.sif": Entry((IMAGES / APPROVED).read_bytes()),
}


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_PATH], ids=["open", "O_PATH"])
def test_a_squashed_root_finds_the_rule_of_a_home_as_the_caller(arena: Arena, flags: int) -> None:
    point = arena.folder("home")
    arena.fuse(point, HOME, allow_other=True, default_permissions=True, squash_root=True, kind="fuse.nfs")
    arena.start_daemon(HOMES)
    answer = arena.ask_as(ALICE, point / "alice" / "a.sif", flags=flags, method="explain")
    assert (answer["decision"], answer["rule"], answer["assurance"]) == ("allow", "homes", "none")
    assert answer["path"] == str(point / "alice" / "a.sif")
    answer = arena.ask_as(ALICE, point / "alice" / "a.sif", name=f"/{point}/alice/../alice/a.sif", flags=flags)
    assert (answer["decision"], answer["rule"]) == ("allow", "homes")


@pytest.mark.parametrize("listed", [False, True], ids=["by default", "where the file system is listed"])
def test_a_squashed_root_grants_no_trusted_path(arena: Arena, listed: bool) -> None:
    point = arena.folder("images/home")
    arena.fuse(point, HOME, allow_other=True, default_permissions=True, squash_root=True, kind="fuse.nfs")
    arena.start_daemon(HOMES, filesystems(fuse=[point]) if listed else "")
    answer = arena.ask_as(ALICE, point / "alice" / "approved.sif")
    assert (answer["code"], answer["rule"], answer["assurance"]) == ("assurance-too-low", "production", "none")


def test_a_squashed_root_tells_no_user_what_lies_in_another_s_home(arena: Arena) -> None:
    point = arena.folder("home")
    arena.fuse(point, HOME, allow_other=True, default_permissions=True, squash_root=True, kind="fuse.nfs")
    own = arena.folder("bob", owner=BOB) / "own.sif"
    shutil.copyfile(arena.site.image(UNSIGNED), own)
    arena.start_daemon(HOMES)
    answers = []
    for name in ("a.sif", "missing.sif"):
        answer = arena.ask_as(BOB, own, name=point / "alice" / name, method="explain")
        answers.append(str(answer).replace(answer["decision_id"], "ID").replace(name, "NAME"))
    assert answers[0] == answers[1]


def test_a_place_where_root_may_not_look_is_said_apart_from_another_file(arena: Arena) -> None:
    """A user's FUSE mount without allow_other: the kernel keeps everybody else out, root too."""
    point = arena.folder("images/mine", owner=ALICE)
    tree = {"a.sif": Entry((IMAGES / APPROVED).read_bytes(), ALICE.uid, ALICE.gid)}
    arena.fuse(point, tree, uid=ALICE.uid, gid=ALICE.gid, kind="fuse.sshfs")
    elsewhere = arena.folder("elsewhere") / "a.sif"
    shutil.copyfile(arena.site.image(APPROVED), elsewhere)
    arena.start_daemon(PRODUCTION)
    closed = arena.ask_as(ALICE, point / "a.sif")
    other = arena.ask_as(ALICE, elsewhere, name=arena.site.image(APPROVED))
    assert (closed["decision"], other["decision"]) == ("deny", "deny")
    assert "may not look" in closed["reason"]
    assert "may not look" not in other["reason"]


@pytest.mark.parametrize("by_name", [True, False], ids=["by name", "with a descriptor"])
def test_a_root_directory_that_is_no_mount_point_is_trusted_as_the_root_s_file_system(
    arena: Arena, by_name: bool
) -> None:
    jail = arena.folder("jail")
    for needed in (CORPUS, "/proc"):
        (jail / str(needed).lstrip("/")).mkdir(parents=True)
    arena.call(linux.bind, str(CORPUS), str(jail / str(CORPUS).lstrip("/")))
    arena.mount("proc", jail / "proc", "proc")
    answers = arena.call(ask_in_bare_chroot, str(jail), by_name)
    assert answers["approved"] == ("allow", "requirements-met", "trusted-path")
    assert answers["half"] == ("deny", "requirements-not-met", "trusted-path")
    assert answers["open to others"] == ("deny", "assurance-too-low", "none")
