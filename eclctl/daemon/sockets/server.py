"""Serves connections on the event loop: limits, turns, time-outs. Handlers decide what an answer says.

Rules:

1. Who asks is what the kernel said when the connection was made. Rights go by that; what a user may have under way is
   counted by person (`Peer.person`), so that subordinate uids of one user share one user's limits. Where that must be
   looked up first, the connection is held, and nothing is read from it.
2. Work is done in turns. In one turn each user gets at most `TURN` requests answered, in rotation over their
   connections, so that a user with many or busy connections costs the others one turn. A request counts as often as
   it has images, here and among those in flight; it is begun whole once there is room for one more.
3. At the end of a turn the records of all its decisions are written to the audit log at once; only then are the
   answers sent.
4. Everything is bounded: connections in all and for each user, requests in flight for each user, bytes of a line,
   bytes that a client has not read, descriptors that were not claimed, seconds that a line may take. A user at the
   limit of requests in flight waits; nothing is refused for that.
5. Answers may come in another order than the requests: a large image does not hold up the small one behind it.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from eclctl.daemon.background.timers import Repeating
from eclctl.daemon.sockets.call import Call
from eclctl.daemon.sockets.connection import UNSENT_LIMIT, BrokenConnectionError, Connection
from eclctl.daemon.sockets.listeners import Acceptor
from eclctl.daemon.sockets.peers import MOST_GROUPS, Peer, TooManyGroupsError, peer_of
from eclctl.daemon.sockets.permissions import require_permitted
from eclctl.daemon.sockets.protocol import ErrorCode, Method, RequestError, encode_error, parse_request
from eclctl.dataclass import dataclass, field, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from eclctl.config.settings import Limits
    from eclctl.daemon.sockets.callers import CallerLookup
    from eclctl.daemon.sockets.closing import Closer
    from eclctl.model import Caller

TURN: Final = 64
_SHARE: Final = 32  # requests of one connection before the user's next connection has its turn
_SWEEP_SECONDS: Final = 1.0  # how often time-outs are looked for
_ADMIN_CONNECTIONS: Final = 16  # on the admin socket beyond the limits
_SPARE_MESSAGES: Final = 4  # so many messages' descriptors may wait for requests, however few connections are allowed
_TOO_MANY: Final = "too many connections; close one and ask again"
_METRIC_KINDS: Final = {ErrorCode.NOT_PERMITTED: "forbidden", ErrorCode.TOO_MANY_CONNECTIONS: "too-many"}


class Observer(Protocol):
    """What the server tells the metrics."""

    def request(self, method: str) -> None:
        """A request was read."""

    def error(self, kind: str) -> None:
        """A line or a connection was refused; `kind` is from a closed list."""


@dataclass(slots=True)
class _User:
    """What one person has under way: `in_flight` counts requests, those with several images as often as that."""

    person: int | str
    connections: set[Connection] = field(default_factory=set)
    in_flight: int = 0
    ready: deque[Connection] = field(default_factory=deque)


class Server:
    """Serves listening sockets on one event loop.

    Args:
        limits: the bounds.
        handlers: for each method, what begins to answer a call: at once, or later on the same loop.
        end_turn: called at the end of each turn, before anything is sent.
        observer: counts requests and refusals.
        admins: says whether a peer may use the admin socket (under any mode of its file) and ask by name.
        closer: closes descriptors that no request claims.
        on_bug: is told every error that is a bug.
        callers: identifies who connects.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        handlers: Mapping[Method, Callable[[Call], None]],
        end_turn: Callable[[], None],
        observer: Observer,
        admins: Callable[[Peer], bool],
        closer: Closer,
        on_bug: Callable[[BaseException], None],
        callers: CallerLookup,
    ) -> None:
        self._limits = limits
        self._handlers = handlers
        self._end_turn = end_turn
        self._observer = observer
        self._admins = admins
        self._closer = closer
        self._on_bug = on_bug
        self._callers = callers
        self._spare_limit = max(limits.connections_per_user, _SPARE_MESSAGES * limits.descriptors_per_message)
        self._loop = asyncio.get_running_loop()
        self._users: dict[int | str, _User] = {}
        self._ready: dict[int | str, _User] = {}
        self._held: dict[Hashable, set[socket.socket]] = {}
        self._connections: set[Connection] = set()
        self._touched: set[Connection] = set()
        self._acceptor = Acceptor(self._accepted, partial(observer.error, "accept"))
        self._turn_scheduled = False
        self._idle = asyncio.Event()
        self._sweeper = Repeating(self._sweep)
        self._sweeper.start(_SWEEP_SECONDS)

    # -- life ------------------------------------------------------------------------------------------------------

    def listen(self, listener: socket.socket, *, admin: bool) -> None:
        """Accept connections from a non-blocking listening socket."""
        self._acceptor.listen(listener, admin=admin)

    def connections(self) -> int:
        """Return how many clients are connected."""
        return len(self._connections)

    def in_flight(self) -> int:
        """Return how many requests have been read and not answered, each counted as often as it has images."""
        return sum(user.in_flight for user in self._users.values())

    async def stop(self, patience: float) -> None:
        """Accept and read nothing more, answer what is under way for at most `patience` seconds, close everything."""
        self._acceptor.stop()
        for sock in (sock for held in self._held.values() for sock in held):
            sock.close()
        self._held.clear()
        for connection in tuple(self._connections):
            self._stop_reading(connection)
            connection.refuse_input()
        self.wake()
        try:
            async with asyncio.timeout(patience):
                while self._connections and any(not connection.done() for connection in self._connections):
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            pass  # a client that does not read, or a decision that hangs: both get no answer, which is deny
        for connection in tuple(self._connections):
            self._close(connection)
        self._sweeper.stop()
        self._acceptor.close()

    # -- connections -----------------------------------------------------------------------------------------------

    def _accepted(self, sock: socket.socket, admin: bool) -> None:  # noqa: FBT001 - Acceptor passes positions
        sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
        try:
            peer = peer_of(sock)
        except OSError:
            self._observer.error("credentials")
            sock.close()
            return
        except TooManyGroupsError:
            self._refuse_connection(sock, ErrorCode.NOT_PERMITTED, f"you are in more than {MOST_GROUPS} groups")
            return
        if admin and not self._admins(peer):
            self._refuse_connection(sock, ErrorCode.NOT_PERMITTED, "the admin socket is for root and its group")
            return
        caller = self._callers.known(peer.caller)
        if caller is None:
            self._hold(sock, peer, admin=admin)
        else:
            self._admit(sock, peer if caller is peer.caller else replace(peer, caller=caller), admin=admin)

    def _hold(self, sock: socket.socket, peer: Peer, *, admin: bool) -> None:
        """Keep a connection until it is known whose limits it counts for."""
        person_key = self._callers.person_key(peer.caller)
        held = self._held.get(person_key, set())
        if not self._room_for(len(held), admin=admin):
            self._refuse_connection(sock, ErrorCode.TOO_MANY_CONNECTIONS, _TOO_MANY)
            return
        self._held[person_key] = held
        held.add(sock)
        self._callers.find(peer.caller, partial(self._identified, sock, peer, person_key, admin))

    def _identified(self, sock: socket.socket, peer: Peer, person_key: Hashable, admin: bool, caller: Caller) -> None:  # noqa: FBT001 - partial passes positions
        held = self._held.get(person_key)
        if held is None or sock not in held:
            return  # the server has stopped
        held.remove(sock)
        if not held:
            del self._held[person_key]
        self._admit(sock, replace(peer, caller=caller), admin=admin)

    def _admit(self, sock: socket.socket, peer: Peer, *, admin: bool) -> None:
        user = self._users.get(peer.person)
        if user is None:
            user = self._users[peer.person] = _User(peer.person)
        if not self._room_for(len(user.connections), admin=admin):
            self._forget(user)
            self._refuse_connection(sock, ErrorCode.TOO_MANY_CONNECTIONS, _TOO_MANY)
            return
        connection = Connection(
            sock,
            peer,
            admin=admin,
            descriptors_limit=self._limits.descriptors_per_message,
            release=partial(self._closer.close, user.person),
            now=self._loop.time(),
        )
        self._connections.add(connection)
        user.connections.add(connection)
        self._readable(connection)  # the request has often come already
        self._start_reading(connection)

    def _room_for(self, own: int, *, admin: bool) -> bool:
        """Return whether one more fits. However many there are, the admin socket takes some: for status and reload."""
        kept = _ADMIN_CONNECTIONS if admin else 0
        every = len(self._connections) + sum(map(len, self._held.values())) - kept
        return every < self._limits.connections and own - kept < self._limits.connections_per_user

    def _refuse_connection(self, sock: socket.socket, code: ErrorCode, message: str) -> None:
        self._count(code)
        try:
            sock.send(encode_error(None, code, message))
        except OSError:
            pass  # the client is gone
        finally:
            sock.close()

    def _close(self, connection: Connection) -> None:
        if connection.closed:
            return
        self._stop_reading(connection)
        self._stop_writing(connection)
        connection.close()
        self._connections.discard(connection)
        self._touched.discard(connection)
        user = self._users[connection.peer.person]
        user.connections.discard(connection)
        self._forget(user)
        self._idle.set()

    def _forget(self, user: _User) -> None:
        if not user.connections and not user.in_flight:
            self._users.pop(user.person, None)
            self._ready.pop(user.person, None)

    def _start_reading(self, connection: Connection) -> None:
        if not connection.reading and not connection.ended and not connection.queued:
            connection.reading = True
            self._loop.add_reader(connection.fileno, self._readable, connection)

    def _stop_reading(self, connection: Connection) -> None:
        if connection.reading:
            connection.reading = False
            self._loop.remove_reader(connection.fileno)

    def _stop_writing(self, connection: Connection) -> None:
        if connection.writing:
            connection.writing = False
            self._loop.remove_writer(connection.fileno)

    def _readable(self, connection: Connection) -> None:
        if self._users[connection.peer.person].in_flight >= self._limits.requests_in_flight_per_user:
            self._stop_reading(connection)  # what waits there is the kernel's to keep, descriptors above all
            self._enqueue(connection)
            return
        try:
            connection.receive(self._loop.time())
            if connection.descriptors:
                self._check_descriptors(connection)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._close(connection)
            return
        except BrokenConnectionError as error:
            self._break(connection, error)
            return
        if connection.queued:
            self._stop_reading(connection)  # it has more than its turn takes
        self._enqueue(connection)

    def _check_descriptors(self, connection: Connection) -> None:
        """Neither descriptors that hang when they are closed may pile up, nor those that no request has claimed."""
        person = connection.peer.person
        if self._closer.waiting(person) > self._limits.requests_in_flight_per_user:
            raise BrokenConnectionError("descriptors", "too many descriptors of this user cannot be closed")
        if len(connection.descriptors) > 1:  # a check brings one; of a user's connections, the others may not pile up
            spare = sum(len(each.descriptors) - 1 for each in self._users[person].connections if each.descriptors)
            if spare > self._spare_limit:
                raise BrokenConnectionError("descriptors", "too many descriptors of this user wait for requests")

    def _break(self, connection: Connection, error: BrokenConnectionError) -> None:
        """Say why, answer what is under way, and end the connection."""
        self._observer.error(error.kind)
        self._stop_reading(connection)
        connection.refuse_input()
        connection.queue(encode_error(None, ErrorCode.BAD_REQUEST, str(error)))
        self._touch(connection)

    def _count(self, code: ErrorCode) -> None:
        self._observer.error(_METRIC_KINDS.get(code, code.value))

    # -- turns -----------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Have a turn soon."""
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self._loop.call_soon(self._turn)

    def _touch(self, connection: Connection) -> None:
        self._touched.add(connection)
        self.wake()

    def _enqueue(self, connection: Connection) -> None:
        """Put a connection that may have a request into its user's queue."""
        if connection.queued or connection.closed:
            return
        connection.queued = True
        user = self._users[connection.peer.person]
        user.ready.append(connection)
        if user.in_flight < self._limits.requests_in_flight_per_user:
            self._ready[user.person] = user
            self.wake()

    def _turn(self) -> None:
        """Also after a failure, what is decided is recorded, and what is recorded is sent."""
        try:
            for user in tuple(self._ready.values()):
                self._serve_user(user)
        except Exception as error:  # noqa: BLE001 - a bug must not keep from their answers those who have been decided
            self._on_bug(error)
        try:
            self._end_turn()
        except Exception as error:  # noqa: BLE001 - as above
            self._on_bug(error)
        try:
            while self._touched:
                self._send(self._touched.pop())
        finally:
            self._turn_scheduled = False  # it stays set during the turn: what is touched meanwhile belongs to it
            if self._ready or self._touched:
                self.wake()

    def _serve_user(self, user: _User) -> None:
        budget = TURN
        while budget > 0 and user.ready and user.in_flight < self._limits.requests_in_flight_per_user:
            connection = user.ready.popleft()
            connection.queued = False
            if not connection.closed:
                budget -= self._serve(user, connection, min(budget, _SHARE))
        if not user.ready or user.in_flight >= self._limits.requests_in_flight_per_user:
            self._ready.pop(user.person, None)

    def _serve(self, user: _User, connection: Connection, budget: int) -> int:
        """Begin a connection's requests until they cost `budget`; what they cost."""
        spent = 0
        try:
            while connection.unsent() <= UNSENT_LIMIT:
                if spent >= budget or user.in_flight >= self._limits.requests_in_flight_per_user:
                    self._stop_reading(connection)
                    self._enqueue(connection)
                    return spent
                line = connection.next_line()
                if line is None:
                    self._drained(connection)
                    return spent
                spent += self._begin(user, connection, line)
        except BrokenConnectionError as error:
            self._break(connection, error)
            return spent
        except Exception as error:  # noqa: BLE001 - a bug costs this connection: it is not known what it waits for
            self._on_bug(error)
            self._close(connection)
            return spent
        self._stop_reading(connection)  # until the client has read what it asked for
        self._touch(connection)
        return spent

    def _drained(self, connection: Connection) -> None:
        """Every complete line has been begun."""
        if connection.ended:
            self._stop_reading(connection)
            connection.refuse_input()  # half a line at the end is no request
            self._touch(connection)
        elif connection.descriptors and not connection.lines.has_partial_line():
            raise BrokenConnectionError("descriptors", "a descriptor came that no request claims")
        else:
            self._start_reading(connection)

    def _begin(self, user: _User, connection: Connection, line: bytes) -> int:
        """Begin a request; what it costs: one, or as many as it has images."""
        try:
            request = parse_request(line)
            require_permitted(request, connection.peer, admin_socket=connection.admin, is_admin=self._admins)
        except RequestError as error:
            self._count(error.error)
            connection.queue(encode_error(error.id, error.error, str(error)))
            self._touch(connection)
            if connection.descriptors:
                raise BrokenConnectionError(
                    "descriptors", "it is not known which request the descriptors belong to"
                ) from None
            return 1
        self._observer.request(request.method)
        descriptors = connection.take_descriptors([image.fd for image in request.images].count(True))
        if descriptors is None:
            raise BrokenConnectionError("descriptors", "a request wants a descriptor, and none came with it")
        cost = len(request.images) or 1
        user.in_flight += cost
        connection.in_flight += cost
        connection.active = self._loop.time()
        self._handle(Call(self.finish, connection, request, descriptors))
        return cost

    def _handle(self, call: Call) -> None:
        try:
            self._handlers[call.request.method](call)
        except Exception as error:  # noqa: BLE001 - a bug in a handler must cost one answer, not connection or daemon
            self._on_bug(error)
            call.fail(ErrorCode.INTERNAL_ERROR, "the daemon failed to answer; its log says more")

    # -- answers ---------------------------------------------------------------------------------------------------

    def finish(self, connection: Connection, line: bytes, cost: int) -> None:
        """A call that cost `cost` was answered: queue the line, and let the user's next request begin."""
        user = self._users[connection.peer.person]
        user.in_flight -= cost
        connection.in_flight -= cost
        if not connection.closed:
            connection.active = self._loop.time()
            connection.queue(line)
            self._touch(connection)
        if user.ready:
            self._ready[user.person] = user
            self.wake()
        self._forget(user)

    def _send(self, connection: Connection) -> None:
        if connection.closed:
            return
        try:
            connection.send(self._loop.time())
        except OSError:
            self._close(connection)
            return
        if connection.done():
            self._close(connection)
            return
        if connection.unsent():
            if not connection.writing:
                connection.writing = True
                self._loop.add_writer(connection.fileno, self._send, connection)
            return
        self._stop_writing(connection)
        if connection.lines.has_line():  # the client has read everything: it may ask on
            self._enqueue(connection)
        else:
            self._start_reading(connection)

    # -- time-outs -------------------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        for connection in tuple(self._connections):
            kind = connection.timed_out(self._loop.time(), self._limits.idle_timeout)
            if kind is not None:
                self._observer.error(kind)
                self._close(connection)
