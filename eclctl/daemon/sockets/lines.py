"""Lines of the protocol as they come in: bytes are collected until a newline, and no line is longer than 64 KiB."""

from __future__ import annotations

from typing import Final

LINE_LIMIT: Final = 64 * 1024
"""The most bytes of one line, its newline included."""


class LineTooLongError(Exception):
    """A line has begun that is longer than `LINE_LIMIT`."""


class LineBuffer:
    """Bytes that came in, and the lines in them."""

    __slots__ = ("_bytes", "_searched", "_start")

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._start = 0
        self._searched = 0  # up to here there is no further line end

    def __bool__(self) -> bool:
        return bool(self._bytes)

    def add(self, data: bytes) -> None:
        """Append what has come."""
        self._bytes += data

    def next_line(self) -> bytes | None:
        """Return the next complete line without its newline, or None.

        Raises:
            LineTooLongError: the line that has begun is longer than a request may be.
        """
        end = self._bytes.find(b"\n", self._searched)
        if end >= 0:
            line = bytes(self._bytes[self._start : end])
            self._start = self._searched = end + 1
            return line
        del self._bytes[: self._start]
        self._start = 0
        self._searched = len(self._bytes)
        if self._searched >= LINE_LIMIT:
            raise LineTooLongError
        return None

    def has_line(self) -> bool:
        """Return whether a complete line waits."""
        return self._bytes.find(b"\n", self._searched) >= 0

    def has_partial_line(self) -> bool:
        """Return whether a line has begun that is not complete."""
        return len(self._bytes) > self._start

    def clear(self) -> None:
        """Drop everything."""
        self._bytes.clear()
        self._start = self._searched = 0
