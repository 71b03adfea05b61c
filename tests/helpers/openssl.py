"""A real OCSP responder for tests: `openssl ocsp` over an index that the test writes, on a port of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import pytest

from tests.helpers.pki import Issued

PATIENCE = 60.0
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


class Responder:
    """Answers for one CA, whose certificates it knows by serial number."""

    def __init__(self, folder: Path, ca: Path, signer: tuple[Path, Path], index: Path, port: int = 0) -> None:
        """Start it.

        Args:
            folder: what it prints goes there.
            ca: certificate of the CA.
            signer: certificate and key that sign its answers.
            index: the CA's database.
            port: 0 for any.
        """
        command = ["openssl", "ocsp", "-port", str(port), "-index", str(index), "-CA", str(ca), "-nmin", "60"]
        command += ["-rsigner", str(signer[0]), "-rkey", str(signer[1])]
        with (folder / "responder.log").open("w") as log:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self._process.stdout is not None
        listening = re.fullmatch(r"ACCEPT .*:(\d+) PID=\d+\n", self._process.stdout.readline())
        assert listening, (folder / "responder.log").read_text()
        self.port = int(listening[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait(PATIENCE)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def hang(self) -> None:
        """Let it accept connections, and do nothing else."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)


def write_index(path: Path, serials: Mapping[int, bool]) -> Path:
    """Write a CA's database: serial numbers, and whether each is revoked. It is replaced in one step."""
    lines = []
    for serial, revoked in serials.items():
        number = f"{serial:X}"
        number = number if len(number) % 2 == 0 else "0" + number
        state = "R\t451227000000Z\t260201000000Z" if revoked else "V\t451227000000Z\t"
        lines.append(f"{state}\t{number}\tunknown\t/CN={serial}\n")
    new = path.with_suffix(".new")
    new.write_text("".join(lines))
    os.replace(new, path)
    path.with_name(path.name + ".attr").write_text("unique_subject = no\n")
    return path


def responder(
    folder: Path, name: str, ca: Issued, serials: Mapping[int, bool], signer: Issued | None = None, *, port: int = 0
) -> Responder:
    """Start a responder for a CA, signed by the CA itself or by `signer`; its files are `name` in a folder."""
    own = folder / name
    own.mkdir()
    paths = ca.write(own, "ca")
    keys = paths if signer is None else signer.write(own, "signer")
    return Responder(own, paths[0], keys, write_index(own / "index.txt", serials), port)
