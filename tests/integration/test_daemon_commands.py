"""`eclctl check`, `explain`, `status` and `reload` as processes against a real daemon."""

import json
import os
import subprocess

import pytest

from tests.helpers.site import APPROVED, ECLCTL, HALF, LENIENT, POLICY, UNSIGNED
from tests.helpers.support import CORPUS, ROOT


def eclctl(*arguments, text=None, **environment):
    return subprocess.run(
        [*ECLCTL, *arguments],
        input=text,
        capture_output=True,
        check=False,
        timeout=60,
        env=os.environ | {"PYTHONUTF8": "1"} | environment,
    )


def check(site, *arguments, **more):
    return eclctl("check", "--socket", site.check_socket, *arguments, **more)


def objects(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_exit_status_says_allow_or_deny(site):
    assert check(site, site.image(APPROVED)).returncode == 0
    assert check(site, site.image(HALF)).returncode == 1
    assert check(site, site.image(APPROVED), site.image(HALF)).returncode == 1


@pytest.mark.parametrize(
    "arguments",
    [[], ["--nonsense"], ["--socket"], ["--timeout", "soon", "a"], ["--batch", "a"], ["--quiet", "--json", "a"], [""]],
)
def test_a_wrong_command_line_is_two(arguments):
    done = eclctl("check", *arguments)
    assert done.returncode == 2
    assert b"--help" in done.stderr


def test_without_a_daemon_there_is_no_decision(quiet_site):
    done = check(quiet_site, "--json", quiet_site.image(APPROVED))
    assert done.returncode == 3
    assert objects(done)[0]["error"]["code"] == "no-daemon"
    assert "decision" not in objects(done)[0]


@pytest.mark.parametrize(("name", "code"), [(HALF, "requirements-not-met"), ("missing.sif", "unreadable")])
def test_json_has_the_fields_at_the_top_on_deny_too(site, name, code):
    allowed, denied = objects(check(site, "--json", site.image(APPROVED), site.image(name)))
    assert (allowed["v"], allowed["image"], allowed["decision"]) == (1, site.image(APPROVED), "allow")
    assert (denied["v"], denied["image"], denied["decision"], denied["code"]) == (1, site.image(name), "deny", code)
    assert set(allowed) == set(denied)


def test_quiet_prints_nothing(site):
    done = check(site, "--quiet", site.image(HALF))
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


def test_a_batch_answers_in_the_order_of_its_lines(site):
    names = [(APPROVED, HALF, UNSIGNED, "missing.sif")[n % 4] for n in range(100)]
    lines = b"".join(os.fsencode(site.image(name)) + b"\n" for name in names)
    done = check(site, "--batch", "--json", text=lines)
    assert done.returncode == 1
    assert [answer["image"] for answer in objects(done)] == [site.image(name) for name in names]
    assert [answer["decision"] == "allow" for answer in objects(done)] == [name == APPROVED for name in names]
    assert check(site, "--batch", text=os.fsencode(site.image(APPROVED))).returncode == 0


def test_a_relative_name_is_resolved_where_the_caller_is(site):
    done = subprocess.run(
        [*ECLCTL, "check", "--socket", site.check_socket, "--", APPROVED],
        cwd=site.root / "images",
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0


def test_fifos_devices_and_directories_are_denied_without_hanging(site):
    os.mkfifo(site.image("fifo"))
    done = check(site, "--json", site.image("fifo"), "/dev/zero", site.image(""), site.admin_socket)
    assert done.returncode == 1
    codes = [answer["code"] for answer in objects(done)]
    assert codes == ["unsupported-file", "unsupported-file", "no-rule", "unsupported-file"]


def test_a_name_reaches_the_terminal_escaped(site):
    name = os.fsdecode(b"\x1b[31m\xff\n.sif")
    site.add(name, site.root / "images" / HALF)
    done = check(site, site.image(name))
    assert b"\x1b" not in done.stdout
    assert rb"\x1b[31m\xff\x0a.sif" in done.stdout
    assert b"\x1b" not in eclctl("explain", "--socket", site.check_socket, site.image(name)).stdout


def test_explain_draws_a_tree_of_eighty_columns(site):
    done = eclctl("explain", "--socket", site.check_socket, site.image(HALF))
    text = done.stdout.decode()
    assert done.returncode == 1
    assert "rule production" in text
    assert "10.yaml:6" in text
    assert "✓ builder" in text
    assert "✗ scanner: has not signed" in text
    assert "could still sign: scanner" in text
    long = [line for line in text.splitlines() if len(line) > 80]
    assert [line for line in long if " " in line.strip("│├└─ ")] == []


def test_explain_draws_in_ascii_where_the_locale_is_not_utf8(site):
    done = eclctl("explain", "--socket", site.check_socket, site.image(HALF), PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert done.stdout.isascii()
    assert b"`- " in done.stdout


def test_explain_lists_signatures_that_count_for_nothing(site):
    site.add("forged.sif", CORPUS / "images" / "forged-fingerprint.sif")
    text = eclctl("explain", "--socket", site.check_socket, site.image("forged.sif")).stdout.decode()
    assert "├─ signatures" in text
    assert "└─ ✗ signature 4 (pgp): " in text


def test_explain_in_json_carries_the_tree(site):
    (answer,) = objects(eclctl("explain", "--json", "--socket", site.check_socket, site.image(HALF)))
    assert (answer["v"], answer["image"]) == (1, site.image(HALF))
    assert [requirement["met"] for requirement in answer["requirements"]] == [True, False]


def test_explain_needs_no_daemon(quiet_site):
    done = eclctl("explain", "--config", str(quiet_site.config), quiet_site.image(HALF))
    text = done.stdout.decode()
    assert done.returncode == 1
    assert "no daemon was asked" in text
    assert "ask scanner to sign the image" in text
    assert eclctl("explain", "--config", str(quiet_site.config), quiet_site.image(APPROVED)).returncode == 0


def test_explain_says_the_same_with_and_without_a_daemon(site):
    ways = (["--socket", site.admin_socket], ["--config", str(site.config)])
    answers = [objects(eclctl("explain", "--json", *way, site.image(HALF)))[0] for way in ways]
    own = {"decision_id", "cached", "generation", "config", "nearly"}
    asked, here = ({name: value for name, value in each.items() if name not in own} for each in answers)
    assert asked == here
    assert (answers[1]["generation"], answers[1]["config"]) == (None, str(site.config))


def test_explain_with_a_policy_that_does_not_load_is_no_decision_and_names_the_line(quiet_site):
    quiet_site.policy("nonsense")
    done = eclctl("explain", "--config", str(quiet_site.config), quiet_site.image(APPROVED))
    assert done.returncode == 3
    assert b"10.yaml:1" in done.stderr


def test_without_a_daemon_explain_names_the_rules_that_nearly_matched(quiet_site):
    narrow = 'match: {{paths: ["{root}/images/**"], users: ["4242"]}}'
    quiet_site.policy(POLICY.replace('match: {{paths: ["{root}/images/**"]}}', narrow))
    done = eclctl("explain", "--config", str(quiet_site.config), quiet_site.image(HALF))
    assert done.returncode == 1
    assert "production does not match: it is for other users or groups" in done.stdout.decode()
    assert f"({quiet_site.root}/policies.d/10.yaml:6)" in done.stdout.decode()


def test_only_the_admin_socket_shows_whose_name_a_key_carries(site):
    shown = [eclctl("explain", "--socket", path, site.image(HALF)) for path in (site.check_socket, site.admin_socket)]
    assert [b"builder@site101.example" in done.stdout for done in shown] == [False, True]


def test_status_and_reload_tell_what_is_in_force(site):
    done = eclctl("status", "--socket", site.admin_socket)
    assert done.returncode == 0
    assert b"generation 1" in done.stdout
    site.policy(LENIENT)
    assert b"generation 2 is in force" in eclctl("reload", "--socket", site.admin_socket).stdout
    site.policy("nonsense")
    done = eclctl("reload", "--socket", site.admin_socket)
    assert done.returncode == 1
    assert b"generation 2 stays in force" in done.stdout
    assert b"10.yaml:1" in done.stdout
    done = eclctl("status", "--json", "--socket", site.admin_socket)
    assert done.returncode == 1
    assert (objects(done)[0]["v"], objects(done)[0]["generation"]) == (1, 2)


def test_status_without_a_daemon_says_how_to_go_on(quiet_site):
    done = eclctl("status", "--socket", quiet_site.admin_socket)
    assert done.returncode == 3
    assert b"systemctl" in done.stderr


@pytest.mark.parametrize("command", ["check", "explain", "status", "reload", "daemon"])
def test_help_ends_in_examples(command):
    done = eclctl(command, "--help")
    assert done.returncode == 0
    assert f"eclctl {command}".encode() in done.stdout.partition(b"examples:")[2]


def test_the_list_of_commands_is_help_and_an_unknown_one_is_usage():
    assert b"check" in eclctl("--help").stdout
    done = eclctl("chekc\x1b")
    assert done.returncode == 2
    assert b"\x1b" not in done.stderr


def test_a_check_imports_neither_argparse_nor_the_daemon():
    code = (
        "import sys; sys.argv = ['eclctl', 'check', '--quiet', '/nowhere']; from eclctl.cli.entry import main; main()\n"
        "print(*sorted(name for name in sys.modules if name.startswith('eclctl')))\n"
        "print(*sorted({'argparse', 'asyncio', 'typing', 'dataclasses', 'socket', 'cryptography'} & set(sys.modules)))"
    )
    done = subprocess.run([ECLCTL[0], "-S", "-c", code], capture_output=True, text=True, check=True, env=_paths())
    ours, heavy = done.stdout.splitlines()
    constants = "eclctl.cli.terminal eclctl.cli.terminal.exit_codes"
    assert ours == f"eclctl eclctl.cli eclctl.cli.check eclctl.cli.entry {constants} eclctl.client"
    assert heavy == ""


def _paths():
    return os.environ | {"PYTHONPATH": str(ROOT)}
