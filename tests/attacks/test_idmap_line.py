"""attacks.md: a mount that shows other owners than the file system has."""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
import subprocess

from tests.helpers.site import APPROVED
from tests.helpers.support import CORPUS
from tests.places.arena import ALICE, Arena, needs_arena
from tests.places.policies import PRODUCTION

pytestmark = needs_arena

_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_CLONE, _EMPTY_PATH, _IDMAP, _FROM_EMPTY = 1, 0x1000, 0x100000, 4
_libc = ctypes.CDLL(None, use_errno=True)


def bind_mapped(source: str, target: str, uid: int) -> None:
    """Bind a file so that what is this user's shows as root's (mount_setattr(2))."""
    holder = subprocess.Popen(["unshare", "--user", "sleep", "60"])
    try:
        while os.readlink(f"/proc/{holder.pid}/ns/user") == os.readlink("/proc/self/ns/user"):
            pass
        with open(f"/proc/{holder.pid}/uid_map", "w") as file:
            file.write(f"{uid} 0 1")
        with open(f"/proc/{holder.pid}/gid_map", "w") as file:
            file.write("0 0 1")
        namespace = os.open(f"/proc/{holder.pid}/ns/user", os.O_RDONLY)
    finally:
        holder.kill()
        holder.wait()
    tree = check(_libc.syscall(_OPEN_TREE, -100, source.encode(), _CLONE))
    wanted = struct.pack("=QQQQ", _IDMAP, 0, 0, namespace)
    check(_libc.syscall(_MOUNT_SETATTR, tree, b"", _EMPTY_PATH, wanted, len(wanted)))
    check(_libc.syscall(_MOVE_MOUNT, tree, b"", -100, target.encode(), _FROM_EMPTY))


def check(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def test_a_mount_that_maps_a_user_to_root_makes_their_files_no_trusted_path(arena: Arena) -> None:
    own = arena.root / "images/own.sif"
    shutil.copyfile(CORPUS / "images" / APPROVED, own)
    os.chown(own, ALICE.uid, 0)
    bound = arena.root / "images/bound.sif"
    bound.touch()
    arena.call(bind_mapped, str(own), str(bound), ALICE.uid)
    assert arena.run("stat", "-c", "%u", bound).output == "0\n"
    arena.start_daemon(PRODUCTION)
    answer = arena.ask_as(ALICE, bound, method="explain")
    assert answer["assurance"] == "none", answer
