"""Warm checks: one on a new connection, many pipelined, and `eclctl check` as a whole process."""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import site
from benchmarks.harness import Result, interleaved, median, note, pinned, ratio

PIPELINED = 20_000
BATCH = 100  # requests in one go; two goes are under way at a time


def measure() -> list[Result]:
    """Everything that needs a daemon whose facts are warm."""
    with site.directory() as root:
        image = site.lay_out(root)
        time.sleep(0.1)  # facts of a file that changed within the clock tick are not kept
        ours, floor = root / "check.sock", root / "floor.sock"
        with site.serving(site.daemon(root), ours, 0), site.serving(site.floor_server(floor), floor, 0), pinned(1):
            _warm_up(ours, image)
            return [
                _new_connection(ours, floor, image),
                _pipelined(ours, image),
                _whole_process(ours, image),
            ]


def _warm_up(ours: Path, image: Path) -> None:
    site.ask(ours, site.request(image), image)
    answer = json.loads(site.ask(ours, site.request(image), image))
    if (answer["result"]["decision"], answer["result"]["cached"]) != ("allow", True):
        raise SystemExit(f"not a warm allow: {answer}")


def _new_connection(ours: Path, floor: Path, image: Path) -> Result:
    line = site.request(image)

    def p50(path: Path) -> float:
        figures = []
        for _ in range(300):
            start = time.perf_counter()
            site.ask(path, line, image)
            figures.append(time.perf_counter() - start)
        return statistics.median(figures)

    note("warm check on a new connection …")
    a, b = interleaved(15, lambda: p50(ours), lambda: p50(floor))
    detail = f"p50 {median(a) * 1e6:.0f} µs against {median(b) * 1e6:.0f} µs of a bare asyncio server"
    return Result("warm check on a new connection", ratio(a, b), 2.0, at_least=False, detail=detail)


def _pipelined(ours: Path, image: Path) -> Result:
    """Many tasks that ask for one image, each with a descriptor of its own; and as many different images."""
    note("pipelined warm checks …")
    others = [image.with_name(f"other-{number}.sif") for number in range(BATCH)]
    for other in others:
        shutil.copyfile(image, other)
    time.sleep(0.1)
    for other in others:
        _warm_up(ours, other)

    def rate(batch: site.Batch) -> float:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(ours))
            start = time.perf_counter()
            sent = answered = 0
            while answered < PIPELINED:
                while sent < PIPELINED and sent - answered <= BATCH:
                    batch.send(peer)
                    sent += BATCH
                part = peer.recv(1 << 20)
                if not part:
                    raise SystemExit("the server closed the connection")
                answered += part.count(b"\n")
            return PIPELINED / (time.perf_counter() - start)

    with site.Batch([image] * BATCH) as same, site.Batch(others) as different:
        rates, apart = interleaved(7, lambda: rate(same), lambda: rate(different))
    detail = f"of one image, on one core, {min(rates):,.0f} to {max(rates):,.0f} in 7 runs"
    detail += f"; of {BATCH} different ones {median(apart):,.0f}, {min(apart):,.0f} to {max(apart):,.0f}"
    return Result("pipelined warm checks a second", median(rates), 20_000, at_least=True, detail=detail)


def _whole_process(ours: Path, image: Path) -> Result:
    note("eclctl check as a whole process …")
    real = os.path.realpath(sys.executable)
    floor = [real, "-I", "-S", Path(__file__).with_name("floor_check.py"), ours, image]
    whole = [site.ECLCTL, "check", "--socket", ours, image]

    def run(command: list[str | Path]) -> float:
        start = time.perf_counter()
        if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode != 0:
            raise SystemExit(f"{command[0]} did not allow")
        return time.perf_counter() - start

    a, b = interleaved(41, lambda: run(whole), lambda: run(floor))
    detail = f"{median(a) * 1e3:.1f} ms against {median(b) * 1e3:.1f} ms"
    return Result("eclctl check against a bare interpreter", ratio(a, b), 1.5, at_least=False, detail=detail)
