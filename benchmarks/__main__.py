"""`make bench`: measure, print, write benchmarks/results.{json,md}; exit status 1 when a figure is missed."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks import cold, kinds, policies, rescan, sign, startup, warm
from benchmarks.harness import Result

HERE = Path(__file__).resolve().parent
SUITES = {
    "cold": cold.measure,
    "warm": warm.measure,
    "kinds": kinds.measure,
    "rescan": rescan.measure,
    "policies": policies.measure,
    "sign": sign.measure,
    "startup": startup.measure,
}


def main() -> int:
    """Run the suites that are named, or all."""
    names = sys.argv[1:] or list(SUITES)
    results: list[Result] = []
    for name in names:
        for result in SUITES[name]():
            print(result.line(), flush=True)
            results.append(result)
    if names == list(SUITES):
        _write(results)
    return 0 if all(result.met for result in results) else 1


def _write(results: list[Result]) -> None:
    (HERE / "results.json").write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")
    lines = [
        "# Results",
        "",
        f"Python {platform.python_version()}, {_processor()}. Medians of interleaved runs, by `make bench`.",
        "",
        "| met | what | measured | bound | |",
        "|---|---|---|---|---|",
        *(_row(result) for result in results),
    ]
    (HERE / "results.md").write_text("\n".join(lines) + "\n")


def _row(result: Result) -> str:
    met = "yes" if result.met else "**no**"
    return f"| {met} | {result.name} | {_figure(result.value)} | {_bound(result)} | {result.detail} |"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _bound(result: Result) -> str:
    return f"{'≥' if result.at_least else '≤'} {_figure(result.limit)}"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} of {names[0]}" if names else platform.machine()


if __name__ == "__main__":
    sys.exit(main())
