"""systemd/eclctl.service as it is, run by a real service manager, and asked by users.

Its sandbox mounts everything again, and its system call filter and capabilities leave little: what the look-up of
files needs must get through.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.helpers.site import BUILDER, PATIENCE, eventually
from tests.places import fuse_server
from tests.places.arena import one_at_a_time
from tests.places.inside import User
from tests.places.node import PEOPLE, SUPERUSER, Node, needs_node

pytestmark = needs_node

ADA, BEN, ROBOT = PEOPLE["ada"], PEOPLE["ben"], PEOPLE["robot"]
SUBORDINATE = User(100001, 100001)  # in ada's range

POLICY = f"""version: 1
signers:
  builder: {{pgp: [{BUILDER}]}}
rules:
  - name: not-ada
    match: {{paths: [/srv/containers/secret.sif], users: [ada]}}
    decision: deny
  - name: production
    match: {{paths: [/srv/containers/**, /srv/disk/**, /srv/late/**, /srv/brought/**]}}
    require: [{{any_of: [builder]}}]
  - name: sandboxes
    match: {{paths: [/srv/sandboxes/**], kinds: [sandbox]}}
    decision: allow
  - name: homes
    match: {{paths: [/home/**]}}
    assurance: none
    require: [{{any_of: [builder]}}]
"""
FSTAB = """/var/lib/disk.ext4 /srv/disk ext4 loop,nosuid,nodev 0 0
/var/lib/late.ext4 /srv/late ext4 loop,nosuid,nodev,noauto 0 0
/srv/containers /srv/export none bind 0 0
"""
# A server that squashes root: what it serves, root may not look up.
SQUASHING = f"""
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from tests.places.fuse_server import Entry, Options, run
entry = Entry(Path("/srv/containers/a.sif").read_bytes(), {ADA.uid}, {ADA.gid})
tree = {{"": Entry(None, {ADA.uid}, {ADA.gid}, 0o700), "a.sif": entry}}
options = Options(allow_other=True, default_permissions=True, squash_root=True)
run(Connection(int(sys.argv[1])), sys.argv[2], tree, options)
"""
BY_O_PATH = """
import json, os, sys
from tests.places.asking import Ask, ask
question = Ask(sys.argv[1], sys.argv[1], os.O_PATH, "explain")
print(json.dumps(ask("/run/eclctl/eclctl.sock", [question])[0]))
"""
HELD = "/srv/containers/held.sif"
HOLDING = ("sh", "-c", 'exec 3>>"$0"; exec "$@"', HELD)  # the asker has it open for writing


class Found(NamedTuple):
    """What an answer says of the file."""

    rule: str | None  # None where no rule matches
    path: str | None
    assurance: str | None
    writers: str


LIBRARY = Found("production", "/srv/containers/a.sif", "trusted-path", "none")
HOME = Found("homes", "/home/ada/a.sif", "none", "not known")
SQUASHED = Found("homes", "/home/ada/squashed/a.sif", "none", "not known")
PRIVATE = Found("production", "/srv/containers/private/a.sif", "trusted-path", "none")
NO_NAME = Found(None, None, "none", "not known")
NOT_READ = Found(None, None, None, "not known")
EXPECTED = {
    "/srv/containers/a.sif": LIBRARY,
    "//srv/./containers/a.sif": LIBRARY,
    "/srv/export/a.sif": LIBRARY,
    "/srv/link/a.sif": LIBRARY,
    "/proc/self/root/srv/containers/a.sif": LIBRARY,
    "/srv/containers/private/a.sif": PRIVATE,
    "/srv/disk/a.sif": Found("production", "/srv/disk/a.sif", "trusted-path", "none"),
    "/srv/late/a.sif": Found("production", "/srv/late/a.sif", "trusted-path", "none"),
    "/srv/brought/a.sif": Found("production", "/srv/brought/a.sif", "none", "not known"),
    "/srv/sandboxes/tools": Found("sandboxes", "/srv/sandboxes/tools", "trusted-path", "not known"),
    "/home/ada/a.sif": HOME,
    "/home/ada/squashed/a.sif": SQUASHED,
    "O_PATH /srv/containers/a.sif": LIBRARY,
    "O_PATH /home/ada/a.sif": HOME,
    "O_PATH /home/ada/squashed/a.sif": SQUASHED,
}


class Started(NamedTuple):
    """A node whose service runs; `fuse` is the server in ada's home."""

    node: Node
    fuse: Connection

    def answers(self) -> dict[str, Found]:
        """What ada is told of each image in `EXPECTED`."""
        return {name: self._found(name) for name in EXPECTED}

    def _found(self, name: str) -> Found:
        if name.startswith("O_PATH "):
            done = self.node.run("node-python", "-c", BY_O_PATH, name.removeprefix("O_PATH "), who=ADA)
            assert done.status == 0, (done, self.node.log())
            return found(json.loads(done.output))
        return found(self.node.explain(name, ADA))


def found(answer: dict) -> Found:
    return Found(*(answer[field] for field in Found._fields))


@pytest.fixture
def node(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node with images, which does not run yet; one such test runs at a time."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with one_at_a_time(folder / "arena.lock"), Node(tmp_path / "node") as made:
        fill(made)
        yield made


def fill(node: Node) -> None:
    for name in ("containers", "disk", "late", "brought", "export", "sandboxes/tools/etc"):
        node.folder(f"srv/{name}")
    node.folder("home/ada/squashed", ADA)
    node.folder("srv/containers/private", User(ROBOT.uid, ADA.gid), 0o750)
    for name in ("a", "secret", "held"):
        node.image(f"srv/containers/{name}.sif")
    node.image("srv/containers/private/a.sif", User(ROBOT.uid, ADA.gid), 0o640)
    node.image("home/ada/a.sif", ADA)
    node.write("srv/sandboxes/tools/etc/motd", "hello\n")
    (node.tree / "srv/link").symlink_to("containers")
    node.file_system("var/lib/disk.ext4")
    node.file_system("var/lib/late.ext4")
    node.write("etc/fstab", FSTAB)
    node.write("etc/subuid", "ada:100000:65536\n")
    node.write("etc/subgid", "ada:100000:65536\n")
    node.write("etc/eclctl/policies.d/10.yaml", POLICY)
    config = node.tree / "etc/eclctl/config.yaml"
    config.write_text(config.read_text().replace("trusted_owners: [root]", "trusted_owners: [root, robot]"))


def start(node: Node) -> Started:
    """Start the node and its service, and only then mount what comes later."""
    node.boot()
    node.serve()
    node.must("mount", "/srv/late")
    node.must("mount", "-t", "tmpfs", "brought", "/srv/brought")
    node.must("cp", "/srv/containers/a.sif", "/srv/brought")
    server = node.start(SQUASHING, "/home/ada/squashed")
    assert server.poll(PATIENCE)
    assert server.recv() == fuse_server.READY
    return Started(node, server)


def test_the_unit_finds_each_image_under_its_plain_name(node: Node) -> None:
    started = start(node)
    assert started.answers() == EXPECTED
    assert node.explain("/srv/containers/secret.sif", BEN)["decision"] == "allow"
    assert node.explain("/srv/containers/secret.sif", SUBORDINATE)["rule"] == "not-ada"
    assert found(node.explain(HELD, SUPERUSER, *HOLDING)) == Found("production", HELD, "none", "some")

    node.must("systemctl", "reload", "eclctl.service")
    node.must("systemctl", "restart", "eclctl.service")
    assert started.answers() == EXPECTED
    status = json.loads(node.must("eclctl", "status", "--json"))
    assert status["internal_errors"]["count"] == 0
    log = node.log()
    assert not [word for word in ("Traceback", "not permitted", " error ", " warning ") if word in log], log


def test_the_unit_learns_of_changes_in_sandboxes(node: Node) -> None:
    """Their watches are made through /proc/self/fd, from within the unit's sandbox."""
    start(node)
    assert node.explain("/srv/sandboxes/tools", ADA)["assurance"] == "trusted-path"
    node.must("chmod", "o+w", "/srv/sandboxes/tools/etc/motd")
    eventually(lambda: node.explain("/srv/sandboxes/tools", ADA)["assurance"] == "none")


def test_the_filter_lets_through_every_call_that_the_daemon_makes(node: Node) -> None:
    """With the drop-in, the first call that is refused kills the daemon."""
    node.drop_in("SystemCallErrorNumber=", "Restart=no")
    started = start(node)
    assert started.answers() == EXPECTED
    node.must("systemctl", "reload", "eclctl.service")
    node.must("systemctl", "stop", "eclctl.socket", "eclctl.service")
    assert "SYS" not in node.log()


def test_a_filter_that_is_older_than_openat2_changes_no_answer(node: Node) -> None:
    """RHEL 8 has Linux 4.18 and systemd 239: newer calls are refused with EPERM before the kernel can say ENOSYS."""
    node.drop_in("SystemCallFilter=~openat2 faccessat2 close_range epoll_pwait2")
    assert start(node).answers() == EXPECTED


@pytest.mark.parametrize(
    ("capability", "differs"),
    [
        ("CAP_DAC_READ_SEARCH", PRIVATE._replace(assurance="none", writers="not known")),
        ("CAP_LEASE", PRIVATE._replace(writers="not known")),
    ],
)
def test_without_a_capability_less_is_known_of_files_of_others(node: Node, capability: str, differs: Found) -> None:
    """Files of root need neither: the daemon runs as their owner."""
    node.drop_in(f"CapabilityBoundingSet=~{capability}")
    assert start(node).answers() == EXPECTED | {"/srv/containers/private/a.sif": differs}


@pytest.mark.parametrize("capability", ["CAP_SETUID", "CAP_SETGID"])
def test_without_the_rights_of_those_who_ask_private_paths_match_no_rule(node: Node, capability: str) -> None:
    node.drop_in(f"CapabilityBoundingSet=~{capability}")
    differs = {name: NO_NAME for name in EXPECTED if "/home/" in name or "/private/" in name}
    differs |= {name: NOT_READ for name in EXPECTED if name.startswith("O_PATH ")}
    assert start(node).answers() == EXPECTED | differs
    assert node.must("systemctl", "show", "--property=NRestarts", "eclctl.service") == "NRestarts=0\n"


def test_without_chown_the_admin_socket_has_no_group_and_the_daemon_says_so(node: Node) -> None:
    node.drop_in("CapabilityBoundingSet=~CAP_CHOWN", "Restart=no")
    node.boot()
    assert node.run("systemctl", "start", "eclctl.service").status != 0
    assert "cannot listen at /run/eclctl/admin.sock" in node.log()


def test_the_unit_has_these_capabilities_and_no_others(node: Node) -> None:
    node.boot()
    node.serve()
    pid = node.must("systemctl", "show", "--property=MainPID", "--value", "eclctl.service").strip()
    lines = dict(line.split(":\t") for line in node.must("cat", f"/proc/{pid}/status").splitlines() if "\t" in line)
    names = {0: "CHOWN", 2: "DAC_READ_SEARCH", 6: "SETGID", 7: "SETUID", 28: "LEASE"}  # linux/capability.h
    for which in ("CapPrm", "CapEff", "CapBnd"):
        assert int(lines[which], 16) == sum(1 << number for number in names)
    assert (int(lines["CapAmb"], 16), lines["NoNewPrivs"], lines["Seccomp"]) == (0, "1", "2")
    assert node.must("stat", "--format=%U %G %a", "/run/eclctl/admin.sock", "/run/eclctl/eclctl.sock") == (
        "root eclctl 660\nroot root 666\n"
    )
