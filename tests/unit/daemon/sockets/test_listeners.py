"""Sockets appear when they are published, and never in the place of one that is in use."""

import shutil
import socket
import tempfile
from pathlib import Path

import pytest

from eclctl.daemon.sockets.listeners import open_listener
from eclctl.errors import ConfigError


@pytest.fixture
def place():
    directory = tempfile.mkdtemp(prefix="ecl")  # short: a socket's path has 107 bytes
    yield Path(directory)
    shutil.rmtree(directory)


def connects(path):
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True


def test_a_socket_shows_only_when_it_is_published(place):
    listener = open_listener(place / "new" / "s", 0o600)
    assert not (place / "new" / "s").exists()
    listener.publish()
    assert connects(place / "new" / "s")
    assert (place / "new" / "s").stat().st_mode & 0o777 == 0o600
    listener.close()
    assert list((place / "new").iterdir()) == []


def test_the_socket_of_a_dead_daemon_is_replaced(place):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(place / "s"))
    listener = open_listener(place / "s", 0o666)
    listener.publish()
    assert connects(place / "s")
    listener.close()


def test_the_socket_of_a_running_daemon_is_not(place):
    first = open_listener(place / "s", 0o666)
    first.publish()
    with pytest.raises(ConfigError, match="another daemon"):
        open_listener(place / "s", 0o666)
    first.close()


def test_a_file_in_the_place_is_kept(place):
    (place / "s").write_text("mine")
    with pytest.raises(ConfigError, match="no socket"):
        open_listener(place / "s", 0o666)
    assert (place / "s").read_text() == "mine"


def test_a_path_that_is_too_long_is_named(place):
    with pytest.raises(ConfigError, match="longer than 107"):
        open_listener(place / ("s" * 120), 0o666)


def test_closing_leaves_a_successors_socket(place):
    first = open_listener(place / "s", 0o666)
    first.publish()
    (place / "s").unlink()
    second = open_listener(place / "s", 0o666)
    second.publish()
    first.close()
    assert connects(place / "s")
    second.close()
