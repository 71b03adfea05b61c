"""The server's turns and bounds, with handlers that the tests supply."""

import array
import asyncio
import json
import os
import socket

import pytest

from eclctl.config.settings import Limits
from eclctl.daemon.sockets import server as module
from eclctl.daemon.sockets.protocol import Method
from eclctl.daemon.sockets.server import Server
from eclctl.model import Caller, Identity
from tests.helpers.site import request

PATIENCE = 20.0


class Observed:
    """Remembers what the server reports."""

    def __init__(self):
        self.errors = []

    def request(self, method):
        pass

    def error(self, kind):
        self.errors.append(kind)


class Closer:
    """Closes at once."""

    def close(self, _uid, descriptor):
        os.close(descriptor)

    def waiting(self, _uid):
        return 0


class CallerLookup:
    """Knows callers as the kernel does, unless the test says otherwise: as the next of `people`, or not yet."""

    def __init__(self):
        self.people, self.waiting, self.unknown = [], [], False

    def known(self, caller):
        if self.unknown:
            return None
        return self.people.pop(0) if self.people else caller

    def person_key(self, caller):
        return "person_key"

    def find(self, caller, done):
        self.waiting.append(done)


def behind(uid, person):
    """A caller with a subordinate uid of a person."""
    return Caller(uid, uid, frozenset({uid}), Identity(person, frozenset(), person=person))


class Hall:
    """A server on two sockets, whose handler keeps the calls until the test answers them."""

    def __init__(self, directory, **limits):
        self.calls, self.observed, self.end_turn, self.bugs = [], Observed(), lambda: None, []
        handlers = dict.fromkeys(Method, self.calls.append) | {Method.PING: lambda call: call.answer({})}
        self.handlers, self.callers = handlers, CallerLookup()
        self.server = Server(
            Limits(**limits),
            handlers=handlers,
            end_turn=lambda: self.end_turn(),  # noqa: PLW0108 - tests put another in its place
            observer=self.observed,
            admins=lambda _: True,
            closer=Closer(),
            on_bug=self.bugs.append,
            callers=self.callers,
        )
        self.paths, self.listeners, self.clients = {}, [], []
        for admin in (False, True):
            listener = socket.socket(socket.AF_UNIX)
            listener.setblocking(False)
            self.paths[admin] = str(directory / f"socket-{admin}")
            listener.bind(self.paths[admin])
            listener.listen(64)
            self.listeners.append(listener)
            self.server.listen(listener, admin=admin)

    def connect(self, *, admin=False):
        client = socket.socket(socket.AF_UNIX)
        client.connect(self.paths[admin])
        client.setblocking(False)
        self.clients.append(client)
        return client

    async def read(self, client):
        """One answer, or None at the end of the connection."""
        loop, data = asyncio.get_running_loop(), b""
        async with asyncio.timeout(PATIENCE):
            while not data.endswith(b"\n"):
                part = await loop.sock_recv(client, 65536)
                if not part:
                    return None
                data += part
        return json.loads(data)

    async def until(self, condition):
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110 - the server does not report what it has read
                await asyncio.sleep(0)

    async def close(self):
        await self.server.stop(0.0)
        for sock in (*self.clients, *self.listeners):
            sock.close()


def run(directory, scenario, **limits):
    async def main():
        hall = Hall(directory, **limits)
        try:
            await scenario(hall)
        finally:
            await hall.close()

    asyncio.run(main())


def fail(*_arguments):
    raise RuntimeError("a bug")


def test_a_bug_in_beginning_a_request_costs_its_connection_and_no_other_turn(tmp_path, monkeypatch):
    async def scenario(hall):
        waiting, broken = hall.connect(), hall.connect()
        waiting.send(request("explain", image="/a"))
        await hall.until(lambda: hall.calls)
        hall.end_turn = lambda: hall.calls[0].answer({"decision": "deny"})
        with monkeypatch.context() as patched:
            patched.setattr(module, "parse_request", fail)
            broken.send(request("ping"))
            assert await hall.read(broken) is None
        assert (await hall.read(waiting))["result"] == {"decision": "deny"}
        assert [str(bug) for bug in hall.bugs] == ["a bug"]

    run(tmp_path, scenario)


def test_a_bug_in_serving_a_user_does_not_keep_the_decided_from_their_answers(tmp_path, monkeypatch):
    async def scenario(hall):
        waiting, other = hall.connect(), hall.connect()
        waiting.send(request("explain", image="/a"))
        await hall.until(lambda: hall.calls)
        hall.end_turn = lambda: hall.calls[0].answer({"decision": "deny"})
        monkeypatch.setattr(hall.server, "_serve_user", fail)
        monkeypatch.setattr(asyncio.get_running_loop(), "call_exception_handler", lambda _: None)
        other.send(request("ping"))
        assert (await hall.read(waiting))["result"] == {"decision": "deny"}
        assert {str(bug) for bug in hall.bugs} == {"a bug"}
        monkeypatch.undo()

    run(tmp_path, scenario)


