"""attacks.md: reload during a storm of checks."""

import threading

from tests.helpers.site import APPROVED, HALF, LENIENT, POLICY, read_lines, request

BAD = "version: 1\nrules: [{{name: x}}]\ndefault: allow\n"


def test_reload_during_a_storm_of_checks_each_decision_names_one_generation(site):
    """A thousand reloads, good and bad: no decision comes from a policy that is half loaded."""
    stop, answers = threading.Event(), []

    def storm():
        names = (APPROVED, HALF)
        with site.connect() as sock:
            while not stop.is_set():
                sock.sendall(b"".join(request("check", str(n), image=site.image(names[n % 2])) for n in range(20)))
                answers.extend((names[int(a["id"]) % 2], a["result"]) for a in read_lines(sock, 20))

    thread = threading.Thread(target=storm)
    thread.start()
    reports = []
    try:
        _reload_a_thousand_times(site, reports)
    finally:
        stop.set()
        thread.join()
    assert len(reports) == 1000
    assert {report["ok"] for report in reports} == {True, False}
    by_generation = {}
    for name, answer in answers:
        seen = by_generation.setdefault(answer["generation"], (answer["policy"], answer["rule"]))
        assert seen == (answer["policy"], answer["rule"])
        assert (answer["decision"] == "allow") == (name == APPROVED or answer["rule"] == "lenient")
    assert len(by_generation) > 2
    assert len({policy for policy, _ in by_generation.values()}) == 2


def _reload_a_thousand_times(site, reports):
    with site.connect(site.admin_socket) as sock:
        for number in range(100):
            site.policy((POLICY, LENIENT, BAD)[number % 3])
            sock.sendall(b"".join(request("reload", str(n)) for n in range(10)))
            reports.extend(answer["result"] for answer in read_lines(sock, 10))
