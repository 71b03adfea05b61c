"""Runs GnuPG: finds the program, chooses options and home, and reads its status lines.

- Options are ours alone (`--no-options`), and nothing depends on a locale: what happened is read from the status lines
  (GnuPG's doc/DETAILS), which go to a file of their own in memory, so that no user ID printed elsewhere can forge one.
- A passphrase goes through a pipe that no other process has. It is never an argument or in the environment.
- A throw-away home is 0700, in memory where there is such a place, on a path that is short enough for the agent's
  socket. Its agent is ended and its files are removed in any case; what a killed process left is removed by the
  next one, which can tell by a lock.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from types import FrameType
from typing import Final
from urllib.parse import unquote

from eclctl.dataclass import dataclass
from eclctl.errors import KeyMaterialError

_OLDEST: Final = (2, 2)
_VERSION: Final = re.compile(rb"gpg \(GnuPG[^)]*\) (\d+)\.(\d+)")
_STATUS: Final = "[GNUPG:] "
_PATIENCE: Final = 600.0
"""Seconds. Making a long RSA key takes a minute on a slow machine, and people look for their cards."""

_CLEANING: Final = 10.0
_LONGEST_HOME: Final = 80
"""A socket's name has at most 108 octets, and GnuPG's adds 19 to that of its home."""

_YOUNG: Final = 60.0
_HOME: Final = "eclctl-gpg-"
_LONGEST_PASSPHRASE: Final = 255
_CODE: Final = 0xFFFF
_SECRETS: Final = frozenset({"ECLCTL_KEY_PASSPHRASE", "COSIGN_PASSWORD"})
"""Variables in which commands take passphrases."""

_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_USUAL: Final = (signal.SIG_DFL, signal.default_int_handler)


class GnupgError(KeyMaterialError):
    """GnuPG is missing or too old, or could not do what it was asked for. The message says what to do."""


class WrongPassphraseError(GnupgError):
    """The passphrase does not open the key."""


class _EndedError(BaseException):
    """A signal has come that ends the process."""


@dataclass(frozen=True, slots=True)
class GnupgResult:
    """What a run of GnuPG did: its output, and its status lines as keyword and words."""

    output: bytes
    status: tuple[tuple[str, ...], ...]
    complaint: str
    succeeded: bool

    def find(self, keyword: str) -> tuple[str, ...] | None:
        """Return the words after the first status line of a keyword."""
        return next((line[1:] for line in self.status if line[0] == keyword), None)


@dataclass(frozen=True, slots=True)
class Gnupg:
    """GnuPG in one home. In a throw-away one passphrases come from us, in the user's own from their agent.

    Attributes:
        program: What is run.
        home: The throw-away home; None is the user's own.
        environment: Of what is run.
    """

    program: str
    home: str | None
    environment: Mapping[str, str]

    @classmethod
    def of_user(cls) -> Gnupg:
        """Return the user's own GnuPG, with its agent, its pinentry and its cards.

        Raises:
            GnupgError: There is none, or it is too old.
        """
        # An agent that this starts lives on, and users who may look at it would see them.
        environment = {name: text for name, text in os.environ.items() if name not in _SECRETS}
        for fd in (0, 2, 1):
            with suppress(OSError):
                environment.setdefault("GPG_TTY", os.ttyname(fd))
        return cls(_program(), None, environment)

    def run(
        self, *arguments: str, stdin: bytes = b"", passphrase: str | None = None, what: str = "GnuPG could not do it"
    ) -> GnupgResult:
        """Run GnuPG and return what it did.

        Args:
            arguments: After our own options; user input stands behind `--`.
            stdin: What it reads.
            passphrase: For the keys in a throw-away home.
            what: How an error begins.

        Raises:
            WrongPassphraseError: The passphrase opens nothing.
            GnupgError: It failed, with the reason that its status lines give.
        """
        outcome = self.attempt(*arguments, stdin=stdin, passphrase=passphrase)
        if not outcome.succeeded:
            raise _error(outcome, what)
        return outcome

    def attempt(self, *arguments: str, stdin: bytes = b"", passphrase: str | None = None) -> GnupgResult:
        """Run GnuPG and return what it did, be it nothing.

        Raises:
            GnupgError: It does not start, or does not end.
        """
        status = os.memfd_create("status", os.MFD_CLOEXEC)
        secret = None if passphrase is None else _pipe(passphrase)
        try:
            command = [self.program, *self._options(status, secret), *arguments]
            handed = [status] if secret is None else [status, secret]
            found = subprocess.run(  # noqa: S603 - a list, the program found on the PATH
                command,
                input=stdin,
                capture_output=True,
                check=False,
                timeout=_PATIENCE,
                env=dict(self.environment),
                pass_fds=handed,
            )
            lines = _status_lines(os.pread(status, os.fstat(status).st_size, 0))
        except subprocess.TimeoutExpired:
            raise GnupgError(f"GnuPG took longer than {_PATIENCE:.0f} seconds") from None
        except (OSError, ValueError) as error:
            raise GnupgError(f"GnuPG does not start ({self.program}): {error}") from error
        finally:
            os.close(status)
            if secret is not None:
                os.close(secret)
        return GnupgResult(found.stdout, lines, found.stderr.decode("utf-8", "replace").strip(), found.returncode == 0)

    def _options(self, status: int, secret: int | None) -> Iterator[str]:
        yield from ("--no-options", "--batch", "--no-tty", "--quiet", "--status-fd", str(status))
        yield from ("--trust-model", "always", "--no-auto-check-trustdb", "--no-auto-key-locate")
        yield from ("--charset", "utf-8", "--no-comments", "--no-emit-version")
        if self.home is not None:
            # Without a passphrase an empty one is given, so that the user is never asked.
            yield from ("--homedir", self.home, "--pinentry-mode", "loopback")
            yield from ("--passphrase", "") if secret is None else ("--passphrase-fd", str(secret))

    def default_key(self) -> str | None:
        """Return the `default-key` of the user's gpg.conf, or None."""
        listed = _output(["gpgconf", "--list-options", "gpg"], self.environment)
        records = (line.split(":") for line in listed.decode("utf-8", "replace").split("\n"))
        value = next((record[9] for record in records if record[0] == "default-key" and len(record) > 9), "")  # noqa: PLR2004
        return unquote(value.removeprefix('"').partition(',"')[0]) or None

    def close(self) -> None:
        """End what runs for a throw-away home, and remove the sockets that GnuPG keeps elsewhere for it."""
        for action in (("--kill", "all"), ("--remove-socketdir",)):
            _output(["gpgconf", "--homedir", self.home or "", *action], self.environment)


