"""The metrics as others see them: over HTTP, in a file, through promtool, in the dashboard and the alert rules."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from eclctl.daemon.observing import exposition
from eclctl.daemon.observing.exposition import HttpExposition, TextfileExposition
from eclctl.decide.questions import Decision, Question
from eclctl.errors import ConfigError
from eclctl.model import Caller, Code, Outcome
from eclctl.terms import Kind
from tests.helpers.metrics import metric_names, whole_metrics
from tests.helpers.support import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from eclctl.daemon.observing.metrics import Metrics

GRAFANA = ROOT / "grafana"
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")


def promtool(*arguments: str, given: bytes | None = None) -> None:
    done = subprocess.run(["promtool", *arguments], input=given, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


def full_metrics() -> Metrics:
    metrics = whole_metrics()
    question = Question("/a.sif", Caller(0, 0))
    outcome = Outcome(Code.REQUIREMENTS_MET, "all requirements are met", "production")
    metrics.decision(Decision("1", question, outcome, Kind.SIF, "/a.sif", None, True, 1, None), 0.001)
    return metrics


@pytest.fixture
def served() -> Iterator[HttpExposition]:
    exposition_ = HttpExposition(full_metrics().registry, "127.0.0.1", 0)
    yield exposition_
    exposition_.stop()


def port_of(server: HttpExposition) -> int:
    return int(server._listener.getsockname()[1])


def ask(port: int, method: str = "GET", target: str = "/metrics") -> tuple[int, dict[str, str], bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request(method, target)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


# -- over HTTP


def test_a_scrape_gets_every_metric(served: HttpExposition) -> None:
    status, headers, body = ask(port_of(served))
    names = {sample.name for family in text_string_to_metric_families(body.decode()) for sample in family.samples}
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert {"eclctl_decisions_total", "eclctl_policy_loaded", "process_open_fds"} <= names


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [("HEAD", "/metrics", 200), ("GET", "/metrics?x=1", 200), ("GET", "/", 404), ("POST", "/metrics", 405)],
)
def test_other_requests_get_what_http_says(served: HttpExposition, method: str, target: str, status: int) -> None:
    found, headers, body = ask(port_of(served), method, target)
    assert found == status
    assert (body == b"") == (method == "HEAD")
    assert int(headers["Content-Length"]) > 0


@pytest.mark.parametrize(
    ("sent", "status"),
    [(b"nonsense\r\n\r\n", b"400"), (b"GET /metrics HTTP/2.0\r\n\r\n", b"505"), (b"G" * 9000, b"431")],
)
def test_what_is_no_request_is_refused(served: HttpExposition, sent: bytes, status: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port_of(served)), timeout=20) as sock:
        sock.sendall(sent)
        assert sock.recv(65536).split(b" ")[1] == status


def test_a_request_may_come_in_pieces(served: HttpExposition) -> None:
    with socket.create_connection(("127.0.0.1", port_of(served)), timeout=20) as sock:
        for byte in b"GET /metrics HTTP/1.0\r\n\r\n":
            sock.send(bytes([byte]))
        assert sock.recv(12) == b"HTTP/1.1 200"


def test_idle_connections_make_room_for_a_scrape(served: HttpExposition) -> None:
    """Attack: an unprivileged user holds more connections than there are."""
    idle = [
        socket.create_connection(("127.0.0.1", port_of(served)), timeout=20) for _ in range(exposition.CLIENTS + 10)
    ]
    try:
        assert ask(port_of(served))[0] == 200
        assert idle[0].recv(1) == b""  # the oldest was dropped
    finally:
        for sock in idle:
            sock.close()


def test_an_idle_connection_is_closed(served: HttpExposition) -> None:
    with socket.create_connection(("127.0.0.1", port_of(served)), timeout=20) as sock:
        assert sock.recv(1) == b""


def test_a_hammering_user_causes_one_rendering_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = []

    def render(registry: CollectorRegistry) -> bytes:
        rendered.append(registry)
        return b""

    monkeypatch.setattr(exposition, "generate_latest", render)
    server = HttpExposition(CollectorRegistry(), "127.0.0.1", 0, clock=lambda: 5.0)
    try:
        for _ in range(50):
            ask(port_of(server))
    finally:
        server.stop()
    assert len(rendered) == 1


def test_beyond_the_rate_connections_wait_and_are_then_served() -> None:
    server = HttpExposition(CollectorRegistry(), "127.0.0.1", 0)
    try:
        statuses = [ask(port_of(server))[0] for _ in range(exposition.ACCEPTS + 20)]
    finally:
        server.stop()
    assert statuses == [200] * (exposition.ACCEPTS + 20)


def test_a_taken_port_is_a_clear_error(served: HttpExposition) -> None:
    with pytest.raises(ConfigError, match=f"127.0.0.1:{port_of(served)}"):
        HttpExposition(CollectorRegistry(), "127.0.0.1", port_of(served))


def test_stopping_gives_back_the_port() -> None:
    server = HttpExposition(CollectorRegistry(), "127.0.0.1", 0)
    port = port_of(server)
    server.stop()
    HttpExposition(CollectorRegistry(), "127.0.0.1", port).stop()


def test_an_ipv6_address_may_stand_in_brackets() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("needs IPv6 on the loopback interface")
    server = HttpExposition(CollectorRegistry(), "[::1]", 0)
    try:
        connection = http.client.HTTPConnection("::1", port_of(server), timeout=20)
        connection.request("GET", "/metrics")
        assert connection.getresponse().status == 200
        connection.close()
    finally:
        server.stop()


# -- in a file


def test_the_textfile_is_whole_readable_and_alone(tmp_path: Path) -> None:
    path = tmp_path / "eclctl.prom"
    old = os.umask(0o077)
    try:
        textfile = TextfileExposition(full_metrics().registry, str(path))
        textfile.start()
        textfile.stop()
    finally:
        os.umask(old)
    assert [entry.name for entry in tmp_path.iterdir()] == ["eclctl.prom"]
    assert path.stat().st_mode & 0o777 == 0o644
    assert b"eclctl_decisions_total" in path.read_bytes()


def test_a_textfile_that_cannot_be_written_stops_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "eclctl.prom").mkdir()
    assert TextfileExposition(CollectorRegistry(), str(tmp_path / "eclctl.prom")).write() is False
    assert TextfileExposition(CollectorRegistry(), str(tmp_path / "missing" / "eclctl.prom")).write() is False
    assert [entry.name for entry in tmp_path.iterdir()] == ["eclctl.prom"]


def test_a_link_left_in_the_way_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / f"eclctl.prom.{os.getpid()}.new").symlink_to(victim)
    assert TextfileExposition(CollectorRegistry(), str(tmp_path / "eclctl.prom")).write() is True
    assert victim.read_text() == "precious"


# -- promtool, the dashboard and the alert rules


@needs_promtool
def test_promtool_finds_nothing_wrong_with_the_metrics() -> None:
    text = generate_latest(full_metrics().registry)
    ours = b"".join(line + b"\n" for line in text.splitlines() if b"eclctl_" in line)
    promtool("check", "metrics", given=ours)


@needs_promtool
def test_the_alert_rules_are_valid() -> None:
    promtool("check", "rules", str(GRAFANA / "alerts.yaml"))


@needs_promtool
def test_the_alerts_fire_and_stay_silent_as_their_tests_say() -> None:
    promtool("test", "rules", str(GRAFANA / "alerts_test.yaml"))


def alert_rules() -> list[dict[str, object]]:
    groups = yaml.safe_load((GRAFANA / "alerts.yaml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> list[str]:
    """Every PromQL expression of the dashboard (panels and variables) and of the alert rules."""
    found = [str(rule["expr"]) for rule in alert_rules()]

    def collect(node: object) -> None:
        if isinstance(node, dict):
            found.extend(value for key, value in node.items() if key in {"expr", "query"} and isinstance(value, str))
            for value in node.values():
                collect(value)
        elif isinstance(node, list):
            for value in node:
                collect(value)

    collect(json.loads((GRAFANA / "dashboard.json").read_text("utf-8")))
    return found


@needs_promtool
def test_every_expression_of_the_dashboard_is_valid(tmp_path: Path) -> None:
    texts = [text.replace("$__rate_interval", "5m") for text in expressions() if not text.startswith("label_values(")]
    rules = [{"record": f"check:{n}", "expr": text} for n, text in enumerate(texts) if text != "prometheus"]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", str(path))


def test_every_metric_in_dashboard_and_alerts_is_exposed() -> None:
    exposed = metric_names(full_metrics().registry)
    used = {name for text in expressions() for name in re.findall(r"\b(?:eclctl|process)_\w+", text)}
    assert len(used) > 20
    assert used <= exposed


def test_every_metric_of_ours_is_on_the_dashboard_or_in_an_alert() -> None:
    exposed = {name for name in metric_names(full_metrics().registry) if name.startswith("eclctl_")}
    used = " ".join(expressions())
    shown = {name for name in exposed if re.sub("_(sum|count)$", "", name) in used}
    assert exposed - shown == set()


def test_every_label_that_an_expression_names_exists() -> None:
    labels = {
        label for family in full_metrics().registry.collect() for sample in family.samples for label in sample.labels
    }
    named = {
        label
        for text in expressions()
        for matchers in re.findall(r"(?:eclctl|process)_\w+\{([^}]*)\}", text)
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)
    }
    assert named <= labels | {"instance", "job"}


def test_every_alert_has_a_test_that_makes_it_fire() -> None:
    tests = yaml.safe_load((GRAFANA / "alerts_test.yaml").read_text("utf-8"))["tests"]
    fired = {case["alertname"] for test in tests for case in test.get("alert_rule_test", []) if case.get("exp_alerts")}
    silent = {
        case["alertname"] for test in tests for case in test.get("alert_rule_test", []) if not case.get("exp_alerts")
    }
    alerts = {str(rule["alert"]) for rule in alert_rules()}
    assert fired == alerts
    assert silent == alerts


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    for rule in alert_rules():
        assert rule["labels"]["severity"] in {"critical", "warning"}  # type: ignore[index]
        assert {"summary", "description"} <= set(rule["annotations"])  # type: ignore[call-overload]
