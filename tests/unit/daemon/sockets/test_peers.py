"""Peers are who the kernel says."""

import os
import socket
import subprocess
import sys

import pytest

from eclctl.config.accounts import subject
from eclctl.daemon.sockets.peers import peer_of


def test_a_peer_has_the_ids_and_the_groups_of_its_process():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = peer_of(ours)
    assert (peer.pid, peer.caller.uid, peer.caller.gid) == (os.getpid(), os.getuid(), os.getgid())
    assert peer.caller.groups == frozenset(os.getgroups()) | {os.getgid()}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to have many groups")
def test_a_peer_may_be_in_more_groups_than_pythons_getsockopt_has_room_for():
    code = (
        "import os, socket; os.setgroups(range(1000, 1700)); from eclctl.daemon.sockets.peers import peer_of\n"
        "ours, theirs = socket.socketpair(); print(len(peer_of(ours).caller.groups - {os.getgid()}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "700"


def test_a_subject_is_a_user_of_this_host():
    found = subject(0)
    assert (found.uid, found.gid) == (0, 0)
    assert 0 in found.groups


def test_an_unknown_subject_is_nobody():
    assert subject(3_999_999_999) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to have many groups")
def test_a_peer_in_more_groups_than_are_kept_is_refused_before_they_are_read():
    code = (
        "import os, socket\nfrom eclctl.daemon.sockets.peers import MOST_GROUPS, TooManyGroupsError, peer_of\n"
        "ours, theirs = socket.socketpair()\n"
        "for more in (0, 1):\n"
        "    os.setgroups(range(100_000, 100_000 + MOST_GROUPS + more)); ours, theirs = socket.socketpair()\n"
        "    try: print(len(peer_of(ours).caller.groups) >= MOST_GROUPS)\n"
        "    except TooManyGroupsError: print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "refused"]
