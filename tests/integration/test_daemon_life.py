"""The daemon starts whole, tells systemd, reloads safely and stops cleanly."""

import os
import shutil
import signal
import socket
import subprocess

import pytest

from eclctl.client import Client, ClientRequest, NoAnswerError
from tests.helpers.site import APPROVED, ECLCTL, HALF, LENIENT, POLICY, read_lines, request
from tests.helpers.support import ROOT

BROKEN = "version: 1\nrules:\n  - name: x\n    decison: allow\ndefault: deny\n"


def test_the_sockets_are_there_when_readiness_is_sent(quiet_site):
    quiet_site.launch()
    quiet_site.expect("READY=1")
    assert quiet_site.check(APPROVED)["decision"] == "allow"
    assert os.stat(quiet_site.check_socket).st_mode & 0o777 == 0o666
    assert os.stat(quiet_site.admin_socket).st_mode & 0o007 == 0
    assert (quiet_site.root / "run").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_leaves_no_socket(site, number):
    with site.connect() as idle:
        assert site.stop(number) == 0
        assert idle.recv(1) == b""
    assert list((site.root / "run").iterdir()) == []
    site.expect("STOPPING=1")
    assert [record["event"] for record in site.audit()][-1] == "stop"


def test_after_being_killed_it_starts_again_over_what_is_left(site):
    site.check(APPROVED)
    site.stop(signal.SIGKILL)
    assert os.path.exists(site.check_socket)
    site.start()
    assert site.check(APPROVED)["decision"] == "allow"
    assert [record["event"] for record in site.audit()].count("start") == 2


