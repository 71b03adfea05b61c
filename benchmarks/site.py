"""A private site for measuring: a running daemon, the floor server, and clients for both."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "tests" / "corpus" / "data"
ECLCTL = Path(sys.executable).parent / "eclctl"
DESCRIPTORS = 16  # the daemon's limits.descriptors_per_message

CONFIG = """\
version: 1
sockets: {{check: check.sock, admin: admin.sock}}
state_dir: state
policies: [policies.d]
keyrings: [keys.d]
watch: []
metrics: {{listen: "127.0.0.1:{port}"}}
audit: {{path: audit.jsonl}}
trusted_owners: [root, "{uid}"]
limits: {{idle_timeout: 3600s}}
"""

POLICY = """\
version: 1
signers:
  builder:  {{pgp: [81F111F6190C46143937EF7C22BC3A3BC942487F]}}
  scanner:  {{pgp: [F69053E5830DBDBA72B3D8F61BDDA97D14902F26]}}
  approver: {{pgp: [25B8EEE0382B85FDCBDD9B4F7A750C002A7A02D4]}}
roles:
  security: [scanner, approver]
rules:
  - name: production
    match: {{paths: ["{library}/**"]}}
    require:
      - any_of: [builder]
      - approvals: {{count: 2, of: security}}
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def directory() -> Iterator[Path]:
    """A directory on the file system of the temporary directory, which every user can reach."""
    os.umask(0o022)
    root = Path(tempfile.mkdtemp(prefix="eclctl-bench-")).resolve()
    root.chmod(0o755)
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


def lay_out(root: Path) -> Path:
    """Write the configuration, a policy, a keyring and one approved image; return the image."""
    for name in ("policies.d", "keys.d", "library"):
        (root / name).mkdir()
    image = root / "library" / "approved.sif"
    shutil.copyfile(CORPUS / "images" / "one-builder+scanner+approver.sif", image)
    shutil.copyfile(CORPUS / "keys" / "pgp" / "approval-ring.asc", root / "keys.d" / "site.asc")
    (root / "policies.d" / "policy.yaml").write_text(POLICY.format(library=root / "library"))
    (root / "config.yaml").write_text(CONFIG.format(port=free_port(), uid=os.getuid()))
    return image


@contextmanager
def serving(command: list[str | Path], path: Path, core: int) -> Iterator[None]:
    """Run a server on one core until its socket is there, and end it afterwards."""
    cores = sorted(os.sched_getaffinity(0))
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    os.sched_setaffinity(process.pid, {cores[core % len(cores)]})
    try:
        end = time.monotonic() + 20
        while not path.exists():
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{command[0]} did not start")
            time.sleep(0.01)
        yield
    finally:
        process.terminate()
        process.wait(10)


def daemon(root: Path) -> list[str | Path]:
    return [ECLCTL, "daemon", "--config", root / "config.yaml"]


def floor_server(path: Path) -> list[str | Path]:
    return [sys.executable, Path(__file__).with_name("floor_server.py"), path]


def request(image: Path, number: int = 1) -> bytes:
    """One question, whose descriptor goes with it."""
    parameters = {"image": str(image), "role": "rootfs", "fd": True}
    return json.dumps({"v": 1, "id": str(number), "method": "check", "parameters": parameters}).encode() + b"\n"


def ask(path: Path, line: bytes, image: Path) -> bytes:
    """Ask one question as users do: open the image, and pass its descriptor on a new connection."""
    descriptor = os.open(image, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(path))
            _send(peer, line, [descriptor])
            answer = b""
            while not answer.endswith(b"\n"):
                part = peer.recv(65536)
                if not part:
                    raise SystemExit("the server closed the connection")
                answer += part
            return answer
    finally:
        os.close(descriptor)


class Batch:
    """Questions about images, as many in a message as may pass their descriptors with it."""

    def __init__(self, images: Sequence[Path]) -> None:
        self._descriptors = [os.open(image, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC) for image in images]
        lines = [request(image, number) for number, image in enumerate(images)]
        self._messages = [
            (b"".join(lines[start : start + DESCRIPTORS]), self._descriptors[start : start + DESCRIPTORS])
            for start in range(0, len(lines), DESCRIPTORS)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)

    def send(self, peer: socket.socket) -> None:
        """Ask all of them."""
        for lines, descriptors in self._messages:
            _send(peer, lines, descriptors)


def _send(peer: socket.socket, data: bytes, descriptors: list[int]) -> None:
    sent = socket.send_fds(peer, [data], descriptors)
    peer.sendall(data[sent:])
