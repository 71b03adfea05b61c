"""Engines without a daemon, in an arena: what a turn remembers, and what threads share."""

from __future__ import annotations

import os
import threading
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path

from eclctl.decide.questions import Decision, Pending, Question, Turn
from eclctl.model import Caller
from tests.places import linux
from tests.unit.decide.support import Site

_ROOT = Caller(0, 0, frozenset({0}))


def _settle(site: Site, answer: Decision | Pending, turn: Turn) -> Decision:
    """Do what a server does with a question that could not be answered at once."""
    engine = site.engine
    while isinstance(answer, Pending):
        if answer.stage == "open":
            answer = engine.begin(answer.question, answer.snapshot, site.now, anywhere=True, waited=True, turn=turn)
        else:
            answer = engine.conclude(answer, engine.examine(answer), site.now)
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
        begun = site.engine.begin(question, site.engine.snapshot, site.now, waited=True, turn=turn)
        decision = _settle(site, begun, turn)
        answers.append((decision.verdict.value, decision.assurance.value if decision.assurance else None))
        if paths:
            channel.send(str(site.library))
            channel.recv()
    return answers


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
