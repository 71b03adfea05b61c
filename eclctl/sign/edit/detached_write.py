"""Work that outlives whoever asked for it: a few writes that are better finished than interrupted.

A process of its own does them, which no signal reaches but SIGKILL, and which neither the end of the terminal nor that
of its parent ends. Who kills the command leaves the file to it, and it needs some milliseconds.
"""

from __future__ import annotations

import json
import os
import signal
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from eclctl.errors import BusyImageError, EclctlError, SigningError

__all__ = ["CutShortError", "apart"]

_ERRORS: dict[str, type[EclctlError]] = {each.code: each for each in (BusyImageError, SigningError)}


class CutShortError(Exception):
    """The process that did the work was killed."""


def apart(work: Callable[[], None]) -> None:
    """Do some work in another process, and wait for it. Signals for us wait as well, until that is done.

    Raises:
        BusyImageError, SigningError: As the work does.
        SigningError: There can be no other process, and nothing was done.
        CutShortError: It was killed in the middle of it.
    """
    reading, writing = os.pipe()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        child = _fork(reading, writing)
        if child == 0:
            _work(work, writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            said = pipe.read()
        with suppress(ChildProcessError):  # whoever started us ignores SIGCHLD
            os.waitpid(child, 0)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    _raise(said)


def _fork(*pipe: int) -> int:
    try:
        return _quietly_forked()
    except OSError as error:  # a limit on processes or on memory
        for end in pipe:
            os.close(end)
        raise SigningError(f"no process to write with: {error.strerror}; the image is as it was") from error


def _quietly_forked() -> int:
    with warnings.catch_warnings():
        # Of threads that hold locks. The child takes none: it writes into a file and ends.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _work(work: Callable[[], None], writing: int) -> NoReturn:
    try:
        os.setsid()
        said = ["done", ""]
        try:
            work()
        except EclctlError as error:
            said = [error.code, str(error)]
        os.write(writing, json.dumps(said).encode())
    finally:
        os._exit(0)


def _raise(said: bytes) -> None:
    if not said:
        raise CutShortError
    code, message = json.loads(said)
    if code != "done":
        raise _ERRORS.get(code, SigningError)(message)
