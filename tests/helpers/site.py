"""A daemon of its own for a test: a directory with images, keys, policy and configuration, and a real process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from eclctl.client import Client, ClientRequest
from tests.helpers.support import CORPUS, ROOT, own_copy

PATIENCE = 60.0
BUILDER = "81F111F6190C46143937EF7C22BC3A3BC942487F"
SCANNER = "F69053E5830DBDBA72B3D8F61BDDA97D14902F26"
APPROVED, HALF, UNSIGNED = "one-builder+scanner.sif", "one-builder.sif", "one-unsigned.sif"
ECLCTL = [sys.executable, "-c", "import sys; from eclctl.cli.entry import main; sys.exit(main())"]
BREAKING_LEASES = [
    sys.executable,
    "-c",
    """import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_DFL)  # which a parent may have it ignore
told = []
def breaking(event, arguments):
    if event == "fcntl.fcntl" and arguments[1] == fcntl.F_SETLEASE:
        if not told:
            told.append(os.write(2, b"a lease is broken\\n"))
        os.kill(os.getpid(), signal.SIGIO)
sys.addaudithook(breaking)
from eclctl.cli.entry import main
sys.exit(main())
""",
]
"""eclctl, in a process that gets the signal of a broken lease (fcntl(2)) for each lease that it takes."""

POLICY = """version: 1
signers:
  builder: {{pgp: [{builder}]}}
  scanner: {{pgp: [{scanner}]}}
rules:
  - name: production
    match: {{paths: ["{root}/images/**"]}}
    require:
      - any_of: [builder]
      - any_of: [scanner]
    message: "Ask the container team"
default: deny
"""
LENIENT = """version: 1
signers:
  builder: {{pgp: [{builder}]}}
rules:
  - name: lenient
    match: {{paths: ["{root}/images/**"]}}
    require:
      - any_of: [builder]
