"""config.yaml as frozen types."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from eclctl.config.keyservers import Keyserver, Keyservers
from eclctl.config.settings import Filesystems, Limits, Ocsp, Settings, Watch, load_settings
from tests.helpers.support import ROOT

MINIMAL = """\
version: 1
sockets: {check: c.sock, admin: a.sock}
state_dir: state
policies: [policies.d]
keyrings: [keys.d]
"""


def settings(tmp_path: Path, text: str) -> Settings:
    loaded = loading(tmp_path, text)
    assert loaded[1] == []
    assert loaded[0] is not None
    return loaded[0]


def loading(tmp_path: Path, text: str) -> tuple[Settings | None, list[str]]:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    path.chmod(0o644)
    loaded = load_settings(str(path), resolve_user={"root": 0, "joe": 1000}.get)
    return loaded.settings, [str(error).removeprefix(f"{path}:") for error in loaded.errors]


def test_a_site_without_openpgp_keys_says_so(tmp_path: Path) -> None:
    assert settings(tmp_path, MINIMAL.replace("[keys.d]", "[]")).keyrings == ()
    _, errors = loading(tmp_path, MINIMAL.replace("keyrings: [keys.d]\n", ""))
    assert errors == ["1:1: the configuration needs 'keyrings'"]


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    assert settings(tmp_path, MINIMAL).policies == (str(tmp_path / "policies.d"),)


def test_what_is_left_out_has_the_documented_default(tmp_path: Path) -> None:
    found = settings(tmp_path, MINIMAL)
    assert found.watch == ()
    assert found.metrics_listen == ("127.0.0.1", 9469)
    assert found.audit_path is None
    assert found.trusted_owners == frozenset({0})
    assert found.filesystems == Filesystems()
    assert found.limits == Limits()
    assert found.ocsp == Ocsp(max_age=86400.0, timeout=5.0)


def test_the_example_loads_and_says_what_its_comments_say(tmp_path: Path) -> None:
    found = settings(tmp_path, (ROOT / "config.example.yaml").read_text())
    assert found.watch == (Watch("/srv/containers", recursive=True, rescan=900.0),)
    assert found.trusted_owners == frozenset({0})
    assert found.ocsp == Ocsp()
    commented = "\n".join(
        line.removeprefix("# ")
        for line in (ROOT / "config.example.yaml").read_text().splitlines()
        if line.startswith(("# filesystems:", "# limits:", "# keyservers:", "#   "))
    )
    if os.getuid() != 0:
        commented = commented[commented.index("keyservers:") :]  # what comes before it is for files of root's
    whole = settings(tmp_path, MINIMAL + commented + "\n")
    if os.getuid() == 0:
        assert whole.filesystems == Filesystems(frozenset({"/home", "/scratch"}), frozenset({"/cvmfs"}))
    assert whole.keyservers == Keyservers(
        (
            Keyserver("https://keys.site.example"),
            Keyserver("https://keys.example.org", str(tmp_path / "ca.pem"), str(tmp_path / "token")),
        )
    )
    limits = whole.limits
    assert limits == Limits(verify_threads=limits.verify_threads)


def test_metrics_can_be_a_text_file_or_nothing(tmp_path: Path) -> None:
    assert settings(tmp_path, MINIMAL + "metrics: null\n").metrics_listen is None
    found = settings(tmp_path, MINIMAL + "metrics: {textfile: m.prom}\n")
    assert (found.metrics_listen, found.metrics_textfile) == (None, str(tmp_path / "m.prom"))


def test_answers_of_responders_are_kept_for_as_long_as_the_site_says(tmp_path: Path) -> None:
    assert settings(tmp_path, MINIMAL + "ocsp: {max_age: 12h, timeout: 2s}\n").ocsp == Ocsp(43200.0, 2.0)
    assert settings(tmp_path, MINIMAL + "ocsp: {max_age: 12h}\n").ocsp == Ocsp(43200.0, 5.0)


def test_an_ipv6_address_is_written_in_brackets(tmp_path: Path) -> None:
    assert settings(tmp_path, MINIMAL + 'metrics: {listen: "[::1]:9000"}\n').metrics_listen == ("::1", 9000)


def test_owners_are_names_or_numbers(tmp_path: Path) -> None:
    assert settings(tmp_path, MINIMAL + 'trusted_owners: [root, joe, "77"]\n').trusted_owners == {0, 1000, 77}


@pytest.mark.parametrize(
    ("extra", "error"),
    [
        ("trusted_owners: [nobody-here]\n", "6:18: there is no user 'nobody-here' on this host"),
        ("metrics: {listen: 9469}\n", "6:19: metrics.listen must be HOST:PORT, and is '9469'"),
        ("metrics: {}\n", "6:10: metrics needs either listen or textfile (write null for no metrics)"),
        ("limits: {connections: 0}\n", "6:23: limits.connections must be a number from 1 to 10000000, and is '0'"),
        (
            "limits: {request_timeout: 30}\n",
            "6:27: limits.request_timeout must be a duration, and is '30' (a number and s, m, h, d or w: 15m)",
        ),
        ("shared_cache: {url: x}\n", "6:15: shared_cache is not known to this version of eclctl (remove it)"),
        ("polices: [x]\n", "6:1: unknown key 'polices' in the configuration (did you mean 'policies'?)"),
        ("watch: [{rescan: 5m}]\n", "6:9: a watch needs 'path'"),
        ("ocsp: {max_age: 0s}\n", "6:17: ocsp.max_age must be from 1s to 604800s, and is '0s'"),
        ("ocsp: {timeout: 2m}\n", "6:17: ocsp.timeout must be from 1s to 60s, and is '2m'"),
        ("ocsp: {nonce: x}\n", "6:8: unknown key 'nonce' in ocsp (known: max_age, timeout)"),
        ("trusted_owners: []\n", "6:17: trusted_owners is an empty list (leave the key out, or list something)"),
    ],
)
def test_an_error_says_where_what_and_what_to_do(tmp_path: Path, extra: str, error: str) -> None:
    assert loading(tmp_path, MINIMAL + extra) == (None, [error])


needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")


@needs_root
def test_file_systems_are_mount_points_in_three_lists(tmp_path: Path) -> None:
    text = "filesystems: {trusted: [//home/, /a/../b], read_only: [/cvmfs], fuse: []}\n"
    found = settings(tmp_path, MINIMAL + text).filesystems
    assert found == Filesystems(frozenset({"/home", "/b"}), frozenset({"/cvmfs"}), frozenset())


def test_the_older_name_for_read_only_file_systems_goes_on(tmp_path: Path) -> None:
    found = settings(tmp_path, MINIMAL + "trusted_mounts: [//cvmfs, sw]\n").filesystems
    assert found == Filesystems(read_only=frozenset({"/cvmfs", str(tmp_path / "sw")}))


@needs_root
def test_both_names_for_read_only_file_systems_add_up(tmp_path: Path) -> None:
    found = settings(tmp_path, MINIMAL + "trusted_mounts: [/cvmfs]\nfilesystems: {read_only: [/sw]}\n").filesystems
    assert found.read_only == {"/cvmfs", "/sw"}


@needs_root
@pytest.mark.parametrize(
    ("extra", "error"),
    [
        (
            "filesystems: {trusted: [home]}\n",
            "6:25: the mount point 'home' in filesystems.trusted is not absolute (begin it with /)",
        ),
        (
            "filesystems: {mounts: [/home]}\n",
            "6:15: unknown key 'mounts' in filesystems (known: fuse, read_only, trusted)",
        ),
        ("filesystems: [/home]\n", "6:14: filesystems must be a mapping, and is a list"),
        ("filesystems: {fuse: /home}\n", "6:21: filesystems.fuse must be a list, and is '/home' (write it as [a, b])"),
    ],
)
def test_an_error_in_file_systems_says_where_what_and_what_to_do(tmp_path: Path, extra: str, error: str) -> None:
    assert loading(tmp_path, MINIMAL + extra) == (None, [error])


@needs_root
def test_file_systems_are_accepted_only_in_a_file_of_roots() -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        os.chown(folder, 1000, 1000)
        (folder / "config.yaml").write_text(MINIMAL + "filesystems: {trusted: [/home]}\n")
        os.chown(folder / "config.yaml", 1000, 1000)
        os.seteuid(1000)
        try:
            loaded = load_settings(str(folder / "config.yaml"), resolve_user=lambda _: None)
        finally:
            os.seteuid(0)
    assert loaded.settings is None
    assert [error.message for error in loaded.errors] == ["filesystems is accepted only in a file that root owns"]


def test_both_sockets_at_one_path_are_an_error(tmp_path: Path) -> None:
    found, errors = loading(tmp_path, MINIMAL.replace("a.sock", "c.sock"))
    assert (found, errors) == (None, ["2:33: sockets.admin is the same path as sockets.check"])


def test_a_directory_is_no_configuration(tmp_path: Path) -> None:
    loaded = load_settings(str(tmp_path), resolve_user=lambda _: None)
    assert "the configuration is not a regular file" in str(loaded.errors[0])


def test_all_errors_are_reported_at_once(tmp_path: Path) -> None:
    found, errors = loading(tmp_path, "version: 2\nsockets: {check: c.sock}\n")
    assert found is None
    assert len(errors) == 5


def test_a_missing_file_is_an_error_too(tmp_path: Path) -> None:
    loaded = load_settings(str(tmp_path / "none.yaml"), resolve_user=lambda _: None)
    assert loaded.settings is None
    assert "cannot be opened: No such file or directory" in str(loaded.errors[0])


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
@pytest.mark.parametrize(("mode", "owner"), [(0o664, 0), (0o646, 0), (0o644, 1000)])
def test_root_refuses_a_file_that_others_could_have_written(tmp_path: Path, mode: int, owner: int) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(MINIMAL)
    path.chmod(mode)
    os.chown(path, owner, 0)
    loaded = load_settings(str(path), resolve_user=lambda _: 0)
    assert loaded.settings is None
    assert "chmod go-w" in str(loaded.errors[0]) or "chown root" in str(loaded.errors[0])


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_root_refuses_a_file_in_a_directory_that_others_can_write(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(MINIMAL)
    tmp_path.chmod(0o777)
    loaded = load_settings(str(tmp_path / "config.yaml"), resolve_user=lambda _: 0)
    assert "lies in a directory that others than root can write" in str(loaded.errors[0])
