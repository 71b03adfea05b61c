"""`eclctl policy withdraw`: writes down what may not run any more."""

from __future__ import annotations

import argparse
import fcntl
import os
import pwd
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from eclctl.cli.inputs.policies import SYSTEM_CONFIG
from eclctl.cli.terminal.exit_codes import NO_RESULT, OK
from eclctl.cli.terminal.output import print_failure, print_json
from eclctl.cli.terminal.parser import UsageError
from eclctl.cli.terminal.subcommands import Commands, add_command
from eclctl.config.accounts import NAMES
from eclctl.dataclass import dataclass, replace
from eclctl.decide.snapshot import Snapshot, build
from eclctl.errors import ConfigError, EclctlError
from eclctl.files.atomic import Existing, write_file
from eclctl.files.guarded import MAX_FILE, expand, read_guarded
from eclctl.local.engine import load_site
from eclctl.preview.entries import with_entry
from eclctl.preview.withdrawing import content_of, digest_of, signatory
from eclctl.text import json_text, printable
from eclctl.trust.signer_types import SIGNER_TYPES, signer_type

if TYPE_CHECKING:
    from eclctl.config.settings import Settings

_NAME = "00-withdrawn.yaml"
_SUFFIXES = (".yaml", ".yml")
_LONGEST_REASON = 500

_EXAMPLES = f"""The entry goes into the file {_NAME} beside the other policies, or
into the one that -o names. Comments in that file stay. The whole policy is
first loaded with the entry; on any error nothing is written. A running daemon
denies what is withdrawn after its next reload. `eclctl policy simulate` shows
before which images would stop.

exit status:
  0  the entry is written, or was there
  2  the command line is wrong
  3  it could not be written; nothing has changed

examples:
  eclctl policy withdraw --image bad.sif --reason "CVE-2026-1234"
  eclctl policy withdraw --signer mallory --reason "left the site"
  eclctl policy withdraw --key 81F111F6190C46143937EF7C22BC3A3BC942487F \\
      --reason "laptop stolen" && eclctl reload
"""

_USAGE = """eclctl policy withdraw [-h] (--signer NAME | --key KEY |
                               --object DIGEST | --manifest DIGEST |
                               --image FILE)
                              --reason TEXT [-o FILE] [--config FILE] [-j]"""


def add(commands: Commands) -> None:
    """Add the command's parser to those of `eclctl policy`."""
    text = "Withdraws an image, or all that a signer or key signed: it may not run any more."
    parser = add_command(commands, "withdraw", text, _EXAMPLES)
    parser.usage = _USAGE  # what argparse makes of five alternatives is one line, however long
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--signer", metavar="NAME", help="everything that any key of a signer signed")
    what.add_argument(
        "--key", metavar="KEY", help="everything that one key signed: a fingerprint, sha256:..., or a key file"
    )
    what.add_argument("--object", metavar="DIGEST", help="every image with this data object (sha256:...)")
    what.add_argument("--manifest", metavar="DIGEST", help="every OCI-SIF with this manifest (sha256:...)")
    what.add_argument("--image", metavar="FILE", help="every image that runs what this one does")
    parser.add_argument("--reason", metavar="TEXT", required=True, help="why, for readers of the file")
    parser.add_argument("-o", "--output", metavar="FILE", help=f"the policy file to write ({_NAME})")
    parser.add_argument("--config", metavar="FILE", default=SYSTEM_CONFIG, help=f"today's policy ({SYSTEM_CONFIG})")


@dataclass(frozen=True, slots=True)
class _Entry:
    """What is withdrawn: a list of `withdrawn`, an entry of it, and what that is for people."""

    sort: str
    name: str
    what: str


def run(options: argparse.Namespace) -> int:
    """Run `eclctl policy withdraw`; return its exit status."""
    reason = options.reason.strip()
    if not reason or len(reason) > _LONGEST_REASON:
        raise UsageError(f"--reason has 1 to {_LONGEST_REASON} characters")
    try:
        settings, snapshot = load_site(options.config)
        entry = _entry(options, snapshot)
        target = _target(options.output, settings)
        written = _withdraw(entry, reason, target, settings)
    except (EclctlError, OSError) as error:
        print_failure(options.prog, error, as_json=options.json)
        print("nothing has changed", file=sys.stderr)
        return NO_RESULT
    _print(options, entry, target, written=written)
    return OK


def _entry(options: argparse.Namespace, snapshot: Snapshot) -> _Entry:
    if options.object is not None:
        return _Entry("objects", digest_of(options.object), "images with this data object")
    if options.manifest is not None:
        return _Entry("manifests", digest_of(options.manifest), "OCI-SIF images with this manifest")
    if options.image is not None:
        content = content_of(options.image, snapshot.store)
        return _Entry(content.sort, content.digest, f"{content.what}, of {options.image}")
    if options.signer is not None:
        found = signatory(snapshot, options.signer, _no_file)
        if found.signer is None:
            raise ConfigError(f"{options.signer!r} is no signer of today's policy; for a key, give --key")
        return _Entry("signers", found.signer, "everything that any key of theirs signed")
    return _key(options.key, snapshot)


