"""What names an image in a registry, and what does not."""

from __future__ import annotations

import pytest

from eclctl.errors import RemoteError
from eclctl.remote.registry.names import Reference, parse_reference

DIGEST = "sha256:" + "ab" * 32
HUB = "registry-1.docker.io"


@pytest.mark.parametrize(
    ("text", "host", "repository", "tag", "digest"),
    [
        ("docker://registry.example/prod/app:1.2", "registry.example", "prod/app", "1.2", ""),
        ("docker://registry.example:5000/app", "registry.example:5000", "app", "latest", ""),
        ("docker://localhost/app:1", "localhost", "app", "1", ""),
        ("docker:registry.example/app:1", "registry.example", "app", "1", ""),
        ("oras://[::1]:5000/a/b/c:x", "[::1]:5000", "a/b/c", "x", ""),
        (f"docker://registry.example/app@{DIGEST}", "registry.example", "app", "latest", DIGEST),
        (f"docker://registry.example/app:1@{DIGEST}", "registry.example", "app", "1", DIGEST),
        ("docker://REGISTRY.example/app", "registry.example", "app", "latest", ""),
        ("docker://alpine", HUB, "library/alpine", "latest", ""),
        ("docker://user/app:1", HUB, "user/app", "1", ""),
        ("docker://docker.io/user/app", HUB, "user/app", "latest", ""),
    ],
)
def test_a_reference_is_host_repository_and_tag_or_digest(
    text: str, host: str, repository: str, tag: str, digest: str
) -> None:
    scheme = text.partition(":")[0]
    assert parse_reference(text) == Reference(scheme, host, repository, tag, digest)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "registry.example/app:1",
        "https://registry.example/app:1",
        "docker://",
        "docker://registry.example/",
        "docker://registry.example/App:1",
        "docker://registry.example/../app:1",
        "docker://registry.example/a//b:1",
        "docker://registry.example/app:",
        "docker://registry.example/app:a b",
        "docker://registry.example/app:-x",
        "docker://registry.example/app@sha256:AB",
        "docker://registry.example/app@md5:" + "ab" * 16,
        "docker://user:word@registry.example/app:1",
        "docker://registry.example:99999999/app:1",
        "docker://registry.example:65536/app:1",
        "docker://registry.example:0/app:1",
        "docker://[:::::]:5000/app:1",
        "docker://[192.0.2.1]/app:1",
        "docker://regis\ntry.example/app:1",
        "docker://registry.example/app?x=y:1",
        "docker://registry.example/app#x:1",
        "docker://-registry.example/app:1",
        f"docker://registry.example/{'a' * 300}:1",
    ],
)
def test_what_could_be_another_part_of_a_url_is_no_reference(text: str) -> None:
    with pytest.raises(RemoteError):
        parse_reference(text)


def test_credentials_for_docker_hub_go_by_its_old_name() -> None:
    assert parse_reference("docker://alpine").keys[0] == "https://index.docker.io/v1/"
    assert parse_reference("docker://registry.example:5000/a/b").keys == (
        "registry.example:5000/a/b",
        "registry.example:5000",
    )