def _output(command: Sequence[str], environment: Mapping[str, str] | None = None) -> bytes:
    """Return what a program prints that ends at once; nothing when it does not start or does not end."""
    try:
        return subprocess.run(  # noqa: S603 - as above
            command, capture_output=True, check=False, timeout=_CLEANING, env=environment
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return b""


@contextmanager
def temporary_gnupg() -> Iterator[Gnupg]:
    """Yield GnuPG in a home of its own, which is gone afterwards.

    Raises:
        GnupgError: There is no GnuPG, or no place for its home.
    """
    program = _program()
    base = _base()
    _sweep(base)
    with _signals_end_the_body():
        try:
            home = tempfile.mkdtemp(prefix=_HOME, dir=base)
            held = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # for as long as this process lives
        except OSError as error:
            raise GnupgError(f"{base}: no place for GnuPG's files: {error.strerror}") from error
        gnupg = Gnupg(program, home, _plain_environment(home))
        try:
            _forget_passphrases(home)
            yield gnupg
        finally:
            with _signals_blocked():
                gnupg.close()
                shutil.rmtree(home, ignore_errors=True)
                os.close(held)


@contextmanager
def _signals_end_the_body() -> Iterator[None]:
    """Have a signal that would end the process unwind it first; then that signal ends it all the same.

    Else a terminal that is closed or a job that is cancelled would leave an agent behind, with an unlocked key.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say what a signal does
        return

    came: list[int] = []

    def unwind(number: int, _: FrameType | None) -> None:
        came.append(number)
        if len(came) == 1:  # the next ones would interrupt the cleaning up
            raise KeyboardInterrupt if number == signal.SIGINT else _EndedError

    handlers = {number: signal.getsignal(number) for number in _ENDING}
    ours = {number: handler for number, handler in handlers.items() if handler in _USUAL}  # not nohup's
    for number in ours:
        signal.signal(number, unwind)
    try:
        yield
    except _EndedError:
        pass  # by the signal, once it has its usual meaning again
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Let signals wait until the cleaning up is done."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _forget_passphrases(home: str) -> None:
    """Have the agent keep none: each run is given its own, and a killed process cannot end the agent."""
    with suppress(OSError), open(os.path.join(home, "gpg-agent.conf"), "x", encoding="ascii") as file:
        file.write("default-cache-ttl 0\nmax-cache-ttl 0\n")


def _plain_environment(home: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR", "XDG_RUNTIME_DIR") if name in os.environ}
    return {**kept, "HOME": home, "LC_ALL": "C"}


def _base() -> str:
    """Return the directory for a home: the user's own in memory, else what Python proposes, else /tmp."""
    own = os.environ.get("XDG_RUNTIME_DIR", "")
    places = [own, tempfile.gettempdir(), "/tmp"]  # noqa: S108 - mkdtemp makes a directory for this user alone
    for place in places[:-1]:
        short = os.path.isabs(place) and len(os.fsencode(place)) <= _LONGEST_HOME
        usable = short and os.access(place, os.W_OK | os.X_OK)
        if usable and (place != own or os.stat(place).st_uid == os.geteuid()):
            return place
    return places[-1]


def _sweep(base: str) -> None:
    """Remove the homes of processes that were killed. Those of living ones are locked."""
    with suppress(OSError):
        for name in os.listdir(base):
            if name.startswith(_HOME):
                with suppress(OSError):
                    _sweep_home(os.path.join(base, name))


def _sweep_home(home: str) -> None:
    fd = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        found = os.fstat(fd)
        young = time.time() - found.st_mtime < _YOUNG  # it may not be locked yet
        if young or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) != stat.S_IRWXU:
            return
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        Gnupg("", home, _plain_environment(home)).close()
        shutil.rmtree(home, ignore_errors=True)
    finally:
        os.close(fd)


