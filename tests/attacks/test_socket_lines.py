"""attacks.md: socket, identity, another's file, mounted over, file kinds through the socket, leases."""

import array
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap

import pytest

from eclctl.client import NoAnswerError
from eclctl.daemon.sockets.permissions import BY_NAME
from tests.helpers.site import APPROVED, HALF, PATIENCE, Site, eventually, read_lines, read_to_end, request

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be several users")
NOBODY = 65534


def descriptors_sent(sock, data, count):
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(count)]
    sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", opened))])
    for descriptor in opened:
        os.close(descriptor)


def as_nobody(code, *arguments):
    """Run Python code as nobody; what it prints is JSON. Its `ask` passes a descriptor, as users must."""
    prelude = (  # what is imported may lie where nobody cannot read
        "import json, os, socket, sys\nfrom eclctl.client import Client, NoAnswerError, ClientRequest\n"
        f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "def ask(path, image, method='check', **more):\n"
        "    descriptor = os.open(image, os.O_RDONLY)\n"
        "    return Client(path).ask(ClientRequest(method, {'image': image, 'fd': True, **more}, (descriptor,)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", prelude + textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    return json.loads(done.stdout)


@pytest.fixture
def limited():
    """A daemon with small limits."""
    made = Site("{connections_per_user: 20, idle_timeout: 1s, requests_in_flight_per_user: 4}")
    try:
        yield made.start()
    finally:
        made.close()


@needs_root
def test_socket_idle_connections_of_one_user_leave_room_for_the_others(limited):
    idle = [limited.connect() for _ in range(20)]
    refused = limited.connect()
    assert read_to_end(refused)[0]["error"]["code"] == "too-many-connections"
    answer = as_nobody(
        "print(json.dumps(ask(sys.argv[1], sys.argv[2])))",
        limited.check_socket,
        limited.image(APPROVED),
    )
    assert answer["decision"] == "allow"
    during = limited.descriptors()
    for sock in (*idle, refused):
        sock.close()
    eventually(lambda: limited.descriptors() <= during - len(idle))
    assert limited.check(APPROVED)["decision"] == "allow"


def test_socket_five_thousand_connections_do_not_stop_the_daemon(site):
    """Those beyond the limit are told so and closed; when they have gone, everything is as before."""
    before = site.descriptors()
    held, refused = [], 0
    for _ in range(5000):
        sock = site.connect()
        if len(held) < 256:
            held.append(sock)
        else:
            refused += read_to_end(sock)[0]["error"]["code"] == "too-many-connections"
            sock.close()
    assert refused == 5000 - 256
    assert site.descriptors() <= before + 256
    for sock in held:
        sock.close()
    eventually(lambda: site.descriptors() <= before)
    assert site.check(APPROVED)["decision"] == "allow"


def test_socket_an_idle_connection_ends(limited):
    with limited.connect() as sock:
        assert read_to_end(sock) == []


def test_socket_one_byte_at_a_time_does_not_hold_a_connection_for_ever(limited):
    """Each byte comes well within the idle time-out; the whole line does not."""
    with limited.connect() as sock:
        sock.settimeout(0.1)
        sent = 0
        try:
            while sent < 600:
                sock.send(b"x")
                sent += 1
                try:
                    assert sock.recv(100) == b""
                    break
                except TimeoutError:
                    continue
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert sent < 600


def test_socket_a_line_without_end_is_refused(site):
    with site.connect() as sock:
        try:
            for _ in range(1000):
                sock.send(b"x" * 10_000)
        except (BrokenPipeError, ConnectionResetError):
            pass
        else:
            pytest.fail("the daemon read ten megabytes of one line")
    assert site.check(APPROVED)["decision"] == "allow"


@pytest.mark.parametrize("count", [17, 253])
def test_socket_too_many_descriptors_in_a_message_end_the_connection_and_are_closed(site, count):
    site.check(APPROVED)
    before = site.descriptors()
    for _ in range(5):
        with site.connect() as sock:
            descriptors_sent(sock, request("check", image=site.image(APPROVED), fd=True), count)
            (answer,) = read_to_end(sock)
            assert answer["error"]["code"] == "bad-request"
    assert site.check(APPROVED)["decision"] == "allow"
    eventually(lambda: site.descriptors() <= before)


@pytest.mark.parametrize(
    ("line", "count"),
    [(request("ping"), 1), (request("check", image="/a", fd=True), 2), (b"nonsense\n", 1), (b"partial", 17)],
    ids=["unclaimed", "surplus", "with nonsense", "with half a line"],
)
def test_socket_descriptors_that_no_request_claims_end_the_connection(site, line, count):
    site.check(APPROVED)
    before = site.descriptors()
    with site.connect() as sock:
        descriptors_sent(sock, line, count)
        answers = read_to_end(sock)
    assert [answer["error"]["code"] for answer in answers if "error" in answer] == ["bad-request"] * (
        2 if line == b"nonsense\n" else 1
    )
    assert site.check(APPROVED)["decision"] == "allow"
    eventually(lambda: site.descriptors() <= before)


def test_socket_a_request_whose_descriptor_is_missing_ends_the_connection(site):
    with site.connect() as sock:
        sock.sendall(request("check", image=site.image(APPROVED), fd=True) + request("ping"))
        (answer,) = read_to_end(sock)
    assert answer["error"]["code"] == "bad-request"


def test_socket_half_closed_connections_are_answered_and_ended(site):
    with site.connect() as sock:
        sock.sendall(request("check", image=site.image(APPROVED)) * 3 + b'{"half')
        sock.shutdown(socket.SHUT_WR)
        answers = read_to_end(sock)
    assert [answer["result"]["decision"] for answer in answers] == ["allow"] * 3


def test_socket_a_client_that_does_not_read_is_not_read_either(site):
    """Memory stays bounded: the daemon stops taking requests from it, and others are served."""
    with site.connect() as deaf:
        deaf.setblocking(False)
        line = request("check", image=site.image(HALF))
        sent = 0
        quiet = 0
        while quiet < 20 and sent < 64 * 1024 * 1024:
            try:
                sent += deaf.send(line * 100)
                quiet = 0
            except BlockingIOError:
                assert site.check(APPROVED)["decision"] == "allow"
                quiet += 1
        assert quiet == 20
        assert sent < 8 * 1024 * 1024


def test_socket_an_abusive_user_gets_answers_too_but_only_in_turn(limited):
    """More requests than may be in flight wait; none is refused."""
    with limited.connect() as sock:
        sock.sendall(b"".join(request("check", str(n), image=limited.image(APPROVED)) for n in range(500)))
        assert len(read_lines(sock, 500)) == 500


@needs_root
def test_identity_a_caller_cannot_claim_another_uid(site):
    code = """
        try:
            print(json.dumps(ask(sys.argv[1], sys.argv[2], subject_uid=0)))
        except NoAnswerError as error:
            print(json.dumps([error.code, str(error)]))
    """
    refused = as_nobody(code, site.check_socket, site.image(APPROVED))
    assert refused == ["not-permitted", "only root may ask for another user"]


@needs_root
def test_identity_the_record_has_the_uid_of_the_kernel(site):
    code = "print(json.dumps(ask(sys.argv[1], sys.argv[2])))"
    answer = as_nobody(code, site.check_socket, site.image(APPROVED))
    (record,) = [record for record in site.audit() if record.get("id") == answer["decision_id"]]
    assert (record["uid"], record["gid"]) == (NOBODY, NOBODY)


@needs_root
def test_identity_root_may_ask_for_another_user(site):
    answer = site.ask("check", image=site.image(APPROVED), subject_uid=NOBODY)
    (record,) = [record for record in site.audit() if record.get("id") == answer["decision_id"]]
    assert record["uid"] == NOBODY
    with pytest.raises(NoAnswerError) as unknown:
        site.ask("check", image=site.image(APPROVED), subject_uid=3_999_999_999)
    assert unknown.value.code == "unknown-user"


@needs_root
def test_identity_the_admin_socket_is_closed_to_others_in_any_mode(site):
    os.chmod(site.admin_socket, 0o666)
    code = """
        try:
            print(json.dumps(Client(sys.argv[1]).ask(ClientRequest('status'))))
        except NoAnswerError as error:
            print(json.dumps(error.code))
    """
    assert as_nobody(code, site.admin_socket) == "not-permitted"


@needs_root
@pytest.mark.parametrize("method", ["check", "check_all", "explain"])
def test_another_s_file_cannot_be_asked_for_by_name(site, method):
    """Every name gets the same refusal, so that it tells nothing of what lies in another's directory."""
    os.chmod(site.add("secret.sif", site.root / "images" / APPROVED), 0o600)
    (site.root / "images" / "private").mkdir(mode=0o700)
    shutil.copy(site.image(APPROVED), site.root / "images" / "private" / "a.sif")
    code = """
        path, method, *images = sys.argv[1:]
        refusals = []
        for image in images:
            asked = {'images': [{'image': image}]} if method == 'check_all' else {'image': image}
            try:
                refusals.append(Client(path).ask(ClientRequest(method, asked)))
            except NoAnswerError as error:
                refusals.append([error.code, str(error)])
        print(json.dumps(refusals))
    """
    names = ("secret.sif", "private/a.sif", "private/missing.sif", "missing.sif", APPROVED)
    refusals = as_nobody(code, site.check_socket, method, *(site.image(name) for name in names), "/proc/1/exe")
    assert refusals == [["not-permitted", BY_NAME]] * 6
    assert not [record for record in site.audit() if "decision" in record]


@needs_root
def test_another_s_file_beside_one_that_is_passed_is_refused_with_it(site):
    """One name among descriptors is enough; what came with the line is closed, and the connection ends."""
    code = """
        path, image, other = sys.argv[1:]
        images = [{'image': image, 'fd': True}, {'image': other}]
        client = Client(path)
        client.send(ClientRequest('check_all', {'images': images}, (os.open(image, os.O_RDONLY),)))
        _, refused = client.receive()
        try:
            client.receive()
        except NoAnswerError as error:
            print(json.dumps([refused.code, error.code]))
    """
    site.check(APPROVED)
    before = site.descriptors()
    refused = as_nobody(code, site.check_socket, site.image(APPROVED), site.image(HALF))
    assert refused == ["not-permitted", "bad-request"]
    eventually(lambda: site.descriptors() <= before)


@needs_root
def test_mounted_over_the_rule_of_the_path_does_not_apply(site):
    """In a private mount namespace, another file lies over the approved name; its descriptor is passed."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare")
    other = site.root / "other.sif"
    shutil.copy(site.image(APPROVED), other)
    code = (
        "import json, os, sys\nfrom eclctl.client import Client, ClientRequest\n"
        "fd = os.open(sys.argv[2], os.O_RDONLY)\n"
        "print(json.dumps(Client(sys.argv[1]).ask(ClientRequest('check', {'image': sys.argv[2], 'fd': True}, (fd,)))))"
    )
    script = 'mount --bind "$1" "$2" && exec "$3" -c "$4" "$5" "$2"'
    done = subprocess.run(
        [
            "unshare",
            "-m",
            "sh",
            "-c",
            script,
            "sh",
            other,
            site.image(APPROVED),
            sys.executable,
            code,
            site.check_socket,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0 and "permission denied" in done.stderr.lower():
        pytest.skip("needs the right to mount")
    answer = json.loads(done.stdout)
    assert (answer["decision"], answer["code"], answer["rule"]) == ("deny", "no-rule", None)
    assert site.check(APPROVED)["decision"] == "allow"


def _fifo(site):
    os.mkfifo(site.image("fifo"))
    return os.open(site.image("fifo"), os.O_RDONLY | os.O_NONBLOCK)


def _memfd(_site):
    descriptor = os.memfd_create("image", os.MFD_CLOEXEC)
    with open(_site.image(APPROVED), "rb") as image:
        os.write(descriptor, image.read())
    return descriptor


def _socket(_site):
    ours, theirs = socket.socketpair()
    theirs.close()
    return ours.detach()


def _deleted(site):
    path = site.add("deleted.sif", site.root / "images" / APPROVED)
    descriptor = os.open(path, os.O_RDONLY)
    path.unlink()
    return descriptor


KINDS = {
    "a FIFO": _fifo,
    "a device": lambda _: os.open("/dev/zero", os.O_RDONLY),
    "a socket": _socket,
    "a write-only descriptor": lambda site: os.open(site.image(APPROVED), os.O_WRONLY),
    "an unsealed memfd": _memfd,
    "a deleted file": _deleted,
    "an event descriptor": lambda _: os.eventfd(0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_file_kinds_that_hold_no_image_are_denied_at_once(site, kind):
    answer = site.check_open(site.image(APPROVED), KINDS[kind](site))
    assert (answer["decision"], answer["code"]) == ("deny", "unsupported-file")


def test_file_kinds_a_directory_needs_a_rule_for_sandboxes(site):
    directory = str(site.root / "images")
    answer = site.check_open(directory, os.open(directory, os.O_RDONLY))
    assert (answer["decision"], answer["code"]) == ("deny", "no-rule")


def test_file_kinds_a_sparse_file_of_exbibytes_is_not_read_whole(site):
    path = site.add("sparse.sif", site.root / "images" / APPROVED)
    for size in (2**63 - 4096, 2**44 - 4096, 2**43):
        try:
            os.truncate(path, size)
        except OSError:
            continue
        break
    answer = site.check("sparse.sif")
    assert answer["decision"] == "deny" or answer["code"] == "requirements-met"


def test_file_kinds_a_fifo_by_name_does_not_hang(site):
    os.mkfifo(site.image("fifo"))
    os.chmod(site.image("fifo"), 0o644)
    assert site.ask("check", image=site.image("fifo"))["code"] == "unsupported-file"


def test_leases_held_by_a_process_are_busy_at_once(site):
    """The daemon neither waits for the holder nor answers from what it knew."""
    path = site.add("leased.sif", site.root / "images" / APPROVED)
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        answer = site.ask("check", image=str(path))
    finally:
        os.close(descriptor)
    assert (answer["decision"], answer["code"]) == ("deny", "busy")
    assert site.ask("check", image=str(path))["decision"] == "allow"
