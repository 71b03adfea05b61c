"""A result that cannot be written is one line of complaint and exit status 3, never a traceback, never success."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.helpers.registries import OCI, FakeRegistry
from tests.helpers.site import APPROVED, ECLCTL, HALF
from tests.helpers.support import CORPUS, own_copy

FULL = Path("/dev/full")
pytestmark = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")


@pytest.fixture(params=[{}, {"PYTHONUNBUFFERED": "1"}], ids=["buffered", "unbuffered"])
def eclctl(request):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | request.param

    def run(*arguments, error=subprocess.PIPE):
        with FULL.open("wb") as full:
            return subprocess.run(
                [*ECLCTL, *arguments], stdout=full, stderr=error, check=False, timeout=60, env=environment
            )

    return run


def assert_complained(done):
    assert done.returncode == 3
    said = [line for line in done.stderr.splitlines() if not line.startswith(b"INFO:")]
    assert said == [b"eclctl: cannot write the output: No space left on device"]


@pytest.mark.parametrize("command", ["check", "explain"])
@pytest.mark.parametrize("name", [APPROVED, HALF])
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_a_decision_that_cannot_be_shown_is_no_decision(eclctl, site, command, name, form):
    assert_complained(eclctl(command, "--socket", site.check_socket, *form, site.image(name)))


def test_a_quiet_check_has_nothing_to_write(eclctl, site):
    assert eclctl("check", "--quiet", "--socket", site.check_socket, site.image(APPROVED)).returncode == 0


@pytest.mark.parametrize("command", ["status", "reload"])
def test_an_answer_to_an_administrator_that_cannot_be_shown_is_no_answer(eclctl, site, command):
    assert_complained(eclctl(command, "--socket", site.admin_socket))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["check", "--help"],
        ["explain", "--help"],
        ["verify", "--keyring", CORPUS / "keys" / "pgp" / "builder.asc", CORPUS / "images" / HALF],
        ["verify", "--json", "--keyring", CORPUS / "keys" / "pgp" / "builder.asc", CORPUS / "images" / HALF],
    ],
    ids=["help", "version", "check help", "explain help", "verify", "verify json"],
)
def test_what_needs_no_daemon_complains_the_same(eclctl, arguments):
    assert_complained(eclctl(*arguments))


def test_what_was_pushed_or_pulled_and_cannot_be_said_is_not_called_a_failure_of_it(eclctl, tmp_path):
    with FakeRegistry() as server:
        where = f"docker://{server.host}/prod/app:1"
        for form in ([], ["--json"]):
            assert_complained(eclctl("push", "--no-https", *form, OCI / "app-unsigned.oci.sif", where))
            target = tmp_path / f"a{len(form)}.sif"
            assert_complained(eclctl("pull", "--no-https", "--arch", "amd64", *form, target, where))
            assert target.read_bytes() == (OCI / "app-unsigned.oci.sif").read_bytes()


def test_with_standard_error_full_too_the_status_alone_tells(eclctl, site):
    with FULL.open("wb") as full:
        done = eclctl("check", "--socket", site.check_socket, site.image(APPROVED), error=full)
    assert done.returncode == 3


def test_with_standard_output_closed_the_status_tells_the_decision(site):
    for name, status in ((APPROVED, 0), (HALF, 1)):
        done = subprocess.run(
            [*ECLCTL, "check", "--socket", site.check_socket, site.image(name)],
            stderr=subprocess.PIPE,
            preexec_fn=lambda: os.close(1),
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (status, b"")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ("keys import -", 1),
        ("keys export --keyring-dir {ring} builder@site101.example", 0),
        ("sign --secret-keyring {keys}/builder-secret.asc {image}", 0),
    ],
)
def test_streams_that_are_closed_lead_nowhere(arguments, status, closed, tmp_path):
    """Nor does another file get their numbers: an image that is descriptor 2 would be written complaints into."""
    keys = CORPUS / "keys" / "pgp"
    image, ring = own_copy(CORPUS / "images" / "dsse-ok.sif", tmp_path), tmp_path / "ring"
    subprocess.run([*ECLCTL, "keys", "import", "--keyring-dir", ring, keys / "builder.asc"], check=True, timeout=60)
    command = f"{shlex.join(map(str, ECLCTL))} {arguments.format(image=image, ring=ring, keys=keys)} {closed}"
    done = subprocess.run(["sh", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60)
    assert done.returncode == status, done.stderr
    assert b"Traceback" not in done.stderr
