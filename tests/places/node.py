"""A node: a container with a service manager of its own, in which the project's units run as they are.

Its root directory is an ext4 file system in a file, as on a disk, and so is what its /etc/fstab lists. Programs,
libraries and the interpreter are the host's, bound read-only: nothing is downloaded. All of it goes with the test.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

import pytest

from tests.helpers.site import PATIENCE
from tests.helpers.support import CORPUS, ROOT, own_copy
from tests.places.inside import Done, User

IMAGE = CORPUS / "images" / "one-builder+scanner.sif"
SUPERUSER = User(0, 0)
PEOPLE = {"ada": User(4242, 4242), "ben": User(4343, 4343), "robot": User(4444, 4444)}

_NEEDED = ("systemd-nspawn", "systemctl", "mkfs.ext4", "nsenter", "setpriv", "unshare", "mount")
needs_node = pytest.mark.skipif(
    os.geteuid() != 0 or any(shutil.which(each) is None for each in _NEEDED) or not Path("/dev/loop-control").exists(),
    reason=f"needs root, loop devices and {', '.join(_NEEDED)}, for a service manager of its own",
)

_FOLDERS = ("proc", "sys", "dev", "run", "usr", "var/lib", "opt/python", "opt/eclctl/eclctl", "opt/eclctl/tests")
_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")  # into /usr, as the host has them
_SIZE = 64  # MiB
# The first process in a process namespace ends with the test, also when that is killed, and all others with it.
_APART = ("setpriv", "--pdeathsig=KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
_BOOT = 'mount -o loop "$1" "$2" && shift && exec systemd-nspawn --directory="$@"'
_PYTHON = f"""#!/bin/sh
export LD_LIBRARY_PATH=/opt/python/lib PYTHONPATH=/opt/eclctl:/opt/eclctl/lib
exec /opt/python/bin/python{sys.version_info.major}.{sys.version_info.minor} "$@"
"""
_ECLCTL = """#!/bin/sh
exec /usr/bin/node-python -c 'import sys; from eclctl.cli.entry import main; sys.exit(main())' "$@"
"""
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


def _make_ext4(content: Path, image: Path, size: int) -> None:
    """Make a file system of so many MiB in a file, with what a directory holds and its owners and modes."""
    with image.open("wb") as file:
        file.truncate(size << 20)
    command = ["mkfs.ext4", "-q", "-F", "-E", "root_owner=0:0", "-d", content, image]
    subprocess.run(command, check=True, capture_output=True)


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Node:
    """The files of a node, which `boot` starts.

    `tree` becomes the root directory: who fills it sets owners and modes. `people` have homes of mode 0700. The units
    and the configuration are where the README puts them; `run` starts the service.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.tree = folder / "tree"
        self._programs = folder / "programs"
        self._process: subprocess.Popen[bytes] | None = None
        self._started: list[subprocess.Popen[bytes]] = []
        self._leader = 0
        for name in _FOLDERS:
            self.folder(name)
        self.folder("tmp", mode=0o1777)
        self.folder("opt/eclctl/lib")
        for name in _LINKS:
            if (Path("/") / name).is_symlink():
                (self.tree / name).symlink_to(f"usr/{name}")
        self._accounts()
        self._install()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Files, before it starts

    def folder(self, name: str, owner: User = SUPERUSER, mode: int = 0o755) -> Path:
        """Make a directory."""
        path = self.tree / name
        path.mkdir(parents=True, exist_ok=True)
        os.chown(path, owner.uid, owner.gid)
        path.chmod(mode)
        return path

    def write(self, name: str, text: str) -> None:
        """Write a file of root's."""
        self.folder(os.path.dirname(name))
        (self.tree / name).write_text(text)

    def image(self, name: str, owner: User = SUPERUSER, mode: int = 0o644) -> None:
        """Put an image that is signed by `builder` and `scanner` in an existing directory."""
        shutil.copyfile(IMAGE, self.tree / name)
        os.chown(self.tree / name, owner.uid, owner.gid)
        (self.tree / name).chmod(mode)

    def file_system(self, name: str) -> None:
        """Make an ext4 file system in a file, with an image `a.sif` in it."""
        with tempfile.TemporaryDirectory(dir=self._folder) as content:
            shutil.copyfile(IMAGE, f"{content}/a.sif")
            _make_ext4(Path(content), self.tree / name, 8)

    def drop_in(self, *lines: str) -> None:
        """Change the service as an administrator would."""
        self.write("etc/systemd/system/eclctl.service.d/10.conf", "\n".join(["[Service]", *lines, ""]))

    def _accounts(self) -> None:
        people = PEOPLE.items()
        homes = [f"{name}:x:{who.uid}:{who.gid}::/home/{name}:/bin/sh" for name, who in people]
        groups = [f"{name}:x:{who.gid}:" for name, who in people]
        disk = os.stat("/dev/loop-control").st_gid  # may write devices
        groups += [f"disk:x:{disk}:"] * (disk != 0)
        self.write("etc/passwd", "\n".join(["root:x:0:0::/root:/bin/sh", *homes, ""]))
        self.write("etc/group", "\n".join(["root:x:0:", "eclctl:x:5555:", *groups, ""]))
        self.write("etc/nsswitch.conf", "passwd: files\ngroup: files\n")
        for name, who in people:
            self.folder(f"home/{name}", who, 0o700)

    def _install(self) -> None:
        """As the README says under "On a node", but for enabling the units."""
        self.write("etc/os-release", "ID=node\n")
        self.write("etc/machine-id", "")
        shutil.copy("/etc/ld.so.cache", self.tree / "etc")
        (self._programs / "bin").mkdir(parents=True)
        for name, text in (("node-python", _PYTHON), ("eclctl", _ECLCTL)):
            (self._programs / "bin" / name).write_text(text)
            (self._programs / "bin" / name).chmod(0o755)
        self.write("etc/eclctl/config.yaml", (ROOT / "config.example.yaml").read_text())
        for name in ("builder", "scanner"):
            own_copy(CORPUS / "keys" / "pgp" / f"{name}.asc", self.folder("etc/eclctl/keys.d"))
        for name in ("eclctl.service", "eclctl.socket"):
            self.write(f"etc/systemd/system/{name}", (ROOT / "systemd" / name).read_text())

    # Running

    def boot(self) -> None:
        """Start the node; returns when its service manager has started its units."""
        root, point = self._folder / "root.ext4", self._folder / "root"
        _make_ext4(self.tree, root, _SIZE)
        point.mkdir()
        bound = {sys.base_prefix: "python", sysconfig.get_path("purelib"): "eclctl/lib"}
        bound |= {str(ROOT / name): f"eclctl/{name}" for name in ("eclctl", "tests")}
        devices = [path for path in (Path("/dev/fuse"), *Path("/dev").glob("loop[-0-9]*")) if path.exists()]
        options = [
            *("--quiet", "--register=no", "--keep-unit", "--private-network", "--notify-ready=yes"),
            *("--console=pipe", "--boot", f"--overlay-ro=/usr:{self._programs}:/usr"),
            *(f"--bind-ro={source}:/opt/{target}" for source, target in bound.items()),
            *(f"--bind={device}" for device in devices),
        ]
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
            (self._folder / "console").open("wb") as console,
        ):
            manager.bind(str(self._folder / "notify"))
            manager.settimeout(PATIENCE)
            self._process = subprocess.Popen(
                [*_APART, "sh", "-c", _BOOT, "sh", root, point, *options],
                env=os.environ | {"NOTIFY_SOCKET": str(self._folder / "notify")},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
            self._wait(manager)
        (container,) = _children(self._process.pid)
        (self._leader,) = _children(container)

    def _wait(self, manager: socket.socket) -> None:
        try:
            while b"READY=1" not in manager.recv(65536).splitlines():
                pass
        except TimeoutError:
            console = (self._folder / "console").read_text(errors="replace")
            raise AssertionError(f"the node did not start:\n{console}") from None

    def command(self, *argv: str, who: User = SUPERUSER) -> list[str]:
        """The command line that runs a program in the node, as root or as a user."""
        groups = f"--groups={','.join(map(str, who.groups))}" if who.groups else "--clear-groups"
        user = ["setpriv", f"--reuid={who.uid}", f"--regid={who.gid}", groups]
        return ["nsenter", f"--target={self._leader}", "--all", "--", *(user if who != SUPERUSER else ()), *argv]

    def run(self, *argv: str, who: User = SUPERUSER) -> Done:
        """Run a program in the node."""
        done = subprocess.run(
            self.command(*argv, who=who), capture_output=True, text=True, check=False, timeout=PATIENCE, env=ENVIRONMENT
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def must(self, *argv: str) -> str:
        """Run a program in the node as root, which must succeed; return what it wrote."""
        done = self.run(*argv)
        assert done.status == 0, (argv, done, self.log())
        return done.output

    def serve(self) -> None:
        """Enable and start the units, and wait until they have started."""
        self.must("systemctl", "enable", "--quiet", "--now", "eclctl.socket", "eclctl.service")

    def explain(self, image: str, who: User, *before: str) -> dict[str, Any]:
        """Ask about an image; `before` are words that come before the command."""
        done = self.run(*before, "eclctl", "explain", "--json", image, who=who)
        assert done.status in {0, 1}, (done, self.log())
        return json.loads(done.output)

    def log(self) -> str:
        """What the service has logged, and the service manager about it."""
        return self.run("journalctl", "--unit=eclctl.service", "--no-pager", "--output=cat").output

    def start(self, program: str, *arguments: str) -> Connection:
        """Start a Python program in the node, as root; its first argument is the descriptor of a Connection to here."""
        ours, theirs = socket.socketpair()
        with theirs:
            command = self.command("node-python", "-c", program, str(theirs.fileno()), *arguments)
            self._started.append(subprocess.Popen(command, pass_fds=[theirs.fileno()], env=ENVIRONMENT))
        return Connection(ours.detach())

    def close(self) -> None:
        """End all that runs in the node, and remove its files."""
        if self._process is not None:
            for pid in _children(self._process.pid):
                os.kill(pid, signal.SIGKILL)
            for process in (self._process, *self._started):
                process.wait(PATIENCE)
        shutil.rmtree(self._folder)