def test_a_bug_at_the_end_of_a_turn_does_not_hold_back_what_is_answered(tmp_path):
    async def scenario(hall):
        hall.end_turn = fail
        client = hall.connect()
        client.send(request("ping"))
        assert (await hall.read(client))["result"] == {}
        assert {str(bug) for bug in hall.bugs} == {"a bug"}

    run(tmp_path, scenario)


def test_a_bug_in_a_handler_costs_one_answer_and_is_told(tmp_path):
    async def scenario(hall):
        hall.handlers[Method.EXPLAIN] = fail
        client = hall.connect()
        client.send(request("explain", image="/a"))
        assert (await hall.read(client))["error"]["code"] == "internal-error"
        client.send(request("ping"))
        assert (await hall.read(client))["result"] == {}
        assert [str(bug) for bug in hall.bugs] == ["a bug"]

    run(tmp_path, scenario)


def test_a_request_counts_as_often_as_it_has_images(tmp_path):
    many = request("check_all", images=[{"image": f"/{number}"} for number in range(5)])

    async def scenario(hall):
        client = hall.connect()
        client.send(many + request("explain", "2", image="/a") + many)
        await hall.until(lambda: len(hall.calls) == 2)
        other = hall.connect()
        for _ in range(5):  # as many turns
            other.send(request("ping"))
            await asyncio.sleep(0)
        assert (len(hall.calls), hall.server.in_flight()) == (2, 6)
        hall.calls[0].answer({})
        await hall.until(lambda: len(hall.calls) == 3)
        assert hall.server.in_flight() == 6
        for call in hall.calls:
            call.answer({})
        assert hall.server.in_flight() == 0

    run(tmp_path, scenario, requests_in_flight_per_user=6)


def test_one_turn_begins_no_more_images_than_requests(tmp_path):
    many = request("check_all", images=[{"image": "/a"}] * module.TURN)

    async def scenario(hall):
        begun = []
        hall.end_turn = lambda: begun.append(len(hall.calls))
        hall.connect().send(many * 3)
        await hall.until(lambda: len(hall.calls) == 3)
        await hall.until(lambda: begun and begun[-1] == 3)
        assert [count for count in begun if count] == [1, 2, 3]

    run(tmp_path, scenario, requests_in_flight_per_user=1000)


def pass_descriptors(client, data, count):
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(count)]
    client.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", opened))])
    for descriptor in opened:
        os.close(descriptor)


def test_descriptors_that_wait_for_requests_are_bounded_for_all_connections_of_a_user(tmp_path):
    async def scenario(hall):
        *clients, last = [hall.connect() for _ in range(6)]
        for client in clients:
            pass_descriptors(client, b"half a line", 5)
        await hall.until(lambda: sum(len(each.descriptors) for each in hall.server._connections) == 25)
        before = len(os.listdir("/proc/self/fd"))
        pass_descriptors(last, b"half a line", 5)
        assert (await hall.read(last))["error"]["code"] == "bad-request"
        assert await hall.read(last) is None
        assert len(os.listdir("/proc/self/fd")) < before

    run(tmp_path, scenario, connections_per_user=10, descriptors_per_message=5)


def test_a_descriptor_for_each_connection_is_not_too_many(tmp_path):
    async def scenario(hall):
        for _ in range(30):
            pass_descriptors(hall.connect(), b"half a line", 1)
        await hall.until(lambda: sum(len(each.descriptors) for each in hall.server._connections) == 30)
        assert hall.observed.errors == []

    run(tmp_path, scenario, connections_per_user=30, descriptors_per_message=1)


def test_of_a_user_at_the_limit_nothing_is_read_until_it_can_be_begun(tmp_path):
    async def scenario(hall):
        hall.connect().send(request("explain", image="/a"))
        await hall.until(lambda: hall.calls)
        pass_descriptors(hall.connect(), request("check", image="/b", fd=True), 1)
        await hall.until(lambda: [each.queued for each in hall.server._connections] == [True, True])
        assert not any(each.descriptors for each in hall.server._connections)
        hall.calls[0].answer({})
        await hall.until(lambda: len(hall.calls) == 2)
        os.close(*hall.calls[1].descriptors)

    run(tmp_path, scenario, requests_in_flight_per_user=1)


