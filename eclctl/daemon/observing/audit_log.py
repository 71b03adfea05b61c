"""The audit log: one JSON line for each decision, in the file before its answer leaves the daemon.

What always holds:

1. A record is in the file (written, not flushed to disk) before its answer is sent. A process killed at any moment
   loses no record of an answer that was received; only a machine that loses power can.
2. When a batch cannot be written whole, `write` raises and its answers become denies. A record can therefore exist
   for an answer that was never sent, and never the other way round.
3. A line is whole or it is the last of its kind: a torn end, left by a crash or a full disk, is closed by a newline
   before anything is written after it, so that it costs itself and no other record.

What a line says, and how it is encoded, is in `audit_records`.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from typing import TYPE_CHECKING

from eclctl.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_MODE = 0o640
_ROTATION_CHECK_SECONDS = 1.0


class AuditLog:
    """An append-only file of JSON lines that follows log rotation.

    `path` None keeps no log: `write` does nothing. `clock` is a monotonic clock in seconds. The file is created with
    mode 0640; a symbolic link or anything but a regular file at `path` is refused. Safe to use from several threads.

    Raises:
        AuditError: from the constructor, `write` and `reopen`, when the file cannot be opened or written.
    """

    def __init__(
        self,
        path: str | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._descriptor = -1
        self._identity = (0, 0)
        self._torn = False
        self._next_check = 0.0
        with self._lock:
            self._open()

    def write(self, records: Sequence[str]) -> None:
        """Append records, one line each, as one batch. They are lines without newlines (`audit_records`).

        When it returns, every line is in the file. When it raises, some of the lines may be.

        Raises:
            AuditError: not every byte could be written.
        """
        if self.path is None or not records:
            return
        data = ("\n".join(records) + "\n").encode("ascii")
        with self._lock:
            if self._clock() >= self._next_check:
                self._follow_rotation()
            self._append(data)

    def reopen(self) -> None:
        """Open the file at the path again, as after log rotation.

        Raises:
            AuditError: it cannot be opened; the next `write` tries again, and fails when it still cannot be.
        """
        with self._lock:
            self._open()

    def close(self) -> None:
        """Close the file. A later `write` opens it again."""
        with self._lock:
            self._close()

    def _append(self, data: bytes) -> None:
        if self._descriptor < 0:
            self._open()
        try:
            if self._torn:
                self._torn = _ends_torn(self._descriptor)  # a person who made room may have cut the torn end off
            rest = memoryview(b"\n" + data if self._torn else data)
            while rest:
                written = os.write(self._descriptor, rest)
                self._torn = True
                rest = rest[written:]
        except OSError as error:
            raise AuditError(f"cannot write the audit log {self.path}: {error.strerror}") from error
        self._torn = False

    def _follow_rotation(self) -> None:
        """Open the path again when it has come to name another file than the open one, or none."""
        self._next_check = self._clock() + _ROTATION_CHECK_SECONDS
        if self._descriptor < 0 or self._on_disk() != self._identity:
            self._open()

    def _on_disk(self) -> tuple[int, int] | None:
        try:
            status = os.lstat(self.path or "")
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _open(self) -> None:
        self._close()
        if self.path is None:
            return
        try:
            descriptor = _open_or_create(self.path)
        except OSError as error:
            raise AuditError(f"cannot open the audit log {self.path}: {error.strerror}") from error
        try:
            self._adopt(descriptor)
        except BaseException:
            os.close(descriptor)
            raise

    def _adopt(self, descriptor: int) -> None:
        """Take over a freshly opened descriptor: a regular file, whose torn end is noticed."""
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise AuditError(f"the audit log {self.path} is not a regular file")
            self._torn = _ends_torn(descriptor)
        except OSError as error:
            raise AuditError(f"cannot read the audit log {self.path}: {error.strerror}") from error
        self._descriptor = descriptor
        self._identity = (status.st_dev, status.st_ino)
        self._next_check = self._clock() + _ROTATION_CHECK_SECONDS

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _ends_torn(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"


def _open_or_create(path: str) -> int:
    try:
        descriptor = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, _MODE)
    except FileExistsError:
        return os.open(path, _FLAGS)
    os.fchmod(descriptor, _MODE)  # under any umask: the group reads the log
    return descriptor
