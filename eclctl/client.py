"""Asks the daemon. Blocking, standard library only, and quick to import: `eclctl check` is a process for each question.

`_socket` is the module that `socket` wraps. It is used directly because importing `socket` with all its constants as
enumerations takes longer than the whole question; what is used of it here (`socket`, `connect`, `sendmsg`, `recv`,
`settimeout`) is the documented interface of `socket.socket`.
"""

from __future__ import annotations

import _socket
import errno
import os
import sys
from json import JSONDecoder, JSONEncoder
from time import monotonic

TYPE_CHECKING = False  # typing itself is left out, for the same reason
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

CHECK_SOCKET = "/run/eclctl/eclctl.sock"
ADMIN_SOCKET = "/run/eclctl/admin.sock"
TIMEOUT = 40.0  # longer than the daemon's own, so that its reason is heard
IN_FLIGHT = 16
_ANSWER_LIMIT = 16 * 1024 * 1024
_RECEIVE_SIZE = 256 * 1024

_encode = JSONEncoder(separators=(",", ":")).encode
_decode = JSONDecoder().decode


class NoAnswerError(Exception):
    """There is no decision: the daemon cannot be reached, does not answer in time, or refuses the request.

    `code` is `no-daemon`, `no-answer`, `protocol`, or the code of the daemon's error answer.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ClientRequest:
    """One request to the daemon. `descriptors` go with it, and stay open until the caller closes them."""

    __slots__ = ("descriptors", "method", "parameters")

    def __init__(self, method: str, parameters: dict[str, Any] | None = None, descriptors: Sequence[int] = ()) -> None:
        self.method = method
        self.parameters = parameters or {}
        self.descriptors = descriptors


class Client:
    """A connection to the daemon.

    Args:
        path: the daemon's socket.
        timeout: seconds that one answer may take.

    Raises:
        NoAnswerError: no daemon listens there.
    """

    def __init__(self, path: str, timeout: float = TIMEOUT) -> None:
        self._path = path
        self._timeout = timeout
        self._sent = 0
        self._buffer = b""
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        try:
            self._limit_waiting(timeout)
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            reason = "it is too busy" if isinstance(error, BlockingIOError) else error.strerror or error
            hint = "is it running (systemctl status eclctl)?"
            if isinstance(error, PermissionError):
                hint = "the admin socket is for root and the group eclctl"
            raise NoAnswerError("no-daemon", f"cannot reach the daemon at {path}: {reason}; {hint}") from error

    def _limit_waiting(self, seconds: float) -> None:
        """Let the kernel limit each wait: a non-blocking connect would fail at once when the daemon's queue is full."""
        whole = int(seconds)
        timeval = whole.to_bytes(8, sys.byteorder) + int((seconds - whole) * 1e6).to_bytes(8, sys.byteorder)
        self._socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, timeval)
        self._socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVTIMEO, timeval)

    def __enter__(self) -> Client:  # noqa: PYI034 - Self is in typing
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def send(self, request: ClientRequest) -> str:
        """Send one request.

        Returns:
            Its ID, which the answer carries.

        Raises:
            NoAnswerError: the daemon reads no further; why, `receive` may tell.
        """
        self._sent += 1
        request_id = str(self._sent)
        shape = {"v": 1, "id": request_id, "method": request.method, "parameters": request.parameters}
        line = _encode(shape).encode("ascii") + b"\n"
        packed = b"".join(descriptor.to_bytes(4, sys.byteorder) for descriptor in request.descriptors)
        ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)] if packed else []
        try:
            sent = self._socket.sendmsg([line], ancillary)
            if sent < len(line):
                self._socket.sendall(line[sent:])
        except OSError as error:
            raise NoAnswerError("no-answer", f"the daemon at {self._path} hung up") from error
        return request_id

    def receive(self) -> tuple[str, dict[str, Any] | NoAnswerError]:
        """Wait for the next answer, to any of the requests.

        Returns:
            The request's ID, and its result or why there is none.

        Raises:
            NoAnswerError: no answer came in time, or it is none; nothing more will come.
        """
        line = self._line()
        try:
            answer = _decode(line.decode("utf-8"))
            request_id, error = answer["id"], answer.get("error")
            outcome = NoAnswerError(str(error["code"]), str(error["message"])) if error else answer["result"]
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            raise NoAnswerError("protocol", f"the daemon at {self._path} sent no answer line") from problem
        if request_id is None and isinstance(outcome, NoAnswerError):
            raise outcome
        if not isinstance(request_id, str) or not isinstance(outcome, dict | NoAnswerError):
            raise NoAnswerError("protocol", f"the daemon at {self._path} sent an answer to no request")
        return request_id, outcome

    def _line(self) -> bytes:
        deadline = monotonic() + self._timeout
        parts = [self._buffer]
        size = len(self._buffer)
        while b"\n" not in parts[-1]:
            if monotonic() > deadline or size > _ANSWER_LIMIT:
                raise NoAnswerError("no-answer", f"the daemon did not answer within {self._timeout:g} s")
            part = self._receive()
            size += len(part)
            parts.append(part)
        line, _, self._buffer = b"".join(parts).partition(b"\n")
        return line

    def _receive(self) -> bytes:
        try:
            part = self._socket.recv(_RECEIVE_SIZE)
        except BlockingIOError:
            raise NoAnswerError("no-answer", f"the daemon did not answer within {self._timeout:g} s") from None
        except OSError as error:
            raise NoAnswerError("no-answer", f"the daemon hung up: {error.strerror}") from error
        if not part:
            raise NoAnswerError("no-answer", "the daemon hung up without an answer")
        return part

    def ask(self, request: ClientRequest) -> dict[str, Any]:
        """Send one request and wait for its result.

        Raises:
            NoAnswerError: there is none.
        """
        try:
            request_id = self.send(request)
        except NoAnswerError:
            self.receive()  # a daemon that turns a client away says why before it hangs up, and this raises it
            raise
        answered, outcome = self.receive()
        if answered != request_id:
            raise NoAnswerError("protocol", f"the daemon at {self._path} answered another request")
        if isinstance(outcome, NoAnswerError):
            raise outcome
        return outcome