@pytest.mark.parametrize("limits", [{"connections": 3}, {"connections_per_user": 3}], ids=["of all", "of one user"])
def test_when_all_connections_are_taken_the_admin_socket_answers_all_the_same(tmp_path, limits):
    async def scenario(hall):
        for _ in range(3):
            hall.connect()
        await hall.until(lambda: hall.server.connections() == 3)
        refused, admin = hall.connect(), hall.connect(admin=True)
        assert (await hall.read(refused))["error"]["code"] == "too-many-connections"
        admin.send(request("ping"))
        assert (await hall.read(admin))["result"] == {}
        for _ in range(15):
            hall.connect(admin=True)
        beyond = hall.connect(admin=True)
        assert (await hall.read(beyond))["error"]["code"] == "too-many-connections"

    run(tmp_path, scenario, **limits)


def test_connections_of_a_persons_subordinate_uids_count_as_one_users(tmp_path):
    async def scenario(hall):
        hall.callers.people = [Caller(1000, 1000), *(behind(100000 + n, 1000) for n in range(3)), behind(300000, 1001)]
        for _ in range(3):
            hall.connect()
        await hall.until(lambda: hall.server.connections() == 3)
        refused, other = hall.connect(), hall.connect()
        assert (await hall.read(refused))["error"]["code"] == "too-many-connections"
        other.send(request("ping"))
        assert (await hall.read(other))["result"] == {}

    run(tmp_path, scenario, connections_per_user=3)


def test_requests_in_flight_of_a_persons_subordinate_uids_count_as_one_users(tmp_path):
    async def scenario(hall):
        hall.callers.people = [behind(100000 + n, 1000) for n in range(3)] + [behind(300000, 1001)]
        for _ in range(3):
            hall.connect().send(request("explain", image="/a"))
        await hall.until(lambda: len(hall.calls) == 2)
        hall.connect().send(request("explain", image="/b"))
        await hall.until(lambda: len(hall.calls) == 3)
        assert [call.peer.person for call in hall.calls] == [1000, 1000, 1001]
        hall.calls[0].answer({})
        await hall.until(lambda: len(hall.calls) == 4)

    run(tmp_path, scenario, requests_in_flight_per_user=2)


def test_descriptors_that_wait_are_bounded_for_all_subordinate_uids_of_a_person(tmp_path):
    async def scenario(hall):
        hall.callers.people = [behind(100000 + n, 1000) for n in range(6)]
        *clients, last = [hall.connect() for _ in range(6)]
        for client in clients:
            pass_descriptors(client, b"half a line", 5)
        await hall.until(lambda: sum(len(each.descriptors) for each in hall.server._connections) == 25)
        pass_descriptors(last, b"half a line", 5)
        assert (await hall.read(last))["error"]["code"] == "bad-request"

    run(tmp_path, scenario, connections_per_user=10, descriptors_per_message=5)


def test_of_who_is_not_identified_yet_nothing_is_read(tmp_path):
    async def scenario(hall):
        hall.callers.unknown = True
        client = hall.connect()
        client.send(request("ping"))
        await hall.until(lambda: hall.callers.waiting)
        assert hall.server.connections() == 0
        hall.callers.unknown = False
        hall.callers.waiting[0](behind(100001, 1000))
        assert (await hall.read(client))["result"] == {}
        assert [each.peer.person for each in hall.server._connections] == [1000]

    run(tmp_path, scenario)


@pytest.mark.parametrize("limits", [{"connections": 3}, {"connections_per_user": 3}], ids=["of all", "of one person"])
def test_those_who_are_not_identified_yet_are_bounded(tmp_path, limits):
    async def scenario(hall):
        hall.callers.unknown = True
        held = [hall.connect() for _ in range(3)]
        await hall.until(lambda: len(hall.callers.waiting) == 3)
        assert (await hall.read(hall.connect()))["error"]["code"] == "too-many-connections"
        for done in hall.callers.waiting:
            done(behind(100001, 1000))
        held[0].send(request("ping"))
        assert (await hall.read(held[0]))["result"] == {}
        assert hall.server._held == {}

    run(tmp_path, scenario, **limits)


def test_when_the_server_stops_those_who_are_not_identified_yet_are_let_go(tmp_path):
    async def scenario(hall):
        hall.callers.unknown = True
        client = hall.connect()
        await hall.until(lambda: hall.callers.waiting)
        await hall.server.stop(0.0)
        assert await hall.read(client) is None
        hall.callers.waiting[0](behind(100001, 1000))
        assert hall.server.connections() == 0
        hall.server._acceptor._reserve = os.open("/dev/null", os.O_RDONLY)  # for the end of the test, which stops again

    run(tmp_path, scenario)


def test_who_counts_as_root_for_rules_has_none_of_roots_rights(tmp_path):
    async def scenario(hall):
        hall.callers.people = [behind(100001, 0)]
        client = hall.connect()
        client.send(request("check", image="/a", subject_uid=1000))
        assert (await hall.read(client))["error"]["code"] == "not-permitted"

    run(tmp_path, scenario)
