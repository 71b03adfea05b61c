"""Where credentials for a registry come from, and what is said of files that others can read."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from eclctl.errors import RemoteError
from eclctl.remote.registry.credentials import ANONYMOUS, RegistryCredentials, find_credentials
from eclctl.remote.registry.names import parse_reference

WHERE = parse_reference("docker://registry.example:5000/prod/app:1")
HOST = "registry.example:5000"


def auth(name: str, word: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{name}:{word}".encode()).decode()}


def write(path: Path, members: object, mode: int = 0o600) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(members if isinstance(members, str) else json.dumps(members))
    path.chmod(mode)
    return str(path)


def find(
    home: Path, *, file: str | None = None, said: list[str] | None = None, **environment: str
) -> RegistryCredentials:
    warned = [] if said is None else said
    return find_credentials(WHERE, {"HOME": str(home), **environment}, file=file, warn=warned.append)


def names(credentials: RegistryCredentials) -> tuple[str, str]:
    return credentials.username, credentials.password


def test_nothing_is_known_of_a_registry_that_no_file_names(tmp_path: Path) -> None:
    write(tmp_path / ".docker" / "config.json", {"auths": {"other.example": auth("joe", "x")}})
    assert find(tmp_path) == ANONYMOUS
    assert not find(tmp_path)


def test_files_count_in_order(tmp_path: Path) -> None:
    write(tmp_path / ".docker" / "config.json", {"auths": {HOST: auth("docker", "1")}})
    assert names(find(tmp_path)) == ("docker", "1")
    write(tmp_path / "elsewhere" / "config.json", {"auths": {HOST: auth("moved", "2")}})
    assert names(find(tmp_path, DOCKER_CONFIG=str(tmp_path / "elsewhere"))) == ("moved", "2")
    write(tmp_path / ".apptainer" / "docker-config.json", {"auths": {HOST: auth("apptainer", "3")}})
    assert names(find(tmp_path)) == ("apptainer", "3")
    write(tmp_path / ".singularity" / "docker-config.json", {"auths": {HOST: auth("singularity", "4:5")}})
    assert names(find(tmp_path)) == ("singularity", "4:5")


def test_singularity_and_apptainer_may_keep_their_files_elsewhere(tmp_path: Path) -> None:
    write(tmp_path / "home" / ".singularity" / "docker-config.json", {"auths": {HOST: auth("usual", "1")}})
    write(tmp_path / "s" / "docker-config.json", {"auths": {HOST: auth("singularity", "2")}})
    write(tmp_path / "a" / "docker-config.json", {"auths": {HOST: auth("apptainer", "3")}})
    home = tmp_path / "home"
    assert names(find(home, SINGULARITY_CONFIGDIR=str(tmp_path / "s"))) == ("singularity", "2")
    empty = str(tmp_path / "empty")
    assert names(find(home, SINGULARITY_CONFIGDIR=empty, APPTAINER_CONFIGDIR=str(tmp_path / "a"))) == ("apptainer", "3")


def test_a_password_that_is_no_utf_8_goes_as_the_bytes_that_it_is(tmp_path: Path) -> None:
    pair = {"SINGULARITY_DOCKER_USERNAME": "joe", "SINGULARITY_DOCKER_PASSWORD": os.fsdecode(b"\xe4")}
    assert find(tmp_path, **pair).basic == base64.b64encode(b"joe:\xe4").decode()


def test_a_name_that_is_no_text_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / ".docker" / "config.json", {"auths": {HOST: {"username": "\ud800", "password": "x"}}})
    with pytest.raises(RemoteError, match=path):
        _ = find(tmp_path).basic


def test_variables_come_before_files_and_only_in_pairs(tmp_path: Path) -> None:
    write(tmp_path / ".docker" / "config.json", {"auths": {HOST: auth("docker", "1")}})
    pair = {"APPTAINER_DOCKER_USERNAME": "a", "APPTAINER_DOCKER_PASSWORD": "b"}
    assert names(find(tmp_path, **pair)) == ("a", "b")
    assert names(find(tmp_path, SINGULARITY_DOCKER_USERNAME="c", **pair)) == ("a", "b")
    assert names(find(tmp_path, SINGULARITY_DOCKER_USERNAME="c", SINGULARITY_DOCKER_PASSWORD="d", **pair)) == ("c", "d")


def test_a_file_that_is_named_counts_alone_and_must_be_there(tmp_path: Path) -> None:
    write(tmp_path / ".docker" / "config.json", {"auths": {HOST: auth("docker", "1")}})
    assert find(tmp_path, file=write(tmp_path / "mine.json", {})) == ANONYMOUS
    with pytest.raises(RemoteError, match="no such file"):
        find(tmp_path, file=str(tmp_path / "none.json"))


def test_the_repository_is_closer_than_the_host_and_urls_are_understood(tmp_path: Path) -> None:
    file = write(tmp_path / "f", {"auths": {HOST: auth("host", "1"), f"{HOST}/prod/app": auth("repository", "2")}})
    assert names(find(tmp_path, file=file)) == ("repository", "2")
    file = write(tmp_path / "g", {"auths": {f"https://{HOST}/v2/": auth("url", "3")}})
    assert names(find(tmp_path, file=file)) == ("url", "3")


def test_tokens_are_taken_over(tmp_path: Path) -> None:
    file = write(tmp_path / "f", {"auths": {HOST: {"identitytoken": "refresh", "registrytoken": "bear"}}})
    found = find(tmp_path, file=file)
    assert (found.identity, found.bearer, found.basic) == ("refresh", "bear", None)


def helper(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_a_helper_is_told_the_registry_and_gives_name_and_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    helper(tmp_path / "bin", "vault", f'read host; echo "$1 $host" >> {tmp_path}/told\n'
           f'[ "$host" = "{HOST}" ] || {{ echo "credentials not found in native keychain"; exit 1; }}\n'
           'echo \'{"Username":"joe","Secret":"from the vault"}\'')  # fmt: skip
    file = write(tmp_path / "f", {"credHelpers": {HOST: "vault"}, "auths": {HOST: auth("file", "1")}})
    assert names(find(tmp_path, file=file)) == ("joe", "from the vault")
    file = write(tmp_path / "g", {"credsStore": "vault"})
    assert names(find(tmp_path, file=file)) == ("joe", "from the vault")
    assert (tmp_path / "told").read_text().splitlines() == [f"get {HOST}", f"get {HOST}/prod/app", f"get {HOST}"]


@pytest.mark.parametrize(
    ("script", "why"),
    [("exit 3", "status 3"), ("echo nonsense", "no credentials"), ('echo \'{"Username":"joe"}\'', "no credentials")],
)
def test_a_helper_that_fails_is_an_error_and_never_anonymous(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, why: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    helper(tmp_path / "bin", "broken", script)
    with pytest.raises(RemoteError, match=why):
        find(tmp_path, file=write(tmp_path / "f", {"credHelpers": {HOST: "broken"}}))


@pytest.mark.parametrize("name", ["../evil", "a b", "-x", "not-installed-anywhere"])
def test_a_helper_is_a_program_on_the_path_and_nothing_else(tmp_path: Path, name: str) -> None:
    with pytest.raises(RemoteError, match=r"no name of a credential helper|not installed"):
        find(tmp_path, file=write(tmp_path / "f", {"credHelpers": {HOST: name}}))


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_file_with_passwords_that_others_can_read_is_warned_of(tmp_path: Path, mode: int) -> None:
    said: list[str] = []
    file = write(tmp_path / "f", {"auths": {"other.example": auth("joe", "x")}}, mode)
    find(tmp_path, file=file, said=said)
    assert said == [f"{file}: others can read the passwords in it; chmod 600 it, and change them"]


def test_a_file_without_passwords_may_be_read_by_all(tmp_path: Path) -> None:
    said: list[str] = []
    find(tmp_path, file=write(tmp_path / "f", {"auths": {"other.example": {}}, "credsStore": ""}, 0o644), said=said)
    assert said == []


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", "[" * 100_000, *(json.dumps({"auths": {HOST: {"auth": wrong}}}) for wrong in ("!!", "am9l"))],
    ids=str.__len__,
)
def test_a_file_that_is_none_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(RemoteError, match=str(tmp_path / "f")):
        find(tmp_path, file=write(tmp_path / "f", text))


def test_a_token_cannot_become_another_header(tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match="a token in it is no token"):
        find(tmp_path, file=write(tmp_path / "f", {"auths": {HOST: {"registrytoken": "a\r\nX: y"}}}))


def test_passwords_do_not_show_in_what_is_printed_of_credentials() -> None:
    shown = repr(RegistryCredentials("joe", "p4ss", "1dent", "b3ar"))
    assert "joe" in shown
    assert not any(secret in shown for secret in ("p4ss", "1dent", "b3ar"))