def open_image(image: str) -> int:
    """Open an image as the caller, without waiting, of any type it may be.

    A FIFO does not wait for a writer, a terminal does not become ours, another process's lease does not stall us.

    Raises:
        OSError: it cannot be opened.
    """
    return os.open(image, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)


def wire_path(image: str) -> str:
    """Return the absolute name as the protocol carries it: bytes as UTF-8, and others by surrogate escapes.

    `..` stays: after a symbolic link, only the file system knows where it leads.

    Raises:
        OSError: the name is relative, and the current directory is gone.
    """
    absolute = os.path.join(os.getcwd(), image) if not image.startswith("/") else image
    return os.fsencode(absolute).decode("utf-8", "surrogateescape")


def ask_in_order(
    path: str, requests: Iterator[ClientRequest | None], timeout: float
) -> Iterator[dict[str, Any] | NoAnswerError | None]:
    """Send many requests over one connection, several at a time, and yield the outcomes in the requests' order.

    A request of None is not sent; its outcome is None. Descriptors may be closed when their outcome is yielded.
    Once the connection is lost, every outcome that is left is that error.
    """
    try:
        client = Client(path, timeout)
    except NoAnswerError as error:
        yield from (None if request is None else error for request in requests)
        return
    with client:
        yield from _Window(client).outcomes(requests)


class _Window:
    """Keeps at most `IN_FLIGHT` requests under way, and puts their outcomes into order."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._order: list[str | None] = []
        self._outcomes: dict[str, dict[str, Any] | NoAnswerError] = {}
        self._unsent: NoAnswerError | None = None  # the daemon reads no further
        self._lost: NoAnswerError | None = None  # nothing more will come

    def outcomes(self, requests: Iterator[ClientRequest | None]) -> Iterator[dict[str, Any] | NoAnswerError | None]:
        for request in requests:
            self._order.append(self._send(request))
            if len(self._order) >= IN_FLIGHT:
                yield self._next()
        while self._order:
            yield self._next()

    def _send(self, request: ClientRequest | None) -> str | None:
        if request is None:
            return None
        if self._unsent is None:
            try:
                return self._client.send(request)
            except NoAnswerError as error:
                self._unsent = error
        return ""

    def _next(self) -> dict[str, Any] | NoAnswerError | None:
        request_id = self._order.pop(0)
        if request_id is None:
            return None
        while self._lost is None and request_id not in self._outcomes:
            try:
                answered, outcome = self._client.receive()
                self._outcomes[answered] = outcome
            except NoAnswerError as error:
                self._lost = error
        known = self._outcomes.pop(request_id, None)
        return known if known is not None else self._lost


def unreadable(error: OSError | ValueError) -> dict[str, Any]:
    """Return the deny for an image that its caller cannot open.

    A user who cannot read the image cannot run it, so the daemon is not asked.
    """
    code, reason = "unreadable", f"you cannot open it: {getattr(error, 'strerror', None) or error}"
    if isinstance(error, OSError) and error.errno == errno.EWOULDBLOCK:
        code, reason = "busy", "another process holds a lease on it; ask again when it has finished"
    elif isinstance(error, OSError) and error.errno == errno.ENXIO:
        code, reason = "unsupported-file", "it is a socket or a device, not an image"
    names = ("rule", "kind", "assurance", "generation", "policy", "decision_id", "would", "message", "exception")
    return dict.fromkeys(names) | {
        "decision": "deny",
        "code": code,
        "reason": reason,
        "mode": "enforce",
        "signers": [],
        "missing": [],
        "cached": False,
    }
