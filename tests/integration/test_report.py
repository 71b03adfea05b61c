"""`eclctl report` against a daemon and without one, and its page in a real browser."""

import json
import os
import re
import shutil
import subprocess

import pytest

from tests.helpers.site import APPROVED, ECLCTL, HALF, POLICY, UNSIGNED, eventually
from tests.helpers.support import CORPUS

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OWN = (".google.com", ".googleapis.com", ".gvt1.com")
WATCH = "watch: [{path: images}]\n"


def report(*arguments):
    done = subprocess.run([*ECLCTL, "report", *arguments], capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def known(quiet_site):
    """A site whose daemon knows all of its images."""
    quiet_site.configure(more=WATCH)
    site = quiet_site.start()
    for name in (APPROVED, HALF, UNSIGNED):
        eventually(lambda name=name: site.check(name)["cached"])
    return site


def test_with_and_without_a_daemon_images_keys_and_rules_are_the_same(known):
    asked = json.loads(report("--json", "--socket", known.admin_socket).stdout)
    here = json.loads(report("--json", "--config", str(known.config)).stdout)
    for part in ("images", "keys", "files", "host", "unread"):
        assert asked[part] == here[part], part
    assert [image["stand"] for image in here["images"]] == ["approved", "pending", "denied"]
    assert [rule["images"] for rule in asked["rules"]] == [rule["images"] for rule in here["rules"]]
    assert asked["summary"]["policy"] == here["summary"]["policy"]
    assert set(asked) == set(here)


def test_decisions_come_from_the_audit_log_newest_first(known):
    asked = json.loads(report("--json", "--socket", known.admin_socket, "--decisions", "3").stdout)["decisions"]
    here = json.loads(report("--json", "--config", str(known.config), "--decisions", "3").stdout)["decisions"]
    written = [record for record in known.audit() if record["event"] == "decision"][-3:][::-1]
    assert asked == here == written


def test_fewer_images_than_there_are_is_said(known):
    asked = json.loads(report("--json", "--socket", known.admin_socket, "--images", "1").stdout)
    assert (len(asked["images"]), asked["images_left_out"]) == (1, 2)


def test_the_page_is_for_its_owner_alone_unless_its_group_may_read_it(known, tmp_path):
    for arguments, mode in (([], 0o600), (["--group-readable"], 0o640)):
        report("--socket", known.admin_socket, "--html", str(tmp_path / "r.html"), *arguments)
        assert (tmp_path / "r.html").stat().st_mode & 0o777 == mode


def test_a_page_that_cannot_be_written_is_one_and_says_where(known, tmp_path):
    command = [*ECLCTL, "report", "--socket", known.admin_socket, "--html", str(tmp_path / "none" / "r.html")]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert done.returncode == 1
    assert b"none/r.html: No such file or directory" in done.stderr


def test_a_report_is_of_one_policy_however_often_it_is_replaced(known):
    names = set()
    for number in range(6):
        known.policy(POLICY.replace("production", f"production-{number}"))
        reloading = subprocess.Popen([*ECLCTL, "reload", "--socket", known.admin_socket], stdout=subprocess.DEVNULL)
        made = json.loads(report("--json", "--socket", known.admin_socket).stdout)
        reloading.wait(60)
        (rule,) = made["rules"]
        assert f"name: {rule['name']}\n" in made["files"][0]["text"]
        assert {standing["rule"] for image in made["images"] for standing in image["standings"]} <= {rule["name"]}
        names.add(rule["name"])
    assert names


# -- in a browser --------------------------------------------------------------------------------------------------


def opened(page, tmp_path, fragment=""):
    """The page's elements when Chromium has run its script, what the console said, and the hosts that were asked.

    Nothing leaves this machine. What the browser asks of its maker on its own behalf is left out.
    """
    log = tmp_path / "net.json"
    command = [CHROMIUM, "--headless", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    command += ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", f"--log-net-log={log}"]
    command += ["--no-sandbox"] if os.getuid() == 0 else []
    done = subprocess.run([*command, f"file://{page}{fragment}"], capture_output=True, check=True, timeout=120)
    console = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if "CONSOLE" in line]
    hosts = set(re.findall(r'"url":"https?://([^/"]+)', log.read_text()))
    return done.stdout.decode(), console, {host for host in hosts if not host.endswith(OWN)}


def order(dom, table):
    """What the rows of a table are sorted by, in their first column, as they stand."""
    body = re.search(rf'id="{table}".*?<tbody>(.*?)</tbody>', dom, re.DOTALL).group(1)
    return re.findall(r'<tr><td data-v="([^"]*)"', body)


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_in_a_browser_the_page_sorts_itself_and_fetches_nothing(known, tmp_path):
    for number in range(12):
        known.add(f"more-{number}.sif", CORPUS / "images" / HALF)
        eventually(lambda number=number: known.check(f"more-{number}.sif")["cached"])
    hostile = '<img src="x" onerror="alert(1)">\u202e.sif'
    known.add(hostile, CORPUS / "images" / HALF)
    eventually(lambda: known.check(hostile)["cached"])
    page = tmp_path / "report.html"
    report("--socket", known.admin_socket, "--html", str(page))
    dom, console, hosts = opened(page, tmp_path, "#sort=imagestable,-0")
    assert 'class="sorts"' in dom, "the script ran, under the page's own content security policy"
    assert 'aria-sort="descending"' in dom
    assert "Only rows with" in dom
    names = order(dom, "imagestable")
    numbers = [int(number) for number in re.findall(r"more-(\d+)\.sif", " ".join(names))]
    assert numbers == sorted(range(12), reverse=True), "as numbers, not as text"
    assert len(names) == len(order(page.read_text(), "imagestable")) == 16
    assert "<img" not in dom
    assert console == []
    assert hosts == set()


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_what_a_browser_asks_others_for_and_complains_of_would_be_noticed(tmp_path):
    page = tmp_path / "page.html"
    page.write_text('<img src="http://192.0.2.1/x"><script>undefined_function()</script>')
    _, console, hosts = opened(page, tmp_path)
    assert hosts == {"192.0.2.1"}
    assert len(console) == 1
