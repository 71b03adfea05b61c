"""A connection's lines and descriptors are bounded, and no descriptor is ever lost."""

import array
import os
import socket

import pytest

from eclctl.daemon.sockets.connection import BrokenConnectionError, Connection
from eclctl.daemon.sockets.lines import LINE_LIMIT
from eclctl.daemon.sockets.peers import Peer
from eclctl.model import Caller


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    connection = Connection(ours, Peer(Caller(1, 1), 1), admin=False, descriptors_limit=3, release=os.close, now=0.0)
    yield connection, theirs
    connection.close()
    theirs.close()


def pass_descriptors(sock, data, count):
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(count)]
    sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", opened))])
    for descriptor in opened:
        os.close(descriptor)


def open_count():
    return len(os.listdir("/proc/self/fd"))


def test_lines_come_one_by_one_however_they_were_cut(pair):
    connection, client = pair
    for part in (b"on", b"e\ntwo\nth", b"ree\n"):
        client.send(part)
        connection.receive(0.0)
    assert [connection.next_line() for _ in range(4)] == [b"one", b"two", b"three", None]


def test_a_partial_line_is_told_from_none(pair):
    connection, client = pair
    client.send(b"one\ntw")
    connection.receive(0.0)
    assert connection.next_line() == b"one"
    assert connection.next_line() is None
    assert connection.lines.has_partial_line()
    assert not connection.lines.has_line()


def test_a_line_without_end_breaks_the_connection(pair):
    connection, client = pair
    for _ in range(LINE_LIMIT // 8192 - 1):
        client.send(b"x" * 8192)
        connection.receive(0.0)
        assert connection.next_line() is None
    client.send(b"x" * 8192)
    connection.receive(0.0)
    with pytest.raises(BrokenConnectionError, match="longer"):
        connection.next_line()


def test_bytes_one_at_a_time_do_not_renew_the_time_a_line_may_take(pair):
    connection, client = pair
    for moment in range(5):
        client.send(b"x")
        connection.receive(float(moment + 1))
        assert connection.next_line() is None
    assert connection.active == 1.0


def test_descriptors_are_taken_in_the_order_of_their_arrival(pair, tmp_path):
    connection, client = pair
    for name in ("first", "second"):
        (tmp_path / name).touch()
        descriptor = os.open(tmp_path / name, os.O_RDONLY)
        socket.send_fds(client, [b"x\n"], [descriptor])
        os.close(descriptor)
        connection.receive(0.0)
    for name in ("first", "second"):
        (taken,) = connection.take_descriptors(1)
        assert os.readlink(f"/proc/self/fd/{taken}") == str(tmp_path / name)
        assert not os.get_inheritable(taken)
        os.close(taken)
    assert connection.take_descriptors(1) is None


def test_more_descriptors_than_a_message_may_carry_are_all_closed(pair):
    connection, client = pair
    before = open_count()
    pass_descriptors(client, b"x\n", 4)
    with pytest.raises(BrokenConnectionError):
        connection.receive(0.0)
    connection.refuse_input()
    assert open_count() == before


def test_descriptors_that_pile_up_unclaimed_break_the_connection(pair):
    connection, client = pair
    before = open_count()
    pass_descriptors(client, b"x", 3)
    connection.receive(0.0)
    pass_descriptors(client, b"x", 1)
    with pytest.raises(BrokenConnectionError):
        connection.receive(0.0)
    connection.refuse_input()
    assert open_count() == before


def test_what_the_client_does_not_read_is_counted(pair):
    connection, _ = pair
    connection.queue(b"x" * 4_000_000)
    connection.send(1.0)
    assert 0 < connection.unsent() < 4_000_000
    assert connection.last_progress == 1.0


def test_a_half_closed_connection_is_done_when_everything_is_answered(pair):
    connection, client = pair
    client.send(b"one\n")
    client.shutdown(socket.SHUT_WR)
    connection.receive(0.0)
    connection.receive(0.0)
    assert not connection.done()
    connection.next_line()
    connection.in_flight = 1
    assert not connection.done()
    connection.in_flight = 0
    assert connection.done()
