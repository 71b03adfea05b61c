"""What systemd is told, and what it passes."""

import os
import socket
import subprocess
import sys

import pytest

from eclctl.daemon.lifecycle.systemd import SystemdNotifier, passed_sockets, watchdog_interval


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    address = str(tmp_path / "notify") if request.param == "path" else f"@eclctl-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address.replace("@", "\0"))
        listener.settimeout(10)
        yield address, listener


def test_readiness_is_sent_to_the_manager(manager):
    address, listener = manager
    SystemdNotifier(address).ready("answering")
    assert listener.recv(1000) == b"READY=1\nSTATUS=answering"


def test_a_reload_carries_the_time_that_systemd_wants(manager):
    address, listener = manager
    SystemdNotifier(address).reloading()
    first, second = listener.recv(1000).decode().split("\n")
    assert first == "RELOADING=1"
    assert second.startswith("MONOTONIC_USEC=")
    assert second.partition("=")[2].isdecimal()


@pytest.mark.parametrize("address", [None, "", "/nowhere/at/all"])
def test_without_a_manager_nothing_happens(address):
    SystemdNotifier(address).stopping()


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_fed_at_half_its_patience(environment, seconds):
    assert watchdog_interval(environment) == seconds


@pytest.mark.parametrize("environment", [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_FDS": "1"}])
def test_sockets_for_another_process_are_left_alone(environment):
    assert passed_sockets(environment) == {}


def test_passed_sockets_have_their_names(tmp_path):
    code = (
        "import os, sys; from eclctl.daemon.lifecycle.systemd import passed_sockets\n"
        "os.dup2(int(sys.argv[1]), 3)\n"  # 3 is the first that systemd passes
        "found = passed_sockets(os.environ | {'LISTEN_PID': str(os.getpid())})\n"
        "print(*((name, sock.getsockname()) for name, sock in found.items()))"
    )
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        environment = os.environ | {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "check"}
        done = subprocess.run(
            [sys.executable, "-c", code, str(listener.fileno())],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            pass_fds=[listener.fileno()],
        )
    assert done.stdout.strip() == str(("check", str(tmp_path / "s")))