def test_two_daemons_do_not_share_a_state_directory(site):
    second = subprocess.run([*ECLCTL, "daemon", "--config", site.config], capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert "another daemon" in second.stderr
    assert site.check(APPROVED)["decision"] == "allow"


def test_a_wrong_configuration_is_named_with_its_place_and_nothing_starts(quiet_site):
    quiet_site.configure(more="watsch: []\n")
    done = subprocess.run(
        [*ECLCTL, "daemon", "--config", quiet_site.config], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"eclctl daemon: {quiet_site.config}:10:1: ")
    assert not (quiet_site.root / "run").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, whose configuration is guarded")
def test_root_refuses_a_configuration_that_others_can_write(quiet_site):
    quiet_site.config.chmod(0o666)
    done = subprocess.run(
        [*ECLCTL, "daemon", "--config", quiet_site.config], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "writable" in done.stderr


def test_without_a_policy_it_runs_and_denies_until_one_loads(quiet_site):
    quiet_site.policy(BROKEN)
    quiet_site.start()
    answer = quiet_site.check(APPROVED)
    assert (answer["decision"], answer["code"], answer["policy"]) == ("deny", "no-policy", None)
    status = quiet_site.order("status")
    assert not status["policy_loaded"]
    assert any("10.yaml:4:5" in error for error in status["last_reload"]["errors"])
    quiet_site.policy(POLICY)
    assert quiet_site.order("reload")["ok"]
    assert quiet_site.check(APPROVED)["decision"] == "allow"


def test_a_reload_changes_the_very_next_answer(site):
    assert site.check(HALF)["decision"] == "deny"
    site.policy(LENIENT)
    report = site.order("reload")
    assert (report["ok"], report["generation"], report["errors"]) == (True, 2, [])
    answer = site.check(HALF)
    assert (answer["decision"], answer["rule"], answer["generation"]) == ("allow", "lenient", 2)
    assert answer["policy"] == report["policy"]


def test_a_policy_with_errors_leaves_the_last_good_one_in_force(site):
    before = site.check(APPROVED)
    site.policy(BROKEN)
    report = site.order("reload")
    assert (report["ok"], report["generation"], report["policy"]) == (False, 1, before["policy"])
    assert any("10.yaml:4:5" in error for error in report["errors"])
    assert site.check(APPROVED)["decision"] == "allow"
    status = site.order("status")
    assert (status["last_reload"]["ok"], status["clock_behind"] < 1) == (False, True)
    assert [record["ok"] for record in site.audit() if record["event"] == "reload"] == [True, False]


def test_a_revoked_key_counts_no_more_after_a_reload_though_facts_are_kept(site):
    assert site.check(APPROVED)["decision"] == "allow"
    (site.root / "keys.d" / "scanner.asc").unlink()
    site.policy(LENIENT)
    assert site.order("reload")["ok"]
    assert site.check(APPROVED)["signers"] == ["builder"]


def test_sighup_reloads_and_systemd_hears_of_it(site):
    site.policy(LENIENT)
    os.kill(site.pid, signal.SIGHUP)
    site.expect("RELOADING=1")
    assert "generation 2" in site.expect("READY=1")
    assert site.check(HALF)["decision"] == "allow"


def test_sighup_follows_log_rotation(site):
    site.check(APPROVED)
    (site.root / "audit.jsonl").rename(site.root / "audit.jsonl.1")
    os.kill(site.pid, signal.SIGHUP)
    site.expect("READY=1")
    answer = site.check(APPROVED)
    assert answer["decision_id"] in {record.get("id") for record in site.audit()}


def test_settings_that_need_a_restart_are_a_warning_of_the_reload(site):
    site.configure(limits="{connections: 100}")
    report = site.order("reload")
    assert report["ok"]
    assert any("limits" in warning and "restart" in warning for warning in report["warnings"])


def test_reloads_asked_for_together_are_all_answered(site):
    with site.connect(site.admin_socket) as sock:
        sock.sendall(b"".join(request("reload", str(number)) for number in range(50)))
        answers = read_lines(sock, 50)
    assert all(answer["result"]["ok"] for answer in answers)
    assert site.order("status")["generation"] < 51


def test_the_watchdog_hears_from_the_event_loop(quiet_site):
    quiet_site.start(WATCHDOG_USEC="400000")
    for _ in range(3):
        quiet_site.expect("WATCHDOG=1")


def test_sockets_that_systemd_opened_are_served_and_left(quiet_site):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(quiet_site.root / "activated"))
    listener.listen()
    code = (
        f"import os; os.dup2({listener.fileno()}, 3); os.environ['LISTEN_PID'] = str(os.getpid())\n"
        "import sys; from eclctl.cli.entry import main; sys.exit(main())"
    )
    quiet_site.process = subprocess.Popen(
        [ECLCTL[0], "-c", code, "daemon", "--config", str(quiet_site.config)],
        env=os.environ
        | {"NOTIFY_SOCKET": str(quiet_site.root / "notify"), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "check"},
        pass_fds=[listener.fileno()],
        stderr=subprocess.PIPE,
        text=True,
    )
    listener.close()
    quiet_site.expect("READY=1")
    with Client(str(quiet_site.root / "activated")) as client:
        assert client.ask(ClientRequest("ping"))["protocol"] == 1
    assert not os.path.exists(quiet_site.check_socket)
    assert quiet_site.stop() == 0
    assert os.path.exists(quiet_site.root / "activated")


def test_requests_under_way_are_answered_before_the_end(site):
    with site.connect() as sock:
        sock.sendall(request("check", image=site.image(APPROVED)))
        (answer,) = read_lines(sock, 1)
        assert site.stop() == 0
    assert answer["result"]["decision"] == "allow"


def test_no_daemon_is_no_decision(quiet_site):
    with pytest.raises(NoAnswerError) as nothing:
        quiet_site.check(APPROVED)
    assert nothing.value.code == "no-daemon"


@pytest.mark.parametrize("unit", ["eclctl.service", "eclctl.socket"])
def test_systemd_accepts_the_units(unit, tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    for name in ("eclctl.service", "eclctl.socket"):
        text = (ROOT / "systemd" / name).read_text().replace("/usr/bin/eclctl", "/bin/true")
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / unit], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_service_is_hardened(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=30", ROOT / "systemd" / "eclctl.service"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-500:]


@pytest.mark.parametrize("place", ["policies.d/10.yaml/below/audit.jsonl", "images"])
def test_an_audit_log_that_cannot_be_is_the_end_of_the_start_in_one_sentence(quiet_site, place):
    quiet_site.config.write_text(quiet_site.config.read_text().replace("audit.jsonl", place))
    quiet_site.launch()
    _, log = quiet_site.process.communicate(timeout=60)
    assert quiet_site.process.returncode == 1
    assert "cannot start: " in log
    assert "Traceback" not in log
