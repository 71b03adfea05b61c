"""Kill a process at many points of an edit, and say what each left behind: `python -m tests.killing`.

Arguments: an image, a directory to work in, how many points, and the kind of file system to behave as. A point is
between two lines of our code, so that there is one before and after each system call. Half of the points are spread
over the whole edit, the others are one after the other at its end, where names are traded. Each process is forked from
this one, which has a single thread, and kills itself.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from eclctl.sign import system
from eclctl.sign.editing import editing
from tests.signing import BIG, WHEN, no_nameless_files, second_signature, signed_once

CODE = os.path.dirname(system.__file__)
CHANGE = second_signature(signed_once(BIG))


class Counter:
    """Counts lines of our code that are about to run, and calls somebody at one of them."""

    def __init__(self, at: int, then: Callable[[], None]) -> None:
        self.count = 0
        self._at, self._then = at, then

    def __call__(self, frame: FrameType, event: str, _argument: object) -> Counter | None:
        if not frame.f_code.co_filename.startswith(CODE):
            return None
        if event == "line":
            self.count += 1
            if self.count == self._at:
                self._then()
        return self

    def run(self, work: Callable[[], object]) -> int:
        sys.settrace(self)
        try:
            work()
        finally:
            sys.settrace(None)
        return self.count


def change(image: Path) -> None:
    with editing(str(image)) as opened:
        opened.copy([1, 2, 3], ["sha256"])
        opened.commit(CHANGE, WHEN)


def forked(work: Callable[[], int]) -> int:
    """Do something in another process; return how that ended, as waitpid has it."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(work())
        finally:
            os._exit(70)
    return os.waitpid(child, 0)[1]


def behave(kind: str) -> None:
    """Do without what some file systems do not have."""
    if kind in {"named", "plain"}:
        os.open = no_nameless_files  # type: ignore[assignment]
    if kind == "plain":
        system.exchange = lambda *_: False


def main(source: Path, folder: Path, points: int, kind: str) -> None:
    behave(kind)
    image = Path(shutil.copyfile(source, folder / "image.sif"))
    read, write = os.pipe()

    def whole() -> int:
        os.write(write, b"%d" % Counter(0, lambda: None).run(lambda: change(image)))
        return 0

    assert forked(whole) == 0
    total, new, old = int(os.read(read, 100)), image.read_bytes(), source.read_bytes()
    found = {"old": 0, "new": 0, "other": 0, "leftovers": 0, "killed": 0, "total": total}
    half, aside = points // 2, list[str]()
    for at in (*(1 + number * (total - half) // half for number in range(half)), *range(total - half, total)):
        shutil.copyfile(source, image)

        def die(at: int = at) -> int:
            Counter(at, lambda: os.kill(os.getpid(), signal.SIGKILL)).run(lambda: change(image))
            return 0

        found["killed"] += forked(die) == signal.SIGKILL
        content = image.read_bytes()
        found["old" if content == old else "new" if content == new else "other"] += 1
        for name in set(os.listdir(folder)) - {image.name}:  # out of the way: removing it would be more lines
            os.rename(folder / name, folder.parent / name)
            aside.append(name)
    found["leftovers"] = len(aside)
    for name in aside:
        os.rename(folder.parent / name, folder / name)
    shutil.copyfile(source, image)
    change(image)
    found["left"] = len(os.listdir(folder)) - 1
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
