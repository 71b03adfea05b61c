"""The first code that runs. It imports nothing that `eclctl check` does not need."""

from __future__ import annotations

import gc
import os
import sys

from eclctl.cli.terminal.exit_codes import INTERRUPTED, NO_RESULT, OK, USAGE

TYPE_CHECKING = False  # typing itself costs more to import than a check
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

COMMANDS = {
    "check": "may these images run? (exit 0 allow, 1 deny, 2 usage, 3 no decision)",
    "explain": "why an image may run or not, as a tree",
    "verify": "verify the signatures in images, as `singularity verify` does",
    "sign": "add digital signatures to images, as `singularity sign` does",
    "policy": "check, test and preview policies; withdraw images; exceptions",
    "keys": "make, list, import, export and remove keys, and ask keyservers",
    "sif": "what is in a SIF image, and what is wrong with a damaged one",
    "push": "push images to a registry, as `singularity push` does",
    "pull": "pull images from a registry, if wanted only what the policy allows",
    "daemon": "the daemon that decides",
    "status": "what the daemon is doing",
    "report": "rules, images, keys and decisions, as a page to keep",
    "reload": "have the daemon load policy and keys again",
}
_MODULES = {
    "explain": "explain.command",
    "keys": "keys.command",
    "policy": "policy.command",
    "pull": "registry.pull",
    "push": "registry.push",
    "reload": "admin.command",
    "sif": "sif.command",
    "sign": "sign.command",
    "status": "admin.command",
    "verify": "verify.command",
}
"""Where a command is whose module does not have its name."""

_OBJECTS_UNTIL_COLLECTION = 50_000
"""New objects until the garbage collector runs. At the default it runs for each few modules, which are no garbage."""


def main() -> int:
    """Run the command that the arguments name; return its exit status."""
    argv = sys.argv[1:]
    if None in {sys.stdin, sys.stdout, sys.stderr}:
        _open_standard_streams()
    try:
        status = _run_to_end(argv)
        sys.stdout.flush()
    except BrokenPipeError:
        _drop(sys.stdout)  # the reader has seen enough
        return NO_RESULT
    except OSError as error:
        _drop(sys.stdout)
        _complain(error)
        return NO_RESULT
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def _open_standard_streams() -> None:
    """Open closed standard streams on /dev/null: else the next file, such as an image, would take their number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            fd = os.open(os.devnull, os.O_RDWR)
            if fd != number:
                os.dup2(fd, number)
                os.close(fd)
            os.set_inheritable(number, True)  # noqa: FBT003 - as Python has it; programs that are started want it too
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def _run_to_end(argv: list[str]) -> int:
    """Run the command, also to an end such as that of `--help`, after which output may wait to be written."""
    try:
        return _run(argv)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else USAGE


def _drop(stream: TextIO | None) -> None:
    """Discard what is still in a stream's buffer: it cannot be written, and the interpreter would try again."""
    if stream is not None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def _complain(error: OSError) -> None:
    what = "cannot write the output" if error.filename is None else repr(error.filename)
    try:
        print(f"eclctl: {what}: {error.strerror or error}", file=sys.stderr)
    except OSError:
        _drop(sys.stderr)  # there is nowhere left to report it


def _run(argv: list[str]) -> int:
    name = argv[0] if argv else "--help"
    if name in {"-h", "--help", "help"}:
        print(usage())
        return OK if argv else USAGE
    if name == "--version":
        from eclctl import __version__  # noqa: PLC0415 - see the module's first line

        print(f"eclctl {__version__}")
        return OK
    if name not in COMMANDS:
        from eclctl.text import printable  # noqa: PLC0415 - as above

        print(f"eclctl: there is no command {printable(name)}; `eclctl --help` lists them", file=sys.stderr)
        return USAGE
    return _command(name)(argv[1:])


def _command(name: str) -> Callable[[list[str]], int]:
    if name == "check":
        from eclctl.cli.check import run  # noqa: PLC0415 - as above

        return run
    from importlib import import_module  # noqa: PLC0415 - as above

    gc.set_threshold(_OBJECTS_UNTIL_COLLECTION)
    function = "reload" if name == "reload" else "status" if name == "status" else "run"
    command: Callable[[list[str]], int] = getattr(import_module(f"eclctl.cli.{_MODULES.get(name, name)}"), function)
    return command


def usage() -> str:
    """The list of commands, and examples."""
    commands = "\n".join(f"  {name:<10}{text}" for name, text in COMMANDS.items())
    return f"""usage: eclctl COMMAND [OPTION]...

Decides from signatures and policy whether a container image may run.

{commands}

`eclctl COMMAND --help` says more about each. The exit status is 3 when the
output cannot be written.

examples:
  eclctl daemon --config /etc/eclctl/config.yaml
  eclctl check /srv/prod/solver.sif && singularity run /srv/prod/solver.sif
  eclctl explain /srv/prod/solver.sif"""
