"""A request that is being answered, as the handlers see it."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from eclctl.daemon.sockets.protocol import ErrorCode, Request, encode_error, encode_result

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from eclctl.daemon.sockets.connection import Connection
    from eclctl.daemon.sockets.peers import Peer


class Call:
    """A request on its way to an answer: the first call of `answer` or `fail` sends it, later ones do nothing.

    Args:
        finish: takes the connection that the answer goes to, the line, and what the request cost: its images, or one.
        connection: the client.
        request: what they ask.
        descriptors: what came with it, in the order of the images that want one; the handler closes them.
    """

    __slots__ = ("_answered", "_connection", "_finish", "descriptors", "peer", "request", "started")

    def __init__(
        self,
        finish: Callable[[Connection, bytes, int], None],
        connection: Connection,
        request: Request,
        descriptors: tuple[int, ...],
    ) -> None:
        self._finish = finish
        self._connection = connection
        self.request = request
        self.descriptors = descriptors
        self.peer: Peer = connection.peer
        self.started = perf_counter()
        self._answered = False

    @property
    def admin(self) -> bool:
        """Whether it came by the admin socket."""
        return self._connection.admin

    def answer(self, result: Mapping[str, Any]) -> None:
        """Send a result."""
        self.answer_line(encode_result(self.request.id, result))

    def answer_line(self, line: bytes) -> None:
        """Send an answer that is a line already."""
        if not self._answered:
            self._answered = True
            self._finish(self._connection, line, len(self.request.images) or 1)

    def fail(self, code: ErrorCode, message: str) -> None:
        """Say that nothing was decided, and why."""
        self.answer_line(encode_error(self.request.id, code, message))
