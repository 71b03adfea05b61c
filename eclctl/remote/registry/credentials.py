"""Credentials for a registry, from the files and variables that Docker, SingularityCE and Apptainer use.

In this order, the first that knows the registry counts:

1. `SINGULARITY_DOCKER_USERNAME` and `…_PASSWORD`, or the same with `APPTAINER_`: both of a pair, for the
   registry that the command names.
2. The file that the command line names, and then no other.
3. `docker-config.json` of SingularityCE and of Apptainer (in the directories that `SINGULARITY_CONFIGDIR` and
   `APPTAINER_CONFIGDIR` name, else `~/.singularity` and `~/.apptainer`), and Docker's `config.json` (in the directory
   that `DOCKER_CONFIG` names, else `~/.docker`).

In a file: `credHelpers` for this registry, then `auths`, then `credsStore`. A helper is a program called
`docker-credential-NAME` on the path of programs, which is told the registry's name and nothing else.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from eclctl.dataclass import dataclass, field
from eclctl.errors import RemoteError
from eclctl.remote.registry.answers import json_object
from eclctl.remote.registry.names import Reference

_MAX_FILE: Final = 1 << 20
_MAX_SECRET: Final = 64 * 1024
_HELPER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HELPER_SECONDS: Final = 60.0
_NOT_FOUND: Final = "credentials not found"
_SECRETS: Final = ("auth", "password", "identitytoken", "registrytoken")
_OTHERS_READ: Final = stat.S_IRGRP | stat.S_IROTH


@dataclass(frozen=True, slots=True)
class RegistryCredentials:
    """What there is to log in with. `identity` is a refresh token of OAuth 2, `bearer` a token ready to be sent."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity: str = field(default="", repr=False)
    bearer: str = field(default="", repr=False)
    source: str = ""

    @property
    def basic(self) -> str | None:
        """What a header `Authorization: Basic` says, None without a user's name."""
        if not self.username:
            return None
        try:
            # A variable's bytes that are no UTF-8 go as they are: the registry compares bytes.
            joined = f"{self.username}:{self.password}".encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise RemoteError(f"{self.source}: a name or password in it is no text; log in anew") from None
        return base64.b64encode(joined).decode("ascii")

    def __bool__(self) -> bool:
        return bool(self.username or self.identity or self.bearer)


ANONYMOUS: Final = RegistryCredentials()


def find_credentials(
    reference: Reference, environment: Mapping[str, str], *, file: str | None, warn: Callable[[str], None]
) -> RegistryCredentials:
    """Return what the user has for a registry; `ANONYMOUS` when nothing is known of it.

    Args:
        reference: what is asked for there.
        environment: variables, of which `HOME` says where the files are.
        file: a credentials file that counts alone.
        warn: is told of files that others can read, one sentence each.

    Raises:
        RemoteError: a file or a helper is there and is not what it should be; the message names it.
    """
    for prefix in ("SINGULARITY", "APPTAINER"):
        name, word = (environment.get(f"{prefix}_DOCKER_{part}", "") for part in ("USERNAME", "PASSWORD"))
        if name and word:
            return RegistryCredentials(name, word, source=f"{prefix}_DOCKER_USERNAME")
    for path in [file] if file is not None else _usual(environment):
        members = _read(path, wanted=file is not None, warn=warn)
        if members is not None and (found := _in_file(members, reference.keys, path)):
            return found
    return ANONYMOUS


def _usual(environment: Mapping[str, str]) -> Iterator[str]:
    home = environment.get("HOME", "")
    docker = environment.get("DOCKER_CONFIG", "")
    for program in ("singularity", "apptainer"):
        folder = environment.get(f"{program.upper()}_CONFIGDIR", "")
        if folder or home:
            yield f"{folder or f'{home}/.{program}'}/docker-config.json"
    if docker or home:
        yield f"{docker or home + '/.docker'}/config.json"


