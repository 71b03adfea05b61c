"""Runs the final writes in a forked child with its own session, so that killing the command cannot interrupt them.

In the child all signals are blocked but SIGKILL. Neither the end of the terminal nor that of its parent ends it. It
needs some milliseconds.
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

_ERRORS: dict[str, type[EclctlError]] = {each.code: each for each in (BusyImageError, SigningError)}


class WriterKilledError(Exception):
    """The child that writes was killed."""


def write_detached(work: Callable[[], None]) -> None:
    """Run `work` in a forked child and wait for it. Signals for this process wait until then.

    Raises:
        BusyImageError, SigningError: As `work` does.
        SigningError: No child can be made, and nothing was written.
        WriterKilledError: The child was killed before `work` was done.
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
        with suppress(ChildProcessError):  # the parent of this process had SIGCHLD ignored
            os.waitpid(child, 0)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if not said:
        raise WriterKilledError
    code, message = json.loads(said)
    if code != "done":
        raise _ERRORS.get(code, SigningError)(message)


def _fork(*pipe: int) -> int:
    try:
        with warnings.catch_warnings():
            # The warning is about locks that other threads hold. The child takes none: it writes into a file and ends.
            warnings.simplefilter("ignore", DeprecationWarning)
            return os.fork()
    except OSError as error:  # a limit on processes or on memory
        for end in pipe:
            os.close(end)
        raise SigningError(f"no process to write with: {error.strerror}; the image is as it was") from error


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
