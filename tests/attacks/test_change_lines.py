"""Attacks by time: on a file after it was checked, on the clock, on the disk, and on the process. Against a daemon."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from eclctl.sign.edit.assembly import Edit
from tests.helpers.signing import edit, second_signature, signed_once
from tests.helpers.site import APPROVED, HALF, POLICY, UNSIGNED, Site, eventually, read_lines, request

INSIDE = 33484  # a byte of the primary partition


def rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(INSIDE)
        byte = file.read(1)[0]
        file.seek(INSIDE)
        file.write(bytes([byte ^ 1]))


def rewrite_and_reset_mtime(path: Path) -> None:
    status = path.stat()
    rewrite(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def rename_over(path: Path) -> None:
    new = path.with_name("new")
    shutil.copy(path, new)
    rewrite(new)
    new.rename(path)


def through_a_hard_link(path: Path) -> None:
    link = path.parent.parent / "link"
    link.hardlink_to(path)
    rewrite(link)


def store_through_a_mapping(path: Path) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
        mapping[INSIDE] ^= 1


def reuse_the_inode(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[INSIDE] ^= 1
    path.unlink()
    path.write_bytes(data)
    path.chmod(0o644)


CHANGES = [
    rewrite,
    rewrite_and_reset_mtime,
    rename_over,
    through_a_hard_link,
    store_through_a_mapping,
    reuse_the_inode,
]


@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.parametrize("change", CHANGES)
def test_change_after_the_check_is_never_answered_from_a_stale_verdict(
    site: Site, change: Callable[[Path], None], by_name: bool
) -> None:
    path = site.add("changing.sif", Path(site.image(APPROVED)))
    ask = (lambda: site.ask("check", image=str(path))) if by_name else (lambda: site.check(path.name))
    eventually(lambda: ask()["cached"])  # once the change of its own making has settled
    assert ask()["decision"] == "allow"
    change(path)
    assert (ask()["decision"], ask()["code"]) == ("deny", "tampered")


def test_change_after_the_check_a_store_into_a_page_that_was_dirty_before(site: Site) -> None:
    """It changes no time of the file. While one could be made, facts are not kept, and no path is a trusted one."""
    assert site.check(APPROVED)["code"] == "requirements-met"
    with Path(site.image(APPROVED)).open("r+b") as file, mmap.mmap(file.fileno(), 0):
        assert site.check(APPROVED)["code"] == "assurance-too-low"
    site.policy(POLICY.replace("    message:", "    assurance: none\n    message:"))
    assert site.order("reload")["ok"]
    path = site.add("mapped.sif", Path(site.image(APPROVED)))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
        mapping[INSIDE] = mapping[INSIDE]
        assert [site.check(path.name)["cached"] for _ in range(2)] == [False, False]
        mapping[INSIDE] ^= 1
        assert site.check(path.name)["code"] == "tampered"


def test_change_after_the_check_truncated_and_written_again_while_it_is_asked_about(site: Site) -> None:
    """One image, changed between approved and half approved all the time: no half-written state is allowed.

    The half-approved one never is; an allow can therefore only come from a moment when the approved one lay there.
    """
    path = site.add("moving.sif", Path(site.image(HALF)))
    stop = threading.Event()
    approved, half = Path(site.image(APPROVED)).read_bytes(), Path(site.image(HALF)).read_bytes()
    mixed = approved[: len(approved) // 2] + bytes(len(approved) - len(approved) // 2)

    def change() -> None:
        while not stop.is_set():
            for content in (half, mixed):
                path.write_bytes(content)

    writer = threading.Thread(target=change)
    writer.start()
    try:
        codes = {site.check(path.name)["decision"] for _ in range(200)}
    finally:
        stop.set()
        writer.join()
    assert codes == {"deny"}


def test_change_after_the_check_signed_while_it_is_asked_about(site: Site) -> None:
    """One image that is signed, and has that signature removed, all the time: it is one or the other at every moment.

    Where it changed while it was read, or is open for writing, that is said; it is never half of each.
    """
    path = Path(site.image("signed.sif"))
    path.write_bytes(signed_once().build())
    sign, withdraw = second_signature(signed_once()), Edit(remove=frozenset({5}), zero=True, compact=True)
    done, codes = threading.Event(), set()

    def ask() -> None:
        while not done.is_set():
            codes.add(site.check(path.name)["code"])

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for change in (sign, withdraw) * 40:
            edit(path, change)
    finally:
        done.set()
        asking.join()
    assert codes <= {"requirements-met", "requirements-not-met", "busy", "assurance-too-low"}
    assert site.check(path.name)["code"] == "requirements-not-met"
    edit(path, sign)
    assert site.check(path.name)["code"] == "requirements-met"


@pytest.mark.parametrize("cause", ["malformed", "tampered", "unreadable", "forbidden", "no image"])
def test_permissive_allows_none_of_these(site: Site, cause: str) -> None:
    """The half-approved image is allowed under the same rule, so that permissive is seen to be at work."""
    forbid = "    forbid: {{signed_by: [builder]}}\n" if cause == "forbidden" else ""
    site.policy(POLICY.replace("    message:", f"{forbid}    mode: permissive\n    message:"))
    assert site.order("reload")["ok"]
    path = site.add("a.sif", Path(site.image(APPROVED)))
    if cause == "malformed":
        os.truncate(path, path.stat().st_size // 2)
    elif cause == "tampered":
        rewrite(path)
    elif cause == "unreadable":
        path.unlink()
    elif cause == "no image":
        path.write_bytes(b"not an image at all")
    answer = site.ask("check", image=str(path))
    assert answer["decision"] == "deny"
    assert answer["code"] == {"no image": "no-rule"}.get(cause, cause)
    if cause != "forbidden":
        assert site.check(HALF)["code"] == "permissive"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_stores_an_audit_log_on_a_full_disk_denies_until_there_is_room(quiet_site: Site) -> None:
    """Every allow that was answered is in the log; what could not be is denied; nothing needs a restart."""
    place = quiet_site.root / "log"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], check=False, capture_output=True)
    if done.returncode != 0:
        pytest.skip("needs the right to mount")
    try:
        quiet_site.config.write_text(quiet_site.config.read_text().replace("audit.jsonl", "log/audit.jsonl"))
        quiet_site.start()
        ballast = place / "ballast"
        ballast.write_bytes(bytes(20_000))
        answers = [quiet_site.check(APPROVED) for _ in range(200)]
        assert {answer["code"] for answer in answers} == {"requirements-met", "internal-error"}
        assert answers[-1]["decision"] == "deny"
        ballast.unlink()
        assert quiet_site.check(APPROVED)["decision"] == "allow"
        recorded = recorded_ids(place / "audit.jsonl", whole=False)
        assert {answer["decision_id"] for answer in answers if answer["decision"] == "allow"} <= recorded
        assert quiet_site.stop() == 0
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def recorded_ids(path: Path, *, whole: bool) -> set[str]:
    """The IDs in the log; a line may be torn where the disk was full or the process was killed, and only there."""
    found = set()
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines):
        try:
            found.add(json.loads(line).get("id"))
        except ValueError:
            assert not whole or number == len(lines) - 1, line
    return found


def test_crash_no_answered_decision_is_lost_and_the_next_start_is_clean(quiet_site: Site) -> None:
    """Killed in the middle of a storm of checks and reloads, three times over the same files."""
    answered: set[str] = set()
    for _ in range(3):
        quiet_site.start()
        client = quiet_site.connect()
        asked = 100
        client.sendall(b"".join(request("check", str(i), image=quiet_site.image(APPROVED)) for i in range(asked)))
        got = read_lines(client, 20)
        assert quiet_site.process is not None
        quiet_site.process.send_signal(signal.SIGHUP)
        quiet_site.process.kill()
        quiet_site.process.wait()
        with suppress(ConnectionResetError):
            got += read_lines(client, asked)
        client.close()
        assert quiet_site.process.stderr is not None
        quiet_site.process.stderr.close()
        answered |= {answer["result"]["decision_id"] for answer in got}
    quiet_site.start()
    assert quiet_site.check(APPROVED)["decision"] == "allow"
    assert quiet_site.check(UNSIGNED)["decision"] == "deny"
    assert answered <= recorded_ids(quiet_site.root / "audit.jsonl", whole=False)
    assert quiet_site.stop() == 0