def _program() -> str:
    program = shutil.which("gpg") or shutil.which("gpg2")
    if program is None:
        raise GnupgError("there is no gpg on the PATH: install GnuPG (the package is gnupg or gnupg2)")
    version = _version(program)
    if version is None or version < _OLDEST:
        found = "what it is cannot be told" if version is None else f"it is {version[0]}.{version[1]}"
        raise GnupgError(f"{program}: GnuPG {_OLDEST[0]}.{_OLDEST[1]} or newer is needed, and {found}")
    return program


@lru_cache
def _version(program: str) -> tuple[int, int] | None:
    match = _VERSION.match(_output([program, "--no-options", "--version"]))
    return None if match is None else (int(match[1]), int(match[2]))


def _pipe(passphrase: str) -> int:
    """Return the reading end of a pipe that holds a passphrase.

    Raises:
        GnupgError: It is one that GnuPG would cut short.
    """
    data = passphrase.encode("utf-8", "surrogateescape")
    if b"\n" in data or b"\0" in data or len(data) > _LONGEST_PASSPHRASE:
        raise GnupgError(f"a passphrase is one line of at most {_LONGEST_PASSPHRASE} octets")
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        os.write(writing, data + b"\n")
    finally:
        os.close(writing)
    return reading


def _status_lines(data: bytes) -> tuple[tuple[str, ...], ...]:
    lines = data.decode("utf-8", "replace").split("\n")
    return tuple(tuple(words) for line in lines if line.startswith(_STATUS) and (words := line[len(_STATUS) :].split()))


_REASONS: Final = {
    9: "it has no such public key",
    17: "it has no such secret key",
    53: "the key cannot be used",
    54: "the secret key cannot be used",
    62: "there was no answer in time",
    77: "no gpg-agent runs, and none could be started",
    85: "there is no pinentry that could ask for the passphrase: install one, and set GPG_TTY to `tty`",
    86: "its pinentry failed: is GPG_TTY set to what `tty` prints, and does the terminal answer?",
    87: "the PIN of the card is wrong",
    94: "the key is revoked",
    99: "it was cancelled",
    108: "the card reports an error",
    109: "the card must be reset: take it out and put it back in",
    110: "the card was removed",
    111: "the card is not one that it knows",
    112: "the card with the key is not present: insert it",
    114: "it was not confirmed",
    119: "scdaemon, which speaks to cards, is not installed",
    120: "scdaemon, which speaks to cards, failed",
    123: "the card is not initialized",
    125: "the key is not one that may sign",
    131: "the card refuses: its PIN may be blocked (see `gpg --card-status`)",
    153: "the key is expired",
    177: "no passphrase was given",
    178: "no PIN was given",
    198: "it was cancelled",
}
"""By error code of libgpg-error."""

_PASSPHRASES: Final = frozenset({11, 31, 177})
_SIGNERS: Final = {"1": 17, "3": 125, "4": 94, "5": 153, "9": 17}
"""Reasons of INV_SGNR as error codes."""

_CARD: Final = {"1": 99, "2": 87}
"""Reasons of SC_OP_FAILURE as error codes."""


def _error(outcome: GnupgResult, what: str) -> GnupgError:
    codes = _codes(outcome)
    if any(code in _PASSPHRASES for code in codes):
        return WrongPassphraseError(f"{what}: the passphrase is wrong")
    reason = next((_REASONS[code] for code in codes if code in _REASONS), None)
    if reason is None:
        last = outcome.complaint.rpartition("\n")[2].removeprefix("gpg: ")
        reason = last or "it does not say why"
    return GnupgError(f"{what}: {reason}")


def _codes(outcome: GnupgResult) -> list[int]:
    """Return the error codes of the status lines, those that say most first."""
    card, signers, told = [], [], []
    for keyword, *words in outcome.status:
        if keyword == "SC_OP_FAILURE":
            card += [_CARD[reason] for reason in words[:1] if reason in _CARD]
        elif keyword == "INV_SGNR":
            signers += [_SIGNERS[reason] for reason in words[:1] if reason in _SIGNERS]
        elif keyword in {"FAILURE", "ERROR"}:
            told += [int(code) & _CODE for code in words[1:2] if code.isdigit()]
    return [*card, *signers, *told]