def _read(path: str, *, wanted: bool, warn: Callable[[str], None]) -> Mapping[str, Any] | None:
    """Return the members of a credentials file; None where there is none and none was asked for."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY), "rb") as opened:
            status = os.fstat(opened.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise RemoteError(f"{path}: no regular file, and so no credentials")
            data = opened.read(_MAX_FILE + 1)
    except (FileNotFoundError, NotADirectoryError):
        if wanted:
            raise RemoteError(f"{path}: there is no such file of credentials") from None
        return None
    except OSError as error:
        raise RemoteError(f"{path}: the credentials cannot be read: {error.strerror}") from error
    members = json_object(data) if len(data) <= _MAX_FILE else None
    if members is None:
        raise RemoteError(f"{path}: no file of credentials (JSON, at most 1 MiB); correct it or move it away")
    entries = map(_mapping, _mapping(members.get("auths")).values())
    if status.st_mode & _OTHERS_READ and any(_text(entry, name) for entry in entries for name in _SECRETS):
        warn(f"{path}: others can read the passwords in it; chmod 600 it, and change them")
    return members


def _in_file(members: Mapping[str, Any], keys: Sequence[str], path: str) -> RegistryCredentials:
    helpers, auths = _mapping(members.get("credHelpers")), _mapping(members.get("auths"))
    for key in keys:
        if (helper := _text(helpers, key)) and (found := _from_helper(helper, key)):
            return found
    for key in keys:
        for spelling in (key, f"https://{key}", f"https://{key}/", f"https://{key}/v1/", f"https://{key}/v2/"):
            if found := _from_entry(_mapping(auths.get(spelling)), path):
                return found
    if store := _text(members, "credsStore"):
        return next((found for key in keys if (found := _from_helper(store, key))), ANONYMOUS)
    return ANONYMOUS


def _from_entry(entry: Mapping[str, Any], path: str) -> RegistryCredentials:
    name, word = _text(entry, "username"), _text(entry, "password")
    if auth := _text(entry, "auth"):
        try:
            name, colon, word = base64.b64decode(auth, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            colon = ""
        if not colon:
            raise RemoteError(f"{path}: an `auth` in it is not the base64 of name:password; log in anew")
        word = word.rstrip("\0")
    identity, bearer = _text(entry, "identitytoken"), _text(entry, "registrytoken")
    return RegistryCredentials(name, word, _plain(identity, path), _plain(bearer, path), path)


def _from_helper(helper: str, key: str) -> RegistryCredentials:
    if _HELPER.fullmatch(helper) is None:
        raise RemoteError(f"{helper[:64]!r} is no name of a credential helper")
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(  # noqa: S603 - the name is checked, and the user's own file names it
            [program, "get"], input=key.encode(), capture_output=True, timeout=_HELPER_SECONDS, check=False
        )
    except FileNotFoundError:
        raise RemoteError(f"{program}, which holds the credentials for {key}, is not installed") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RemoteError(f"{program} gave no credentials for {key}: {type(error).__name__}") from error
    if done.returncode != 0:
        if _NOT_FOUND in done.stdout.decode(errors="replace"):
            return ANONYMOUS
        raise RemoteError(f"{program} gave no credentials for {key}: it ended with status {done.returncode}")
    answer = json_object(done.stdout[:_MAX_FILE]) or {}
    name, secret = _text(answer, "Username"), _text(answer, "Secret")
    if not name or not secret:
        raise RemoteError(f"{program} answered with something that is no credentials for {key}")
    if name == "<token>":
        return RegistryCredentials(identity=_plain(secret, program), source=program)
    return RegistryCredentials(name, secret, source=program)


def _plain(token: str, source: str) -> str:
    """Return a token that can stand in a header. A line break in it would make another header."""
    if token and (len(token) > _MAX_SECRET or not token.isascii() or not token.isprintable() or " " in token):
        raise RemoteError(f"{source}: a token in it is no token: it has white space or is too long")
    return token


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(members: Mapping[str, Any], name: str) -> str:
    value = members.get(name)
    return value if isinstance(value, str) else ""
