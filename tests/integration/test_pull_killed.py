"""A pull that is killed at any moment: its file is the old one, or the new one whole and approved, or is not there."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from eclctl.cli.registry import push
from tests.helpers.registries import OCI, Ask, FakeRegistry, answer, on
from tests.helpers.servers import PATIENCE
from tests.helpers.site import ECLCTL, Site
from tests.helpers.support import CORPUS, ROOT

POINTS = 110
"""In each of two series: well over a hundred, at different lines of everything that touches the file."""

# Runs in a process of its own, without threads, so that it can fork one child for each point at no cost. A child counts
# the lines that it runs of what handles the file, and kills itself at the one that it was told.
CHILD = """
import hashlib, json, os, signal, sys
import eclctl.remote.http.transport, eclctl.local.engine, eclctl.local.at_path
from eclctl.cli.registry import pull

FILES = (
    "files/resumable.py", "cli/registry/pull.py", "local/at_path.py", "remote/registry/transfer.py",
    "files/atomic.py",
)
arguments, points, prepare = json.loads(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
target = arguments[-2]

def state():
    try:
        with open(target, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except FileNotFoundError:
        return "absent"

def run(stop, tell):
    left = stop
    def local(frame, event, argument):
        nonlocal left
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return local
    sys.settrace(lambda frame, event, argument: local if frame.f_code.co_filename.endswith(FILES) else None)
    status = pull.run(arguments)
    sys.settrace(None)
    os.write(tell, json.dumps([status, stop - left]).encode())

def child(stop):
    reads, tells = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            run(stop, tells)
        finally:
            os._exit(0)
    os.close(tells)
    os.waitpid(pid, 0)
    with open(reads, "rb") as said:
        return json.loads(said.read() or "null")

def prepared():
    if prepare is None:
        try:
            os.unlink(target)
        except FileNotFoundError:
            pass
    else:
        with open(target, "wb") as file:
            file.write(prepare.encode())

prepared()
status, lines = child(1 << 60)
new = state()
report = []
for number in range(points):
    prepared()
    killed = child(1 + number * lines // points) is None
    after = state()
    leftovers = len(os.listdir(os.path.dirname(target)))
    prepared()
    again = child(1 << 60)
    report.append([killed, after, leftovers, again[0], state(), sorted(os.listdir(os.path.dirname(target)))])
print(json.dumps({"status": status, "lines": lines, "new": new, "report": report}))
"""


@pytest.fixture
def site() -> Iterator[Site]:
    """A site without a daemon."""
    made = Site()
    try:
        yield made
    finally:
        made.close()


def series(arguments: list[str], prepare: str | None, home: Path) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(arguments), str(POINTS), json.dumps(prepare)],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if "proxy" not in name.lower()} | {"HOME": str(home)},
    )
    return json.loads(done.stdout)


def test_killed_at_a_hundred_points_the_file_is_the_old_or_the_new_one(tmp_path: Path) -> None:
    """And the next run, which goes on from what the killed one left, ends with the new one and nothing beside."""
    (tmp_path / "images").mkdir()
    target = tmp_path / "images" / "app.sif"
    old = hashlib.sha256(b"old content").hexdigest()
    with FakeRegistry() as server:
        server.store.add_image(OCI / "layers-ci.oci.sif")
        options = ["--no-https", "--force", "--with-cosign", "--arch", "amd64"]
        found = series([*options, str(target), f"docker://{server.host}/prod/app:1"], "old content", tmp_path)
    assert found["status"] == 0
    assert target.read_bytes() == (OCI / "layers-ci.oci.sif").read_bytes()
    states = {after for _, after, *_ in found["report"]}
    assert states == {old, found["new"]}, "some kills came before the new name, and some after"
    assert sum(killed for killed, *_ in found["report"]) == POINTS
    assert any(leftovers == 2 for _, _, leftovers, *_ in found["report"])
    assert all(each[3:] == [0, found["new"], ["app.sif"]] for each in found["report"])


def test_killed_at_a_hundred_points_what_appears_is_whole_and_approved(site: Site) -> None:
    target = site.root / "images" / "new.sif"
    image = CORPUS / "images" / "one-builder+scanner.sif"
    present = sorted([*os.listdir(site.root / "images"), "new.sif"])
    with FakeRegistry() as server:
        push_whole(server, image)
        options = ["--no-https", "--require-allow", "--config", str(site.config)]
        found = series([*options, str(target), f"oras://{server.host}/prod/app:1"], None, site.root)
    assert found["status"] == 0
    assert target.read_bytes() == image.read_bytes()
    assert {after for _, after, *_ in found["report"]} == {"absent", found["new"]}
    assert sum(killed for killed, *_ in found["report"]) == POINTS
    assert all(each[3:] == [0, found["new"], present] for each in found["report"])


def push_whole(server: FakeRegistry, image: Path) -> None:
    assert push.run(["--no-https", str(image), f"oras://{server.host}/prod/app:1"]) == 0


@pytest.mark.parametrize("waits", ["for the registry", "between tries"])
def test_ctrl_c_ends_a_pull_at_once_and_the_next_one_goes_on(tmp_path: Path, waits: str) -> None:
    asked, ended = threading.Event(), threading.Event()

    def behave(_: Ask) -> bytes:
        asked.set()
        if waits == "for the registry":
            ended.wait(PATIENCE)
        return answer(status="503 Busy", Retry_After="30")

    with FakeRegistry() as server:
        server.store.add_image(OCI / "layers-ci.oci.sif")
        blob = json.loads(server.store.manifests["1"][1])["layers"][2]["digest"]
        server.rules.append(rule := on("GET", blob, behave))
        where = f"docker://{server.host}/prod/app:1"
        command = [*ECLCTL, "pull", "--no-https", "--arch", "amd64", str(tmp_path / "a.sif"), where]
        environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        running = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert asked.wait(PATIENCE)
        running.send_signal(signal.SIGINT)
        output, errors = running.communicate(timeout=PATIENCE / 6)
        ended.set()
        assert (running.returncode, output, errors) == (130, b"", b"")
        assert [name.startswith(".eclctl-") for name in os.listdir(tmp_path)] == [True]
        server.rules.remove(rule)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "8192 of them from before" in done.stdout
    assert os.listdir(tmp_path) == ["a.sif"]
