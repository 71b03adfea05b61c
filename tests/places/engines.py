"""Engines without a daemon, in an arena: what a turn remembers, and what threads share."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from eclctl.decide.questions import Decision, Lookup, Pending, Question, Turn
from eclctl.files.locating import Locator
from eclctl.files.mounts import FilesystemTrust, Mounts, MountTable
from eclctl.files.syscalls import attributes
from eclctl.model import Caller
from tests.helpers.engines import Site
from tests.places import linux

_ROOT = Caller(0, 0, frozenset({0}))


def _settle(site: Site, answer: Decision | Pending, turn: Turn) -> Decision:
    """Do what a server does with a question that could not be answered at once."""
    engine = site.engine
    while isinstance(answer, Pending):
        if isinstance(answer, Lookup):
            answer = engine.conclude(answer, engine.look_up(answer), site.now)
        else:
            answer = engine.begin(
                answer.question, answer.snapshot, site.now, anywhere=True, status_asked=True, turn=turn
            )
    return answer


def ask_twice_in_a_turn(channel: Connection, root: str, by_name: bool) -> list[tuple[str, str | None]]:
    """Ask about an image, let the test mount something at `later` in the library, and ask about an image there.

    Both questions were read in one turn. Sends the library's name before it waits. Returns decision and assurance.
    """
    site = Site(Path(root))
    paths = [site.library / "later" / "a.sif", site.library / "a.sif"]
    (site.library / "later").mkdir()
    for path in paths:
        site.image(str(path.relative_to(site.library)))
    turn = Turn()
    answers = []
    while paths:
        path = str(paths.pop())
        descriptor = None if by_name else os.open(path, os.O_RDONLY)
        question = Question(path, _ROOT, descriptor)
        begun = site.engine.begin(question, site.engine.snapshot, site.now, status_asked=True, turn=turn)
        decision = _settle(site, begun, turn)
        answers.append((decision.verdict.value, decision.assurance.value if decision.assurance else None))
        if paths:
            channel.send(str(site.library))
            channel.recv()
    return answers


def ask_the_same_twice_in_a_turn(root: str) -> list[tuple[str, str | None]]:
    """Ask about one name twice in a turn, in which no time goes by; a memory file system is mounted over it between.

    Returns decision and assurance.
    """
    site = Site(Path(root))
    (site.library / "later").mkdir()
    path = site.image("later/a.sif")
    content = path.read_bytes()
    assert site.ask(path, _ROOT).code.value == "requirements-met"  # from now on, its facts are kept
    turn = Turn()
    answers = []
    for mounted in (False, True):
        if mounted:
            linux.mount("tmpfs", str(path.parent), "tmpfs", data="mode=755")
            path.write_bytes(content)
        begun = site.engine.begin(
            Question(str(path), _ROOT), site.engine.snapshot, site.now, status_asked=True, turn=turn
        )
        decision = _settle(site, begun, turn)
        answers.append((decision.verdict.value, decision.assurance.value if decision.assurance else None))
    return answers


def _memory(point: str, source: str) -> int:
    """Mount a memory file system with a file of root's; return the number of the mount."""
    linux.mount(source, point, "tmpfs", data="mode=755")
    descriptor = os.open(f"{point}/a.sif", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        return attributes(descriptor).mount
    finally:
        os.close(descriptor)


def _trust_sources(*sources: str) -> Callable[[Mounts], FilesystemTrust]:
    """JudgeFilesystems the root's file system and those of the sources."""
    return lambda mounts: FilesystemTrust(
        frozenset({mounts.root.superblock, *(each.superblock for each in mounts.all if each.source in sources)})
    )


def look_at_a_mount_that_takes_a_number_over(point: str, other: str) -> str:
    """Return the assurance of a passed file, whose mount gets the number of a trusted one after the table was read."""
    number = _memory(point, "trusted")
    _memory(other, "other")
    passed = os.open(f"{other}/a.sif", os.O_RDONLY)

    class Late(MountTable):
        """Gives the table of before the mounts changed, once."""

        late = False

        def current(self) -> tuple[Mounts, FilesystemTrust]:
            found = super().current()
            if self.late:
                self.late = False
                linux.umount(point)
                _bind_as(number, other, point)
            return found

    table = Late(_trust_sources("trusted"))
    locator = Locator(table, frozenset({0}))
    before = locator.by_name(f"{point}/a.sif", anywhere=True)
    assert before.assurance.value == "trusted-path"
    before.close()
    table.late = True
    return locator.by_descriptor(f"{point}/a.sif", passed, anywhere=True).assurance.value


def _bind_as(number: int, source: str, point: str) -> None:
    """Bind a directory to a place, as the mount with a number that is free."""
    for _ in range(100):
        linux.bind(source, point)
        with open(f"{point}/a.sif", "rb") as file:
            if attributes(file.fileno()).mount == number:
                return
    raise AssertionError(f"no mount got the number {number}")


@contextmanager
def _reading(change: Callable[[bytes], bytes]) -> Iterator[None]:
    """Pass all that this process reads by read(2) through a function. It has no other threads then."""
    read = os.read
    os.read = lambda descriptor, count: change(read(descriptor, count))  # type: ignore[assignment]
    try:
        yield
    finally:
        os.read = read


def look_by_a_table_that_lies(point: str) -> tuple[str, str | None]:
    """Return the assurance of a file on FUSE and what is weak, by a table that calls it a memory file system."""
    with _reading(lambda data: data.replace(b" - fuse.test test ", b" - tmpfs trusted ")):
        table = MountTable(_trust_sources("trusted"))
    found = Locator(table, frozenset({0})).by_name(f"{point}/a.sif", anywhere=True)
    return found.assurance.value, found.weak and found.weak.text


def read_while_mounting(point: str, always: bool) -> tuple[bool, bool, bool]:
    """Read a table while a file system is mounted, the first time or each time.

    Returns whether the table is one of one moment, whether it has the mount, and whether that is trusted.
    """
    ends = 0

    def mounting(data: bytes) -> bytes:
        nonlocal ends
        if not data:
            ends += 1
            if always or ends == 1:
                linux.mount("trusted", point, "tmpfs")
        return data

    with _reading(mounting):
        mounts, trust = MountTable(_trust_sources("trusted")).current()
    found = mounts.at(point)
    return mounts.settled, found is not None, found is not None and trust.trusts(found)


def ask_from_threads(root: str, point: str, threads: int, questions: int) -> Counter[str]:
    """Ask about one image from many threads while a mount at `point` comes and goes; count the codes."""
    site = Site(Path(root))
    path = site.image("a.sif")
    counted: Counter[str] = Counter()
    done = threading.Event()
    lock = threading.Lock()

    def ask() -> None:
        for _ in range(questions):
            try:
                code = site.ask(path).code.value
            except Exception as error:  # noqa: BLE001 - counted, and the test fails
                code = type(error).__name__
            with lock:
                counted[code] += 1

    def change() -> None:
        while not done.is_set():
            linux.mount("tmpfs", point, "tmpfs")
            linux.umount(point)

    changing = threading.Thread(target=change)
    changing.start()
    asking = [threading.Thread(target=ask) for _ in range(threads)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    done.set()
    changing.join()
    return counted
