"""Kill an edit at many points, and say what each left behind: `python -m tests.helpers.killing`.

Arguments: an image, a directory to work in, how many points, and which process to kill. `command` is the process that
edits; `writer` is the one that writes for it, which that one survives; `both` is both. A point is between two lines of
our code, so that there is one before and after each system call. Each edit is in a process forked from this one, which
has a single thread.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import shutil
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from eclctl.errors import SigningError
from eclctl.sif import edit_journal
from eclctl.sign.edit import editing as code
from eclctl.sign.edit.editing import editing
from tests.helpers.edits import content
from tests.helpers.signing import BIG, WHEN, second_signature, signed_once

OURS = (os.path.dirname(code.__file__), edit_journal.__file__)
CHANGE = second_signature(signed_once(BIG))
REFUSED = 3


class Counter:
    """Counts lines of our code that are about to run in one of the two processes, and kills at one of them.

    The count is in memory that both share.
    """

    def __init__(self, at: int, victim: str) -> None:
        self._at, self._victim, self._command = at, victim, os.getpid()
        self._shared = mmap.mmap(-1, 8)

    def __call__(self, frame: FrameType, event: str, _argument: object) -> Counter | None:
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        if event == "line" and (os.getpid() == self._command) == (self._victim == "command"):
            self.count += 1
            if self.count == self._at:
                self._kill()
        return self

    @property
    def count(self) -> int:
        return int(struct.unpack("q", self._shared[:8])[0])

    @count.setter
    def count(self, value: int) -> None:
        self._shared[:8] = struct.pack("q", value)

    def _kill(self) -> None:
        if self._victim == "both":
            os.kill(self._command, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    def run(self, work: Callable[[], object]) -> None:
        sys.settrace(self)
        try:
            work()
        finally:
            sys.settrace(None)


def change(image: Path) -> None:
    with editing(str(image)) as opened:
        opened.digests([1, 2, 3], ["sha256"])
        opened.commit(CHANGE, WHEN)


def edited(image: Path, at: int, victim: str) -> tuple[int, int]:
    """Edit in another process; return how that ended, as waitpid has it, and how many lines ran."""
    counter = Counter(at, victim)
    child = os.fork()
    if child == 0:
        counter._command = os.getpid()
        try:
            counter.run(lambda: change(image))
            os._exit(0)
        except SigningError:
            os._exit(REFUSED)
        finally:
            os._exit(70)
    status = os.waitpid(child, 0)[1]
    with image.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # the writer is done when the lock is free
    return status, counter.count


def main(source: Path, folder: Path, points: int, victim: str) -> None:
    image = Path(shutil.copyfile(source, folder / "image.sif"))
    old = image.read_bytes(), content(image)
    status, total = edited(image, 0, victim)
    assert status == 0
    new = image.read_bytes(), content(image)
    found = {"old": 0, "new": 0, "residue": 0, "other": 0, "killed": 0, "survived": 0, "wrong": 0, "total": total}
    for number in range(points):
        shutil.copyfile(source, image)
        status, _ = edited(image, 1 + number * total // points, victim)
        found["killed"] += status == signal.SIGKILL
        found["survived"] += os.WIFEXITED(status)
        data, there = image.read_bytes(), content(image)
        # A command that survives says truly which of the two it is.
        found["wrong"] += os.WIFEXITED(status) and there != {0: new, REFUSED << 8: old}.get(status, ((), ()))[1]
        found["old" if there == old[1] else "new" if there == new[1] else "other"] += 1
        found["residue"] += data not in {old[0], new[0]}
        if there == old[1]:
            change(image)
            found["wrong"] += image.read_bytes() != new[0]
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