default: deny
"""


class Site:
    """Files of a site under a short path that every user may enter, and the daemon that serves it.

    `folder` is where its directory is made, and `prefix` a command that starts the daemon, such as `nsenter`.
    """

    def __init__(self, limits: str = "{}", *, folder: str = "/tmp", prefix: Sequence[str] = ()) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="ecl", dir=folder))
        self._prefix = prefix
        self.root.chmod(0o755)
        for name in ("images", "policies.d", "keys.d"):
            (self.root / name).mkdir()
            (self.root / name).chmod(0o755)
        for name in ("builder", "scanner"):
            own_copy(CORPUS / "keys" / "pgp" / f"{name}.asc", self.root / "keys.d")
        for name in (APPROVED, HALF, UNSIGNED):
            self.add(name)
        self.policy(POLICY)
        self.config = self.root / "config.yaml"
        self.configure(limits)
        self.log = ""
        self.process: subprocess.Popen[str] | None = None
        self._manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._manager.bind(str(self.root / "notify"))
        self._manager.settimeout(0.5)

    @property
    def check_socket(self) -> str:
        return str(self.root / "run" / "check")

    @property
    def admin_socket(self) -> str:
        return str(self.root / "run" / "admin")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def add(self, name: str, source: Path | None = None) -> Path:
        target = self.root / "images" / name
        shutil.copyfile(source or CORPUS / "images" / name, target)
        target.chmod(0o644)
        return target

    def image(self, name: str) -> str:
        return str(self.root / "images" / name)

    def policy(self, template: str) -> None:
        """Put a policy into place; `{root}`, `{builder}` and `{scanner}` are filled in."""
        text = template.format(root=self.root, builder=BUILDER, scanner=SCANNER)
        path = self.root / "policies.d" / "10.yaml"
        path.write_text(text)
        path.chmod(0o644)

    def configure(self, limits: str = "{}", more: str = "") -> None:
        self.config.write_text(
            "version: 1\n"
            "sockets: {check: run/check, admin: run/admin}\n"
            "state_dir: state\n"
            "policies: [policies.d]\n"
            "keyrings: [keys.d]\n"
            f"trusted_owners: {json.dumps(sorted({'root', str(os.getuid())} - {'0'}))}\n"
            "metrics: null\n"
            "audit: {path: audit.jsonl}\n"
            f"limits: {limits}\n{more}"
        )

    def start(self, **environment: str) -> Site:
        """Start the daemon and wait until it says that it is ready."""
        self.launch(**environment)
        self.expect("READY=1")
        return self

    def command(self) -> list[str]:
        """The daemon's command line."""
        return [*ECLCTL, "daemon", "--config", str(self.config)]

    def launch(self, **environment: str) -> None:
        self.process = subprocess.Popen(
            [*self._prefix, *self.command()],
            env=os.environ | {"PYTHONPATH": str(ROOT)} | {"NOTIFY_SOCKET": str(self.root / "notify")} | environment,
            stderr=subprocess.PIPE,
            text=True,
        )

    def expect(self, state: str) -> str:
        """Wait for a message to the service manager that has this line."""
        assert self.process is not None
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                message = self._manager.recv(65536).decode()
            except TimeoutError:
                assert self.process.poll() is None, self.process.communicate()[1]
                continue
            if state in message.split("\n"):
                return message
        raise AssertionError(f"the daemon did not send {state}")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status, which must come within five seconds."""
        assert self.process is not None
        self.process.send_signal(number)
        status = self.process.wait(5)
        assert self.process.stderr is not None
        with self.process.stderr as log:
            self.log = log.read()
        return status

    def close(self) -> None:
        self.end()
        self._manager.close()
        shutil.rmtree(self.root)

    def end(self) -> None:
        """Kill the daemon, if it runs, and show its log."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            assert self.process.stderr is not None
            if not self.process.stderr.closed:
                with self.process.stderr as log:
                    print(log.read())  # which pytest shows for a test that failed

    def ask(self, method: str, **parameters: object) -> dict:
        """Ask on the check socket, by name."""
        with Client(self.check_socket, PATIENCE) as client:
            return client.ask(ClientRequest(method, parameters))

    def order(self, method: str, **parameters: object) -> dict:
        """Ask on the admin socket."""
        with Client(self.admin_socket, PATIENCE) as client:
            return client.ask(ClientRequest(method, parameters))

    def check(self, name: str) -> dict:
        """Ask about one of the site's images as `eclctl check` does: with a descriptor."""
        return self.check_open(self.image(name), os.open(self.image(name), os.O_RDONLY))

    def check_open(self, path: str, descriptor: int, method: str = "check") -> dict:
        """Ask with a descriptor, which is closed."""
        try:
            with Client(self.check_socket, PATIENCE) as client:
                return client.ask(ClientRequest(method, {"image": path, "fd": True}, (descriptor,)))
        finally:
            os.close(descriptor)

    def connect(self, path: str | None = None) -> socket.socket:
        """A raw connection."""
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE)
        sock.connect(path or self.check_socket)
        return sock

    def audit(self) -> list[dict]:
        return [json.loads(line) for line in (self.root / "audit.jsonl").read_text().splitlines()]

    def descriptors(self) -> int:
        """How many files the daemon has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))


def eventually(condition):
    """Wait for what the daemon does when it comes round to it, such as noticing that a client has left."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def read_lines(sock: socket.socket, count: int) -> list[dict]:
    """Read answers; fewer when the daemon ends the connection."""
    data = b""
    while data.count(b"\n") < count:
        part = sock.recv(1 << 20)
        if not part:
            break
        data += part
    return [json.loads(line) for line in data.splitlines()]


def read_to_end(sock: socket.socket) -> list[dict]:
    """Read answers until the daemon ends the connection; a reset is an end too."""
    data = b""
    while True:
        try:
            part = sock.recv(1 << 20)
        except ConnectionResetError:
            break
        if not part:
            break
        data += part
    return [json.loads(line) for line in data.splitlines()]


def request(method: str, request_id: str = "1", **parameters: object) -> bytes:
    return json.dumps({"v": 1, "id": request_id, "method": method, "parameters": parameters}).encode() + b"\n"