def _key(text: str, snapshot: Snapshot) -> _Entry:
    found = signatory(snapshot, text, read_guarded)
    if found.signer is not None:
        raise ConfigError(f"{text!r} is a signer, with every key of theirs: give --signer")
    if len(found.keys) != 1:
        raise ConfigError(f"{text!r} holds {len(found.keys)} keys; withdraw them one by one, by fingerprint")
    # A fingerprint names an OpenPGP key best; the others are known by the digest of the public key, however they sign.
    order = list(SIGNER_TYPES.values())
    name = min(found.names, key=lambda each: order.index(signer_type(each)))
    people = ", ".join(found.people) or "no signer of the policy"
    return _Entry(
        "keys", signer_type(name).withdrawal_name(snapshot.store, name), f"everything that this key of {people} signed"
    )


def _no_file(path: str) -> bytes:
    raise ConfigError(f"{path} is no signer")


def _target(output: str | None, settings: Settings) -> str:
    """Return the file to write, as the daemon will name it.

    Raises:
        ConfigError: the daemon would not read it.
    """
    directories = [path for path in settings.policies if os.path.isdir(path)]
    if output is None:
        if not directories:
            raise ConfigError("the configuration names no directory of policies; name one of its files with -o")
        return os.path.join(directories[0], _NAME)
    wanted = os.path.abspath(output)
    name = os.path.basename(wanted)
    for path in settings.policies:
        if os.path.realpath(path) == os.path.realpath(wanted):
            return path
    for path in directories:
        if os.path.realpath(path) == os.path.realpath(os.path.dirname(wanted)):
            if not name.endswith(_SUFFIXES) or name.startswith("."):
                raise ConfigError(f"the daemon does not read {wanted}: the name of a policy file ends in .yaml")
            return os.path.join(path, name)
    raise ConfigError(f"the daemon does not read {wanted}; the configuration names {', '.join(settings.policies)}")


def _withdraw(entry: _Entry, reason: str, target: str, settings: Settings) -> bool:
    """Write the entry, unless it is there; return whether it was written."""
    with _locked(os.path.dirname(target)) as directory:
        text = read_guarded(target) if os.path.lexists(target) else None
        now = datetime.now(UTC)
        comment = f"{now:%Y-%m-%d %H:%MZ} by {_me()}: {printable(reason)}"
        made = with_entry(target, text, entry.sort, entry.name, comment)
        if made is None:
            return False
        _require_loads(entry, target, made, settings, now)
        _replace(directory, target, made)
    return True


def _require_loads(entry: _Entry, target: str, text: bytes, settings: Settings, now: datetime) -> None:
    """Load the whole policy as it will be; raise ConfigError unless it loads and withdraws the entry."""

    def read(path: str, *, limit: int = MAX_FILE) -> bytes:
        return text if path == target else read_guarded(path, limit=limit)

    files = [file for path in settings.policies for file in _files(path, target)]
    built = build(replace(settings, policies=tuple(files)), NAMES, generation=1, now=now, read=read)
    if built.snapshot is None:
        raise ConfigError("with this entry the policy does not load: " + "; ".join(map(str, built.errors[:5])))
    if not _withdraws(built.snapshot, entry):
        raise ConfigError(f"the policy does not withdraw {entry.name} though {target} says so")


def _withdraws(snapshot: Snapshot, entry: _Entry) -> bool:
    if snapshot.policy is None:
        return False
    withdrawn = snapshot.policy.withdrawn
    if entry.sort in {"signers", "keys"}:
        return signatory(snapshot, entry.name, _no_file).keys <= withdrawn.keys
    return entry.name in withdrawn.digests


def _files(path: str, target: str) -> Sequence[str]:
    """Return the files of a path of the configuration, in the daemon's order, with the target where it will be."""
    files = expand((path,), _SUFFIXES)
    if target not in files and os.path.isdir(path) and os.path.dirname(target) == path.rstrip("/"):
        files.append(target)
        files.sort(key=os.path.basename)
    return files


@contextmanager
def _locked(directory: str) -> Iterator[int]:
    """Keep others that withdraw out of a directory; yields its descriptor."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


def _replace(directory: int, target: str, text: bytes) -> None:
    """Put a new content in the place of a file, whole or not at all; mode and owner stay."""
    real = os.path.realpath(target)
    if os.path.dirname(real) != os.path.realpath(os.path.dirname(target)):
        raise ConfigError(f"{target} leads to {real}; name the file itself")
    name = os.path.basename(real)
    write_file(
        name,
        text,
        existing=Existing.REGULAR,
        mode=0o644,
        exact_mode=True,
        keep_attributes=True,
        folder=directory,
    )


def _me() -> str:
    """Return who does this: under sudo, who called it."""
    caller = os.environ.get("SUDO_USER", "")
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    return printable(caller[:64]) if caller and os.geteuid() == 0 else name


def _print(options: argparse.Namespace, entry: _Entry, target: str, *, written: bool) -> None:
    if options.json:
        file = json_text(target)
        what = json_text(entry.what)
        print_json({"written": written, "file": file, "list": entry.sort, "entry": entry.name, "what": what})
        return
    if not written:
        print(f"withdrawn already in {printable(target)}: {printable(entry.name)}")
        return
    print(f"withdrawn, in {printable(target)}, {entry.sort}:")
    print(f"  {printable(entry.name)}")
    print(f"  {printable(entry.what)}")
    print("The daemon knows of it from its next reload: eclctl reload")
